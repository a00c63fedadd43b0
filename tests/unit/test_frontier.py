"""Where the next scan starts: each priority is looked at exactly once, and a look from the start misses nothing."""

from __future__ import annotations

from itertools import groupby, pairwise
from math import inf
from operator import attrgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker.model import Batch, Lease
from shithubd_worker.turn.frontier import (
    FEW_POINTS,
    GREATEST_PRIORITY,
    HEARD_COST,
    LEAST_ID,
    LEAST_PRIORITY,
    LOOK_BACK_SECONDS,
    MOST_COST_SECONDS,
    MOST_POINTS,
    RESCAN_COST,
    RESCAN_SECONDS,
    START,
    Frontier,
    Throttle,
)

moments = st.floats(min_value=0, max_value=4e9)
priorities = st.integers(LEAST_PRIORITY, GREATEST_PRIORITY) | st.sampled_from(
    [LEAST_PRIORITY, LEAST_PRIORITY + 1, -1, 0, 1, GREATEST_PRIORITY - 1, GREATEST_PRIORITY]
)
walks = priorities.filter(lambda priority: priority < GREATEST_PRIORITY)  # a look that came so far has ended
kinds = st.sampled_from(["a", "b"])
jobs = st.lists(st.tuples(kinds, priorities, moments), max_size=20)


def lease(kind, priority, run_at, number=1):
    return Lease(number, kind, "{}", 1, None, 0, priority, run_at, Batch("t", 0.0, 0.0))


def leases(found):
    return [lease(*each, number) for number, each in enumerate(found)]


def settled(frontier, now=0.0):
    """A frontier after a look from the start that took no time."""
    frontier.looked(now, 0.0, in_vain=True)
    return frontier


def points(frontier, kind="k", now=0.0):
    """The time and the id from which each known priority of a kind is looked at."""
    ranges, _ = frontier.scan([kind], now)
    return {each.low: (each.since, each.after) for each in ranges if each.since > -inf}


def remembered(frontier, *kinds):
    """The priorities that have a range of their own."""
    ranges, _ = frontier.scan(kinds or ["a", "b"], 0.0)
    return [(each.kind, each.low) for each in ranges if each.low == each.high and each.since > -inf]


def end(now):
    return (now - LOOK_BACK_SECONDS, LEAST_ID)


@given(st.lists(st.tuples(jobs, jobs, moments), max_size=5), st.booleans())
def test_the_ranges_of_a_kind_cover_every_priority_once_in_order(history, full):
    frontier = Frontier()
    for found, not_due, now in history:
        ranges, _ = frontier.scan(["a", "b"], 0.0)
        frontier.learn(ranges, leases(found), now)
        walked = {kind: min(priority, GREATEST_PRIORITY - 1) for kind, priority, _ in not_due}
        for kind, priority in walked.items():
            frontier.walked(kind, priority)
        for kind, of_kind in groupby(frontier.scan(["a", "b"], 0.0)[0], attrgetter("kind")):
            # A walk goes on behind the point where it stopped. Each turn looks at the priorities that have a point of
            # their own.
            skipped = set(range(LEAST_PRIORITY, walked.get(kind, LEAST_PRIORITY - 1) + 1))
            for each in of_kind:
                assert each.low == each.high or each.low not in skipped
        if walked:
            frontier.learn(frontier.scan(["a", "b"], 0.0)[0], [], now)  # the end of the walk
    if not full:
        settled(frontier)
    ranges, looked_at_all = frontier.scan(["b", "a"], 0.0)
    assert looked_at_all == full
    assert len(ranges) <= 2 * (2 * MOST_POINTS + 1)
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
def test_a_priority_without_jobs_so_far_is_always_looked_at_from_the_start(found, now):
    frontier = settled(Frontier())
    frontier.learn([], leases(found), now)
    known = {(kind, priority) for kind, priority, _ in found} & set(remembered(frontier))
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


def test_a_job_that_is_found_behind_the_point_moves_the_point_back():
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


@given(walks, priorities)
def test_a_long_walk_goes_on_until_it_ends_or_finds_a_job(walked, gave):
    frontier = settled(Frontier())
    frontier.walked("k", walked)
    ranges, _ = frontier.scan(["k", "other"], 0.0)
    assert [(each.low, each.high) for each in ranges if each.kind == "other"] == [(LEAST_PRIORITY, GREATEST_PRIORITY)]
    of_kind = [each for each in ranges if each.kind == "k"]
    assert [(each.low, each.high) for each in of_kind] == [(walked + 1, GREATEST_PRIORITY)]
    frontier.learn([], [lease("k", gave, 100.0)], 300.0)
    assert frontier.scan(["k"], 0.0)[0][0].low == LEAST_PRIORITY
    frontier.walked("k", walked)
    frontier.learn(frontier.scan(["k"], 0.0)[0], [], 300.0)
    assert frontier.scan(["k"], 0.0)[0][0].low == LEAST_PRIORITY


@given(st.lists(st.lists(priorities, min_size=1, max_size=600), min_size=1, max_size=5))
def test_only_a_few_priorities_are_remembered(batches):
    frontier = settled(Frontier())
    for batch in batches:
        frontier.learn([], [lease("k", priority, 100.0) for priority in batch], 300.0)
        assert len(remembered(frontier, "k")) <= MOST_POINTS
        if len(set(batch)) <= MOST_POINTS:
            assert {priority for _, priority in remembered(frontier, "k")} >= set(batch)
    assert len(frontier.scan(["k"], 0.0)[0]) <= 2 * MOST_POINTS + 1


