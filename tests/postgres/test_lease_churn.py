"""However slow the worker's steps are, its jobs are not leased again and again: the slowness is part of the test."""

from __future__ import annotations

import json

import pytest
from conftest import eventually

JOBS = 250
MOST_UPDATES = 3  # of a job's row: its lease, and on the average not quite two more looks


@pytest.mark.parametrize("prefetch", ["0.1", "3600"])
def test_a_worker_that_stands_still_now_and_then_updates_each_row_a_few_times(
    database, start_worker, tmp_path, prefetch
):
    notes = tmp_path / "starts"
    database.query(
        "INSERT INTO jobs (kind, payload) SELECT 'stalls.marks', %s::jsonb FROM generate_series(1, %s)",
        json.dumps({"path": str(notes)}),
        JOBS,
    )
    worker = start_worker(
        *("--prefetch", prefetch, "--until-empty"),
        handlers="stalls:registry",
        ready=False,
        env={"STALL_CHANCE": "0.005"},
    )
    assert worker.wait() == 0
    counted = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'jobs'"
    updates = eventually(lambda: (n := database.value(counted)) >= JOBS and n, "the server's count")
    assert len(notes.read_text().splitlines()) == JOBS
    assert updates <= MOST_UPDATES * JOBS
