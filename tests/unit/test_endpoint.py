"""The metrics endpoint and its clients: those that ask, and those that only hold a connection."""

from __future__ import annotations

import logging
import re
import socket
import struct
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from typing import Any

import pytest
from conftest import eventually
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from shithubd_worker.model import WorkerState
from shithubd_worker.settings.table import Address
from shithubd_worker.telemetry import endpoint
from shithubd_worker.telemetry.metrics import Metrics

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
TLS_HELLO = bytes.fromhex("16030100520100004e0303") + bytes(75)


class Queue(Collector):
    """Figures of the queue, so many bytes of them, which come when the door is open."""

    def __init__(self) -> None:
        self.door = threading.Event()
        self.door.set()
        self.size = 10
        self.asked = threading.Event()

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        self.asked.set()
        self.door.wait()
        yield GaugeMetricFamily("queue", "x" * self.size, value=1.0)


class Served:
    """An endpoint in this process."""

    def __init__(self, caplog: pytest.LogCaptureFixture, host: str = "127.0.0.1", port: int = 0) -> None:
        self.queue = Queue()
        self.log = caplog
        caplog.set_level(logging.INFO)
        metrics = Metrics(["test.ok"], "web1:4711")
        metrics.watch(lambda: WorkerState.IDLE, lambda: None, lambda: True)
        endpoint.serve(metrics, self.queue, Address(host, port))
        self.port = port or int(re.findall(r"metrics on http://.*:(\d+)", caplog.text)[-1])

    def connect(self, sends: bytes = b"") -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port))
        client.sendall(sends)
        return client

    def scrape(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            return str(answer.read().decode())


@pytest.fixture
def served(caplog: pytest.LogCaptureFixture) -> Served:
    return Served(caplog)


def answering() -> int:
    """The threads that have a client."""
    return sum("process_request" in thread.name for thread in threading.enumerate())


@pytest.fixture
def quiet(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No client makes a line in the log or on stderr, and none leaves a thread."""
    yield
    eventually(lambda: answering() == 0, "no thread is left")
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("sends", [b"", b"GET /met", TLS_HELLO, REQUEST[:-2]], ids=["nothing", "a word", "TLS", "half"])
def test_300_clients_that_send_no_request_cost_a_live_scrape_nothing(served: Served, sends: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(served.connect(sends))
        assert "queue 1.0" in served.scrape()
        eventually(lambda: answering() <= endpoint.MOST_CLIENTS, "the others are sent away")


@pytest.mark.usefixtures("quiet")
def test_a_scrape_that_waits_for_its_answer_outlives_silent_clients(served: Served) -> None:
    served.queue.door.clear()
    with ExitStack() as stack:
        scrape = stack.enter_context(served.connect(REQUEST))
        assert served.queue.asked.wait(60)
        for _ in range(100):
            stack.enter_context(served.connect())
        served.queue.door.set()
        with scrape.makefile("rb") as answer:
            assert b"queue 1.0" in answer.read()


def hang_up(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    client.close()


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    "sends", [b"", b"GET", REQUEST, b"\r\n", b"\0" * 99, b"x" * 70_000, b"POST / HTTP/1.1\r\n\r\n"]
)
@pytest.mark.parametrize("leaves", [hang_up, socket.socket.close])
def test_a_client_that_leaves_or_sends_nonsense_leaves_no_trace(
    served: Served, sends: bytes, leaves: Callable[[socket.socket], None]
) -> None:
    for _ in range(5):
        leaves(served.connect(sends))
    assert "queue 1.0" in served.scrape()


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("sends", [b"", b"GET /", REQUEST], ids=["silent", "half a request", "reads no answer"])
def test_a_client_that_does_nothing_is_dropped_after_a_while(
    served: Served, sends: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint._Handler, "timeout", 0.05)
    served.queue.size = 50_000_000  # more than the buffers of a connection hold
    with served.connect(sends):
        eventually(lambda: answering() == 1, "it has a thread")
        eventually(lambda: answering() == 0, "it is dropped")


def test_a_fault_in_a_figure_is_told_and_prometheus_gets_no_answer(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Queue, "collect", lambda self: [1 / 0])
    with pytest.raises(OSError, match="closed connection"):
        served.scrape()
    assert "ZeroDivisionError" in served.log.text


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_paths_answer_a_get_and_a_head(served: Served, method: str) -> None:
    for path, status in (("/healthz", 200), ("/readyz?x=1", 200), ("/", 200), ("/nothing", 404), ("/metrics", 200)):
        connection = HTTPConnection("127.0.0.1", served.port)
        connection.request(method, path)
        answer = connection.getresponse()
        assert (answer.status, bool(answer.read())) == (status, method == "GET"), path
        connection.close()


def test_an_ipv6_address_is_served(caplog: pytest.LogCaptureFixture) -> None:
    served = Served(caplog, "::1")
    with urllib.request.urlopen(f"http://[::1]:{served.port}/healthz") as answer:
        assert answer.read() == b"ok\n"


@pytest.mark.parametrize(
    ("host", "why"),
    [("a" * 64, "too long|label"), ("no-such-host.invalid", "not known|resolution"), ("192.0.2.1", "assign")],
)
def test_a_host_that_is_not_here_is_told_in_one_line(caplog: pytest.LogCaptureFixture, host: str, why: str) -> None:
    Served(caplog, host, 8081)
    [told] = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(rf"metrics are not served now: can't listen on {host}:8081: .*({why}).*", told)


def test_a_busy_port_is_told_once_and_taken_when_it_is_free(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "PORT_AGAIN_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        served = Served(caplog, port=port)
        assert "metrics on" not in caplog.text
        # What the other one leaves behind keeps nobody from its port.
        with socket.create_connection(("127.0.0.1", port)), busy.accept()[0] as accepted:
            accepted.close()
            busy.close()
            eventually(lambda: "metrics on" in caplog.text, "the port is taken")
            assert "queue 1.0" in served.scrape()
    told = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    assert len(told) == 1
    assert f"127.0.0.1:{port}: Address already in use; the worker works, and tries again" in told[0]
