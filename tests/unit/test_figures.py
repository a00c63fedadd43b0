"""What a worker counts for `stats`: in fine buckets, each value once, and for Prometheus as before."""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections import Counter
from itertools import accumulate, pairwise
from types import SimpleNamespace

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker.model import How
from shithubd_worker.process.duties.figures import MOST_KINDS, Figures
from shithubd_worker.telemetry.buckets import BOUNDS, DURATIONS, LONGEST, MIDDLES, RATIO, SHORTEST
from shithubd_worker.telemetry.metrics import Metrics
from shithubd_worker.telemetry.names import MOST_NAMED
from shithubd_worker.timing import FIGURES_SECONDS

KINDS = ("a", "b", "c")
TIMES = st.one_of(st.floats(-10.0, 1e8), st.floats(0.0, 0.01), st.sampled_from([*DURATIONS, *BOUNDS]))


def counting(kinds=KINDS):
    return Metrics(list(kinds), "web1:1")


def test_the_buckets_are_fine_enough():
    assert (BOUNDS[0], BOUNDS[-1]) == (SHORTEST, LONGEST)
    assert all(1 < high / low <= RATIO + 1e-9 for low, high in pairwise(BOUNDS))
    assert set(DURATIONS) < set(BOUNDS)
    assert len(set(MIDDLES)) == len(MIDDLES) == len(BOUNDS) + 1


@given(st.floats(SHORTEST * 1.01, LONGEST))
def test_the_middle_of_a_bucket_is_at_most_ten_percent_away(value):
    assert MIDDLES[bisect_left(BOUNDS, value)] / 1e6 == pytest.approx(value, rel=0.1)


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.lists(TIMES))))
def test_prometheus_sees_the_same_buckets_as_before(batches):
    metrics, expected = counting(), {kind: [0] * (len(DURATIONS) + 1) for kind in KINDS}
    for kind, values in batches:
        metrics.ran(kind, values)
        for value in values:
            expected[kind][bisect_left(DURATIONS, value)] += 1
    (family,) = (each for each in metrics.registry.collect() if each.name == "shithub_worker_job_duration_seconds")
    for kind in KINDS:
        shown = [s.value for s in family.samples if s.labels["kind"] == kind and s.name.endswith("_bucket")]
        assert shown == list(accumulate(expected[kind]))
        (total,) = [s.value for s in family.samples if s.labels["kind"] == kind and s.name.endswith("_sum")]
        assert total == pytest.approx(sum(v for k, values in batches if k == kind for v in values if v > 0))


@given(
    st.lists(st.one_of(st.tuples(st.sampled_from(KINDS), st.sampled_from(["ok", "retry"]), TIMES), st.integers(1, 3)))
)
def test_each_value_is_taken_once(steps):
    """A step is a run that ended, or that somebody takes the figures of so many kinds."""
    metrics, ended, runs, taken = counting(), Counter(), Counter(), []
    for step in steps:
        if isinstance(step, int):
            taken += metrics.tally.take(step)
        else:
            kind, how, seconds = step
            metrics.ran(kind, [seconds])
            metrics.processed({(kind, How(how)): 1})
            ended[kind, how] += 1
            runs[kind] += 1
    taken += metrics.tally.take(10)
    taken += metrics.tally.take(10)  # the first may have gone on with an old round
    assert metrics.tally.take(10) == []
    found = Counter()
    for each in taken:
        found.update({(each["kind"], how): each.get(how, 0) for how in ("ok", "retry")})
    assert +found == ended
    by_kind = Counter()
    for each in taken:
        by_kind[each["kind"]] += sum(each.get("runs", {}).values())
    assert +by_kind == runs


def test_a_kind_without_series_of_its_own_has_figures():
    names = [f"k{n}" for n in range(MOST_NAMED + 2)]
    metrics = counting(names)
    for name in names[-2:]:
        metrics.ran(name, [1.0])
        metrics.processed({(name, How.OK): 1})
    assert sorted(each["kind"] for each in metrics.tally.take(10)) == names[-2:]
    ran = metrics.registry.get_sample_value("shithub_worker_job_duration_seconds_count", {"kind": "other"})
    ended = metrics.registry.get_sample_value("shithub_worker_jobs_processed_total", {"kind": "other", "outcome": "ok"})
    assert (ran, ended) == (2, 2)


