"""Handlers that take their time, and many kinds at once. Ours only: the peers run many jobs at once in a process."""

from __future__ import annotations

import json
import time

from benchmarks import recordings
from benchmarks.cluster import Cluster
from benchmarks.contenders import Contender
from benchmarks.figures import milliseconds
from benchmarks.stage import Stage, staged
from benchmarks.workloads.drain import watch
from benchmarks.workloads.workload import Outcome, Size, Workload

DURATIONS_MS = (1, 10, 100)
KINDS = 20
OTHERS_PER_SECOND = 40


def _handlers(cluster: Cluster, contender: Contender, size: Size) -> Outcome:
    figures: dict[str, float] = {}
    checked = []
    for duration in DURATIONS_MS:
        jobs = max(10, int(size.span(4) * 1000 / duration))
        with staged(cluster, contender) as stage:
            insert(stage, "bench.sleep", 1, jobs, seconds=duration / 1000)
            stage.start_worker()
            done = watch(stage, jobs, size.span(20, 10))
        figures[f"rate_{duration}"] = done.rate()
        figures[f"efficiency_{duration}"] = 100 * done.rate() * duration / 1000
        checked.append(done.checked)
    return Outcome(figures, "; ".join(checked))


def _kinds(cluster: Cluster, contender: Contender, size: Size) -> Outcome:
    flood, seconds = size.jobs(600_000), size.span(8, 3)
    count = int(seconds * OTHERS_PER_SECOND)
    with staged(cluster, contender) as stage:
        insert(stage, "bench.kind0", 1, flood)
        stage.start_worker(env={"BENCH_KINDS": str(KINDS)})
        stage.wait_for_progress(1, 60)
        committed: list[tuple[int, float]] = []
        began = time.perf_counter()
        with stage.connect() as connection:
            for index in range(count):
                time.sleep(max(0.0, began + index / OTHERS_PER_SECOND - time.perf_counter()))
                number = flood + 1 + index
                connection.execute(
                    "INSERT INTO jobs (kind, payload) VALUES (%s, %s)",
                    (f"bench.kind{1 + index % (KINDS - 1)}", json.dumps({"n": number})),
                )
                committed.append((number, time.time()))
        recorded = stage.end_workers()
        left = stage.count_unsettled()
    figures = milliseconds(recordings.delays(recorded, committed))
    figures["flood"] = recordings.rate_between(recordings.starts(recorded), committed[0][1], committed[-1][1])
    return Outcome(figures, recordings.check_once(recorded, flood + count, left))


def insert(stage: Stage, kind: str, first: int, last: int, **payload: float) -> None:
    """Jobs of a kind, numbered, due now."""
    with stage.connect() as connection:
        connection.execute(
            "INSERT INTO jobs (kind, payload) SELECT %s, %s::jsonb || jsonb_build_object('n', n)"
            " FROM generate_series(%s::bigint, %s::bigint) n",
            (kind, json.dumps(payload), first, last),
        )
        connection.execute("VACUUM (ANALYZE) jobs")


HANDLERS = Workload(
    "handlers",
    "Handlers of 1, 10 and 100 ms",
    "one process, handlers that sleep; jobs a second, and how much of the time handlers run",
    _handlers,
    contenders=("ours",),
    columns={
        name: heading
        for duration in DURATIONS_MS
        for name, heading in (
            (f"rate_{duration}", f"{duration} ms: jobs/s"),
            (f"efficiency_{duration}", f"{duration} ms: % of the time in handlers"),
        )
    },
    rounds=1,
)
KINDS_AT_ONCE = Workload(
    "kinds",
    "Twenty kinds, one of them flooding",
    f"600,000 jobs of one kind wait, {OTHERS_PER_SECOND} a second of nineteen others are enqueued for 8 s; of these"
    " COMMIT answered → handler started in ms, and what the flood gets meanwhile",
    _kinds,
    contenders=("ours",),
    columns={"p50_ms": "the nineteen, p50 ms", "p99_ms": "the nineteen, p99 ms", "flood": "the flood, jobs/s"},
    rounds=1,
)
