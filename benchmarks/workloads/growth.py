"""What a job costs as the queue, the history, the kinds and the fleet grow; and beside failed and scheduled jobs.

Cost is microseconds of the whole machine's time a job: one second by the rate. The slope is what ten times more adds.
"""

from __future__ import annotations

from collections.abc import Callable

import psycopg

from benchmarks import recordings
from benchmarks.cluster import Cluster
from benchmarks.contenders import Contender
from benchmarks.figures import slope
from benchmarks.results import Point
from benchmarks.stage import Stage, staged
from benchmarks.workloads.drain import watch
from benchmarks.workloads.handlers import insert
from benchmarks.workloads.snapshot import first_and_last
from benchmarks.workloads.workload import Outcome, Size, Workload

BACKLOGS = (10_000, 100_000, 1_000_000)  # and the 10,000,000 of the workload "incident"
HISTORIES = (3_000, 30_000, 300_000, 3_000_000)
KINDS = (1, 5, 20, 100)
WORKERS = (1, 2, 4, 8)
HISTORY_DAYS = 30
FAILED = 300_000
SCHEDULED = 1_000_000
DRAINED = 100_000
SECONDS = 4

# Thirty days of it. Each day before yesterday needs its partition: a database that was just made has none.
HISTORY_PARTITIONS = """DO $$ DECLARE v_day date; BEGIN
    FOR v_day IN SELECT (now() AT TIME ZONE 'UTC')::date - n FROM generate_series(2, 31) n LOOP
        EXECUTE format('CREATE TABLE job_history_90d_%s PARTITION OF job_history_90d FOR VALUES FROM (%L) TO (%L)',
                       to_char(v_day, 'YYYYMMDD'), v_day::timestamp AT TIME ZONE 'UTC',
                       (v_day + 1)::timestamp AT TIME ZONE 'UTC');
    END LOOP;
END $$"""
HISTORY_ROWS = """INSERT INTO job_history (id, kind, outcome, attempts, leased_by, leased_at, finished_at, payload,
                                          lease_token, retention)
    SELECT -n, 'bench.noop', 'ok', 1, 'host:1', at, at, jsonb_build_object('n', n), gen_random_uuid(), '90d'
      FROM generate_series(1, %s) n,
           LATERAL (SELECT now() - interval '30 days' + interval '29 days' * (n::float8 / %s) AS at) d"""
FAILED_ROWS = """INSERT INTO jobs (kind, payload, state, attempts, last_error)
    SELECT 'bench.noop', jsonb_build_object('n', -n), 'failed', 10, 'it failed' FROM generate_series(1, %s) n"""
SCHEDULED_ROWS = """INSERT INTO jobs (kind, payload, run_at)
    SELECT 'bench.noop', jsonb_build_object('n', -n), now() + interval '1 day' + n * interval '1 s'
      FROM generate_series(1, %s) n"""


def measure_rate(stage: Stage, jobs: int, size: Size, *, workers: int = 1, env: dict[str, str] | None = None) -> float:
    """Jobs a second of what waits on the stage."""
    for _ in range(workers):
        stage.start_worker(env=env)
    return watch(stage, jobs, size.span(SECONDS)).rate()


