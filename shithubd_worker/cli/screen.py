"""The only way out of a command: everything that it writes on stdout and stderr goes through here.

Text comes from the database (where anybody with a right to enqueue may have put it), from arguments, files, other
programs and exceptions. So each function here makes its text plain, and writes as many lines as its name says. A caller
can't forget it. Only our own code sets styles and line breaks.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from types import TracebackType

import click

from shithubd_worker.plain import Json, behind_margin, json_in_ascii, json_printable, json_text, on_one_line

_VALUE_AT = 17  # the column of the value in `field` and `stack`
# Every shell reads these as plain text: they can't be a quote, an option, a variable, a pattern or a separator.
_A_PLAIN_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@/+-]*")


def line(text: object = "", *, longest: int | None = None, colour: str | None = None) -> None:
    """One line on stdout. If it is longer than `longest`, only its beginning. Only a terminal gets a colour."""
    plain = on_one_line(str(text))
    cut = plain if longest is None else plain[:longest].rstrip()
    click.echo(click.style(cut, fg=colour) if colour and not os.environ.get("NO_COLOR") else cut)


def say(text: str) -> None:
    """One line on stderr, for progress and for errors, so that stdout has only data."""
    click.echo(on_one_line(text), err=True)


def meanwhile(*, as_json: bool) -> Callable[[str], None]:
    """How to report what is already true while the command goes on: stdout is for data alone."""
    return say if as_json else line


def answer(question: str) -> bool | None:
    """Ask on stderr. None if no terminal is there, so that nobody could answer."""
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    click.echo(f"{on_one_line(question)} [y/N] ", err=True, nl=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def is_terminal() -> bool:
    """Is the user there, to read and to answer?"""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


@contextlib.contextmanager
def bar(doing: str, total: int) -> Iterator[Callable[[int], None] | None]:
    """A bar on stderr that shows how much of `total` is done. None without a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(doing, markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=False) as shown:
        task = shown.add_task("", total=total)
        yield lambda done: shown.update(task, completed=done)


@contextlib.contextmanager
def only_data_on_stdout() -> Iterator[None]:
    """What a stranger's code, or a child of it, prints meanwhile goes to stderr."""
    undo = contextlib.ExitStack()
    with contextlib.suppress(OSError):  # one of the two is closed
        kept = os.dup(1)
        undo.callback(os.close, kept)
        undo.callback(os.dup2, kept, 1)
        os.dup2(2, 1)
    with undo, contextlib.redirect_stdout(sys.stderr):
        yield


def folded(text: str, indent: int = 2) -> None:
    """One line on stdout, folded to the width of the terminal, or to 80 columns. Further lines are indented."""
    width = shutil.get_terminal_size().columns
    click.echo(textwrap.fill(on_one_line(text), width, subsequent_indent=" " * indent, break_on_hyphens=False))


def field(name: str, value: object) -> None:
    """A name and its value on one line."""
    line(f"{name:<{_VALUE_AT}}{str(value).lower() if isinstance(value, bool) else value}")


def json_word(value: Json | str) -> str:
    """JSON as one word of a shell, to be pasted into a command. It stays the same JSON on each terminal."""
    plain = json_printable(value.text if isinstance(value, Json) else value)
    return shlex.quote(plain if sys.stdout.encoding.lower() == "utf-8" else json_in_ascii(plain))


def stack(name: str, value: str) -> None:
    """A name and a value that may have several lines, such as an error with its stack. They stand behind a margin."""
    click.echo(f"{name:<{_VALUE_AT}}{behind_margin(value, '| '.rjust(_VALUE_AT))}")


def page(text: str) -> None:
    """A text of ours, unchanged, line for line: the page of a runbook."""
    for each in text.splitlines():
        line(each)


def emit(data: object) -> None:
    """JSON on stdout."""
    click.echo(json_text(data, default=_as_json, indent=2))


@contextlib.contextmanager
def each_in_json() -> Iterator[Callable[[object], None]]:
    """A JSON array on stdout, one element after the other, as `emit` writes it. After an exception it has no end, so
    that nobody takes a part of it for the whole."""
    between = "["

    def element(data: object) -> None:
        nonlocal between
        click.echo(between + textwrap.indent(f"\n{json_text(data, default=_as_json, indent=2)}", "  "), nl=False)
        between = ","

    yield element
    click.echo("[]" if between == "[" else "\n]")


def table(
    columns: Sequence[str], rows: Iterable[tuple[Sequence[str], str | None]], *, right: Iterable[int] = ()
) -> None:
    """Rows of cells, each with a style or None, below a blank line. Nothing if there are no rows. `right`: columns of
    figures."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text  # the text of a cell is not markup

    made = Table(box=None, pad_edge=False, header_style="bold")
    aligned = set(right)
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number in aligned else "left", overflow="fold")
    for cells, style in rows:
        made.add_row(*(Text(on_one_line(cell)) for cell in cells), style=style)
    if made.row_count:
        click.echo()
        Console(highlight=False, soft_wrap=False).print(made)


class _Page(io.StringIO):
    """Text for a terminal, before it is known how much of it fits."""

    def isatty(self) -> bool:
        """The styles are those of a terminal."""
        return True


def written(show: Callable[[], None]) -> list[str]:
    """The lines that `show` would write on stdout."""
    kept = io.BytesIO()
    with contextlib.redirect_stdout(io.TextIOWrapper(kept, "utf-8", errors="backslashreplace", write_through=True)):
        show()
    return kept.getvalue().decode().splitlines()


@contextlib.contextmanager
def anew() -> Iterator[None]:
    """What is written meanwhile, in place of what the terminal shows. If it is too long, only its beginning: the most
    important lines come first. Without a terminal, all of it."""
    if not sys.stdout.isatty():
        yield
        return
    with contextlib.redirect_stdout(_Page()) as made:
        yield
    from rich.cells import cell_len

    lines = made.getvalue().splitlines()
    width, height = shutil.get_terminal_size()
    ends = list(itertools.accumulate(max(1, -(-cell_len(click.unstyle(each)) // width)) for each in lines))
    click.clear()
    if lines and ends[-1] >= height:  # the cursor stands in the last row
        fitting = sum(end < height - 1 for end in ends)
        lines[fitting:] = [f"... {len(lines) - fitting:,} more lines: without --watch you see all of them"]
    click.echo("\n".join(lines))


def misused(error: click.ClickException) -> None:
    """click's message about a command line that it can't read, with the given words."""
    if not isinstance(error, click.exceptions.NoArgsIsHelpError):  # its message is the help
        error.message = on_one_line(error.message)  # type: ignore[misc]  # to click it is final
    error.show()


def unforeseen(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """A fault of ours, in place of sys.excepthook: an exception's text can contain anything."""
    import traceback

    for part in traceback.format_exception(kind, error, where):
        click.echo(behind_margin(part.removesuffix("\n")), err=True)


def offered(names: Iterable[str], incomplete: str) -> list[str]:
    """The words that a shell may complete to. The shell puts a word into the command line unchanged, without quotes.

    A name that isn't plain there is left out: `$(reboot)` would be a command, and a name with a line break several.
    """
    return sorted({name for name in names if name.startswith(incomplete) and _A_PLAIN_WORD.fullmatch(name)})


def _as_json(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value)
