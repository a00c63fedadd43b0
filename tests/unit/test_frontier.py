"""Where the next scan starts: no priority is left out or looked at twice, and a look from the start misses nothing."""

from __future__ import annotations

from itertools import pairwise
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker.frontier import (
    GREATEST_PRIORITY,
    LEAST_ID,
    LEAST_PRIORITY,
    LOOK_BACK_SECONDS,
    RESCAN_COST,
    RESCAN_SECONDS,
    START,
    Frontier,
    Range,
    Throttle,
)
from shithubd_worker.model import Batch, Lease

moments = st.floats(min_value=0, max_value=4e9)
priorities = st.integers(LEAST_PRIORITY, GREATEST_PRIORITY) | st.sampled_from(
    [LEAST_PRIORITY, LEAST_PRIORITY + 1, -1, 0, 1, GREATEST_PRIORITY - 1, GREATEST_PRIORITY]
)
kinds = st.sampled_from(["a", "b"])
jobs = st.lists(st.tuples(kinds, priorities, moments), max_size=20)


def lease(kind, priority, run_at, number=1):
    return Lease(number, kind, "{}", 1, None, 0, priority, run_at, Batch("t", 0.0, 0.0))


def leases(found):
    return [lease(*each, number) for number, each in enumerate(found)]


def settled(frontier, now=0.0):
    """After a look from the start that took no time."""
    frontier.looked(now, 0.0)
    return frontier


def points(frontier, kind="k", now=0.0):
    """Behind which moment and id the known priorities of a kind are looked at."""
    ranges, _ = frontier.scan([kind], now)
    return {each.low: (each.since, each.after) for each in ranges if each.since > -inf}


def end(now):
    return (now - LOOK_BACK_SECONDS, LEAST_ID)


@given(st.lists(st.tuples(jobs, jobs, moments), max_size=5), st.booleans())
def test_the_ranges_are_every_priority_once_in_their_order_for_each_kind(history, full):
    frontier = Frontier()
    for found, not_due, now in history:
        ranges, _ = frontier.scan(["a", "b"], 0.0)
        frontier.learn(ranges, leases(found), now)
        for kind, priority, _ in not_due:
            frontier.found(kind, priority)
    if not full:
        settled(frontier)
    ranges, looked_at_all = frontier.scan(["b", "a"], 0.0)
    assert looked_at_all == full
    assert [each.kind for each in ranges] == sorted((each.kind for each in ranges), reverse=True)
    for kind in ("a", "b"):
        of_kind = [each for each in ranges if each.kind == kind]
        assert of_kind[0].low == LEAST_PRIORITY
        assert of_kind[-1].high == GREATEST_PRIORITY
        assert all(each.low <= each.high for each in of_kind)
        assert all(one.high + 1 == other.low for one, other in pairwise(of_kind))


@given(jobs, moments)
def test_a_look_from_the_start_reaches_back_to_the_start_everywhere(found, now):
    frontier = Frontier()
    frontier.learn([], leases(found), now)
    ranges, full = frontier.scan(["a", "b"], 0.0)
    assert full
    assert {(each.since, each.after) for each in ranges} == {START}


@given(jobs, moments)
def test_what_was_never_seen_is_looked_at_from_the_start_always(found, now):
    frontier = settled(Frontier())
    frontier.learn([], leases(found), now)
    known = {(kind, priority) for kind, priority, _ in found}
    ranges, full = frontier.scan(["a", "b"], 0.0)
    assert not full
    for each in ranges:
        if each.low == each.high and (each.kind, each.low) in known:
            assert each.since > -inf
        else:
            assert (each.since, each.after) == START


@given(st.lists(moments, min_size=1), moments)
def test_the_next_scan_starts_right_behind_the_last_job_of_a_range_that_may_have_more(run_at, now):
    frontier = settled(Frontier())
    frontier.learn([], leases(("k", 5, moment) for moment in run_at), now)
    assert points(frontier) == {5: (run_at[-1], len(run_at) - 1)}


@given(st.lists(moments), moments)
def test_the_next_scan_starts_a_little_before_the_end_of_a_range_that_has_no_more(run_at, now):
    frontier = settled(Frontier())
    frontier.learn([], [lease("k", 5, 0.0)], 0.0)
    ranges, _ = frontier.scan(["k"], 0.0)
    frontier.learn(ranges, leases(("k", 5, moment) for moment in run_at), now)
    assert points(frontier) == {5: end(now)}


