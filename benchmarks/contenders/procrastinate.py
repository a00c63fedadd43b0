"""Procrastinate."""

from __future__ import annotations

from benchmarks.contenders.contender import Contender
from benchmarks.paths import PEERS_PYTHON

PROCRASTINATE = Contender(
    name="procrastinate",
    title="Procrastinate, tuned",
    settings="concurrency 20, a pool of 22 connections, delete_jobs always, uvloop",
    runner=(PEERS_PYTHON, "-m", "benchmarks.runners.procrastinate"),
    work={"concurrency": 20, "pool": 22, "delete_jobs": "always"},
    unsettled="SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')",
    expected=550,
    system="procrastinate",
)
