"""The terminal: how it is taken, and how it is given back at each end, also by a signal.

Ctrl-C, Ctrl-\\ and Ctrl-Z stay signals of the terminal's own. So they are heard even if this program hangs.
"""

from __future__ import annotations

import os
import select
import signal
import termios
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, TextIO, cast

# textual reads them when it is imported.
os.environ.update(TEXTUAL_ALLOW_SIGNALS="1", TEXTUAL_DISABLE_KITTY_KEY="1")

from textual.app import App
from textual.drivers.linux_driver import LinuxDriver

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
# After a signal, the program must end within this time. It may hang in a write, if the terminal takes nothing.
END_SECONDS = 3.0
# The main screen, a cursor, wrapped lines; no reports of the focus, no marks around a paste.
AS_BEFORE = b"\x1b[?1049l\x1b[?25h\x1b[?7h\x1b[?1004l\x1b[?2004l\x1b[?2048l\x1b[0m"


class Terminal:
    """Gives the terminal back at each end. `ended_by`: the signal that ended the program."""

    def __init__(self) -> None:
        self.ended_by: signal.Signals | None = None
        self._before = termios.tcgetattr(0)
        self._leave: Callable[[], object] = lambda: None
        for each in ENDING:
            signal.signal(each, self._end)
        signal.signal(signal.SIGALRM, self._force)

    def hear(self, leave: Callable[[], object]) -> None:
        """From now on a signal calls `leave`, also one that came before. If that doesn't end the program, it ends all
        the same."""
        self._leave = leave
        if self.ended_by is not None:
            leave()

    def gone(self) -> bool:
        """Has the terminal hung up?"""
        poll = select.poll()
        poll.register(0, 0)
        return any(what & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, what in poll.poll(0))

    def hung_up(self) -> None:
        """End as by the signal that somebody kept from us."""
        self._end(signal.SIGHUP, None)

    def give_back(self) -> None:
        """The program is over."""
        self._leave = lambda: None
        for each in (signal.SIGTSTP, signal.SIGCONT):  # the driver's
            signal.signal(each, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 0)
        with suppress(termios.error):
            termios.tcsetattr(0, termios.TCSADRAIN, self._before)

    def end(self) -> None:
        """After the program: if a signal ended it, let that signal do what it does."""
        if self.ended_by is signal.SIGINT:
            raise KeyboardInterrupt
        if self.ended_by is not None:
            signal.signal(self.ended_by, signal.SIG_DFL)
            os.kill(os.getpid(), self.ended_by)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        if self.ended_by is None:
            self.ended_by = signal.Signals(number)
            signal.setitimer(signal.ITIMER_REAL, END_SECONDS)
            self._leave()

    def _force(self, _number: int, _frame: FrameType | None) -> None:
        with suppress(termios.error, OSError):
            termios.tcsetattr(0, termios.TCSANOW, self._before)
            os.set_blocking(1, False)
            os.write(1, AS_BEFORE)
        ended_by = self.ended_by or signal.SIGTERM
        signal.signal(ended_by, signal.SIG_DFL)
        os.kill(os.getpid(), ended_by)


class Driver(LinuxDriver):
    """textual's driver for our stdout. It stops and goes on between two steps of the program, never inside of one."""

    stdout: TextIO  # textual puts something else in the place of sys.stdout
    on = False

    def __init__(self, app: App[Any], **given: Any) -> None:
        super().__init__(app, **given)
        self._file = cast(Any, self.stdout)
        signal.signal(signal.SIGTSTP, lambda *_: self._soon(self._stop))
        signal.signal(signal.SIGCONT, lambda *_: self._soon(self._go_on))

    def write(self, data: str) -> None:
        """Write. Nothing goes to a terminal that isn't ours now, or that takes nothing any more."""
        if self._writer_thread is not None and self._writer_thread.is_alive():
            super().write(data)

    def start_application_mode(self) -> None:
        """Take the terminal."""
        super().start_application_mode()  # type: ignore[no-untyped-call]
        self.on = True

    def stop_application_mode(self) -> None:
        """Give the terminal back."""
        self.on = False
        super().stop_application_mode()

    def _soon(self, call: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(call)

    def _stop(self) -> None:
        if not self.on:
            return
        self.suspend_application_mode()
        ours = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # here it stands, until it is continued
        signal.signal(signal.SIGTSTP, ours)
        self._take_again()

    def _go_on(self) -> None:
        """After a stop that we did not hear, the terminal may be as somebody else left it."""
        if self.on:
            self.suspend_application_mode()
        self._take_again()

    def _take_again(self) -> None:
        self.start_application_mode()
        self._app.refresh(layout=True)
