"""Text from others, for a terminal or a log. No part of it can steer the screen or begin a line of its own.

What isn't printable is shown as Python writes it in a string: \\n, \\x1b, \\u202e. That is: control characters (C0,
DEL, C1), format characters (bidirectional controls, zero-width ones), separators of lines and paragraphs, and code
points that are no character. The letters of all scripts stay.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

# It stands before each further line of a text that may have several. No line of ours begins so.
MARGIN = "  | "


def on_one_line(text: str) -> str:
    """The text on one line.

    >>> print(on_one_line("häßlich" + chr(10) + chr(27) + "[2J"))
    häßlich\\n\\x1b[2J
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def in_ascii(text: str) -> str:
    """The text on one line of printable ASCII, for a reader that takes no other letters.

    >>> print(in_ascii("häßlich" + chr(10)))
    h\\xe4\\xdflich\\n
    """
    return on_one_line(text).encode("ascii", "backslashreplace").decode()


def behind_margin(text: str, margin: str = MARGIN) -> str:
    """A text that may have several lines, for example a stack: each line after the first begins with the margin."""
    return f"\n{margin}".join(on_one_line(line) for line in text.split("\n"))


def to_the_second(time: str) -> str:
    """A time that the database wrote, as people read it.

    >>> print(to_the_second("2026-11-22T18:00:00.123456+00:00"))
    2026-11-22 18:00:00
    """
    return time[:19].replace("T", " ")


def lasting(seconds: float) -> str:
    """How long something lasts, in one unit.

    >>> print(lasting(12.3), lasting(720), lasting(-7200))
    12 s 12 min -2 h
    """
    if seconds < 0:
        return f"-{lasting(-seconds)}"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def shell_word(text: str) -> str:
    """The text as one word of a printed command, so that it can be pasted into bash or zsh.

    >>> print(shell_word("search.reindex"), shell_word("; touch x"), shell_word("a'b" + chr(10)))
    search.reindex '; touch x' $'a\\'b\\u000a'
    """
    if text.isprintable():
        return shlex.quote(text)
    quoted = ("\\" + c if c in "'\\" else c if c.isprintable() else _escaped(c) for c in text)
    return f"$'{''.join(quoted)}'"


def _escaped(character: str) -> str:
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"  # noqa: PLR2004


@dataclass(frozen=True, slots=True)
class Json:
    """JSON text that becomes a part of other JSON without a change: every number keeps all of its digits."""

    text: str


def json_or_text(text: str) -> Json | str:
    """The text as JSON if Python can read it: not too deep, and with no number beyond a float. Else the text."""
    try:
        json.loads(text, parse_float=_finite)
    except (ValueError, RecursionError):
        return text
    return Json(text)


def _finite(digits: str) -> float:
    if math.isinf(number := float(digits)):
        raise ValueError(f"{digits} is too large")  # JSON has no infinity
    return number


def json_text(data: object, *, indent: int | None = None, default: Callable[[object], object] | None = None) -> str:
    """JSON in printable ASCII. Everything else, DEL too, is \\uXXXX, and a reader gets the exact text back."""
    parts: list[str] = []
    mark = uuid4().hex

    def other(value: object) -> object:
        if isinstance(value, Json):
            parts.append(json_in_ascii(value.text))
            return f"{mark}{len(parts) - 1}"
        if default is None:
            raise TypeError(f"{type(value).__name__} is no type of JSON")
        return default(value)

    text = json.dumps(data, default=other, indent=indent).replace("\x7f", "\\u007f")
    return re.sub(f'"{mark}([0-9]+)"', lambda found: parts[int(found[1])], text) if parts else text


def json_in_ascii(text: str) -> str:
    """The same JSON in printable ASCII. Outside of its strings, JSON has no other letters."""
    return re.sub(r"[^\x20-\x7e]", _escaped_in_json, text)


def json_printable(text: str) -> str:
    """The same JSON with an escape in place of each letter that isn't printable.

    >>> print(json_printable('{"name": "größe' + chr(8203) + '"}'))
    {"name": "größe\\u200b"}
    """
    return "".join(c if c.isprintable() else json_in_ascii(c) for c in text)


def _escaped_in_json(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
