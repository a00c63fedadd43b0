"""W6: enqueueing. One row a commit from one client, in bulk, and from 64 clients at once.

Ours is measured beside "plain": the same INSERT into a table of the same columns, constraints and indexes, in the
same database, but without the trigger. Once with no worker; once with an idle one that each INSERT wakes (the kind is
paused, so it stays idle: the worst case for wake-ups); once with a busy one that runs what is enqueued. The 64 clients
are pgbench's.
"""

from __future__ import annotations

import re
import statistics

from benchmarks.cluster import Cluster, pgbench
from benchmarks.contenders import Contender
from benchmarks.processes import BenchmarkError, Command, run
from benchmarks.stage import Stage, staged
from benchmarks.workloads.workload import Outcome, Size, Workload

BULK_ROWS = 10_000
CLIENTS = 64
TURNS = 2
PLAIN = "plain_jobs"
HELD_KIND = "bench.urgent"
KIND = "bench.noop"


def _w6(cluster: Cluster, contender: Contender, size: Size) -> Outcome:
    seconds = size.span(2, 0.5)
    with staged(cluster, contender) as stage:
        single = stage.enqueue({"mode": "single", "first": 1, "seconds": seconds})
        bulk = stage.enqueue({"mode": "bulk", "first": single["last"] + 1, "seconds": seconds, "size": BULK_ROWS})
        if stage.count_unsettled() != bulk["last"]:
            raise BenchmarkError(f"{bulk['last']} jobs were enqueued, but {stage.count_unsettled()} are there")
        figures = {name: told["enqueued"] / told["seconds"] for name, told in (("single", single), ("bulk", bulk))}
        return Outcome(figures, f"all {bulk['last']} are in the table")


def _w6_ours(cluster: Cluster, contender: Contender, size: Size) -> Outcome:
    figures: dict[str, float] = {}
    for worker in ("alone", "idle", "busy"):
        with staged(cluster, contender) as stage:
            with stage.connect() as connection:
                connection.execute(f"CREATE TABLE {PLAIN} (LIKE jobs INCLUDING ALL)")
                connection.execute("SELECT pause_kind_v1(%s, 'the benchmark holds it')", (HELD_KIND,))
            if worker != "alone":
                stage.start_worker()
                stage.warm_up()
            kind = HELD_KIND if worker == "idle" else KIND
            for way, rates in _beside_plain(stage, kind, size.span(2, 0.5)).items():
                figures |= {f"{name}_{way}_{worker}": rate for name, rate in rates.items()}
                figures[f"ratio_{way}_{worker}"] = rates["ours"] / rates["plain"]
            if worker != "alone":
                stage.end_workers()
    return Outcome(figures)


def _beside_plain(stage: Stage, kind: str, seconds: float) -> dict[str, dict[str, float]]:
    """Rows a second: single, in bulk and from 64 clients; in turns, so that what else the machine does hits both."""
    tables = {"plain": PLAIN, "ours": "jobs"}
    plan = {"kind": kind, "seconds": seconds, "first": 1}
    found: dict[str, dict[str, float]] = {}
    for way in ("single", "bulk", "64"):
        turns: dict[str, list[float]] = {name: [] for name in tables}
        for _ in range(TURNS):
            for name, table in tables.items():
                if way == "64":
                    turns[name].append(_many_clients(stage, table, kind, seconds))
                else:
                    told = stage.enqueue(plan | {"mode": way, "table": table, "size": BULK_ROWS})
                    turns[name].append(told["enqueued"] / told["seconds"])
        found[way] = {name: statistics.mean(rates) for name, rates in turns.items()}
    return found


def _many_clients(stage: Stage, table: str, kind: str, seconds: float) -> float:
    script = stage.directory / "enqueue.sql"
    script.write_text(f"INSERT INTO {table} (kind, payload) VALUES ('{kind}', '{{\"n\": 1}}');\n")
    options = ["-n", "-M", "prepared", "-c", CLIENTS, "-j", 2, "-T", max(1, round(seconds)), "-f", script]
    output = run(Command([pgbench(), *(str(option) for option in options), stage.url]))
    found = re.search(r"tps = ([0-9.]+)", output)
    if not found:
        raise BenchmarkError(f"pgbench told no rate: {output[-200:]}")
    return float(found[1])


W6 = Workload(
    "w6",
    "W6 enqueue",
    "rows a second from one client: one row a commit, and 10,000 rows a call",
    _w6,
    contenders=("ours", "graphile", "pgboss", "pgqueuer", "chancy", "procrastinate"),
    columns={"single": "single rows/s", "bulk": "in bulk, rows/s"},
    figure="single",
)
W6_PLAIN = Workload(
    "w6-plain",
    "W6 enqueue beside plain INSERTs",
    "ours / the same INSERT into the same table without the trigger: one client, in bulk, 64 clients",
    _w6_ours,
    contenders=("ours",),
    columns={
        f"{name}_{way}_{worker}": heading
        for worker, where in (("alone", "no worker"), ("idle", "an idle worker"), ("busy", "a busy worker"))
        for way, how in (("single", "one client"), ("bulk", "in bulk"), ("64", "64 clients"))
        for name, heading in (
            ("plain", f"{where}, {how}: plain rows/s"),
            ("ours", f"{where}, {how}: ours rows/s"),
            ("ratio", f"{where}, {how}: ours ÷ plain"),
        )
    },
)
