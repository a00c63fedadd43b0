"""A worker behind somebody's lock says so and names the session. It never says that the database is away, because it is
not."""

from __future__ import annotations

import pytest
from conftest import eventually
from locked_tables import somebody
from rows import add_job
from test_metrics import get

METRICS = ("--metrics", "127.0.0.1:0")


def gone(database, job):
    eventually(lambda: database.query("SELECT FROM jobs WHERE id = %s", job) == [], "the end of the job")


@pytest.mark.parametrize("table", ["jobs", "workers"])
def test_a_worker_behind_a_lock_names_it_and_is_not_ready_until_the_lock_ends(database, start_worker, table):
    worker = start_worker(*METRICS)
    with somebody(database, f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE") as pid:
        worker.wait_for(
            f"waiting for a lock: pid {pid} (postgres, somebody, 127.0.0.1) holds a lock on {table}, idle in"
        )
        eventually(lambda: get(worker, "/readyz") == (503, b"pausing\n"), "not ready")
        eventually(lambda: worker.metric('shithub_worker_state{state="pausing"}') == 1, "pausing")
        assert worker.metric("shithub_worker_db_up") == 1
        for thread in ("main", "control"):
            assert worker.metric(f'shithub_worker_db_reconnects_total{{thread="{thread}"}}') == 0
    gone(database, add_job(database, "test.ok"))
    eventually(lambda: get(worker, "/readyz")[0] == 200, "ready again")
    with somebody(database, f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"):
        assert worker.terminate() == 0  # although the lock stays
    assert "the database is away" not in worker.log
    assert "connection lost" not in worker.log


@pytest.mark.parametrize("table", ["workers", "holds"])
def test_a_worker_behind_a_lock_still_beats(database, start_worker, table):
    """Even if it can't look at the holds. So nobody counts it as dead."""
    start_worker()
    with somebody(database, f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"):
        before = database.value("SELECT beat_at FROM beats")
        eventually(lambda: database.value("SELECT beat_at FROM beats") > before, "a beat while the lock stands")


def test_a_worker_that_starts_behind_a_lock_names_it_and_starts_when_the_lock_ends(database, start_worker):
    with somebody(database, "LOCK TABLE holds IN ACCESS EXCLUSIVE MODE") as pid:
        worker = start_worker(ready=False)
        worker.wait_for(f"pid {pid} (postgres, somebody, 127.0.0.1) holds a lock on holds")
    worker.wait_for(" ready\n")
    assert worker.terminate() == 0


def test_a_held_worker_waits_for_no_lock(database, start_worker):
    """An operator who drains the fleet to work on the table locks it then."""
    database.query("SELECT drain_v1('fleet', '')")
    worker = start_worker(*METRICS, "--poll-interval", "0.1")
    polled = 'shithub_worker_claims_total{result="empty"}'
    with somebody(database, "LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"):
        before = worker.metric(polled)
        eventually(lambda: worker.metric(polled) > before + 2, "looks at the queue while the lock stands")
        assert get(worker, "/readyz") == (200, b"held\n")
    assert worker.terminate() == 0
    assert "waiting for a lock" not in worker.log
