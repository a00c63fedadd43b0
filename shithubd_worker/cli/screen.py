"""The one way out of a command: all that it says, on stdout and on stderr, goes through here.

Text comes from the database, where anybody with a right to enqueue may have put it, from arguments, files, other
programs and exceptions. So each function makes it plain by itself, and writes as many lines as its name says: whoever
calls it can't forget to. Styles and line breaks are ours alone.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from types import TracebackType

import click

from shithubd_worker.plain import behind_margin, json_text, on_one_line

_VALUE_AT = 17  # where `field` and `stack` have the value
# What no shell reads as anything but itself: neither a quote nor an option, a variable, a pattern or a separator.
_A_PLAIN_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@/+-]*")


def line(text: object = "", *, longest: int | None = None) -> None:
    """One line on stdout; of one that is longer than `longest` only the beginning."""
    plain = on_one_line(str(text))
    click.echo(plain if longest is None else plain[:longest].rstrip())


def say(text: str) -> None:
    """One line on stderr: progress, and what is wrong, so that stdout holds data alone."""
    click.echo(on_one_line(text), err=True)


def meanwhile(*, as_json: bool) -> Callable[[str], None]:
    """How to tell what is true already while the rest goes on: stdout is for data alone."""
    return say if as_json else line


def folded(text: str) -> None:
    """One line on stdout, folded to the width of the terminal, or to 80 columns: what follows is indented."""
    width = shutil.get_terminal_size().columns
    click.echo(textwrap.fill(on_one_line(text), width, subsequent_indent="  ", break_on_hyphens=False))


def field(name: str, value: object) -> None:
    """A name and its value on one line."""
    line(f"{name:<{_VALUE_AT}}{value}")


def stack(name: str, value: str) -> None:
    """A name and a value that has several lines by right, as an error with its stack; they stand behind a margin."""
    click.echo(f"{name:<{_VALUE_AT}}{behind_margin(value, '| '.rjust(_VALUE_AT))}")


def page(text: str) -> None:
    """A text of ours as it is, line for line: the page of a runbook."""
    for each in text.splitlines():
        line(each)


def emit(data: object) -> None:
    """JSON on stdout."""
    click.echo(json_text(data, default=_as_json, indent=2))


def table(
    columns: Sequence[str], rows: Iterable[tuple[Sequence[str], str | None]], *, right: Iterable[int] = ()
) -> None:
    """Rows of cells, each with a style or None, below a blank line; nothing if there are none. `right`: figures."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text  # what a cell says is no markup

    made = Table(box=None, pad_edge=False, header_style="bold")
    aligned = set(right)
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number in aligned else "left", overflow="fold")
    for cells, style in rows:
        made.add_row(*(Text(on_one_line(cell)) for cell in cells), style=style)
    if made.row_count:
        click.echo()
        Console(highlight=False, soft_wrap=False).print(made)


def clear() -> None:
    """An empty screen, if there is one."""
    click.clear()


def misused(error: click.ClickException) -> None:
    """What click says of a command that it can't read, with the words that it was given."""
    if not isinstance(error, click.exceptions.NoArgsIsHelpError):  # whose message is the help
        error.message = on_one_line(error.message)  # type: ignore[misc]  # to click it is final
    error.show()


def unforeseen(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """A fault of ours, in place of sys.excepthook: an exception says anything."""
    import traceback

    for part in traceback.format_exception(kind, error, where):
        click.echo(behind_margin(part.removesuffix("\n")), err=True)


def offered(names: Iterable[str], incomplete: str) -> list[str]:
    """What a shell may complete a word to: the shell puts it into the command line as it is, without quotes.

    A name that isn't plain there is left out. `$(reboot)` would be a command, and a name with a line break several.
    """
    return sorted({name for name in names if name.startswith(incomplete) and _A_PLAIN_WORD.fullmatch(name)})


def _as_json(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value)


def take_any_letter() -> None:
    """A terminal that can't show a letter gets its escape; Python would end the command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
