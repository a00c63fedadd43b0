"""Where log lines leave the process. A journal that is stopped, or a pipe that nobody reads, must not stop the jobs.

A line waits a moment for a slow reader. After a reader has stood still, no line waits again until the reader takes one.
Nothing is kept here for the reader: what the kernel's buffers don't take is lost, and `put` says so.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import time
from contextlib import suppress
from functools import cache

# How long a line waits for its reader.
READER_SECONDS = 0.2
# After a wait that helped, there is no other wait for this many times as long. So a slow reader costs a twentieth of
# the time.
REST_AFTER_WAIT = 20
JOURNAL = "/run/systemd/journal/socket"
# A write of this many bytes fits if there is any room at all.
_SURELY_FITS = select.PIPE_BUF


class Outlet:
    """Takes whole lines, from one thread at a time."""

    def __init__(self) -> None:
        self._left = b""  # the rest of a line that was begun
        self._stuck = False  # is the reader known to stand still?
        self._may_wait_at = 0.0

    def put(self, line: bytes) -> bool:
        """Write a line. False if it is lost, because nobody reads or the reader is gone."""
        deadline = time.monotonic() + READER_SECONDS
        try:
            if self._left:
                self._left = self._write_out(self._left, deadline)
                if self._left:
                    return False
            left = self._write_out(line, deadline)
        except OSError:
            return False
        if left != line:
            self._left = left
        return left != line

    def _write_out(self, data: bytes, deadline: float) -> bytes:
        """Write, and wait for the reader if that is allowed now. Returns what could not be written."""
        while data:
            try:
                data = data[self._write(data) :]
            except BlockingIOError:
                began = time.monotonic()
                if self._stuck or not self._may_wait_at <= began < deadline or not self._await(deadline - began):
                    self._stuck = True
                    break
                ended = time.monotonic()
                self._may_wait_at = ended + REST_AFTER_WAIT * (ended - began)
            else:
                self._stuck = False
        return data

    def _write(self, data: bytes) -> int:
        """Write some bytes and return their number. Raises BlockingIOError where it would have to wait."""
        raise NotImplementedError

    def _await(self, seconds: float) -> bool:
        """Wait until a write is possible."""
        raise NotImplementedError


class Stream(Outlet):
    """A descriptor: a pipe, a socket, a file or a terminal. Others may write there too and want to wait. So the
    descriptor itself stays blocking: each write asks not to wait, or uses another descriptor of the same pipe."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = unblocked(fd)
        self._socket = socket.socket(fileno=os.dup(fd)) if stat.S_ISSOCK(os.fstat(fd).st_mode) else None

    def _write(self, data: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        if os.get_blocking(self._fd):
            if not _ready(self._fd, 0):
                raise BlockingIOError
            data = data[:_SURELY_FITS]
        return os.write(self._fd, data)

    def _await(self, seconds: float) -> bool:
        return _ready(self._fd, seconds)


class Journal(Outlet):
    """The socket of the systemd journal, in its native protocol: each entry is one datagram."""

    def __init__(self, path: str = JOURNAL) -> None:
        super().__init__()
        self._path = path
        self._socket = self._connected()

    def _write(self, data: bytes) -> int:
        try:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            raise
        except OSError:  # the journal was restarted, so its socket is another one now
            self._socket.close()
            self._socket = self._connected()
            return self._socket.send(data, socket.MSG_DONTWAIT)

    def _await(self, seconds: float) -> bool:
        return _ready(self._socket.fileno(), seconds)

    def _connected(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with suppress(OSError):  # each entry tries again
            made.connect(self._path)
        return made


def entry(fields: dict[str, str]) -> bytes:
    """Fields in the journal's native protocol: one line each. A field with a line break has its length before it."""
    parts = []
    for name, value in fields.items():
        data = value.encode()
        if b"\n" in data:
            parts.append(b"%b\n%b%b\n" % (name.encode(), len(data).to_bytes(8, "little"), data))
        else:
            parts.append(b"%b=%b\n" % (name.encode(), data))
    return b"".join(parts)


@cache
def unblocked(fd: int) -> int:
    """Another descriptor of the same pipe, whose writes don't wait. If it is not a pipe, or if it can't be opened
    because it belongs to another user, the same descriptor."""
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        return fd
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return fd


def _ready(fd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))
