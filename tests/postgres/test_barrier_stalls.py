"""The barrier holds even if the worker stands still between any two steps from the lease to the handler's first
line."""

from __future__ import annotations

import os
from bisect import bisect_left

import pytest
from conftest import dice, eventually

from shithubd_worker.database.connection import connector
from shithubd_worker.database.operations import Operations, Scope

BARRIERS = int(os.environ.get("STALL_BARRIERS", "21"))
SCOPE = Scope("kind", "stalls.marks")


def starts(path):
    """The times at which the jobs began, in order."""
    if not path.exists():
        return []
    return sorted(float(line.split()[1]) for line in path.read_text().splitlines())


@pytest.mark.drawn
@pytest.mark.timeout(900 + 10 * BARRIERS)
def test_no_job_starts_after_a_barrier_if_its_worker_stands_still_at_any_step(database, start_worker, tmp_path):
    notes = tmp_path / "starts"
    feed = (
        "INSERT INTO jobs (kind, payload) SELECT 'stalls.marks', jsonb_build_object('path', %s::text)"
        " FROM generate_series(1, 200)"
    )
    for number in (1, 2):
        start_worker(handlers="stalls:registry", env={"STALL_SEED": str(dice(number).randrange(1_000_000))})
    operator = Operations(connector(database.url, "operator"), database.schema)
    windows = []
    database.query(feed, str(notes))
    for _ in range(BARRIERS):
        seen = len(starts(notes))
        eventually(lambda seen=seen: len(starts(notes)) > seen, "a start between two barriers")
        if database.value("SELECT count(*) FROM (SELECT FROM jobs WHERE state = 'queued' LIMIT 100) q") < 100:
            database.query(feed, str(notes))
        operator.pause_kind(SCOPE.target, None, None)
        assert operator.barrier(SCOPE, None, lambda text: None)
        began = operator.now().timestamp()
        # Each leased job is given back by now, or runs already. So no start can follow any more.
        eventually(lambda: not database.query("SELECT 1 FROM jobs WHERE state = 'processing'"), "all put down")
        windows.append((began, operator.now().timestamp()))
        operator.resume_kind(SCOPE.target, None)
        list(operator.unpause(SCOPE.target))
    operator.close()
    began = starts(notes)
    late = [
        began[at]
        for at, end in ((bisect_left(began, start), end) for start, end in windows)
        if at < len(began) and began[at] <= end
    ]
    assert late == []
