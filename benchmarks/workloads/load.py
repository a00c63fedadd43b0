"""Latency under load: at several rates of enqueueing, and for an urgent kind while another floods the queue."""

from __future__ import annotations

from benchmarks import recordings
from benchmarks.cluster import Cluster
from benchmarks.contenders import Contender
from benchmarks.figures import milliseconds
from benchmarks.stage import staged
from benchmarks.workloads.workload import Outcome, Size, Workload

RATES = (1, 10, 100, 1000)
# From so many a second on, one client that waits for each commit couldn't keep the pace with every contender.
ONE_CLIENT_UP_TO = 100
CLIENTS = 4
SECONDS = 8
URGENT_PER_SECOND = 20


def _load(cluster: Cluster, contender: Contender, size: Size) -> Outcome:
    figures: dict[str, float] = {}
    seconds = size.span(SECONDS, 3)
    with staged(cluster, contender) as stage:
        stage.start_worker()
        stage.warm_up()
        base = stage.progress()
        first, committed = 1, []
        for rate in RATES:
            count = max(3, int(rate * seconds))
            clients = 1 if rate <= ONE_CLIENT_UP_TO else CLIENTS
            plan = {"mode": "paced", "first": first, "count": count, "rate": rate, "clients": clients}
            told = stage.enqueue(plan)
            first += count
            stage.keeps_up(base + first - 1)
            committed.append(told["committed"])
        recorded = stage.end_workers()
        left = stage.count_unsettled()
        for rate, pairs in zip(RATES, committed, strict=True):
            found = milliseconds(recordings.delays(recorded, pairs))
            figures |= {f"p50_{rate}": found["p50_ms"], f"p99_{rate}": found["p99_ms"]}
        return Outcome(figures, recordings.check_once(recorded, first - 1, left, may_forget=contender.may_forget))


def _urgent(cluster: Cluster, contender: Contender, size: Size) -> Outcome:
    flood, seconds = size.jobs(1_000_000), size.span(8, 3)
    count = int(seconds * URGENT_PER_SECOND)
    with staged(cluster, contender, flood) as stage:
        stage.start_worker(until_empty=False)
        stage.wait_for_progress(1, 60)
        plan = {"mode": "paced", "first": flood + 1, "count": count, "rate": URGENT_PER_SECOND, "urgent": True}
        told = stage.enqueue(plan | {"kind": "bench.urgent"})
        recorded = stage.end_workers()
        left = stage.count_unsettled()
        committed = told["committed"]
        span = committed[0][1], committed[-1][1]
        figures = milliseconds(recordings.delays(recorded, committed))
        figures["flood"] = recordings.rate_between(recordings.starts(recorded), *span)
        checked = recordings.check_once(recorded, flood + count, left, may_forget=contender.may_forget)
        return Outcome(figures, checked)


LOAD = Workload(
    "load",
    "Latency under load",
    f"1, 10, 100 and 1,000 jobs enqueued a second, for {SECONDS} s each; COMMIT answered → handler started, p50 and p99"
    " in ms",
    _load,
    contenders=("ours", "graphile", "graphile-defaults", "pgboss", "pgqueuer"),
    columns={f"{p}_{rate}": f"{rate:,}/s: {p}, ms" for rate in RATES for p in ("p50", "p99")},
    figure="p99_100",
    less_is_better=True,
    rounds=1,
)
URGENT = Workload(
    "urgent",
    "An urgent kind beside a flood",
    f"1,000,000 jobs of another kind wait, {URGENT_PER_SECOND} urgent ones a second are enqueued for 8 s; COMMIT"
    " answered → handler started in ms, and what the flood gets meanwhile. Ours: two kinds, no priority; Graphile:"
    " priority -10; pg-boss: a queue and a worker of their own",
    _urgent,
    contenders=("ours", "graphile", "pgboss"),
    columns={"p50_ms": "urgent, p50 ms", "p99_ms": "urgent, p99 ms", "flood": "the flood, jobs/s"},
    figure="p99_ms",
    less_is_better=True,
    rounds=1,
)
