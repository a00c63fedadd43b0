"""A receiver that drips, floods or never ends holds a worker for at most one deadline, on real sockets.

With more time, each receiver here would end well, or in another way. So no test has to measure time.
"""

# ruff: noqa: F401, F811 (fixtures)

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import pytest
from helpers_webhooks import OK, config, deliver, loopback_alone, only_line, secrets, speaker

from shithubd_worker.handlers import webhook_deliver
from shithubd_worker.model import How

DEADLINE = 0.5
DRIPS = 200  # of one byte each, 50 ms apart: twenty times the deadline, while no single wait comes near it


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
        pytest.param("http", drip(b"HTTP/1.1 103 E\r\nX: ", b"x", b"\r\n\r\n" + OK), id="headers of a hint"),
        pytest.param("http", drip(b"", OK, b"\r\n\r\n"), id="the first line"),
        pytest.param("http", drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"\r\n\r\n" + OK), id="100 Continue"),
        pytest.param("http", drip(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", b"\r\n\r\n" + OK), id="103 Early Hints"),
        pytest.param("https", drip(b"\x16\x03\x03\x40\x00\x02", b"\0", b""), id="a handshake"),
    ],
)
def test_a_receiver_that_drips_is_given_up_at_the_deadline(config, soon, scheme, answer):
    ends: list[str] = []
    with speaker(answer, ends) as port:
        outcome = deliver(config, f"{scheme}://127.0.0.1:{port}/hidden?hidden")
    assert outcome.how is How.RETRY
    assert ends == ["hung up"]
    assert only_line(outcome) == f"{scheme}://127.0.0.1:{port} (127.0.0.1): timed out"


@pytest.mark.parametrize(
    ("before", "judged"),
    [
        (b"HTTP/1.1 500 No\r\nContent-Length: 1000\r\n\r\n", How.RETRY),
        (b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n", How.RETRY),
        (b"HTTP/1.1 404 No\r\nX: ", How.FAILED),
        (b"HTTP/1.1 200 OK\r\nX: ", How.OK),
    ],
    ids=["a body", "chunks", "headers of a refusal", "headers of a success"],
)
def test_a_receiver_that_drips_what_follows_its_status_is_judged_by_it(config, soon, before, judged):
    ends: list[str] = []
    with speaker(drip(before, b"0", b""), ends) as port:
        outcome = deliver(config, f"http://127.0.0.1:{port}")
    # On a very busy machine the deadline comes before the status.
    assert outcome.how is judged or only_line(outcome).endswith("timed out")
    assert ends == ["hung up"]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n", "more than 100 interim answers"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", "more than 100 interim answers"),
        (b"HTTP/1.1 100 Continue\r\n" + b"X: y\r\n" * 1000 + b"\r\n", "an answer of more than 256 KiB"),
        (b"HTTP/1.1 100 Continue\r\n" + b"X" * 1_000_000, "an answer of more than 256 KiB"),
        (b"x" * 1000, "the answer is not HTTP: " + "x" * 176),
    ],
    ids=["100 Continue", "103 Early Hints", "with headers", "a header without an end", "no line at all"],
)
def test_a_receiver_that_floods_is_given_up(config, data, error):
    ends: list[str] = []
    with speaker(flood(data), ends) as port:
        outcome = deliver(config, f"http://127.0.0.1:{port}")
    assert outcome.how is How.RETRY
    assert only_line(outcome) == f"http://127.0.0.1:{port} (127.0.0.1): {error}"
    assert ends == ["hung up"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_receiver_that_reads_nothing_is_given_up_at_the_deadline(config, soon, scheme):
    over = threading.Event()
    with speaker(lambda _: over.wait() and None) as port:
        outcome = deliver(config, f"{scheme}://127.0.0.1:{port}", body="x" * 16_000_000)
        over.set()
    assert only_line(outcome).endswith("timed out")
