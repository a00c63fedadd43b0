"""PgQueuer, tuned, and with the settings of its own benchmark."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.contenders.contender import Contender
from benchmarks.paths import PEERS_PYTHON

PGQUEUER = Contender(
    name="pgqueuer",
    title="PgQueuer, tuned",
    settings="batch_size 500, one consumer, asyncpg, uvloop",
    runner=(PEERS_PYTHON, "-m", "benchmarks.runners.pgqueuer"),
    work={"consumers": 1, "batch_size": 500},
    unsettled="SELECT count(*) FROM pgqueuer",
    expected=14_000,
    system="pgqueuer",
)
PGQUEUER_OWN = replace(
    PGQUEUER,
    name="pgqueuer-own",
    title="PgQueuer, its own benchmark's",
    settings="batch_size 10, five consumers in one process, asyncpg, uvloop",
    work={"consumers": 5, "batch_size": 10},
    expected=7_000,
)
