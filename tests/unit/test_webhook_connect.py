"""From a name to a connection: every address is judged, and each may be the one that lives."""

# ruff: noqa: F401, F811 (fixtures)

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from helpers_webhooks import (
    OK,
    PUBLIC,
    config,
    deliver,
    first_line,
    loopback_alone,
    only_line,
    receiver,
    resolves,
    says,
    secrets,
    speaker,
    strict,
)
from servers import deaf_port

from shithubd_worker.handlers import webhook_connect, webhook_deliver, webhook_wire
from shithubd_worker.model import How


@contextmanager
def silent(port: int, *hosts: str) -> Iterator[None]:
    """Addresses of the loopback where nobody refuses a connection, and nobody accepts one: their queues are full."""
    with ExitStack() as open_until_the_end:
        for host in hosts:
            listening = open_until_the_end.enter_context(socket.socket())
            listening.bind((host, port))
            listening.listen(0)
            while True:
                waiting = open_until_the_end.enter_context(socket.socket())
                waiting.settimeout(0.05)
                try:
                    waiting.connect((host, port))
                except TimeoutError:
                    break
        yield


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch, loopback_alone: None) -> list[tuple[str, socket.socket]]:
    """The connections that were begun, with their addresses."""
    seen: list[tuple[str, socket.socket]] = []
    begin = webhook_connect.begin

    def noted(address: webhook_connect.Address) -> socket.socket:
        made = begin(address)
        seen.append((address[1][0], made))
        return made

    monkeypatch.setattr(webhook_connect, "begin", noted)
    return seen


def test_the_address_that_lives_is_found_behind_any_number_of_dead_ones(receiver, config, resolves, begun):
    dead = [f"127.0.0.{number}" for number in range(2, 33)]  # nobody listens there
    resolves["many.example"] = [*dead, "127.0.0.1"]
    assert deliver(config, f"http://many.example:{receiver.port}").how is How.OK
    assert {made.fileno() for _, made in begun} == {-1}
    assert len(receiver.got) == 1


def test_a_silent_address_costs_only_its_head_start(receiver, config, resolves, begun, monkeypatch):
    """All silent ones together would use up the time, if one were tried after the other."""
    monkeypatch.setattr(webhook_connect, "CONNECT_TIMEOUT", 600)
    monkeypatch.setattr(webhook_connect, "HEAD_START", 0.01)
    resolves["three.example"] = ["127.0.0.2", "::1", "127.0.0.3", "127.0.0.1", "127.0.0.4"]
    with silent(receiver.port, "127.0.0.2", "127.0.0.3"):
        assert deliver(config, f"http://three.example:{receiver.port}").how is How.OK
    assert [address for address, _ in begun][:1] == ["127.0.0.2"]
    assert {made.fileno() for _, made in begun} == {-1}


def test_addresses_that_never_answer_are_given_up(config, resolves, monkeypatch):
    monkeypatch.setattr(webhook_connect, "CONNECT_TIMEOUT", 0.02)
    monkeypatch.setattr(webhook_connect, "HEAD_START", 0.01)
    resolves["silent.example"] = ["127.0.0.2", "127.0.0.3"]
    with deaf_port() as port, silent(port, "127.0.0.2", "127.0.0.3"):
        outcome = deliver(config, f"http://silent.example:{port}")
    assert outcome.how is How.RETRY
    assert only_line(outcome) == f"http://silent.example:{port} (127.0.0.2, 127.0.0.3): timed out"


def test_a_name_of_very_many_addresses_makes_the_worker_try_a_bounded_number(config, strict, resolves, begun):
    resolves["many.example"] = [f"127.0.{number // 256}.{number % 256}" for number in range(1, 1000)]
    with deaf_port() as port:
        outcome = deliver(config, f"http://many.example:{port}")
    assert outcome.how is How.RETRY
    tried = "127.0.0.1, 127.0.0.2, 127.0.0.3 and 29 more"
    assert only_line(outcome) == f"http://many.example:{port} ({tried}): [Errno 111] Connection refused"
    resolves["many.example"] = [PUBLIC] * 10 + [f"93.184.216.{number}" for number in range(1, 100)] + ["10.0.0.1"]
    assert only_line(deliver(strict, "https://many.example")).startswith("many.example has the address 10.0.0.1")


