"""What the Prometheus endpoint says about the queue, mostly from one row that some worker of the fleet keeps fresh."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import psycopg
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from shithubd_worker.database.connection import Connect
from shithubd_worker.database.control_session import FORCED
from shithubd_worker.database.session import Session
from shithubd_worker.model import How, State, WorkerState
from shithubd_worker.telemetry.names import OTHER, named
from shithubd_worker.timing import (
    COUNT_AWAITED_SECONDS,
    COUNT_LIMIT_SECONDS,
    COUNTS_FRESH_SECONDS,
    COUNTS_STALE_SECONDS,
)

log = logging.getLogger(__name__)

MOST_STRANGERS = 100  # a stranger's INSERTs must not make endless series
_SUMMED = ("queued", "processing", "paused", "failed", "runnable", "expired")


class QueueCollector(Collector):
    """The gauges of the queue. Without an answer they are absent, never stale.

    A scrape reads the counts in the database, however long the queue is. If they aren't fresh, a thread counts again,
    unless another worker of the fleet is counting. The scrape waits for that count only for a moment.
    """

    def __init__(self, connect: Connect, schema: str, known: Collection[str] = ()) -> None:
        self._reader = Session(connect, schema)
        self._counter = Session(connect, schema)  # of the thread: a connection can have one question at a time
        self._counting: threading.Thread | None = None
        self._known = frozenset(named(known))
        self._lock = threading.Lock()

    def describe(self) -> Iterable[Any]:
        """Nothing in advance: registering must not need the database."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """The gauges, and what ended with its worker. Counts are at most COUNTS_STALE_SECONDS old."""
        with self._lock:
            began = time.monotonic()
            answer = self._read()
            if answer is not None and not _younger(answer, COUNTS_FRESH_SECONDS) and self._recounted():
                answer = self._read()
            seconds = time.monotonic() - began
        counted = answer is not None and _younger(answer, COUNTS_STALE_SECONDS)
        yield _family("queue_scrape_success", "1 if the queue's gauges below are there.", value=float(counted))
        yield _family("queue_scrape_duration_seconds", "How long this scrape waited for them.", value=seconds)
        if answer is not None:
            yield from _of_this_moment(answer)
            yield from self._returned(answer["returned"])
        if answer is not None and counted:
            yield from _as_counted(answer, *self._folded(answer["kinds"]))

    def close(self) -> None:
        """Drop the connections."""
        if self._counting is not None:
            self._counting.join()
        self._counter.close()
        self._reader.close()

    def _read(self) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = self._reader.value_again("queue_gauges_v1", sorted(self._known))
        except psycopg.Error as error:
            log.warning("the queue's metrics are left out: %s", str(error).strip().splitlines()[0])
            self._reader.close()
            return None
        return answer

    def _recounted(self) -> bool:
        """Count the queue anew, unless another worker does. True if that ended within a moment."""
        if self._counting is None or not self._counting.is_alive():
            self._counting = threading.Thread(target=self._count, name="count", daemon=True)
            self._counting.start()
        self._counting.join(COUNT_AWAITED_SECONDS)
        return not self._counting.is_alive()

    def _count(self) -> None:
        try:
            if self._counter.value_again("claim_count_v1", COUNTS_FRESH_SECONDS, COUNT_LIMIT_SECONDS):
                with self._counter.connection.transaction():
                    self._counter.connection.execute(f"SET LOCAL statement_timeout = {COUNT_LIMIT_SECONDS * 1000:.0f}")
                    self._counter.value("recount_v1")
        except psycopg.Error as error:
            log.warning("the queue could not be counted: %s", str(error).strip().splitlines()[0])
            self._counter.close()

    def _folded(self, kinds: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
        """The counts by kind, and how many kinds have none of their own. Kinds that this worker doesn't name appear by
        name only up to a limit. The rest is one kind, `other`. The database has already put most of a long rest
        together, in an entry without a name. A kind whose name is `other` shares its series with the rest."""
        strangers = [kind for kind in kinds if kind["kind"] is not None and kind["kind"] not in self._known]
        rest = strangers[MOST_STRANGERS:] + [kind for kind in kinds if kind["kind"] is None]
        if not rest:
            return kinds, 0
        unnamed = sum(kind["kinds"] for kind in rest)
        named = [kind for kind in kinds if kind["kind"] in self._known] + strangers[:MOST_STRANGERS]
        rest += [kind for kind in named if kind["kind"] == OTHER]
        other: dict[str, Any] = {name: sum(kind[name] for kind in rest) for name in _SUMMED}
        ages = [kind["oldest_seconds"] for kind in rest if kind["oldest_seconds"] is not None]
        other |= {"kind": OTHER, "oldest_seconds": max(ages, default=None)}
        other |= {"workers": min((kind["workers"] for kind in rest if kind["queued"]), default=1)}
        other |= {"capped": [figure for kind in rest for figure in kind["capped"]]}
        return [*(kind for kind in named if kind["kind"] != OTHER), other], unnamed

    def _returned(self, kinds: list[dict[str, Any]]) -> Iterator[CounterMetricFamily]:
        """What ended with its worker, the oldest kinds first. The kinds that this worker knows are there from the
        start, at 0, so that increase() sees the first. Of the others, the same hundred always keep their names."""
        sums = {kind: Counter[str]() for kind in self._known}
        for row in kinds:
            fits = row["kind"] in self._known or len(sums) < len(self._known) + MOST_STRANGERS
            sums.setdefault(row["kind"] if fits and row["kind"] is not None else OTHER, Counter()).update(
                {how: row[how] for how in (*How, FORCED)}
            )
        returned = CounterMetricFamily(
            "shithubd_leases_returned",
            "Attempts that ended with their worker, so no scrape of that worker shows them.",
            labels=["kind", "outcome"],
        )
        forced = CounterMetricFamily(
            "shithubd_forced_ends",
            "Processes that were ended because a handler of the kind didn't stop when it had to.",
            labels=["kind"],
        )
        for kind, found in sums.items():
            known = kind in self._known
            for how in How:
                if known or found[how] or how in (How.CRASHED, How.POISON):  # kinds of strangers must make few series
                    returned.add_metric([kind, how], found[how])
            if known or found[FORCED]:
                forced.add_metric([kind], found[FORCED])
        yield returned
        yield forced


def _younger(answer: dict[str, Any], seconds: float) -> bool:
    # Counts from the future are useless: the database's clock was set back since.
    return answer["age"] is not None and abs(answer["age"]) < seconds


def _as_counted(answer: dict[str, Any], kinds: list[dict[str, Any]], unnamed: int) -> Iterator[GaugeMetricFamily]:
    """What was counted, perhaps a while ago."""
    yield _family("queue_counted_timestamp_seconds", "When the jobs were counted.", value=answer["counted_at"])
    yield _family(
        "queue_kinds_unnamed",
        'Kinds with jobs that have no series of their own: their sums are kind="other".',
        value=unnamed,
    )
    yield _family(
        "job_queue_depth",
        "Jobs that could run now.",
        ["kind"],
        {(k["kind"],): k["runnable"] for k in kinds},
    )
    states = [state.value for state in State]
    yield _family(
        "jobs",
        "Jobs by state; processing: leased, and perhaps not started.",
        ["kind", "state"],
        {(k["kind"], s): k[s] for k in kinds for s in states},
    )
    yield _family(
        "job_counts_capped",
        "1 for a kind with more jobs than the two above say: counting stopped.",
        ["kind"],
        {(k["kind"],): float(bool(k["capped"])) for k in kinds},
    )
    yield _family(
        "job_queue_oldest_age_seconds",
        "How long the oldest due job waits.",
        ["kind"],
        {(k["kind"],): k["oldest_seconds"] for k in kinds if k["oldest_seconds"] is not None},
    )
    yield _family(
        "job_expired_leases",
        "Expired leases that nobody has returned yet.",
        ["kind"],
        {(k["kind"],): k["expired"] for k in kinds},
    )
    yield _family(
        "job_kind_unhandled",
        "1 for a kind with jobs and no living worker.",
        ["kind"],
        {(k["kind"],): float(not k["workers"] and k["queued"] > 0) for k in kinds},
    )


def _of_this_moment(answer: dict[str, Any]) -> Iterator[GaugeMetricFamily]:
    """What each scrape reads anew."""
    yield _family(
        "job_kind_paused_timestamp_seconds",
        "Since when a kind is paused.",
        ["kind"],
        {(kind,): since for kind, since in answer["paused"].items()},
    )
    yield _family("paused_kinds_unnamed", "Paused kinds that the metric above leaves out.", value=answer["paused_more"])
    scopes = ("fleet", "host", "unit", "worker", "kind")
    yield _family("holds", "Holds that stand.", ["scope"], {(s,): answer["holds"].get(s, 0) for s in scopes})
    yield _family(
        "hold_oldest_timestamp_seconds",
        "Since when the oldest hold without an end stands.",
        ["scope"],
        # Nobody has to remember a hold with an end. So only the others can be forgotten.
        {(scope,): since for scope, since in answer["oldest_holds"].items()},
    )
    yield from _ramps(answer["ramps"])
    yield _family(
        "workers",
        "Workers by state; silent if they didn't beat for 30 s.",
        ["state"],
        {(s,): answer["workers"].get(s, 0) for s in (*WorkerState, "silent")},
    )
    yield _family(
        "history_ready_seconds",
        "For how long from now the history has its partitions, in whole days.",
        value=answer["history_days"] * 86400,
    )
    yield _family("schema_version", "The version of the database's schema.", value=answer["schema"])
    yield _family(
        "dead_rows",
        "Dead rows that vacuum has not removed yet, by PostgreSQL's statistics.",
        ["table"],
        {("jobs",): answer["dead_rows"]},
    )


def _ramps(ramps: dict[str, dict[str, Any]]) -> Iterator[GaugeMetricFamily]:
    """How far the ramp of each kind is."""
    yield _family(
        "kind_ramp_began_timestamp_seconds",
        "Since when a ramp resumes a kind in steps.",
        ["kind"],
        {(kind,): _seconds(ramp["began"]) for kind, ramp in ramps.items()},
    )
    yield _family(
        "kind_ramp_percent",
        "Percent of the workers that may work on the kind at once, by its ramp.",
        ["kind"],
        {(kind,): ramp["percent"] for kind, ramp in ramps.items() if ramp["state"] == "steps"},
    )
    yield _family(
        "kind_ramp_stopped_timestamp_seconds",
        "Since when a ramp stands still, because it stopped by itself.",
        ["kind"],
        {(kind,): _seconds(ramp["stopped_at"]) for kind, ramp in ramps.items() if ramp["stopped_at"]},
    )
    yield _family(
        "kind_ramp_runs",
        "Runs that ended under the ramp of the kind.",
        ["kind", "result"],
        {(kind, result): ramp[result] for kind, ramp in ramps.items() for result in ("ok", "bad")},
    )


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _family(
    name: str,
    text: str,
    labels: Sequence[str] = (),
    samples: dict[tuple[str, ...], float] | None = None,
    *,
    value: float | None = None,
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"shithubd_{name}", text, labels=labels)
    for label_values, number in ({(): value} if value is not None else samples or {}).items():
        family.add_metric(label_values, float(number))
    return family
