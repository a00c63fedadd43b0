"""A request, and what counts of its answer: the status.

The status line decides. An event that the receiver took must not be sent again because of a header that is long, odd
or cut off. So of the headers this reads three, as well as it can, and of the body the beginning.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from shithubd_worker.handlers.excerpt import printable

if TYPE_CHECKING:
    from shithubd_worker.handlers.webhook_wire import Wire

LONGEST_RETRY_AFTER = 86_400.0
MOST_INTERIM = 100
MOST_BODY_BYTES = 4096
LONGEST_EXCERPT = 200
SHORTEST_TOKEN = 8
# Of a longer line only the beginning is kept.
_LONGEST_LINE = 1024

# Lower case, HTTP/2.0 or no reason: any status is better than to send the event again.
_STATUS_LINE = re.compile(rb"(?i:HTTP)/[0-9](?:\.[0-9])?[ \t]+([1-9][0-9]{2})(?![^ \t\r\n])")
_SWITCHING_PROTOCOLS = 101
_PLAIN_WORD = re.compile(r"[a-z._-]*")
_KEPT = (b"retry-after", b"transfer-encoding", b"content-length")
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]*)?")

Fields = dict[bytes, list[bytes]]


class Answer(NamedTuple):
    """`retry_after` is in seconds from now, or None. `excerpt` is the beginning of an error's body, on one line."""

    status: int
    retry_after: float | None
    excerpt: str


def post(wire: Wire, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
    """Send a request and read the answer. Raises OSError if there is no status in time."""
    own = {"Accept-Encoding": "identity", "Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in ({**headers, **own}).items())]
    wire.send("".join(f"{line}\r\n" for line in [*lines, ""]).encode("ascii"))
    wire.send(body)
    file = io.BufferedReader(wire)
    status = _status(file)
    fields: Fields = {}
    excerpt = ""
    with suppress(OSError):  # the status stands; this is only what it says besides
        _read_headers(file, fields)
        if status >= 400:  # noqa: PLR2004
            excerpt = _excerpt(_read_body(file, fields), path)
    if status < 300:  # noqa: PLR2004
        with suppress(OSError):
            wire.finish()
    return Answer(status, wait(value.decode("latin-1") for value in fields.get(b"retry-after", [])), excerpt)


def _excerpt(body: bytes, path: str) -> str:
    """The beginning of a body. It may repeat the path, so each part of that which can be a token is left out."""
    text = body.decode(errors="replace")
    for part in re.split(r"[/?&=;]", path):
        if len(part) >= SHORTEST_TOKEN and not _PLAIN_WORD.fullmatch(part):
            text = text.replace(part, "…").replace(unquote(part), "…")
    return one_line(text.encode())


def one_line(data: bytes) -> str:
    """A few words of a stranger, for an error."""
    return printable(" ".join(data.decode(errors="replace").split()))[:LONGEST_EXCERPT]


def wait(values: Iterable[str]) -> float | None:
    """The Retry-After headers as seconds from now, 1 second to 1 day: the longest, if there are several. None if none
    is readable."""
    readable = [seconds for value in values if (seconds := _seconds(value.strip())) is not None]
    return min(max(1.0, *readable), LONGEST_RETRY_AFTER) if readable else None


def _status(file: io.BufferedReader[Wire]) -> int:
    """The status of the answer. Interim answers, for example 103, come before it."""
    for _ in range(MOST_INTERIM + 1):
        line = file.readline(_LONGEST_LINE)
        if not line:
            raise ConnectionError("closed the connection without an answer")
        found = _STATUS_LINE.match(line)
        if not found:
            raise ConnectionError(f"the answer is not HTTP: {one_line(line)}")
        status = int(found[1])
        if status >= 200 or status == _SWITCHING_PROTOCOLS:  # noqa: PLR2004
            return status
        _skip_line(file, line)
        _read_headers(file, {})
    raise ConnectionError(f"more than {MOST_INTERIM} interim answers")


def _skip_line(file: io.BufferedReader[Wire], piece: bytes) -> None:
    """Read on to the end of the line that begins with this piece."""
    while piece and not piece.endswith(b"\n"):
        piece = file.readline(_LONGEST_LINE)


def _read_line(file: io.BufferedReader[Wire]) -> bytes:
    """The beginning of a line, without its end. Nothing for an empty one, and at the end of all."""
    line = file.readline(_LONGEST_LINE)
    _skip_line(file, line)
    return line.rstrip(b"\r\n")


def _read_headers(file: io.BufferedReader[Wire], fields: Fields) -> None:
    """Read up to the empty line. The few that count go into `fields`, as soon as each is read."""
    name = b""
    while line := _read_line(file):
        if line[:1] in (b" ", b"\t"):  # it goes on with the line before
            if name in fields:
                fields[name][-1] += line
            continue
        name, colon, value = line.partition(b":")
        name = name.strip().lower()
        if colon and name in _KEPT:
            fields.setdefault(name, []).append(value)


def _read_body(file: io.BufferedReader[Wire], fields: Fields) -> bytes:
    """The beginning of the body, as it is: not decompressed, so a bomb stays small. Of chunks, the first one."""
    most = MOST_BODY_BYTES
    if b"chunked" in b"".join(fields.get(b"transfer-encoding", [])).lower():
        size = _read_line(file).partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9A-Fa-f]+", size):
            return b""
        most = min(most, int(size, 16))
    elif re.fullmatch(rb"[0-9]+", size := fields.get(b"content-length", [b""])[0].strip()):
        most = min(most, int(size[:10]))
    # One read: a slow sender doesn't get far.
    return file.read1(most)


def _seconds(given: str) -> float | None:
    if _SECONDS.fullmatch(given):
        return float(given)
    try:
        moment = parsedate_to_datetime(given)
    except (ValueError, OverflowError):  # OverflowError: a day or a year of twenty digits
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - datetime.now(UTC)).total_seconds()
