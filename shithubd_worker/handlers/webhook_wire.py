"""One HTTP exchange with a receiver that may be slow, endless or hostile: one deadline for all, and a limit of bytes.

A timeout for each read is not enough: a receiver that sends one byte a second never exceeds it. So every wait of a
`Wire` ends at its deadline, and the received bytes are counted. Both happen below TLS, so a handshake counts too.
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

# A long chain of certificates and long headers take a quarter of it.
MOST_BYTES = 256 * 1024
_CHUNK = 16 * 1024

# What getaddrinfo returns: a family, and an address of it with the port.
Address = tuple[int, tuple[Any, ...]]


class Deadline:
    """A moment on the monotonic clock."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def left(self, most: float = math.inf) -> float:
        """How many seconds a wait may last. Raises TimeoutError if none is left."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return min(left, most)


class Wire(io.RawIOBase):
    """A connection. http.client uses it like a socket."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection = connection
        self._deadline = deadline
        self._left = MOST_BYTES
        self._file = io.BufferedReader(self)

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what has arrived, or what arrives first."""
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def makefile(self, _mode: str) -> io.BufferedReader[Wire]:
        """The same file for all answers: what one answer leaves in the buffer belongs to the next."""
        return self._file

    def sendall(self, data: bytes) -> None:
        """Send everything, even if the receiver takes it slowly."""
        self._send(data)

    def close(self) -> None:
        """Close the connection."""
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
    """TLS on top of the counted bytes."""

    def __init__(self, connection: socket.socket, deadline: Deadline, context: ssl.SSLContext, name: str) -> None:
        import ssl

        super().__init__(connection, deadline)
        self._errors = ssl
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self._through(self._tls.do_handshake)

    def sendall(self, data: bytes) -> None:
        """Send everything, even if the receiver takes it slowly."""
        view = memoryview(data)
        while view:
            view = view[self._through(partial(self._tls.write, view[:_CHUNK])) :]

    def _read(self, most: int) -> bytes:
        try:
            return self._through(partial(self._tls.read, most))
        except (self._errors.SSLZeroReturnError, self._errors.SSLEOFError):
            return b""

    def _through(self, step: Callable[[], T]) -> T:
        """Do a step, and exchange the bytes that TLS needs for it."""
        while True:
            try:
                done = step()
            except self._errors.SSLWantReadError:
                self._send(self._out.read())
                if data := self._receive(_CHUNK):
                    self._in.write(data)
                else:
                    self._in.write_eof()
            except self._errors.SSLError:  # the TLS alert
                self._send(self._out.read())
                raise
            else:
                self._send(self._out.read())
                return done


def connect(address: Address, seconds: float) -> socket.socket:
    """Connect to exactly this address. Nothing is looked up."""
    family, where = address
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.settimeout(seconds)
        made.connect(where)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # send the body at once after the headers
    except BaseException:
        made.close()
        raise
    return made


def post(wire: Wire, path: str, headers: Mapping[str, str], body: bytes) -> HTTPResponse:
    """Send a request. Returns the answer with its headers; its body is still to be read. Raises OSError and
    HTTPException."""
    request = HTTPConnection("")
    request.sock = wire  # so no name is looked up, and no proxy is used
    with suppress(BrokenPipeError):  # perhaps it answered before it read everything
        request.request("POST", path, body, {**headers, "Connection": "close"})
    while True:
        answer = HTTPResponse(cast("socket.socket", wire), method="POST")
        answer.begin()
        if answer.status >= 200:  # noqa: PLR2004
            return answer
        # An interim answer, for example 103: the next one follows in the same file.
        answer.fp = None  # type: ignore[assignment]
