"""Graphile Worker: with the settings of its own performance test, with the fastest found here, with its defaults."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.contenders.contender import Contender
from benchmarks.paths import NODE, RUNNERS

CONCURRENCY = 24


def _tuned(local_queue: int) -> dict[str, Any]:
    return {
        "concurrentJobs": CONCURRENCY,
        "maxPoolSize": CONCURRENCY + 1,
        "localQueue": {"size": local_queue},
        "completeJobBatchDelay": 0,
        "failJobBatchDelay": 0,
    }


GRAPHILE = Contender(
    name="graphile",
    title="Graphile Worker, tuned",
    settings=f"concurrentJobs {CONCURRENCY}, maxPoolSize {CONCURRENCY + 1}, localQueue.size 500, "
    "completeJobBatchDelay 0, failJobBatchDelay 0: as in its own performance test, without its refetchDelay",
    runner=(NODE, RUNNERS / "graphile.mjs"),
    work=_tuned(500),
    unsettled="SELECT count(*) FROM graphile_worker._private_jobs",
    churn=(
        "UPDATE graphile_worker._private_jobs SET attempts = attempts + 1, locked_by = 'pool', locked_at = now()",
        "DELETE FROM graphile_worker._private_jobs",
    ),
    expected=34_000,
    may_forget=True,
    system="graphile",
)
# Larger ones than 2,000, and more at once than 24, were no faster here.
GRAPHILE_LARGE = replace(
    GRAPHILE,
    name="graphile-large",
    title="Graphile Worker, tuned, local queue 2,000",
    settings="as above, with localQueue.size 2000",
    work=_tuned(2000),
    expected=45_000,
)
GRAPHILE_DEFAULTS = replace(
    GRAPHILE,
    name="graphile-defaults",
    title="Graphile Worker, defaults",
    settings="defaults",
    work={},
    one_at_a_time=True,
    expected=1_450,
)
