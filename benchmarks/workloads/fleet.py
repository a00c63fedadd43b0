"""What idle workers cost, and how fast one starts."""

from __future__ import annotations

import socket
import statistics
import subprocess
import time
from collections.abc import Sequence

from benchmarks.cluster import Cluster
from benchmarks.contenders import Contender, Ours
from benchmarks.processes import (
    BenchmarkError,
    cpu_seconds,
    end,
    proportional_bytes,
    resident_bytes,
    run,
    wait_until,
)
from benchmarks.stage import Stage, staged
from benchmarks.workloads.workload import Outcome, Size, Workload

WORKERS = 100
MIB = 2**20
# As many workers start at once as a host would hardly start; more only wait for the processors.
AT_ONCE = 10


def _fleet(cluster: Cluster, contender: Contender, size: Size) -> Outcome:
    assert isinstance(contender, Ours)
    figures: dict[str, float] = {}
    with cluster.without_autovacuum(), staged(cluster, contender) as stage:  # whose transactions would be counted too
        one = [_idle_worker(stage, contender)]
        _wait_for_beats(stage, 1)
        figures |= {f"one_{name}": value for name, value in _idle_cost(stage, one, size.span(60, 5)).items()}
        figures["one_rss_mib"] = resident_bytes(one[0].pid) / MIB
        workers, fleet = one, size.jobs(WORKERS, 5)
        while len(workers) < fleet:
            workers += [_idle_worker(stage, contender) for _ in range(min(AT_ONCE, fleet - len(workers)))]
            _wait_for_beats(stage, len(workers))
        figures |= {f"fleet_{name}": value for name, value in _idle_cost(stage, workers, size.span(20, 5)).items()}
        figures["fleet_pss_mib"] = sum(proportional_bytes(worker.pid) for worker in workers) / MIB
        figures["fleet_workers"] = len(workers)
        with stage.connect() as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            ).fetchone()
        figures["fleet_connections"] = float(row[0] - 1) if row else 0.0
    return Outcome(figures)


def _idle_worker(stage: Stage, contender: Ours) -> subprocess.Popen[bytes]:
    """As a unit runs it: the shipped handlers, no recorder; each with a port for its metrics."""
    return stage.start(contender.command(stage.url, "run", "--metrics", "127.0.0.1:0"), recorded=False)


def _wait_for_beats(stage: Stage, count: int) -> None:
    with stage.connect() as connection:
        query = "SELECT count(*) FROM beats WHERE state <> 'starting'"
        wait_until(lambda: (connection.execute(query).fetchone() or (0,))[0] >= count, 120, f"{count} workers", 0.1)


def _idle_cost(stage: Stage, workers: Sequence[subprocess.Popen[bytes]], seconds: float) -> dict[str, float]:
    """CPU in percent of one core, of the workers and of the server, and transactions a second."""

    def now() -> tuple[float, float, float, float]:
        with stage.cluster.connect() as connection:
            row = connection.execute(
                "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s", (stage.database,)
            ).fetchone()
        busy = sum(cpu_seconds(worker.pid) for worker in workers)
        return time.monotonic(), busy, stage.cluster.cpu_seconds(), float(row[0]) if row else 0.0

    time.sleep(2)  # a session tells its transactions a second late, and those of the start must not count
    before = now()
    time.sleep(seconds)
    took, worker, server, transactions = (b - a for a, b in zip(before, now(), strict=True))
    return {
        "worker_cpu_percent": 100 * worker / took,
        "server_cpu_percent": 100 * server / took,
        "queries": transactions / took,
    }


def _startup(cluster: Cluster, contender: Contender, size: Size) -> Outcome:
    assert isinstance(contender, Ours)
    times = max(3, int(size.span(10)))
    with staged(cluster, contender) as stage:
        ready = [_time_to_ready(stage, contender) for _ in range(times)]
        begun = time.perf_counter()
        for _ in range(times):
            run(contender.command(stage.url, "--help"))
        help_seconds = (time.perf_counter() - begun) / times
    figures = {"ready_ms": statistics.median(ready) * 1000, "ready_worst_ms": max(ready) * 1000}
    return Outcome(figures | {"help_ms": help_seconds * 1000})


def _time_to_ready(stage: Stage, contender: Ours) -> float:
    """From exec to the READY=1 that systemd waits for."""
    path = stage.directory / "notify"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.settimeout(30)
        command = contender.command(stage.url, "run", "--metrics", "127.0.0.1:0", NOTIFY_SOCKET=str(path))
        began = time.perf_counter()
        worker = stage.start(command, recorded=False)
        try:
            while b"READY=1" not in notify.recv(4096):
                pass
        except TimeoutError:
            raise BenchmarkError("a worker wasn't ready after 30 s") from None
        took = time.perf_counter() - began
        end(worker)
        stage.workers.remove(worker)
    return took


FLEET = Workload(
    "fleet",
    "An idle worker, and an idle fleet of 100",
    "nothing to do, for 60 s and for 20 s; percent of one core, transactions a second of all together, memory",
    _fleet,
    contenders=("ours",),
    columns={
        "one_worker_cpu_percent": "one worker, % of a core",
        "one_server_cpu_percent": "one worker: the server, % of a core",
        "one_queries": "one worker, transactions/s",
        "one_rss_mib": "one worker, RSS MiB",
        "fleet_workers": "the fleet, workers",
        "fleet_worker_cpu_percent": "the fleet, % of a core",
        "fleet_server_cpu_percent": "the fleet: the server, % of a core",
        "fleet_queries": "the fleet, transactions/s",
        "fleet_pss_mib": "the fleet, PSS MiB",
        "fleet_connections": "the fleet, connections",
    },
    rounds=1,
)
STARTUP = Workload(
    "startup",
    "Start-up",
    "from exec to READY=1, median and worst of ten; and `shithubd-worker --help`; ms",
    _startup,
    contenders=("ours",),
    columns={"ready_ms": "READY, ms", "ready_worst_ms": "READY, worst, ms", "help_ms": "`--help`, ms"},
    rounds=1,
)
