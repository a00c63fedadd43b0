"""Which kind goes first: kinds with a backlog get equal time, and a kind gets none for the time in which it had no
jobs."""

from __future__ import annotations

import doctest
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker.turn import shares
from shithubd_worker.turn.shares import Shares

KINDS = "abcd"
costs = st.floats(min_value=1e-6, max_value=10)
DUST = 1e-6  # sums of floats


def serve(clocks, backlog, turns, spent):
    """This many turns: the first kind of those with a backlog runs, each time for as long as its jobs take."""
    for _ in range(turns):
        kind = min(sorted(backlog), key=clocks.start)
        clocks.ran(kind, backlog[kind])
        spent[kind] += backlog[kind]


def test_the_examples_in_the_docstrings_are_true():
    found = doctest.testmod(shares)
    assert found.attempted >= 3
    assert found.failed == 0


@given(st.dictionaries(st.sampled_from(KINDS), costs, min_size=2), st.integers(1, 200))
def test_kinds_with_a_backlog_get_equal_time(backlog, turns):
    spent = dict.fromkeys(backlog, 0.0)
    serve(Shares(), backlog, turns, spent)
    # No kind is ahead of another by more than one of its own turns.
    for kind, seconds in spent.items():
        assert seconds <= min(spent.values()) + backlog[kind] + DUST * turns


@given(
    st.lists(st.tuples(st.dictionaries(st.sampled_from(KINDS), costs, min_size=1), st.integers(1, 30)), max_size=5),
    st.dictionaries(st.sampled_from(KINDS), costs, min_size=2),
    st.integers(1, 100),
)
def test_a_kind_that_was_idle_has_no_claim_on_the_time_before(history, backlog, turns):
    clocks = Shares()
    for before, served in history:
        serve(clocks, before, served, defaultdict(float))
    longest = max([cost for before, _ in history for cost in before.values()] + list(backlog.values()))
    spent = dict.fromkeys(backlog, 0.0)
    serve(clocks, backlog, turns, spent)
    for seconds in spent.values():
        assert seconds <= min(spent.values()) + 2 * longest + DUST * turns


@given(st.lists(st.tuples(st.sampled_from(KINDS), costs), max_size=300))
def test_one_number_is_remembered_for_each_kind(history):
    clocks = Shares()
    for kind, seconds in history:
        before = clocks.start(kind)
        clocks.ran(kind, seconds)
        assert clocks.start(kind) >= before
    assert len(clocks._clocks) <= len(KINDS)
