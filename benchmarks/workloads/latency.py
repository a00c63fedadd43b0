"""W2: one job at a time, the worker idle. From the answer to the COMMIT to the start of the handler."""

from __future__ import annotations

from benchmarks import recordings
from benchmarks.cluster import Cluster
from benchmarks.contenders import Contender
from benchmarks.figures import milliseconds
from benchmarks.stage import staged
from benchmarks.workloads.workload import Outcome, Size, Workload

PER_SECOND = 60


def _w2(cluster: Cluster, contender: Contender, size: Size) -> Outcome:
    count = size.jobs(300, 50)
    with staged(cluster, contender) as stage:
        stage.start_worker()
        stage.warm_up()
        before = stage.progress()
        told = stage.enqueue({"mode": "paced", "first": 1, "count": count, "rate": PER_SECOND})
        stage.wait_for_progress(before + count, 60)
        stage.settled()
        recorded = stage.end_workers()
        found = recordings.delays(recorded, told["committed"])
        return Outcome(milliseconds(found), recordings.check_once(recorded, count))


W2 = Workload(
    "w2",
    "W2 one job, the worker idle",
    f"300 jobs, {PER_SECOND} a second, the worker idle between them; COMMIT answered → handler started",
    _w2,
    # Not the limit: it has no wake-up, and a job system's is what is measured here.
    contenders=(
        "ours",
        "ours-single",
        "graphile",
        "graphile-large",
        "graphile-defaults",
        "pgboss",
        "pgqueuer",
        "pgqueuer-own",
        "chancy",
        "procrastinate",
    ),
    columns={"p50_ms": "p50, ms", "p99_ms": "p99, ms"},
    figure="p99_ms",
    less_is_better=True,
)
