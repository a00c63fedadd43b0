"""How a worker gets careful after a refused turn, and what it passes over."""

from __future__ import annotations

from shithubd_worker.turn.caution import (
    LONGEST_PASS_OVER_SECONDS,
    MOST_CAREFUL,
    MOST_PASSED_OVER,
    PASS_OVER_SECONDS,
    Caution,
)


def careful_turns(caution):
    """How many turns are careful until the next usual one, which leases nothing."""
    count = 0
    while caution.wanted:
        caution.answered(careful=True, leased=True)
        count += 1
    return count


def test_twice_as_many_turns_are_careful_after_each_refusal_up_to_a_limit():
    caution, counts = Caution(), []
    for _ in range(12):
        caution.raise_it()
        counts.append(careful_turns(caution))
    assert counts == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, MOST_CAREFUL, MOST_CAREFUL]


def test_a_usual_turn_that_leases_ends_the_growth_and_one_that_leases_nothing_does_not():
    caution = Caution()
    for _ in range(3):
        caution.raise_it()
        careful_turns(caution)
    caution.answered(careful=False, leased=False)
    caution.raise_it()
    assert careful_turns(caution) == 8
    caution.answered(careful=False, leased=True)
    caution.raise_it()
    assert careful_turns(caution) == 1


def test_a_job_is_passed_over_twice_as_long_each_time_up_to_a_limit():
    caution, now, waits = Caution(), 0.0, []
    for _ in range(10):
        caution.pass_over([7], now)
        began = now
        while caution.skip(now) == [7]:
            now += PASS_OVER_SECONDS / 2
        waits.append(now - began)
    assert waits[:6] == [1, 2, 4, 8, 16, 32]
    assert max(waits) == LONGEST_PASS_OVER_SECONDS


def test_who_was_not_refused_for_long_is_forgotten():
    caution = Caution()
    caution.pass_over([7], 0.0)
    later = PASS_OVER_SECONDS + LONGEST_PASS_OVER_SECONDS + 1
    assert caution.skip(later) == []
    caution.pass_over([7], later)
    assert caution.skip(later + PASS_OVER_SECONDS) == []


def test_of_too_many_the_oldest_are_forgotten():
    caution = Caution()
    caution.pass_over(range(MOST_PASSED_OVER + 3), 0.0)
    assert list(caution.skip(0.0)) == list(range(3, MOST_PASSED_OVER + 3))