class Database:
    """Has what was written; or raises an error in place of the next answer."""

    def __init__(self):
        self.written, self.error, self.session = [], None, SimpleNamespace(write_stats=self.write)
        self.session.count_ended = lambda ended: None

    def write(self, figures):
        error, self.error = self.error, None
        if error is not None:
            raise error
        self.written += figures

    @property
    def ok(self):
        return sum(each.get("ok", 0) for each in self.written)


@pytest.fixture
def asked():
    database, metrics = Database(), counting()
    return database, metrics, Figures(database.session, metrics)


def test_figures_are_written_now_and_then_if_there_is_any_news(asked):
    database, metrics, figures = asked
    figures.tick(100.0, None)
    assert database.written == []
    metrics.processed({("a", How.OK): 2})
    figures.tick(101.0, None)
    assert database.written == []
    figures.tick(101.0 + FIGURES_SECONDS, None)
    assert database.written == [{"kind": "a", "ok": 2}]
    figures.tick(200.0, None)
    assert len(database.written) == 1


def test_figures_whose_answer_is_lost_are_not_written_again_and_a_warning_says_so(asked, caplog):
    database, metrics, figures = asked
    metrics.processed({("a", How.OK): 2})
    database.error = psycopg.OperationalError("server closed the connection unexpectedly")
    with caplog.at_level(logging.WARNING), pytest.raises(psycopg.OperationalError):
        figures.tick(100.0, None)
    assert "may be missing in `stats`" in caplog.text
    metrics.processed({("a", How.OK): 1})
    figures.tick(200.0, None)
    assert database.ok == 1


def test_figures_that_the_database_refuses_are_written_later(asked):
    database, metrics, figures = asked
    metrics.processed({("a", How.OK): 2})
    database.error = psycopg.errors.LockNotAvailable("canceling statement due to lock timeout")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        figures.tick(100.0, None)
    metrics.processed({("a", How.OK): 1})
    figures.tick(200.0, None)
    figures.tick(300.0, None)
    assert database.ok == 3


def test_figures_that_a_server_without_writes_refuses_are_written_later(asked, caplog):
    database, metrics, figures = asked
    metrics.processed({("a", How.OK): 2})
    database.error = psycopg.errors.ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        figures.tick(100.0, None)
    figures.tick(200.0, None)
    assert (database.ok, caplog.text) == (2, "")


def test_a_worker_that_ends_writes_what_was_refused_and_what_it_did_since(asked):
    database, metrics, figures = asked
    metrics.processed({("a", How.OK): 2})
    database.error = psycopg.errors.LockNotAvailable("canceling statement due to lock timeout")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        figures.tick(100.0, None)
    metrics.processed({("a", How.OK): 1})
    figures.leave()
    assert database.ok == 3


def test_a_worker_that_ends_within_a_round_writes_kinds_that_it_wrote_already():
    names = [f"k{n}" for n in range(MOST_KINDS + 5)]
    database, metrics = Database(), counting(names)
    figures = Figures(database.session, metrics)
    metrics.processed({(name, How.OK): 1 for name in names})
    figures.tick(100.0, None)
    metrics.processed({(names[0], How.OK): 1})
    figures.leave()
    assert database.ok == len(names) + 1


def test_a_slow_database_does_not_hold_up_the_end_of_a_worker(monkeypatch, caplog):
    names = [f"k{n}" for n in range(3 * MOST_KINDS)]
    database, metrics = Database(), counting(names)
    metrics.processed({(name, How.OK): 1 for name in names})
    clock = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: 0.9 * next(clock))
    Figures(database.session, metrics).leave()
    assert database.ok == 2 * MOST_KINDS
    assert "missing in `stats`" in caplog.text


def test_a_worker_that_ends_hands_over_all_kinds():
    names = [f"k{n}" for n in range(MOST_KINDS + 5)]
    database, metrics = Database(), counting(names)
    metrics.processed({(name, How.OK): 1 for name in names})
    Figures(database.session, metrics).leave()
    assert database.ok == len(names)
