"""How a worker becomes careful after a refused turn, and which jobs it passes over."""

from __future__ import annotations

from shithubd_worker.turn.caution import (
    LONGEST_PASS_OVER_SECONDS,
    MOST_CAREFUL,
    MOST_PASSED_OVER,
    PASS_OVER_SECONDS,
    Caution,
)


def careful_turns(caution):
    """How many turns are careful before the next usual one, which leases nothing."""
    count = 0
    while caution.wanted:
        caution.answered(careful=True, leased=True)
        count += 1
    return count


def test_each_refusal_doubles_the_careful_turns_up_to_a_limit():
    caution, counts = Caution(), []
    for _ in range(12):
        caution.raise_it()
        counts.append(careful_turns(caution))
    assert counts == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, MOST_CAREFUL, MOST_CAREFUL]


def test_only_a_usual_turn_that_leases_ends_the_growth():
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


def test_after_a_lock_the_next_turn_settles_apart_and_leases_as_usual():
    caution = Caution()
    for _ in range(12):  # a busy lock, that each turn with settles waits for in vain
        caution.raise_it(locked=True)
        assert caution.apart
        assert not caution.wanted
        caution.answered(careful=False, leased=True)
        assert not caution.apart


def test_a_turn_without_settles_that_waits_for_a_lock_in_vain_is_followed_by_a_careful_one():
    caution = Caution()
    for _ in range(2):
        caution.raise_it(locked=True)
    assert caution.apart
    assert careful_turns(caution) == 1
    caution.raise_it()
    assert caution.apart
    assert careful_turns(caution) == 2
    assert not caution.apart


def test_each_refusal_doubles_the_time_for_which_a_job_is_passed_over_up_to_a_limit():
    caution, now, waits = Caution(), 0.0, []
    for _ in range(10):
        caution.pass_over([7], now)
        began = now
        while caution.skip(now) == [7]:
            now += PASS_OVER_SECONDS / 2
        waits.append(now - began)
    assert waits[:6] == [1, 2, 4, 8, 16, 32]
    assert max(waits) == LONGEST_PASS_OVER_SECONDS


def test_a_job_that_was_not_refused_for_a_long_time_is_forgotten():
    caution = Caution()
    caution.pass_over([7], 0.0)
    later = PASS_OVER_SECONDS + LONGEST_PASS_OVER_SECONDS + 1
    assert caution.skip(later) == []
    caution.pass_over([7], later)
    assert caution.skip(later + PASS_OVER_SECONDS) == []


def test_the_oldest_jobs_are_forgotten_when_there_are_too_many():
    caution = Caution()
    caution.pass_over(range(MOST_PASSED_OVER + 3), 0.0)
    assert list(caution.skip(0.0)) == list(range(3, MOST_PASSED_OVER + 3))