def test_a_job_found_behind_takes_the_point_back():
    frontier = settled(Frontier())
    frontier.learn([], [lease("k", 5, 100.0, 7)], 200.0)
    frontier.learn([], [lease("k", 5, 50.0, 8)], 300.0)
    assert points(frontier) == {5: (50.0, 8)}


def test_a_range_that_was_not_looked_at_to_its_end_keeps_its_point_or_moves_to_its_last_job():
    frontier = settled(Frontier())
    frontier.learn([], [lease("k", priority, 100.0, priority) for priority in (5, 6, 7)], 200.0)
    ranges, _ = frontier.scan(["k"], 0.0)
    place = next(n for n, each in enumerate(ranges) if each.low == 6)
    frontier.learn(ranges[:place], [lease("k", 5, 150.0, 8), lease("k", 6, 160.0, 9)], 300.0)
    assert points(frontier) == {5: end(300.0), 6: (160.0, 9), 7: (100.0, 7)}


def test_a_priority_seen_first_in_a_range_of_many_is_looked_at_to_its_end_with_it():
    frontier = settled(Frontier())
    ranges, _ = frontier.scan(["k"], 0.0)
    frontier.learn(ranges, [lease("k", 5, 100.0)], 300.0)
    assert points(frontier) == {5: end(300.0)}


def test_an_empty_range_of_many_priorities_makes_none_of_them_known():
    frontier = settled(Frontier())
    ranges, _ = frontier.scan(["k"], 0.0)
    frontier.learn(ranges, [], 300.0)
    assert points(frontier) == {}


@given(priorities)
def test_a_priority_whose_jobs_are_not_due_is_a_range_of_its_own_from_then_on(priority):
    frontier = settled(Frontier())
    frontier.found("k", priority)
    ranges, _ = frontier.scan(["k"], 0.0)
    assert Range("k", priority, priority, *START) in ranges
    assert len(ranges) <= 3


@given(st.lists(st.booleans(), max_size=10), st.floats(0, 1e6), st.floats(0, 1e4))
def test_all_is_looked_at_again_after_a_second_or_twenty_times_what_it_cost(asked, ended, cost):
    throttle = Throttle()
    assert throttle.due(-1e9)
    throttle.looked(ended, cost)
    wait = max(RESCAN_SECONDS, RESCAN_COST * cost)
    assert not throttle.due(ended)
    assert not throttle.due(ended + wait * 0.999)
    assert throttle.due(ended + wait * 1.001 + 1e-3)
    for _ in asked:
        throttle.hurry()
        assert throttle.due(ended)
        throttle.looked(ended, cost)
        assert not throttle.due(ended)


def test_anew_asks_for_one_look_from_the_start():
    frontier = settled(Frontier(), now=100.0)
    assert not frontier.scan(["k"], 100.5)[1]
    frontier.anew()
    assert frontier.scan(["k"], 100.5)[1]
    assert frontier.scan(["k"], 100.5)[1]  # until it was done
    settled(frontier, now=100.5)
    assert not frontier.scan(["k"], 100.5)[1]


@given(st.floats(0, 2), st.floats(0, 100), st.floats(0.01, 3600))
def test_an_idle_worker_sleeps_no_longer_than_to_the_next_look_from_the_start(asleep_at, cost, poll):
    frontier = Frontier()
    frontier.scan(["k"], 0.0)
    settled(frontier)
    assert frontier.patience(asleep_at, poll) == poll  # that was one
    frontier.looked(0.0, cost)
    _, full = frontier.scan(["k"], asleep_at)
    patience = frontier.patience(asleep_at, poll)
    assert 0 <= patience <= poll
    if not full:
        assert patience <= max(RESCAN_SECONDS, RESCAN_COST * cost) - asleep_at
        assert patience == poll or frontier.scan(["k"], asleep_at + patience + 1e-6)[1]


def test_what_asked_for_a_look_from_the_start_is_not_slept_over():
    frontier = settled(Frontier())
    frontier.scan(["k"], 0.5)
    frontier.anew()
    assert frontier.patience(0.5, 60.0) == 0.0


@given(jobs)
def test_kinds_are_listed_in_the_order_that_was_asked_for(found):
    frontier = Frontier()
    frontier.learn([], leases(found), 0.0)
    order = [each.kind for each in frontier.scan(["b", "c", "a"], 0.0)[0]]
    assert sorted(order, key="bca".index) == order
    assert set(order) == set("abc")
