"""A run whose handler has not begun: nothing before its first line counts as an attempt or ends the process."""

from __future__ import annotations

import _thread
import math
import signal
from functools import partial
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.host.dead_man import DeadMan, Timer
from shithubd_worker.host.signals import Stop
from shithubd_worker.model import Batch, How, Lease
from shithubd_worker.process.runner import Runner
from shithubd_worker.process.shared import Progress
from shithubd_worker.registry import Registry
from shithubd_worker.settings.config import Config
from shithubd_worker.timing import START_WITHIN_SECONDS

NOW = 5000.0
TIMEOUT = 10.0
OVER = TIMEOUT + 1


def made_to_ring(attempt):
    attempt.interrupt_if_due()


def prepared(handler=lambda job: None, *, age=0.0, release_at=math.inf, rings=False):
    """An attempt whose lease has this age in seconds. If asked, its alarm rings when it is set for the first time."""
    left = [made_to_ring] if rings else []
    registry = Registry()
    registry.handler("k", lease_timeout=TIMEOUT, backoff=0)(handler)
    made = Attempt(
        registry["k"],
        Lease(1, "k", "{}", 1, None, 0, 0, 0.0, Batch("t", NOW - age, 0.0)),
        config=Config(),
        database=SimpleNamespace(schema="public", broken=False),
        stop=SimpleNamespace(release_at=release_at),
        alarm=lambda at: left and left.pop()(made),
        clock=lambda: NOW,
    )
    assert made.prepare() is None
    return made


def test_an_alarm_before_the_age_of_an_ended_lease_is_checked_costs_nothing():
    started = []
    attempt = prepared(noting(started), age=OVER, rings=True)
    assert (attempt.run(), started) == (None, [])


@pytest.mark.parametrize("age", [0.0, OVER])
def test_a_stop_before_the_first_line_interrupts_only_a_handler_that_has_begun(age):
    """The next ring interrupts such a handler: the control thread sees to it."""
    started = []

    def handler(job):
        started.append(job)
        attempt.interrupt_if_due()

    attempt = prepared(handler, age=age, release_at=NOW, rings=True)
    result = attempt.run()
    assert bool(started) == (age <= START_WITHIN_SECONDS)
    assert (result and result.outcome.how) == (How.RELEASED if started else None)


def noting(started):
    def handler(job):
        started.append(job)

    return handler


class Rings(dict):
    """The members of a payload. Reading them raises a signal, which Python hears at the next instruction that listens.
    All of this is C code, so that instruction is the handler's first one."""

    def __init__(self):
        super().__init__()
        self.keys = partial(list, filter(_thread.interrupt_main, [signal.SIGALRM]))

    __iter__ = None  # otherwise dict's own method would be called


@pytest.mark.parametrize("due", ["lost", "stop"])
def test_an_interrupt_at_the_entry_of_the_handler_costs_no_attempt(due):
    started = []
    attempt = prepared(noting(started), release_at=NOW if due == "stop" else math.inf)
    attempt.lost = due == "lost"
    attempt._members = Rings()
    heard = []
    before = signal.signal(signal.SIGALRM, lambda *_: (heard.append(attempt.shielded), attempt.interrupt_if_due()))
    try:
        result = attempt.run()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert (heard, started, result) == ([False], [], None)


def test_an_interrupt_after_the_first_line_costs_an_attempt():
    attempt = prepared(lambda job: attempt.interrupt_if_due(), release_at=NOW)
    result = attempt.run()
    assert result is not None
    assert result.outcome.how is How.RELEASED


@pytest.mark.parametrize("age", [0.0, OVER])
def test_the_dead_man_is_armed_only_for_a_run_whose_lease_is_not_over(monkeypatch, age):
    armed = []
    monkeypatch.setattr(Timer, "set", lambda _timer, at: armed.append(at - NOW))
    runner = SimpleNamespace(
        _progress=Progress(Stop(25.0)), _dead_man=DeadMan(lambda: NOW), _process_state=MagicMock(), _session=MagicMock()
    )
    result = Runner._run(runner, prepared(age=age))
    assert (result is None, len(armed)) == (age == OVER, age != OVER)
    assert all(seconds > TIMEOUT / 2 for seconds in armed)