def test_a_cheap_look_from_the_start_forgets_most_priorities_that_gave_nothing():
    frontier = settled(Frontier())
    frontier.learn([], [lease("k", priority, 100.0) for priority in range(1, 6)], 200.0)
    settled(frontier)  # these gave a job since the last look
    assert remembered(frontier, "k") == [("k", priority) for priority in range(1, 6)]
    frontier.learn([], [lease("k", 1, 150.0)], 200.0)
    # An expensive look: there are dead index entries somewhere.
    frontier.looked(0.0, RESCAN_SECONDS / RESCAN_COST * 2, in_vain=True)
    assert len(remembered(frontier, "k")) == 5
    settled(frontier)
    assert remembered(frontier, "k") == [("k", 1), ("k", 4), ("k", 5)]
    settled(frontier)
    assert len(remembered(frontier, "k")) == FEW_POINTS


@given(st.lists(st.booleans(), max_size=10), st.floats(0, 1e6), st.floats(0, 1e4))
def test_the_next_look_from_the_start_comes_after_a_second_or_200_times_its_cost(asked, ended, cost):
    throttle = Throttle()
    assert throttle.due(-1e9)
    throttle.looked(ended, cost)
    wait = max(RESCAN_SECONDS, RESCAN_COST * min(cost, MOST_COST_SECONDS))
    assert not throttle.due(ended)
    assert not throttle.due(ended + wait * 0.999)
    assert throttle.due(ended + wait * 1.001 + 1e-3)
    for _ in asked:
        throttle.hurry()
        assert throttle.due(ended)
        throttle.looked(ended, cost)
        assert not throttle.due(ended)


@given(st.floats(min_value=1e-4, max_value=10), st.integers(1, 50))
def test_looks_for_notifications_take_a_small_share_and_come_soon(cost, ticks):
    throttle, now, looks, waited = Throttle(), 0.0, 0, 0.0
    throttle.looked(now, cost)
    for _ in range(ticks):  # somebody sends notifications all the time
        throttle.hear()
        waited = max(waited, throttle.due_in(now))
        now += max(0.0, throttle.due_in(now))
        assert throttle.due(now)
        now, looks = now + cost, looks + 1
        throttle.looked(now, cost)
    assert waited <= RESCAN_SECONDS + 1e-6
    assert now >= looks * (cost + min(RESCAN_SECONDS, HEARD_COST * cost)) - 1e-6
    throttle.hurry()  # the worker's own request is obeyed at once
    assert throttle.due(now)


def test_a_notification_after_a_while_is_answered_by_a_look_at_once():
    frontier = settled(Frontier(), now=100.0)
    frontier.looked(100.0, 0.01, in_vain=True)
    assert not frontier.scan(["k"], 100.3)[1]
    frontier.heard()
    assert frontier.scan(["k"], 100.3)[1]
    frontier.looked(100.3, 0.01, in_vain=True)
    frontier.heard()
    assert not frontier.scan(["k"], 100.31)[1]
    assert 0.18 < frontier.patience(100.31, 3600.0) < 0.2  # the request is not forgotten


def test_anew_asks_for_one_look_from_the_start():
    frontier = settled(Frontier(), now=100.0)
    assert not frontier.scan(["k"], 100.5)[1]
    frontier.anew()
    assert frontier.scan(["k"], 100.5)[1]
    assert frontier.scan(["k"], 100.5)[1]  # until the look is done
    settled(frontier, now=100.5)
    assert not frontier.scan(["k"], 100.5)[1]


@given(st.floats(0, 2), st.floats(0, 100), st.floats(0.01, 3600))
def test_an_idle_worker_sleeps_at_most_until_the_next_look_from_the_start(asleep_at, cost, poll):
    frontier = Frontier()
    frontier.scan(["k"], 0.0)
    settled(frontier)
    settled(frontier)
    assert frontier.patience(asleep_at, poll) == poll  # the second look finds nothing
    frontier.looked(0.0, cost, in_vain=True)
    _, full = frontier.scan(["k"], asleep_at)
    patience = frontier.patience(asleep_at, poll)
    assert 0 <= patience <= poll
    if not full:
        assert patience <= max(RESCAN_SECONDS, RESCAN_COST * cost) - asleep_at
        assert patience == poll or frontier.scan(["k"], asleep_at + patience + 1e-6)[1]


@pytest.mark.parametrize("begin", ["a start", "a lease", "a word of something runnable", "a nap"])
def test_a_worker_that_goes_to_rest_looks_from_the_start_before_a_long_sleep(begin):
    """An enqueue saw no worker at rest, and commits just after the look that found nothing."""
    frontier = Frontier()
    if begin != "a start":
        for _ in range(3):
            frontier.scan(["k"], 0.0)
            settled(frontier)
    if begin == "a lease":
        frontier.learn(frontier.scan(["k"], 0.0)[0], [lease("k", 0, 0.0)], 0.0)
    elif begin == "a word of something runnable":
        frontier.anew()
    elif begin == "a nap":
        frontier.looked(0.0, 0.0, in_vain=False)  # meanwhile no enqueue would have woken the worker
    frontier.scan(["k"], 100.0)
    settled(frontier, now=100.0)
    assert frontier.patience(100.0, 3600.0) <= RESCAN_SECONDS
    frontier.scan(["k"], 101.0)
    settled(frontier, now=101.0)
    assert frontier.patience(101.0, 3600.0) == 3600.0


def test_a_worker_does_not_sleep_while_a_look_from_the_start_is_requested():
    frontier = settled(Frontier())
    frontier.scan(["k"], 0.5)
    frontier.anew()
    assert frontier.patience(0.5, 60.0) == 0.0


@given(jobs)
def test_kinds_are_listed_in_the_requested_order(found):
    frontier = Frontier()
    frontier.learn([], leases(found), 0.0)
    order = [each.kind for each in frontier.scan(["b", "c", "a"], 0.0)[0]]
    assert sorted(order, key="bca".index) == order
    assert set(order) == set("abc")
