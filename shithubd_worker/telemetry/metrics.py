"""What this process does, counted for Prometheus."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from shithubd_worker import __version__
from shithubd_worker.database.schema import newest_version
from shithubd_worker.model import How, Lease, WorkerState
from shithubd_worker.telemetry.collectors import BulkHistogram, LinesLost, Processed, UnitMemory
from shithubd_worker.telemetry.names import OTHER, named
from shithubd_worker.telemetry.tally import Tally

LEASES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """Counts what this process does. Every pair of kind and outcome is there from the start, at 0. Of very many kinds
    the last ones are one kind, `other`. `tally` knows all kinds by their names."""

    def __init__(self, kinds: Sequence[str], leased_by: str, objectives: Mapping[str, float] | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # when each was made: nobody asks
        self.registry = CollectorRegistry()
        unnamed = len(kinds) - len(named(kinds))
        kinds = list(dict.fromkeys([*named(kinds), *([OTHER] if unnamed else [])]))
        self._kinds = frozenset(kinds)
        ours = "shithub_worker_"

        def counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
            return Counter(ours + name, text, labels, registry=self.registry)

        def gauge(name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
            return Gauge(ours + name, text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
            return Histogram(ours + name, text, labels, buckets=buckets, registry=self.registry)

        # Others report crashed jobs, and the database counts them: gauges.py.
        self._processed = Processed(kinds, [how for how in How if how is not How.CRASHED], self._name)
        self.registry.register(self._processed)
        self._claims = counter("claims", "Lease queries, by result.", ["result"])
        self._renewals = counter("lease_renewals", "Renewals of the running job's lease, by result.", ["result"])
        self._fenced = counter("fenced_writes", "Settles refused because the lease was lost.", ["kind"])
        self._refused = counter("refused_writes", "Leases and settles of a job that the database refused.", ["kind"])
        self._reconnects = counter("db_reconnects", "Connections that were lost and made anew.", ["thread"])
        self.registry.register(LinesLost())
        self.registry.register(UnitMemory())
        self._clock_steps = counter("clock_steps", "Times the database's clock was set.", ["direction"])
        self._wakeups = counter("wakeups", "Ends of the idle worker's sleep, by source.", ["source"])
        self._duration = BulkHistogram(ours + "job_duration_seconds", "How long handlers ran.", kinds, self._name)
        self._wait = BulkHistogram(
            ours + "job_wait_seconds",
            "How long jobs waited from when they could run to their lease, by the database's clock.",
            kinds,
            self._name,
        )
        self.tally = Tally(self._processed.counts, self._wait.counts, self._duration.counts)
        self.registry.register(self._duration)
        self.registry.register(self._wait)
        self._objectives = {kind: each for kind, each in (objectives or {}).items() if kind in self._kinds}
        objective = gauge("job_wait_objective_seconds", "How long a due job may wait, by its handler.", ["kind"])
        starts = counter("job_starts", "Leased jobs, by whether they waited longer than they may.", ["kind", "start"])
        self._starts = {
            kind: (starts.labels(kind, "in_time"), starts.labels(kind, "late")) for kind in self._objectives
        }
        for kind, seconds in self._objectives.items():
            objective.labels(kind).set(seconds)
        self._claim = histogram("claim_duration_seconds", "How long lease queries took.", LEASES)
        self._in_flight = gauge("in_flight", "Jobs whose handler runs now.", ["kind"])
        self._started = gauge("job_started_timestamp_seconds", "When the running job started; 0 if none.", ["kind"])
        self._state = gauge("state", "1 for the state that the worker is in.", ["state"])
        self._database_up = gauge("db_up", "1 while the worker reaches its database.")
        self._polled = gauge("last_poll_timestamp_seconds", "When the worker last asked for a job.")
        gauge("build_info", "1; the release and the schema that it brings.", ["version", "schema"]).labels(
            __version__, str(newest_version())
        ).set(1)
        gauge("schema_version", "The version of the schema that this release brings.").set(newest_version())
        gauge("info", "1; this process as jobs.leased_by names it.", ["leased_by"]).labels(leased_by).set(1)
        gauge("kinds_unnamed", 'Kinds of this worker that have no series of their own: they share kind="other".').set(
            unnamed
        )
        for kind in kinds:
            self._fenced.labels(kind)
            self._refused.labels(kind)
            self._in_flight.labels(kind)
            self._started.labels(kind)
        for family, values in (
            (self._claims, ("job", "empty", "error")),
            (self._renewals, ("ok", "lost")),
            (self._reconnects, ("main", "control")),
            (self._wakeups, ("notify", "poll")),
            (self._clock_steps, ("ahead", "back")),
        ):
            for value in values:
                family.labels(value)
        for name in WorkerState:
            self._state.labels(name).set(float(name is WorkerState.STARTING))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def watch(
        self,
        state: Callable[[], WorkerState],
        running: Callable[[], tuple[str, float] | None],
        database_up: Callable[[], bool],
    ) -> None:
        """Set what a scrape asks: the state, which kind runs now and for how many seconds, and whether the database
        answers. A scrape asks at that moment, because a stored value would be as old as the last turn of the thread
        that wrote it."""

        self.state = state

        def in_flight(kind: str) -> float:
            now = running()
            return float(now is not None and self._name(now[0]) == kind)

        def started(kind: str) -> float:
            now = running()
            return time.time() - now[1] if now is not None and self._name(now[0]) == kind else 0.0

        def is_in(name: WorkerState) -> float:
            return float(state() == name)

        for name in WorkerState:
            self._state.labels(name).set_function(partial(is_in, name))
        self._database_up.set_function(database_up)
        for kind in self._kinds:
            self._in_flight.labels(kind).set_function(partial(in_flight, kind))
            self._started.labels(kind).set_function(partial(started, kind))

    def _name(self, kind: str) -> str:
        return kind if kind in self._kinds else OTHER

    def leased(self, leases: Sequence[Lease], seconds: float) -> None:
        """A lease query ended."""
        self._polled.set_to_current_time()
        self._claim.observe(seconds)
        self._claims.labels("job" if leases else "empty").inc()
        waits: defaultdict[str, list[float]] = defaultdict(list)
        now = leases[0].batch.now if leases else 0.0
        for lease in leases:
            waits[lease.kind].append(now - lease.run_at if lease.run_at > -inf else 0.0)
        for kind, each in waits.items():
            self._wait.observe(kind, each)
            if (objective := self._objectives.get(kind)) is not None:
                late = sum(waited > objective for waited in each)
                for starts, count in zip(self._starts[kind], (len(each) - late, late), strict=True):
                    starts.inc(count)

    def claim_failed(self) -> None:
        """The database didn't answer, or refused."""
        self._claims.labels("error").inc()

    def ran(self, kind: str, seconds: Sequence[float]) -> None:
        """Handlers of a kind returned, or raised: how long each ran."""
        self._duration.observe(kind, seconds)

    def processed(self, ended: Mapping[tuple[str, How], int]) -> None:
        """Attempts were settled: how many, by kind and outcome."""
        self._processed.add(ended)

    def last_word(self) -> dict[tuple[str, str], int]:
        """The attempts that no scrape has seen, for the database to count. From now on no scrape sees them."""
        return self._processed.last_word()

    def fenced(self, kind: str) -> None:
        """A settle was refused."""
        self._fenced.labels(self._name(kind)).inc()

    def refused(self, kind: str) -> None:
        """The database refused to lease or to settle a job."""
        self._refused.labels(self._name(kind)).inc()

    def renewed(self, *, ok: bool) -> None:
        """A lease was renewed, or found lost."""
        self._renewals.labels("ok" if ok else "lost").inc()

    def woken(self, source: str) -> None:
        """The sleep ended, for this reason."""
        self._wakeups.labels(source).inc()

    def reconnected(self, thread: str) -> None:
        """The `main` or the `control` thread has the database back."""
        self._reconnects.labels(thread).inc()

    def clock_stepped(self, seconds: float) -> None:
        """The database's clock was set, ahead by so many seconds, or back (below 0)."""
        self._clock_steps.labels("ahead" if seconds > 0 else "back").inc()
