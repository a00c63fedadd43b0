"""When a worker sweeps for silent ones: not before it knows the database's clock, and not in the moment of a step."""

from __future__ import annotations

import time

import pytest

from shithubd_worker.database.clock import Clock
from shithubd_worker.timing import AMNESTY_SECONDS
from shithubd_worker.turn.upkeep import Recovery, Upkeep

HOUR = 3600.0


class Queue:
    """What the sweeps are asked with."""

    def __init__(self):
        self.swept, self.silent = [], []

    def sweep(self, **how):
        self.swept.append(how)
        return []

    def sweep_silent(self, *how):
        self.silent.append(how)
        return []


@pytest.fixture
def queue():
    return Queue()


def upkeep(queue, clock, threshold=300.0, interval=10.0):
    return Upkeep(queue, clock, {}, Recovery(threshold, interval, 30.0), drop=False)


def seen_for(seconds):
    """A clock that this worker has watched for so long; the database's shows the same time as its own."""
    clock, now = Clock(lambda _step: None), time.monotonic()
    for at in (now - seconds, now):
        clock.saw(at, at, at)
    return clock


def test_a_worker_says_for_how_long_it_has_watched_the_clock(queue):
    upkeep(queue, seen_for(400.0)).do_what_is_due(idle=True)
    ((threshold, interval, delay, earliest, steady),) = queue.silent
    assert (threshold, interval, delay) == (300.0, 10.0, 30.0)
    assert steady == pytest.approx(400.0, abs=5.0)
    assert earliest == pytest.approx(time.monotonic(), abs=60.0)  # the bounds of a clock that is seldom seen are wide


@pytest.mark.parametrize("watched", [None, AMNESTY_SECONDS / 2])
def test_a_worker_that_started_or_saw_a_step_just_now_sweeps_nobody(queue, watched):
    clock = Clock(lambda _step: None) if watched is None else seen_for(watched)
    upkeep(queue, clock).do_what_is_due(idle=True)
    assert queue.silent == []
    assert [how["back"] for how in queue.swept] == [0.0]


def test_a_worker_without_a_threshold_sweeps_nobody(queue):
    upkeep(queue, seen_for(400.0), threshold=0.0).do_what_is_due(idle=True)
    assert queue.silent == []


def test_a_worker_that_found_the_database_again_lets_the_others_beat_first(queue):
    each = upkeep(queue, seen_for(400.0))
    each.database_is_back()
    each.do_what_is_due(idle=True)
    assert queue.silent == []


def test_a_worker_asks_once_in_an_interval(queue):
    each = upkeep(queue, seen_for(400.0))
    for _ in range(3):
        each._sweep_at = 0.0
        each.do_what_is_due(idle=True)
    assert (len(queue.swept), len(queue.silent)) == (3, 1)


def test_a_step_that_the_other_thread_notices_meanwhile_makes_no_time_count(queue):
    """Either the sweep goes by the time before the step, or it takes nothing."""

    class Stepping(Clock):
        def earliest(self, now):
            self.saw(now, now + HOUR, now)  # the control thread's look
            return super().earliest(now)

    clock, now = Stepping(lambda _step: None), time.monotonic()
    for at in (now - 400.0, now):
        clock.saw(at, at, at)
    upkeep(queue, clock).do_what_is_due(idle=True)
    assert queue.silent == []
    assert [how["back"] for how in queue.swept] == [0.0]
