"""The machine and the versions: what a figure belongs to."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

from benchmarks.cluster import SETTINGS, Cluster
from benchmarks.paths import HERE, NODE, PEERS_PYTHON
from benchmarks.processes import BenchmarkError, Command, run

PEERS = ("procrastinate", "pgqueuer", "chancy", "asyncpg", "psycopg")


def describe(cluster: Cluster, checkout: Path) -> dict[str, str]:
    """By name, in the order of the report."""
    settings = ", ".join(f"{name} {value}" for name, value in SETTINGS.items())
    found = {
        "processor": _first("/proc/cpuinfo", "model name"),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "system": f"{_first('/etc/os-release', 'PRETTY_NAME')}, Linux {platform.release()}",
        "PostgreSQL": f"{cluster.version()}, defaults but {settings}, on the same machine, over the loopback",
        "Python": platform.python_version(),
        "shithubd-worker": f"{version('shithubd-worker')}{_commit(checkout)}",
        "psycopg (ours and the limit)": f"{version('psycopg')}, C implementation",
    }
    if NODE.exists():
        found["Node"] = run(Command([NODE, "--version"])).strip()
        for name in ("graphile-worker", "pg-boss"):
            script = f"console.log(require('./node_modules/{name}/package.json').version)"
            found[name] = run(Command([NODE, "-e", script], cwd=HERE)).strip()
    if PEERS_PYTHON.exists():
        script = f"from importlib.metadata import version\nprint(*(version(name) for name in {PEERS}))"
        versions = run(Command([PEERS_PYTHON, "-c", script])).split()
        found |= {name if name != "psycopg" else "psycopg (peers)": v for name, v in zip(PEERS, versions, strict=True)}
    return found


def _first(path: str, key: str) -> str:
    for line in Path(path).read_text().splitlines():
        name, separator, value = line.partition(":" if ":" in line else "=")
        if separator and name.strip() == key:
            return value.strip().strip('"')
    return "unknown"


def _commit(checkout: Path) -> str:
    try:
        return ", commit " + run(Command(["git", "rev-parse", "--short", "HEAD"], cwd=checkout)).strip()
    except BenchmarkError:
        return ""
