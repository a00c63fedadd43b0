"""When a worker asks not to be woken: only after many useless wake-ups in quick succession."""

from __future__ import annotations

import doctest

from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker.turn import damping
from shithubd_worker.turn.damping import (
    IN_VAIN,
    LONGEST_NAP_SECONDS,
    NAP_SECONDS,
    TIRED_SECONDS,
    WITHIN_SECONDS,
    Damping,
)

results = st.lists(st.tuples(st.floats(min_value=0, max_value=1), st.booleans()), max_size=40)


def woken(history):
    """After wake-ups, each this many seconds after the one before, which led to a lease or not."""
    state, now = Damping(), 0.0
    for gap, leased in history:
        now += gap
        state.woke(now, leased=leased)
    return state, now


def test_the_examples_in_the_docstrings_are_true():
    found = doctest.testmod(damping)
    assert found.attempted >= 3
    assert found.failed == 0


@given(results)
def test_a_worker_that_leased_after_a_recent_wakeup_wants_to_be_woken(history):
    state, now = woken([*history, (0.0, True), *[(0.0, False)] * (IN_VAIN - 1)])
    assert state.nap(now) == 0


@given(results)
def test_wakeups_that_are_far_apart_never_stop_the_worker_from_asking(history):
    state, now = woken([(gap + WITHIN_SECONDS, leased) for gap, leased in history])
    assert state.nap(now) == 0


@given(results, st.floats(min_value=0, max_value=WITHIN_SECONDS / 2), st.integers(min_value=0, max_value=50))
def test_quick_useless_wakeups_stop_the_worker_from_asking_until_they_end(history, seconds, more):
    state, now = woken([*history, (0.0, True), *[(seconds / IN_VAIN, False)] * (IN_VAIN + more)])
    assert NAP_SECONDS <= state.nap(now) <= LONGEST_NAP_SECONDS
    later = now + state.nap(now)
    state.woke(later, leased=False)  # one more prolongs it
    assert state.nap(later + TIRED_SECONDS) >= NAP_SECONDS
    assert state.nap(later + LONGEST_NAP_SECONDS + TIRED_SECONDS) == 0
