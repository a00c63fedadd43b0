"""W4c: a worker's own signs of life, while another session holds a snapshot.

Each beat leaves a dead version of a row. What an enqueue and a lease read must not grow with them, and a worker that
runs quick jobs must beat no more often than one that rests.
"""

from __future__ import annotations

import time
from typing import Any

import psycopg

from benchmarks import recordings
from benchmarks.cluster import Cluster
from benchmarks.contenders import Contender
from benchmarks.figures import milliseconds
from benchmarks.stage import WARM_UP_JOBS, Stage, staged
from benchmarks.workloads.snapshot import held_snapshot
from benchmarks.workloads.workload import Outcome, Size, Workload

BEATS = 100_000  # of six days, if a worker beats every 5 s
LONE_JOBS, LONE_PER_SECOND = 200, 60
LIGHT_SECONDS, LIGHT_PER_SECOND = 10, 100
HELD_KIND = "bench.urgent"
# As a worker's control thread does, each in a transaction of its own.
BEAT = """DO $$
DECLARE
    v_worker uuid := (SELECT id FROM workers);
BEGIN
    SET synchronous_commit = off;
    FOR n IN 1..%d LOOP
        PERFORM beat_v1(v_worker, CASE n & 1 WHEN 0 THEN 'idle' ELSE 'running' END, NULL, NULL, NULL);
        COMMIT;
    END LOOP;
END $$"""
# Of the tables that a worker says in what it does.
BEATEN = "SELECT coalesce(sum(n_tup_upd), 0) FROM pg_stat_user_tables WHERE relname IN ('beats', 'workers')"


def _w4c(cluster: Cluster, contender: Contender, size: Size) -> Outcome:
    beats, lone = size.jobs(BEATS), size.jobs(LONE_JOBS, 50)
    light = int(size.span(LIGHT_SECONDS, 2) * LIGHT_PER_SECOND)
    with staged(cluster, contender) as stage, held_snapshot(stage), stage.connect() as connection:
        connection.execute("SET synchronous_commit = off")  # not the disk is measured here
        connection.execute("SELECT pause_kind_v1(%s, 'the benchmark holds it')", (HELD_KIND,))
        stage.start_worker()
        stage.warm_up()
        first = _insert_ms(connection)
        told = [_paced(stage, 1, lone, LONE_PER_SECOND)]
        before, began = _beaten(connection), time.monotonic()
        told.append(_paced(stage, lone + 1, light, LIGHT_PER_SECOND))
        a_second = (_beaten(connection) - before) / (time.monotonic() - began)
        connection.execute((BEAT % beats).encode())
        last = _insert_ms(connection)
        told.append(_paced(stage, lone + light + 1, lone, LONE_PER_SECOND))
        connection.execute("DELETE FROM jobs WHERE kind = %s", (HELD_KIND,))
        stage.keeps_up(WARM_UP_JOBS + 2 * lone + light)
        recorded = stage.end_workers()
    waits = [recordings.delays(recorded, each) for each in told]
    figures = {
        "insert_first_ms": first,
        "insert_last_ms": last,
        "p50_first_ms": milliseconds(waits[0])["p50_ms"],
        "p50_last_ms": milliseconds(waits[-1])["p50_ms"],
        "beats_a_second": a_second,
    }
    return Outcome(figures, recordings.check_once(recorded, 2 * lone + light))


def _paced(stage: Stage, first: int, count: int, rate: int) -> list[tuple[int, float]]:
    committed: list[tuple[int, float]] = stage.enqueue({"mode": "paced", "first": first, "count": count, "rate": rate})[
        "committed"
    ]
    return committed


def _insert_ms(connection: psycopg.Connection[Any], count: int = 200) -> float:
    """The median of one-row INSERTs, each committed, of a kind that is paused."""
    found = []
    for _ in range(count):
        began = time.perf_counter()
        connection.execute("INSERT INTO jobs (kind) VALUES (%s)", (HELD_KIND,))
        found.append(time.perf_counter() - began)
    return milliseconds(found)["p50_ms"]


def _beaten(connection: psycopg.Connection[Any]) -> float:
    time.sleep(1.2)  # a session tells its figures once a second
    row = connection.execute(BEATEN).fetchone()
    return float(row[0]) if row else 0.0


W4C = Workload(
    "w4c",
    f"W4c {BEATS:,} beats behind a held snapshot",
    "the snapshot held: one-row INSERTs, and COMMIT answered → handler started, before and after"
    f" {BEATS:,} beats of the worker; and how often it beats while it runs {LIGHT_PER_SECOND} jobs a second",
    _w4c,
    contenders=("ours",),
    columns={
        "insert_first_ms": "INSERT p50 before, ms",
        "insert_last_ms": "after, ms",
        "p50_first_ms": "job p50 before, ms",
        "p50_last_ms": "after, ms",
        "beats_a_second": "beats a second under load",
    },
    figure="insert_last_ms",
    less_is_better=True,
    rounds=1,
)
