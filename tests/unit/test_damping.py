"""When a worker asks not to be woken: after wake-ups in vain, in quick succession, and only then."""

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
    """After wake-ups, each so many seconds after the one before it, that led to a lease or not."""
    state, now = Damping(), 0.0
    for gap, leased in history:
        now += gap
        state.woke(now, leased=leased)
    return state, now


def test_the_examples_in_its_text_are_true():
    found = doctest.testmod(damping)
    assert found.attempted >= 3
    assert found.failed == 0


@given(results)
def test_who_leased_after_one_of_the_last_wakeups_wants_to_be_woken(history):
    state, now = woken([*history, (0.0, True), *[(0.0, False)] * (IN_VAIN - 1)])
    assert state.nap(now) == 0


@given(results)
def test_wakeups_that_are_far_apart_are_never_tiresome(history):
    state, now = woken([(gap + WITHIN_SECONDS, leased) for gap, leased in history])
    assert state.nap(now) == 0


@given(results, st.floats(min_value=0, max_value=WITHIN_SECONDS / 2), st.integers(min_value=0, max_value=50))
def test_wakeups_in_vain_in_quick_succession_are_tiresome_until_they_cease(history, seconds, more):
    state, now = woken([*history, (0.0, True), *[(seconds / IN_VAIN, False)] * (IN_VAIN + more)])
    assert NAP_SECONDS <= state.nap(now) <= LONGEST_NAP_SECONDS
    later = now + state.nap(now)
    state.woke(later, leased=False)  # one more keeps it so
    assert state.nap(later + TIRED_SECONDS) >= NAP_SECONDS
    assert state.nap(later + LONGEST_NAP_SECONDS + TIRED_SECONDS) == 0
