"""What an operator does in an incident, with a million and with ten million jobs queued, while a worker is at work."""

from __future__ import annotations

import time
import urllib.request

from benchmarks import recordings
from benchmarks.cluster import Cluster
from benchmarks.contenders import Contender, Ours
from benchmarks.figures import percentile
from benchmarks.processes import run, wait_until
from benchmarks.stage import Stage, staged
from benchmarks.workloads.workload import Outcome, Size, Workload

BACKLOGS = (1_000_000, 10_000_000)
DRAIN_SECONDS = 6
# The endpoint answers from a cache of 15 s: so many scrapes from the cache, and some that can't be.
CACHED_SCRAPES = 100
FRESH_SCRAPES = 2
CACHE_SECONDS = 16
# A kind with hardly any job, and the kind that floods the queue.
COMMANDS = {
    "status": ("status", "--json"),
    "pause_kind": ("pause-kind", "bench.urgent", "--reason", "benchmark"),
    "resume_kind": ("resume-kind", "bench.urgent"),
    "drain": ("drain", "--reason", "benchmark"),
    "resume": ("resume",),
}

HEADINGS = {
    "rate": "drain, jobs/s",
    "status": "`status`, ms",
    "pause_kind": "`pause-kind` of another kind, ms",
    "resume_kind": "`resume-kind`, ms",
    "drain": "`drain`, ms",
    "resume": "`resume`, ms",
    "scrape_fresh": "scrape that asks the database, ms",
    "scrape_cached_p99": "scrape from the cache, p99 ms",
    "hold_flood": "the flooding kind certainly held, ms",
}


def _incident(cluster: Cluster, contender: Contender, size: Size) -> Outcome:
    assert isinstance(contender, Ours)
    figures: dict[str, float] = {}
    checked = []
    seconds = size.span(DRAIN_SECONDS)
    for backlog, name in zip(BACKLOGS, ("1m", "10m"), strict=True):
        jobs = size.jobs(backlog)
        with staged(cluster, contender, jobs) as stage:
            metrics = _start(stage)
            stage.wait_for_progress(1, 60)
            time.sleep(seconds)
            for command, words in COMMANDS.items():
                began = time.perf_counter()
                run(contender.command(stage.url, *words))
                figures[f"{command}_{name}"] = (time.perf_counter() - began) * 1000
            figures |= {f"{way}_{name}": value for way, value in _scrapes(metrics, size).items()}
            figures[f"hold_flood_{name}"] = _hold_flood(stage)
            recorded = stage.end_workers()
            checked.append(recordings.check_once(recorded, jobs, stage.count_unsettled()))
            moments = recordings.starts(recorded)
            figures[f"rate_{name}"] = recordings.rate_between(moments, moments[0], moments[0] + seconds)
    # One more point for the growth of the cost with the backlog.
    costs = [1e6 / figures[f"rate_{name}"] for name in ("1m", "10m")]
    points = [(float(size.jobs(backlog)), cost) for backlog, cost in zip(BACKLOGS, costs, strict=True)]
    return Outcome(figures, "; ".join(checked), {"backlog": points})


def _hold_flood(stage: Stage) -> float:
    """Milliseconds until it is certain that nothing more of the flooding kind starts; marking its rows comes after."""
    with stage.connect() as connection:
        began = time.perf_counter()
        connection.execute("SELECT pause_kind_v1('bench.noop')")
        connection.execute("SELECT barrier_v1('kind', 'bench.noop')")
        return (time.perf_counter() - began) * 1000


def _start(stage: Stage) -> str:
    """A worker whose endpoint is known; its URL."""
    stage.start_worker()

    def address() -> str:
        lines = [line for line in stage.log.read_text().splitlines() if "metrics on http://" in line]
        return lines[-1].rpartition("metrics on ")[2].strip() if lines else ""

    wait_until(address, 60, "the worker to tell where its metrics are")
    return address() + "/metrics"


def _scrapes(url: str, size: Size) -> dict[str, float]:
    """Milliseconds of a scrape that asks the database, and p99 of those from the cache."""
    fresh: list[float] = []
    for _ in range(FRESH_SCRAPES if size.seconds >= 1 else 1):
        time.sleep(CACHE_SECONDS if fresh else 0)
        fresh.append(_scrape(url))
    cached = [_scrape(url) for _ in range(CACHED_SCRAPES)]
    return {"scrape_fresh": max(fresh) * 1000, "scrape_cached_p99": percentile(cached, 0.99) * 1000}


def _scrape(url: str) -> float:
    began = time.perf_counter()
    with urllib.request.urlopen(url, timeout=30) as answer:
        answer.read()
    return time.perf_counter() - began


INCIDENT = Workload(
    "incident",
    "In an incident",
    "1,000,000 and 10,000,000 jobs queued, a worker at work: its rate, then each command as a process of its own, and"
    " the scrape of /metrics, once asking the database (the worst of two) and from its cache (p99 of 100); ms",
    _incident,
    contenders=("ours",),
    columns={
        f"{name}_{size}": f"{heading}, {words} queued"
        for size, words in (("1m", "1,000,000"), ("10m", "10,000,000"))
        for name, heading in HEADINGS.items()
    },
    rounds=1,
)
