"""How many jobs are leased at once: limits, growth and the window, for any durations."""

from __future__ import annotations

import doctest
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker.timing import ASK_FOR_SECONDS
from shithubd_worker.turn import prefetch
from shithubd_worker.turn.prefetch import GROWTH, MOST_AT_ONCE, Pace

durations = st.floats(min_value=0, max_value=1e6)
batches = st.lists(st.tuples(st.integers(min_value=1, max_value=MOST_AT_ONCE), durations), max_size=20)
windows = st.floats(min_value=0, max_value=1e5)


def taught(window, history):
    pace = Pace(window)
    for jobs, seconds in history:
        pace.ran("k", jobs=jobs, seconds=seconds)
    return pace


def test_the_examples_in_the_docstrings_are_true():
    found = doctest.testmod(prefetch)
    assert found.attempted >= 2
    assert found.failed == 0


@given(windows, batches)
def test_a_batch_has_at_least_one_job_and_at_most_the_limit(window, history):
    most = taught(window, history).most("k")
    assert isinstance(most, int)
    assert 1 <= most <= MOST_AT_ONCE


@given(windows)
def test_an_unknown_kind_is_leased_one_by_one_and_never_ahead(window):
    pace = Pace(window)
    assert pace.most("k") == 1
    assert not pace.worth_sending_ahead(["k"])


@given(batches)
def test_without_a_window_every_kind_is_leased_one_by_one(history):
    pace = taught(0.0, history)
    assert pace.most("k") == 1
    assert not pace.worth_sending_ahead(["k"])


@given(windows, batches)
def test_a_batch_grows_no_faster_than_by_its_factor(window, history):
    pace, last = Pace(window), 1
    for _, seconds in history:
        most = pace.most("k")
        assert most <= GROWTH * last
        last = most
        pace.ran("k", jobs=most, seconds=seconds)


@given(windows, st.integers(min_value=1, max_value=MOST_AT_ONCE), st.floats(min_value=1e-6, max_value=1e3))
def test_a_batch_fits_half_a_window_if_its_jobs_take_as_long_as_before(window, jobs, mean):
    pace = Pace(window)
    for _ in range(10):
        pace.ran("k", jobs=jobs, seconds=jobs * mean)
    most = pace.most("k")
    assert most == 1 or pace.expected("k", most) <= window / 2 * (1 + 1e-9)


@given(st.floats(min_value=0.01, max_value=10), st.floats(min_value=1e-6, max_value=5e-6))
def test_a_kind_that_becomes_slow_is_leased_one_by_one_at_once(window, quick):
    pace = Pace(window)
    for jobs in (1, 4, 16, 64, 256, 500):
        pace.ran("k", jobs=jobs, seconds=jobs * quick)
    assert pace.most("k") == MOST_AT_ONCE
    pace.ran("k", jobs=1, seconds=window)
    assert pace.most("k") == 1
    assert not pace.worth_sending_ahead(["k"])


def test_a_kind_that_becomes_quick_again_gets_larger_batches_step_by_step():
    pace = Pace(0.1)
    pace.ran("k", jobs=1, seconds=10.0)
    tries = 0
    while pace.most("k") < MOST_AT_ONCE:
        most = pace.most("k")
        pace.ran("k", jobs=most, seconds=most * 1e-6)
        tries += 1
    assert 5 < tries < 40


@given(batches, batches)
def test_each_kind_has_its_own_pace(one, other):
    pace = taught(0.1, one)
    for jobs, seconds in other:
        pace.ran("other", jobs=jobs, seconds=seconds)
    assert pace.most("k") == taught(0.1, one).most("k")


@given(st.dictionaries(st.sampled_from("abc"), st.integers(min_value=1, max_value=500), min_size=1))
def test_a_batch_is_sent_ahead_only_if_all_its_kinds_are_known_and_it_is_short(counts):
    pace = Pace(0.1)
    for kind in "ab":
        pace.ran(kind, jobs=1, seconds=0.0001)
    short = sum(counts.values()) * 0.0001 <= 0.05
    assert pace.worth_sending_ahead(Counter(counts).elements()) == ("c" not in counts and short)


@given(windows)
def test_an_empty_tray_lasts_no_time(window):
    assert Pace(window).worth_sending_ahead([]) == (window / 2 > 0)


@given(windows, batches, st.integers(min_value=1, max_value=MOST_AT_ONCE))
def test_the_batch_after_one_that_was_too_large_is_half_of_what_ran(window, history, jobs):
    pace = taught(window, history)
    pace.ran("k", jobs=jobs, seconds=0.0, too_many=True)
    assert pace.most("k") <= max(1, jobs // 2)


@given(windows, batches)
def test_a_kind_whose_leases_become_too_old_is_leased_one_by_one_in_the_end(window, history):
    pace = taught(window, history)
    seen = [pace.most("k")]
    while seen[-1] > 1:
        pace.stood_still("k")
        seen.append(pace.most("k"))
    assert len(seen) <= 1 + (GROWTH * MOST_AT_ONCE).bit_length()


@given(
    st.dictionaries(st.sampled_from("abc"), st.floats(min_value=1e-6, max_value=1), min_size=1),
    st.lists(st.sampled_from("abc"), min_size=1, max_size=600),
    st.floats(min_value=0.001, max_value=1e5),
)
def test_a_second_look_asks_for_as_many_jobs_as_start_in_half_the_time_and_at_least_one(means, kinds, window):
    pace = Pace(window)
    for kind, mean in means.items():
        for _ in range(6):
            pace.ran(kind, jobs=MOST_AT_ONCE, seconds=MOST_AT_ONCE * mean)
    count = pace.startable(kinds)
    assert 1 <= count <= len(kinds)
    spent = sum(pace.expected(kind, 1) for kind in kinds[:count])
    assert count == 1 or spent <= ASK_FOR_SECONDS * (1 + 1e-6)
    if count < len(kinds):  # one more would be too much, or belongs to the next batch
        assert sum(1 / pace.most(kind, ASK_FOR_SECONDS) for kind in kinds[: count + 1]) > 1
