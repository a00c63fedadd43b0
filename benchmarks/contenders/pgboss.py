"""pg-boss."""

from __future__ import annotations

from benchmarks.contenders.contender import Contender
from benchmarks.paths import NODE, RUNNERS

WORK = {"batchSize": 1000, "localConcurrency": 2, "burstWhenBatchFull": True, "pollingIntervalSeconds": 0.5}

PGBOSS = Contender(
    name="pgboss",
    title="pg-boss, tuned",
    settings=", ".join(f"{name} {value}" for name, value in WORK.items()) + ", LISTEN/NOTIFY on",
    runner=(NODE, RUNNERS / "pgboss.mjs"),
    work={"boss": {"useListenNotify": True}, "work": WORK, "queues": ["noop", "urgent"]},
    unsettled="SELECT count(*) FROM pgboss.job WHERE state < 'completed'",
    expected=24_000,
    system="pgboss",
)
