"""The program on the screen: it shows the view on top, hands it keys, and asks before it changes something."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from textual.app import App, ComposeResult
from textual.events import Key, Paste

from shithubd_worker.cli.common import Shared
from shithubd_worker.cli.top import changes
from shithubd_worker.cli.top.feed import Answer, Change, Feed
from shithubd_worker.cli.top.field import Field
from shithubd_worker.cli.top.help import HelpView
from shithubd_worker.cli.top.kinds import KindsView
from shithubd_worker.cli.top.page import Page
from shithubd_worker.cli.top.table import Line, wrapped
from shithubd_worker.cli.top.terminal import Driver, Terminal
from shithubd_worker.cli.top.view import View
from shithubd_worker.cli.waiting import in_words, no_figures
from shithubd_worker.errors import EXIT_OK, EXIT_TIMEOUT, ShithubdError
from shithubd_worker.plain import lasting

REDRAW_SECONDS = 0.5
# An answer that is later than this is told to be late.
LATE_SECONDS = 3.0
LEAST_WIDTH, LEAST_HEIGHT = 40, 8
MOST_LINES = 3  # of what is said below the heading


class Wanted(NamedTuple):
    """A change that waits for a yes, and then for a reason."""

    question: str
    held: str  # who holds the kind now, and why
    name: str
    make: Callable[[str | None], Change]


class Top(App[int]):
    """`reason`: the one that is offered when a change asks for its reason."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen, Page { background: ansi_default; color: ansi_default; overflow: hidden; }
    """

    def __init__(self, shared: Shared, feed: Feed, terminal: Terminal, reason: str | None) -> None:
        Driver.stdout = sys.stdout
        super().__init__(driver_class=Driver, ansi_color=True)
        self.animation_level = "none"
        self.crash: Exception | None = None
        self._shared, self._feed, self._terminal, self._reason = shared, feed, terminal, reason
        self._page = Page()
        self._kinds = KindsView(shared.command)
        self._views: list[View] = [self._kinds]
        self._message = ""
        self._trouble: Exception | None = None
        self._wanted: Wanted | None = None
        self._prompt = ""  # what is being typed: "filter" or "reason"
        self._field: Field | None = None

    def compose(self) -> ComposeResult:
        """A page."""
        yield self._page

    def on_mount(self) -> None:
        """Begin."""
        loop = self._loop
        assert loop is not None  # noqa: S101

        self._terminal.hear(lambda: loop.call_soon_threadsafe(self.exit, EXIT_OK))
        self._feed.hear = lambda answer: self._from_feed(self._heard, answer)
        self._feed.say = lambda text: self._from_feed(self._said, text)
        self._feed.ask(self._kinds.ask)
        self._feed.start()
        self._page.focus()
        self.set_interval(REDRAW_SECONDS, self._tick)

    def on_resize(self) -> None:
        """Everything depends on the size."""
        self.call_after_refresh(self._draw)

    def on_key(self, event: Key) -> None:
        """A key for the line that is being typed, for a question, or for the view."""
        event.stop()
        letter = event.character if event.character and event.character.isprintable() else None
        if self._field is not None:
            self._typing(self._field, event.key, letter)
        else:
            if not self._feed.changes:
                self._message = ""
            if self._wanted:
                self._answered(event.key)
            else:
                self._pressed(letter or event.key)
        self._draw()

    def on_paste(self, event: Paste) -> None:
        """A text for the line that is being typed."""
        event.stop()
        if self._field is not None:
            self._field.insert(event.text)
            self._changed(self._field)
            self._draw()

    def _handle_exception(self, error: Exception) -> None:
        """textual would show its traceback."""
        self.crash = self.crash or error
        self._close_messages_no_wait()

    def panic(self, *_renderables: object) -> None:
        """The thread that reads keys has failed: textual hands over its traceback."""
        self._handle_exception(ShithubdError("the terminal can't be read"))

    def _from_feed(self, call: Callable[..., None], *given: object) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._guarded, call, *given)

    def _guarded(self, call: Callable[..., None], *given: object) -> None:
        try:
            call(*given)
        except Exception as error:  # noqa: BLE001 (ends the program, as an error in a handler of textual does)
            self._handle_exception(error)

    def _heard(self, answer: Answer) -> None:
        view = self._views[-1]
        if answer.question != view.ask:
            return  # another view was opened meanwhile
        if answer.error is not None:
            self._trouble = answer.error
            if view is self._kinds:
                no_figures(0, answer.error)
        else:
            view.heard(answer.found)
            self._trouble = None
        self._draw()

    def _said(self, text: str) -> None:
        self._message = text
        self._draw()

    def _tick(self) -> None:
        if self._terminal.gone():
            self._terminal.hung_up()
        elif self._shared.deadline.over:
            self.exit(EXIT_TIMEOUT)
        else:
            self._draw()

    def _pressed(self, name: str) -> None:
        view = self._views[-1]
        opened: View | None = None
        if name == "q":
            self.exit(EXIT_OK)
        elif name in ("escape", "left", "backspace"):
            self._back()
        elif name in ("?", "f1"):
            opened = HelpView()
        elif name in ("enter", "right"):
            opened = view.opened()
        elif name == "/" and view is self._kinds:
            self._type("filter", self._kinds.filter)
        elif name in ("p", "r") and (kind := view.kind()) is not None:
            self._ask_first(name, kind)
        else:
            view.key(name)
        if opened is not None:
            self._views.append(opened)
            self._begin(opened)
        self._ask_anew()

    def _ask_anew(self) -> None:
        view = self._views[-1]
        if view.asks_anew:
            view.asks_anew = False
            self._feed.ask(view.ask)

    def _back(self) -> None:
        if len(self._views) > 1:
            self._views.pop()
            self._begin(self._views[-1])
        else:
            self._kinds.filtered("")

    def _begin(self, view: View) -> None:
        self._trouble = None
        self._feed.ask(view.ask)

    def _ask_first(self, name: str, kind: str) -> None:
        held = self._kinds.held(kind)
        if name == "p":
            question, what = f"pause {kind} on all hosts{', anew' if held else ''}?", f"the pause of {kind}"
            self._wanted = Wanted(question, held, what, lambda why: changes.pause(kind, why, self._tell))
        else:
            question, what = (
                f"resume {kind}, all of it at once? (resume-kind can do it in steps)",
                f"the end of the pause of {kind}",
            )
            self._wanted = Wanted(question, held, what, lambda why: changes.resume(kind, why))

    def _tell(self, text: str) -> None:
        self._feed.say(text)

    def _answered(self, key: str) -> None:
        if key in ("y", "Y", "upper_y"):
            self._type("reason", self._reason or "")
        else:
            self._wanted = None
            self._message = "nothing was changed"

    def _type(self, what: str, value: str) -> None:
        self._prompt, self._field = what, Field(value)

    def _typing(self, field: Field, key: str, letter: str | None) -> None:
        if key == "escape":
            self._typed(None)
        elif key == "enter":
            self._typed(field.text.strip())
        else:
            field.key(key, letter)
            self._changed(field)

    def _changed(self, field: Field) -> None:
        """The filter acts while it is typed."""
        if self._prompt == "filter":
            self._kinds.filtered(field.text.strip())
            self._ask_anew()

    def _typed(self, text: str | None) -> None:
        """A filter or a reason is complete. None: it was given up."""
        what, self._prompt, self._field = self._prompt, "", None
        wanted, self._wanted = self._wanted, None
        if what == "filter" and text is None:
            self._kinds.filtered("")
        elif what == "reason" and text is None:
            self._message = "nothing was changed"
        elif wanted is not None:
            self._feed.change(wanted.name, wanted.make(text or None))

    def _draw(self) -> None:
        page = self._page
        if not page.is_attached:
            return  # the program ends: this answer came too late
        width, height = self.size
        view = self._views[-1]
        if width < LEAST_WIDTH or height < LEAST_HEIGHT:
            page.lines = [Line(f"too small: at least {LEAST_WIDTH}x{LEAST_HEIGHT}")]
        else:
            first, *more = self._said_now()
            said = wrapped(first, width, MOST_LINES)
            said += [part for line in more if line.text for part in wrapped(line, width, MOST_LINES - 1)]
            room = height - 2 - len(said)
            body = view.body(width, room)[:room]
            body += [Line("")] * (room - len(body))
            last = Line(view.keys, "dim") if self._field is None else self._field.line(width)
            page.lines = [Line(view.heading(), "bold"), *said, *body, last]
        page.refresh()

    def _said_now(self) -> list[Line]:
        """What is typed or asked; else trouble, what a change says, and how the list is made."""
        if self._prompt == "filter":
            return [Line("show the kinds with this in their names (Enter keeps it, Esc shows all):", "bold")]
        if self._wanted:
            first = "Why? (Enter does it, Esc does nothing):" if self._prompt else "y/n:"
            return [Line(f"{first} {self._wanted.question}", "bold"), Line(self._wanted.held)]
        if trouble := self._troubled():
            return [Line(trouble, "bold red"), Line(self._message)]
        return [Line(self._message or self._views[-1].note())]

    def _troubled(self) -> str:
        asked_at, now = self._feed.asked_at, time.monotonic()
        if self._trouble is not None:
            return self._no_figures(self._trouble)
        if asked_at is not None and now - asked_at > LATE_SECONDS:
            return f"no figures for {lasting(now - self._views[-1].seen_at)}: the database has not answered yet"
        return ""

    def _no_figures(self, error: Exception) -> str:
        seconds = time.monotonic() - self._views[-1].seen_at
        try:
            return no_figures(seconds, error)
        except Exception:  # noqa: BLE001 (in a view of jobs; the others end the program)
            return in_words(error)
