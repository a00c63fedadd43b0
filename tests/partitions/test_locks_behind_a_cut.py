"""A worker is cut off in the middle of its job.transaction(): the next run must not wait for its locks for long."""

from __future__ import annotations

from pathlib import Path

import pytest
from waiting import eventually

from partitions.network import why_not
from partitions.session import fleet
from partitions.trial import runs


def test_the_next_run_gets_the_locks_of_a_transaction_that_was_cut_off(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    with fleet(tmp_path, 3) as made:
        job = made.enqueue("commits")
        open_ = "SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE 'UPDATE ledger%%'"
        eventually(lambda: made.query(open_), "it has locked its row")
        made.network.cut(int(runs(made, job)[0]["worker"].removeprefix("web")), "both")
        eventually(lambda: len(begun(made.evidence, job)) == 2, "the next run begins", within=60)
        (made.evidence / f"{job}.door").touch()
        eventually(lambda: made.query("SELECT 1 FROM job_history WHERE outcome = 'ok'"), "it is done", within=60)
        assert made.query("SELECT effects FROM ledger") == [(1,)]


def begun(evidence: Path, job: int) -> list[str]:
    return [line for line in (evidence / f"{job}.runs").read_text().splitlines() if '"begin"' in line]
