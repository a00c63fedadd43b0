"""A worker whose steps are slow does not lease its jobs again and again: the slowness is part of the test."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager

import pytest
from conftest import WorkerProcess, eventually, new_database

JOBS = 250
# Updates of a job's row: 2.1 on a quiet machine, 3.1 on a loaded one. With a look at each old lease there are 5.1.
MOST_UPDATES = 4


@pytest.fixture
def slow_worker(server, tmp_path):
    """Starts a worker in a database of its own, with this many jobs, and removes all of it after the test."""
    with ExitStack() as stack:

        def start(prefetch):
            database = stack.enter_context(contextmanager(new_database)(server))
            notes = tmp_path / prefetch
            database.query(
                "INSERT INTO jobs (kind, payload) SELECT 'stalls.marks', %s::jsonb FROM generate_series(1, %s)",
                json.dumps({"path": str(notes)}),
                JOBS,
            )
            options = ("--handlers", "stalls:registry", "--metrics", "off", "--prefetch", prefetch, "--until-empty")
            worker = WorkerProcess(database, tmp_path, *options, env={"STALL_CHANCE": "0.005"})
            stack.callback(worker.end)
            return worker, database, notes

        yield start


def test_a_worker_that_often_stands_still_updates_each_row_only_a_few_times(slow_worker):
    # At the same time, because the workers stand still most of the time.
    for worker, database, notes in [slow_worker(prefetch) for prefetch in ("0.1", "3600")]:
        assert worker.wait() == 0
        counted = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'jobs'"
        updates = eventually(lambda: (n := database.value(counted)) >= JOBS and n, "the server's count")  # noqa: B023
        assert len(notes.read_text().splitlines()) == JOBS
        assert updates <= MOST_UPDATES * JOBS
