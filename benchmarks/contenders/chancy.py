"""Chancy."""

from __future__ import annotations

from benchmarks.contenders.contender import Contender
from benchmarks.paths import PEERS_PYTHON

QUEUE = {"concurrency": 5000, "polling_interval": 1, "eager_polling": True}

CHANCY = Contender(
    name="chancy",
    title="Chancy, tuned",
    settings="AsyncExecutor, concurrency 5000, eager_polling, send_outgoing_interval 0.01, uvloop",
    runner=(PEERS_PYTHON, "-m", "benchmarks.runners.chancy"),
    work={"queue": QUEUE, "send_outgoing_interval": 0.01},
    unsettled="SELECT count(*) FROM chancy_jobs WHERE state NOT IN ('succeeded', 'failed')",
    expected=5_000,
    system="chancy",
)