def test_a_receiver_that_is_down_is_tried_again(config):
    with deaf_port() as port:
        outcome = deliver(config, f"http://127.0.0.1:{port}")
    assert outcome.how is How.RETRY
    assert only_line(outcome) == f"http://127.0.0.1:{port} (127.0.0.1): [Errno 111] Connection refused"


def test_the_event_is_sent_to_one_address_only(config, resolves):
    """Nothing is known of what the first one did, so the event must not go to another one."""
    resolves["two.example"] = ["127.0.0.1", "127.0.0.2"]
    with speaker(says(b"")) as port, socket.create_server(("127.0.0.2", port)) as other:
        outcome = deliver(config, f"http://two.example:{port}")
        other.settimeout(0)
        with pytest.raises(BlockingIOError):
            other.accept()
    assert outcome.how is How.RETRY
    assert only_line(outcome).endswith("(127.0.0.1): closed the connection without an answer")


def test_a_name_that_does_not_resolve_is_tried_again(config, resolves):
    outcome = deliver(config, "https://nowhere.example/")
    assert outcome.how is How.RETRY
    assert only_line(outcome) == "nowhere.example can't be resolved: Name or service not known"


def test_a_resolver_that_never_answers_is_given_up(config, monkeypatch):
    answer = threading.Event()
    monkeypatch.setattr(webhook_connect, "RESOLVE_TIMEOUT", 0.01)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **o: answer.wait() and [])
    outcome = deliver(config, "https://slow.example/")
    answer.set()
    assert outcome.how is How.RETRY
    assert only_line(outcome) == "slow.example can't be resolved: no answer in 0.01 s"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "192.88.99.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1",
        "ff02::1", "::ffff:10.0.0.1", "::127.0.0.1", "2002:7f00:1::", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",
        "2001:db8::1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("before", [1, 40])
def test_an_address_that_is_not_public_is_refused(strict, resolves, address, before):
    resolves["inside.example"] = [*(f"93.184.215.{number}" for number in range(before)), address]
    outcome = deliver(strict, "https://inside.example/")
    assert outcome.how is How.FAILED
    assert outcome.error == f"inside.example has the address {address}, which is not a public one"


def test_the_connection_goes_to_the_checked_address_without_another_lookup(strict, monkeypatch):
    answers, went = [PUBLIC, "127.0.0.1"], []

    def begin(address: webhook_connect.Address) -> socket.socket:
        went.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, port, **_: [(socket.AF_INET, 1, 6, "", (answers.pop(0), port))]
    )
    monkeypatch.setattr(webhook_connect, "begin", begin)
    outcome = deliver(strict, "https://rebinding.example:8443/")
    assert outcome.how is How.RETRY
    assert only_line(outcome) == f"https://rebinding.example:8443 ({PUBLIC}): ConnectionRefusedError"
    assert went == [(socket.AF_INET, (PUBLIC, 8443))]
    assert answers == ["127.0.0.1"]


@pytest.mark.parametrize(("seconds", "how"), [(3.5, How.RETRY), (300.5, How.OK)])
def test_the_lookup_the_addresses_and_the_answer_share_one_deadline(config, resolves, monkeypatch, seconds, how):
    """Each reading of this clock is a second later. So no single wait is long, but all together are."""

    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            self.now += 1.0
            return self.now

    monkeypatch.setattr(webhook_wire, "time", Clock())
    monkeypatch.setattr(webhook_deliver, "DELIVERY_TIMEOUT", seconds)
    resolves["slow.example"] = ["127.0.0.2", "127.0.0.1"]
    with speaker(says(OK)) as port:
        outcome = deliver(config, f"http://slow.example:{port}")
    assert outcome.how is how
    if outcome.error:
        assert only_line(outcome).endswith("timed out")
