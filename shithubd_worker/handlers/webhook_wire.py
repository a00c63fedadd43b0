"""One HTTP exchange with somebody who may be slow, endless or hostile: one deadline for all of it, and bounded bytes.

A timeout for each read is none: a receiver that sends a byte a second meets it for ever. So every wait of a `Wire` ends
at its deadline, and the bytes that it takes are counted. Both happen below TLS, so that a handshake counts as well.
"""

from __future__ import annotations

import io
import math
import socket
import time
from contextlib import suppress
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

T = TypeVar("T")

# A long chain of certificates and long headers are a quarter of it.
MOST_BYTES = 256 * 1024
_CHUNK = 16 * 1024

# What getaddrinfo says: a family, and an address of it with the port.
Address = tuple[int, tuple[Any, ...]]


class Deadline:
    """A moment of the monotonic clock."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def left(self, most: float = math.inf) -> float:
        """How many seconds a wait may last. Raises TimeoutError if none."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return min(left, most)


class Wire(io.RawIOBase):
    """A connection. http.client takes it for a socket."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection = connection
        self._deadline = deadline
        self._left = MOST_BYTES
        self._file = io.BufferedReader(self)

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """What is there, or comes first."""
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def makefile(self, _mode: str) -> io.BufferedReader[Wire]:
        """One for all answers: what one has left in the buffer belongs to the next."""
        return self._file

    def sendall(self, data: bytes) -> None:
        """Send it, however slowly it is taken."""
        self._send(data)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
        super().close()

    def _read(self, most: int) -> bytes:
        return self._receive(most)

    def _receive(self, most: int) -> bytes:
        if self._left <= 0:
            raise OSError(f"an answer of more than {MOST_BYTES // 1024} KiB")
        self._connection.settimeout(self._deadline.left())
        data = self._connection.recv(min(most, self._left))
        self._left -= len(data)
        return data

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._connection.settimeout(self._deadline.left())
            view = view[self._connection.send(view) :]


class TlsWire(Wire):
    """With TLS above what is counted."""

    def __init__(self, connection: socket.socket, deadline: Deadline, context: ssl.SSLContext, name: str) -> None:
        import ssl

        super().__init__(connection, deadline)
        self._errors = ssl
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self._through(self._tls.do_handshake)

    def sendall(self, data: bytes) -> None:
        """Send it, however slowly it is taken."""
        view = memoryview(data)
        while view:
            view = view[self._through(partial(self._tls.write, view[:_CHUNK])) :]

    def _read(self, most: int) -> bytes:
        try:
            return self._through(partial(self._tls.read, most))
        except (self._errors.SSLZeroReturnError, self._errors.SSLEOFError):
            return b""

    def _through(self, step: Callable[[], T]) -> T:
        """Do it, and pass on what it has to say and wants to hear."""
        while True:
            try:
                done = step()
            except self._errors.SSLWantReadError:
                self._send(self._out.read())
                if data := self._receive(_CHUNK):
                    self._in.write(data)
                else:
                    self._in.write_eof()
            except self._errors.SSLError:  # its alert
                self._send(self._out.read())
                raise
            else:
                self._send(self._out.read())
                return done


def connect(address: Address, seconds: float) -> socket.socket:
    """A connection to exactly this address: nothing is looked up."""
    family, where = address
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.settimeout(seconds)
        made.connect(where)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the body follows the headers at once
    except BaseException:
        made.close()
        raise
    return made


def post(wire: Wire, path: str, headers: Mapping[str, str], body: bytes) -> HTTPResponse:
    """Send a request; the answer with its headers, its body still to be read. Raises OSError and HTTPException."""
    request = HTTPConnection("")
    request.sock = wire  # no name is looked up, and no proxy asked
    with suppress(BrokenPipeError):  # it has answered without reading all, perhaps
        request.request("POST", path, body, {**headers, "Connection": "close"})
    while True:
        answer = HTTPResponse(cast("socket.socket", wire), method="POST")
        answer.begin()
        if answer.status >= 200:  # noqa: PLR2004
            return answer
        answer.fp = None  # type: ignore[assignment]  # 103, for example: another one follows, in the same file
