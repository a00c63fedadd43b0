"""A connection to a receiver that may be slow, endless or hostile: one deadline for all, and a limit of bytes.

A timeout for each read is not enough: a receiver that sends one byte a second never exceeds it. So every wait of a
`Wire` ends at its deadline, and the received bytes are counted. Both happen below TLS, so a handshake counts too.

A receiver may answer before it has read everything, and then read no more. So a `Wire` sends while it waits for the
answer. After a refusal the rest may stay unsent; after a success `finish` sends it.
"""

from __future__ import annotations

import io
import math
import select
import socket
import time
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

T = TypeVar("T")

# A long chain of certificates and long headers take a quarter of it.
MOST_BYTES = 256 * 1024
_CHUNK = 16 * 1024


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
    """A connection. The answer is read from it as from a file."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._deadline = deadline
        self._ready = select.poll()
        self._left = MOST_BYTES
        self._unsent: deque[memoryview] = deque()
        self._outgoing = memoryview(b"")

    def send(self, data: bytes) -> None:
        """Send this, while a read waits for what arrives."""
        view = memoryview(data)
        self._unsent.extend(view[at : at + _CHUNK] for at in range(0, len(view), _CHUNK))

    def finish(self) -> None:
        """Send the rest, though the answer is there. A receiver may say yes first, and read afterwards.

        What it still says is read and dropped. Otherwise it could wait for that before it reads. And a close with bytes
        unread is a reset, which throws away what is on its way.
        """
        if not self._to_send():
            return
        hears = True
        while self._to_send():
            if hears and self._arrived():
                hears = bool(self._connection.recv(_CHUNK))
            else:
                self._connection.settimeout(self._deadline.left())
                self._push()
        self._connection.shutdown(socket.SHUT_WR)
        while hears and self._arrived():
            hears = bool(self._connection.recv(_CHUNK))

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what has arrived, or what arrives first."""
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _read(self, most: int) -> bytes:
        return self._receive(most)

    def _receive(self, most: int) -> bytes:
        """What arrives next; nothing at its end. What is still to be sent goes out meanwhile."""
        if self._left <= 0:
            raise OSError(f"an answer of more than {MOST_BYTES // 1024} KiB")
        while True:
            self._to_send()
            if not self._arrived():
                self._push()
                continue
            with suppress(BlockingIOError):
                data = self._connection.recv(min(most, self._left))
                self._left -= len(data)
                return data

    def _to_send(self) -> bool:
        self._outgoing = self._outgoing or memoryview(self._next())
        return bool(self._outgoing)

    def _arrived(self) -> bool:
        """Wait. True if something has arrived, or the connection broke; False if there is room to send."""
        self._ready.register(self._connection, select.POLLIN | (select.POLLOUT if self._outgoing else 0))
        while not (found := self._ready.poll(math.ceil(self._deadline.left() * 1000))):
            pass
        return found[0][1] != select.POLLOUT

    def _push(self) -> None:
        try:
            self._outgoing = self._outgoing[self._connection.send(self._outgoing) :]
        except BlockingIOError:
            pass
        except OSError:  # the receiver takes no more; perhaps it has answered
            self._outgoing = memoryview(b"")
            self._unsent.clear()

    def _next(self) -> bytes | memoryview:
        """What is to be sent next."""
        return self._unsent.popleft() if self._unsent else b""


class TlsWire(Wire):
    """TLS on top of the counted bytes."""

    def __init__(self, connection: socket.socket, deadline: Deadline, context: ssl.SSLContext, name: str) -> None:
        import ssl

        super().__init__(connection, deadline)
        self._errors = ssl
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self._through(self._tls.do_handshake)

    def _read(self, most: int) -> bytes:
        try:
            return self._through(partial(self._tls.read, most))
        except (self._errors.SSLZeroReturnError, self._errors.SSLEOFError):
            return b""

    def _through(self, step: Callable[[], T]) -> T:
        """Do a step, and exchange the bytes that TLS needs for it."""
        while True:
            try:
                return step()
            except self._errors.SSLWantReadError:
                if data := self._receive(_CHUNK):
                    self._in.write(data)
                else:
                    self._in.write_eof()
            except self._errors.SSLError:
                with suppress(OSError):
                    self._connection.send(self._out.read())  # the TLS alert, if there is room
                raise

    def _next(self) -> bytes:
        if self._unsent:
            with suppress(self._errors.SSLWantReadError):  # a new handshake comes first
                self._tls.write(self._unsent[0])
                self._unsent.popleft()
        return self._out.read()
