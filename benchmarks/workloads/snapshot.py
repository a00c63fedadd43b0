"""W4 and W4b: another session holds a snapshot, as a dump or a long report does.

Until it ends no dead row can be cleaned away, and who looks for the next job walks over those of all jobs before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import recordings
from benchmarks.cluster import Cluster
from benchmarks.contenders import Contender
from benchmarks.figures import milliseconds
from benchmarks.processes import cpu_seconds
from benchmarks.stage import WARM_UP_JOBS, Stage, staged
from benchmarks.workloads.drain import OF_ALL, watch
from benchmarks.workloads.workload import Outcome, Size, Workload

SHARE = 0.15
W4_SECONDS, W4B_SECONDS = 15, 20
LIGHT_PER_SECOND = 100


@contextmanager
def held_snapshot(stage: Stage) -> Iterator[None]:
    """A session that looked once, in REPEATABLE READ, and does nothing more."""
    with stage.connect() as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM pg_class")
        yield
        connection.execute("ROLLBACK")


def first_and_last(moments: list[float]) -> tuple[float, float]:
    """The rates of the first 15 % and of the last 15 % of the jobs."""
    part = max(1, int(len(moments) * SHARE))
    return part / (moments[part] - moments[0]), part / (moments[-1] - moments[-1 - part])


def _w4(cluster: Cluster, contender: Contender, size: Size) -> Outcome:
    # No more than it can get through: what is left would only cost the time to load it.
    jobs = size.jobs(min(600_000, contender.expected * 20))
    with staged(cluster, contender, jobs) as stage, held_snapshot(stage):
        stage.start_worker()
        done = watch(stage, jobs, size.span(W4_SECONDS, 3))
    moments = done.moments()
    first, last = first_and_last(moments)
    figures = {"first": first, "last": last, "last_of_first": last / first, "rate": done.rate()}
    return Outcome(figures, done.checked, {"rate": recordings.rates_over_time(moments)})


def _w4b(cluster: Cluster, contender: Contender, size: Size) -> Outcome:
    dead, seconds = size.jobs(3_000_000), size.span(W4B_SECONDS, 6)
    count = int(seconds * LIGHT_PER_SECOND)
    with staged(cluster, contender, dead) as stage, held_snapshot(stage):
        with stage.connect() as connection:
            for statement in contender.churn:
                connection.execute(statement)
            connection.execute("CHECKPOINT")
        worker = stage.start_worker()
        stage.warm_up()
        before = cpu_seconds(worker.pid), cluster.cpu_seconds(), time.monotonic()
        told = stage.enqueue({"mode": "paced", "first": 1, "count": count, "rate": LIGHT_PER_SECOND})
        took = time.monotonic() - before[2]
        worker_cpu, server_cpu = cpu_seconds(worker.pid) - before[0], cluster.cpu_seconds() - before[1]
        stage.keeps_up(WARM_UP_JOBS + count)
        recorded = stage.end_workers()
        left = stage.count_unsettled()
    found = recordings.delays(recorded, told["committed"])
    third = len(found) // 3
    figures = milliseconds(found) | {
        "p99_first_ms": milliseconds(found[:third])["p99_ms"],
        "p99_last_ms": milliseconds(found[-third:])["p99_ms"],
        "worker_cpu_percent": 100 * worker_cpu / took,
        "server_cpu_percent": 100 * server_cpu / took,
    }
    return Outcome(figures, recordings.check_once(recorded, count, left, may_forget=contender.may_forget))


W4 = Workload(
    "w4",
    "W4 a held snapshot",
    "up to 600,000 jobs wait, another session holds a snapshot; the first and the last 15 % of what one process"
    f" ran within {W4_SECONDS} s, jobs a second",
    _w4,
    contenders=OF_ALL,
    columns={"first": "first 15 %", "last": "last 15 %", "last_of_first": "last ÷ first"},
    figure="last",
)
W4B = Workload(
    "w4b",
    "W4b a light load behind 3,000,000 dead rows",
    f"the snapshot held, 3,000,000 dead rows, then {LIGHT_PER_SECOND} jobs a second for {W4B_SECONDS} s; COMMIT"
    " answered → handler started, and the CPU of the worker and of the whole server, the enqueueing included",
    _w4b,
    contenders=("ours", "graphile"),  # the dead rows of others take minutes to make
    columns={
        "p50_ms": "p50, ms",
        "p99_ms": "p99, ms",
        "p99_first_ms": "p99 of the first third, ms",
        "p99_last_ms": "p99 of the last third, ms",
        "worker_cpu_percent": "worker, % of a core",
        "server_cpu_percent": "server, % of a core",
    },
    figure="p99_ms",
    less_is_better=True,
    rounds=1,
)
