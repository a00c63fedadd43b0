"""The three standard streams, also where one is closed, its disk is full, or its reader has gone.

A command that changes something is not ended by its own words. What it can't write on stdout is kept, and told on
stderr. What can't be written on stderr is lost.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import TextIO

MOST_KEPT = 1000  # bytes


class Stream(io.FileIO):
    """A standard stream. With `goes_on`, a write never fails."""

    def __init__(self, fd: int, *, goes_on: bool) -> None:
        super().__init__(fd, "w", closefd=False)
        self.goes_on = goes_on
        self.failed: OSError | None = None  # the first write that failed
        self._kept = b""

    @property
    def kept(self) -> str:
        """The beginning of what could not be written."""
        return self._kept.decode(errors="replace").strip()

    def write(self, data: object) -> int:
        """Write all, and wait for a reader that is slow."""
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        written = 0
        try:
            while self.failed is None and written < len(view):
                taken = super().write(view[written:])
                if taken is None:  # another program made the descriptor non-blocking
                    select.select([], [self], [])
                written += taken or 0
        except OSError as error:
            self.failed = error
            if not self.goes_on:
                raise
        self._kept = (self._kept + view[written : written + MOST_KEPT].tobytes())[:MOST_KEPT]
        return len(view)


def take(*, goes_on: bool) -> Stream:
    """Replace Python's streams. Returns that of stdout. `goes_on`: a stdout that takes nothing does not end the
    command.

    /dev/null stands in the place of a stream that is closed. Without that, the next file that is opened would get its
    number: for example the connection to the database, and log lines would be written into it.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004 (stderr)
        os.set_inheritable(fd, True)
    os.close(fd)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 (for the life of the process)
    out, err = Stream(1, goes_on=goes_on), Stream(2, goes_on=True)
    sys.stdout, sys.stderr = _text(out, sys.stdout), _text(err, sys.stderr, always_by_line=True)
    return out


def _text(stream: Stream, like: TextIO | None, *, always_by_line: bool = False) -> io.TextIOWrapper:
    """The stream for text. A letter that its reader can't show becomes an escape.

    It needs no BufferedWriter, and must have none: a Ctrl-C that comes inside `write`, after the write, would make that
    write the same bytes again.
    """
    return io.TextIOWrapper(
        stream,
        encoding=getattr(like, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=always_by_line or stream.isatty(),
        write_through=getattr(like, "write_through", False),
    )
