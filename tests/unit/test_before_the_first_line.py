"""A run whose handler has not begun: whatever comes before its first line is no attempt, and ends no process."""

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
    """An attempt with a lease so many seconds old. Its alarm rings when it is set for the first time, if it shall."""
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


def test_an_alarm_that_rings_before_the_look_at_the_age_of_an_ended_lease_costs_nothing():
    started = []
    attempt = prepared(noting(started), age=OVER, rings=True)
    assert (attempt.run(), started) == (None, [])


@pytest.mark.parametrize("age", [0.0, OVER])
def test_a_stop_that_is_due_before_the_first_line_leaves_no_trace_but_in_a_handler_that_has_begun(age):
    """Which is interrupted by the next ring: the control thread sees to it."""
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
    """The members of a payload: reading them raises a signal, which is heard at the next instruction that listens.
    All of it is C, so that this is the handler's first one."""

    def __init__(self):
        super().__init__()
        self.keys = partial(list, filter(_thread.interrupt_main, [signal.SIGALRM]))

    __iter__ = None  # else dict's own way would be taken


@pytest.mark.parametrize("due", ["lost", "stop"])
def test_an_interrupt_at_the_handlers_very_entry_is_no_attempt(due):
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


def test_an_interrupt_behind_the_first_line_is_one():
    attempt = prepared(lambda job: attempt.interrupt_if_due(), release_at=NOW)
    result = attempt.run()
    assert result is not None
    assert result.outcome.how is How.RELEASED


@pytest.mark.parametrize("age", [0.0, OVER])
def test_the_dead_man_is_armed_for_a_run_that_may_begin_and_never_for_a_lease_that_is_over(monkeypatch, age):
    armed = []
    monkeypatch.setattr(Timer, "set", lambda _timer, at: armed.append(at - NOW))
    runner = SimpleNamespace(
        _progress=Progress(), _dead_man=DeadMan(lambda: NOW), _process_state=MagicMock(), _ledger=MagicMock()
    )
    result = Runner._run(runner, prepared(age=age))
    assert (result is None, len(armed)) == (age == OVER, age != OVER)
    assert all(seconds > TIMEOUT / 2 for seconds in armed)