def _growth(cluster: Cluster, contender: Contender, size: Size) -> Outcome:
    lines: dict[str, list[Point]] = {"backlog": [], "history": [], "kinds": [], "workers": []}
    for jobs in sorted({size.jobs(count) for count in BACKLOGS}):
        with staged(cluster, contender, jobs) as stage:
            lines["backlog"].append((jobs, 1e6 / measure_rate(stage, jobs, size)))
    jobs = size.jobs(DRAINED)
    for rows in sorted({size.jobs(count) for count in HISTORIES}):
        with staged(cluster, contender, jobs) as stage:
            with stage.connect() as connection:
                add_history(connection, rows)
            lines["history"].append((rows, 1e6 / measure_rate(stage, jobs, size)))
    for kinds in KINDS:
        with staged(cluster, contender) as stage:
            for index in range(kinds):
                insert(stage, f"bench.kind{index}", 1 + jobs * index // kinds, jobs * (index + 1) // kinds)
            env = {"BENCH_KINDS": str(kinds)}
            lines["kinds"].append((kinds, 1e6 / measure_rate(stage, jobs, size, env=env)))
    jobs = size.jobs(2 * DRAINED)
    for workers in WORKERS:
        with staged(cluster, contender, jobs) as stage:
            lines["workers"].append((workers, 1e6 / measure_rate(stage, jobs, size, workers=workers)))
    figures = {f"slope_{name}": slope(points) for name, points in lines.items()}
    figures |= {f"{name}_{x:g}": 1e6 / y for name, points in lines.items() for x, y in points}
    rounded = {name: [(x, round(y, 2)) for x, y in points] for name, points in lines.items()}
    return Outcome(figures, "in each drain every job ran once", rounded)


def add_history(connection: psycopg.Connection[object], rows: int) -> None:
    """A month of finished jobs."""
    connection.execute(HISTORY_PARTITIONS)
    connection.execute(HISTORY_ROWS, (rows, rows))
    connection.execute("VACUUM (ANALYZE) job_history")


def _beside(cluster: Cluster, contender: Contender, size: Size) -> Outcome:
    """The same drain, first with nothing else there, then beside rows that must cost nothing."""
    jobs = size.jobs(DRAINED)
    burdens: dict[str, Callable[[Stage], None]] = {
        "nothing": lambda _stage: None,
        "failed": lambda stage: _insert(stage, FAILED_ROWS, size.jobs(FAILED)),
        "scheduled": lambda stage: _insert(stage, SCHEDULED_ROWS, size.jobs(SCHEDULED)),
    }
    figures: dict[str, float] = {}
    for name, burden in burdens.items():
        with staged(cluster, contender, jobs) as stage:
            burden(stage)
            others = stage.count_unsettled() - jobs
            stage.start_worker()
            figures[name] = _rate_beside(stage, jobs, others, size.span(20, 5))
    figures |= {f"{name}_of_nothing": figures[name] / figures["nothing"] for name in ("failed", "scheduled")}
    million = size.jobs(1_000_000)
    with cluster.without_autovacuum(), staged(cluster, contender, million) as stage:
        stage.start_worker()
        done = watch(stage, million, size.span(60, 10))
    figures["no_vacuum"] = done.rate()
    first, last = first_and_last(done.moments())
    figures |= {"no_vacuum_first": first, "no_vacuum_last": last, "no_vacuum_last_of_first": last / first}
    return Outcome(figures, done.checked)


def _insert(stage: Stage, statement: str, rows: int) -> None:
    with stage.connect() as connection:
        connection.execute(statement, (rows,))
        connection.execute("VACUUM (ANALYZE) jobs")
        connection.execute("CHECKPOINT")  # else what was just written is still being written beside the drain


def _rate_beside(stage: Stage, jobs: int, others: int, seconds: float) -> float:
    """The rate of a drain in a table in which other rows stay."""
    stage.wait_for_progress(1, 60)
    stage.wait_or_give_up(jobs, seconds)
    recorded = stage.end_workers()
    recordings.check_once(recorded, jobs, stage.count_unsettled() - others)
    moments = recordings.starts(recorded)
    return (len(moments) - 1) / (moments[-1] - moments[0])


GROWTH = Workload(
    "growth",
    "Growth of the cost",
    f"one process drains for up to {SECONDS} s (the workers: all together) as the backlog, the history of a month, the"
    " number of kinds and the number of workers grow; jobs a second, and the slope: microseconds a job that ten times"
    " more adds",
    _growth,
    contenders=("ours",),
    columns={
        "slope_backlog": "backlog × 10 adds, µs a job",
        "slope_history": "history × 10 adds, µs a job",
        "slope_kinds": "kinds × 10 add, µs a job",
        "slope_workers": "workers × 10 add, µs a job",
    },
    rounds=1,
)
BESIDE = Workload(
    "beside",
    "Beside failed and scheduled jobs, and without autovacuum",
    "a drain of 100,000 beside nothing, 300,000 failed jobs, 1,000,000 scheduled ones of the same kind; and of"
    " 1,000,000 with autovacuum off; jobs a second",
    _beside,
    contenders=("ours",),
    columns={
        "nothing": "beside nothing",
        "failed": "beside 300,000 failed jobs",
        "failed_of_nothing": "÷ beside nothing",
        "scheduled": "beside 1,000,000 scheduled jobs",
        "scheduled_of_nothing": "÷ beside nothing ",
        "no_vacuum": "1,000,000 with autovacuum off",
        "no_vacuum_first": "their first 15 %",
        "no_vacuum_last": "their last 15 %",
        "no_vacuum_last_of_first": "last ÷ first",
    },
    rounds=1,
)
