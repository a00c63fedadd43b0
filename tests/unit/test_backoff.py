"""The arithmetic of waiting: its bounds, its order and its jitter, for any number."""

from __future__ import annotations

import doctest

import pytest
from conftest import dice
from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker import backoff

attempts = st.integers(min_value=-10, max_value=2**80)
chances = st.floats(min_value=0, max_value=1, exclude_max=True)
seconds = st.floats(min_value=0, max_value=1e9)


def test_the_examples_in_the_docstrings_are_true():
    found = doctest.testmod(backoff)
    assert found.attempted >= 3
    assert found.failed == 0


@given(attempts)
def test_every_wait_lies_between_half_a_minute_and_an_hour(attempt):
    assert 30.0 <= backoff.after_attempt(attempt) <= 3600.0


@given(attempts, attempts)
def test_a_later_attempt_never_waits_less(one, other):
    low, high = sorted((one, other))
    assert backoff.after_attempt(low) <= backoff.after_attempt(high)


@pytest.mark.parametrize("attempt", range(1, 20))
def test_the_wait_doubles_from_half_a_minute_up_to_an_hour(attempt):
    assert backoff.after_attempt(attempt) == min(3600, 30 * 2 ** (attempt - 1))


@given(seconds, chances)
def test_jitter_stays_within_a_fifth(wait, chance):
    assert wait * 0.8 * (1 - 1e-9) <= backoff.jittered(wait, chance) <= wait * 1.2 * (1 + 1e-9)


@given(st.floats(min_value=1e-3, max_value=1e9), chances, chances)
def test_jitter_follows_the_random_number(wait, one, other):
    low, high = sorted((one, other))
    assert backoff.jittered(wait, low) <= backoff.jittered(wait, high)


def test_jitter_uses_the_whole_fifth_on_both_sides():
    draw = dice(1)
    waits = [backoff.jittered(100, draw.random()) for _ in range(2000)]
    assert min(waits) < 81
    assert max(waits) > 119
    assert 98 < sum(waits) / len(waits) < 102


@given(chances)
def test_a_missing_database_is_tried_again_within_a_second(chance):
    assert 0.1 <= backoff.reconnect(0, chance) <= 0.7


@given(st.integers(0, 1000), chances)
def test_a_database_that_refuses_is_asked_again_within_six_seconds(refusals, chance):
    assert 0.1 <= backoff.reconnect(refusals, chance) <= 5.6


@given(st.integers(1, 1000), st.integers(1, 1000), chances)
def test_a_later_reconnect_never_waits_less_by_the_same_chance(one, other, chance):
    low, high = sorted((one, other))
    assert backoff.reconnect(low, chance) <= backoff.reconnect(high, chance)


def test_a_fleet_that_lost_its_database_does_not_come_back_all_at_once():
    draw = dice(2)
    for refusals in (0, 1, 50):
        waits = sorted(backoff.reconnect(refusals, draw.random()) for _ in range(200))
        busiest = max(sum(at <= wait < at + 0.1 * 2 ** min(refusals, 3) for wait in waits) for at in waits)
        assert busiest < 60, "in a sixth of the time there are not much more than a sixth of them"
