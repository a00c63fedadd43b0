"""A receiver that drips, floods or never ends holds a worker for at most one deadline, on real sockets.

With more time, each receiver here would end well, or in another way. So no test has to measure time.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from test_webhook_deliver import (  # noqa: F401 (fixtures)
    FakeSocket,
    certificates,
    config,
    deliver,
    first_line,
    loopback_alone,
    secrets,
)

from shithubd_worker.handlers import webhook_deliver, webhook_wire
from shithubd_worker.model import How

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
DEADLINE = 0.5
DRIPS = 200  # of one byte each, 50 ms apart: twenty times the deadline, while no single wait comes near it


@contextmanager
def receiver(answer: Callable[[socket.socket], None], ends: list[str] | None = None) -> Iterator[int]:
    """The port of a server that accepts a connection, reads the beginning of a request, and answers as it is told.
    `ends` gets whether it could send all of its answer, or the worker had hung up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            end = "hung up"
            with connection, suppress(OSError):
                connection.recv(65536)
                answer(connection)
                end = "said all"
            if ends is not None:
                ends.append(end)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


def drip(before: bytes, slowly: bytes, after: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.sendall(before)
        for number in range(DRIPS):
            connection.sendall(slowly[number % len(slowly) :][:1])
            time.sleep(0.05)
        connection.sendall(after)

    return answer


def flood(data: bytes) -> Callable[[socket.socket], None]:
    """100 MB, and a proper end."""

    def answer(connection: socket.socket) -> None:
        for _ in range(100_000_000 // len(data)):
            connection.sendall(data)
        connection.sendall(b"\r\n" + OK)

    return answer


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_deliver, "DELIVERY_TIMEOUT", DEADLINE)


@pytest.mark.parametrize(
    ("scheme", "answer"),
    [
        pytest.param("http", drip(b"HTTP/1.1 200 OK\r\nX: ", b"x", b"\r\n\r\n"), id="headers"),
        pytest.param("http", drip(b"", OK, b"\r\n\r\n"), id="the first line"),
        pytest.param("http", drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"\r\n\r\n" + OK), id="100 Continue"),
        pytest.param("http", drip(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", b"\r\n\r\n" + OK), id="103 Early Hints"),
        pytest.param("https", drip(b"\x16\x03\x03\x40\x00\x02", b"\0", b""), id="a handshake"),
    ],
)
def test_a_receiver_that_drips_is_given_up_at_the_deadline(config, soon, scheme, answer):  # noqa: F811
    ends: list[str] = []
    with receiver(answer, ends) as port:
        outcome = deliver(config, f"{scheme}://127.0.0.1:{port}/hidden?hidden")
    assert outcome.how is How.RETRY
    assert ends == ["hung up"]
    assert first_line(outcome) == f"{scheme}://127.0.0.1:{port} (127.0.0.1): timed out"


@pytest.mark.parametrize(
    "before",
    [
        b"HTTP/1.1 500 No\r\nContent-Length: 1000\r\n\r\n",
        b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["a body", "chunks"],
)
def test_a_receiver_that_drips_only_the_body_is_judged_by_its_status(config, soon, before):  # noqa: F811
    ends: list[str] = []
    with receiver(drip(before, b"0", b""), ends) as port:
        outcome = deliver(config, f"http://127.0.0.1:{port}")
    assert outcome.how is How.RETRY
    assert re.search("answered 500|timed out", first_line(outcome))  # the latter on a very busy machine
    assert ends == ["hung up"]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n" + b"X: y\r\n" * 50 + b"\r\n",
        b"x" * 1000,
    ],
    ids=["100 Continue", "103 Early Hints", "with headers", "no line at all"],
)
def test_a_receiver_that_floods_is_given_up_after_a_quarter_of_a_mebibyte(config, data):  # noqa: F811
    ends: list[str] = []
    with receiver(flood(data), ends) as port:
        outcome = deliver(config, f"http://127.0.0.1:{port}")
    assert outcome.how is How.RETRY
    assert re.search("an answer of more than 256 KiB|got more than 65536 bytes", first_line(outcome))
    assert ends == ["hung up"]


def test_an_early_hint_is_not_the_answer(config):  # noqa: F811
    with receiver(lambda connection: connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + OK)) as port:
        assert deliver(config, f"http://127.0.0.1:{port}").how is How.OK


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_receiver_that_reads_nothing_is_given_up_at_the_deadline(config, soon, scheme):  # noqa: F811
    over = threading.Event()
    with receiver(lambda _: over.wait() and None) as port:
        outcome = deliver(config, f"{scheme}://127.0.0.1:{port}", body="x" * 16_000_000)
        over.set()
    assert first_line(outcome).endswith("timed out")


def test_the_lookup_of_the_name_uses_the_same_deadline(config, monkeypatch):  # noqa: F811
    """A slow resolver, an address that accepts no connection, and a silent receiver: each has the rest of the time."""
    left = []
    connect = webhook_wire.connect

    def seen(address: webhook_wire.Address, seconds: float) -> socket.socket:
        left.append(seconds)
        return connect(address, seconds)

    class Clock:
        """Each reading is a second later."""

        now = 0.0

        def monotonic(self) -> float:
            self.now += 1.0
            return self.now

    monkeypatch.setattr(webhook_wire, "time", Clock())
    monkeypatch.setattr(webhook_wire, "connect", seen)
    with socket.socket() as taken, receiver(lambda connection: connection.sendall(OK)) as port:
        taken.bind(("127.0.0.2", port))  # and it does not listen
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.2", "127.0.0.1")]
        monkeypatch.setattr(webhook_deliver, "socket", FakeSocket(lambda *_, **__: found))
        monkeypatch.setattr(webhook_deliver, "DELIVERY_TIMEOUT", 5.5)
        assert deliver(config, f"http://slow.example:{port}").how is How.RETRY
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
    assert left == [3.5, 2.5]
