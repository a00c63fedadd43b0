"""Whether the database's clock was set: what counts as a step, and what as a slow answer or a slewed clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker.database.clock import Clock

OFFSET = 1.7e9  # the database's clock minus ours
delays = st.floats(0.0001, 60.0)
answers = st.lists(st.tuples(delays, delays, st.floats(0.0, 1.0)), min_size=1, max_size=20)


def watched(steps):
    return Clock(steps.append)


def ask(clock, at, took, part, offset=OFFSET):
    """An answer that was made after `part` of its time. Returns the end of that time."""
    clock.saw(at, at + took * part + offset, at + took)
    return at + took


@given(answers)
def test_a_late_answer_of_a_steady_clock_is_no_step(times):
    steps = []
    clock = watched(steps)
    now = 100.0
    for pause, took, part in times:
        now = ask(clock, now + pause, took, part)
        assert clock.earliest(now) <= now + OFFSET + 1e-3
    assert steps == []
    assert clock.stepped_at < 0
    assert clock.steady_since > 0


@given(answers, st.floats(-0.08, 0.08))
def test_a_slewed_clock_is_followed_and_is_no_step(times, slew):
    steps = []
    clock = watched(steps)
    now = 100.0
    for pause, took, part in times:
        now = ask(clock, now + pause, took, part, OFFSET + slew * (now + pause + part * took))
    assert steps == []


@given(answers, st.sampled_from([2.0, -2.0, 600.0, -600.0, 3600.0, -3600.0, 4e7, -4e7]), st.floats(0.001, 5.0))
def test_the_first_quick_answer_after_a_step_shows_it_once(times, step, pause):
    steps = []
    clock = watched(steps)
    now = 100.0
    for each, _, part in times:
        now = ask(clock, now + each, 0.01, part)
    now = ask(clock, now + pause, 0.01, 0.5, OFFSET + step)
    assert steps == [pytest.approx(step, abs=0.03)]
    assert clock.stepped_at == clock.steady_since == now
    assert clock.earliest(now) == pytest.approx(now + OFFSET + step, abs=0.02)
    ask(clock, now + 1.0, 0.01, 0.5, OFFSET + step)
    assert len(steps) == 1


def test_an_answer_to_an_earlier_question_than_the_last_one_says_nothing():
    """The main thread reads the turn that it sent ahead when its handlers are done. By then the control thread has seen
    the step."""
    steps = []
    clock = watched(steps)
    ask(clock, 100.0, 0.01, 0.5)
    ask(clock, 110.0, 0.01, 0.5, OFFSET + 3600)
    clock.saw(105.0, 105.1 + OFFSET, 130.0)
    assert len(steps) == 1


def test_nothing_has_expired_by_a_clock_that_nobody_has_read():
    clock = watched([])
    assert clock.earliest(100.0) == float("-inf")
    assert clock.steady_since == float("inf")
