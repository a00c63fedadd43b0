"""What a scrape is told of a database that is away while a job runs, and of attempts that end with their worker."""

from __future__ import annotations

import os
import re
import signal
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from conftest import eventually

MOST = 9_223_372_036_854_775_807
ENDED = re.compile(
    r'^(shithub_worker_jobs_processed|shithubd_leases_returned)_total\{kind="(.*)",outcome="(.*)"\} (\S+)$'
)


def readyz(worker):
    try:
        with urllib.request.urlopen(f"{worker.metrics_url}/readyz") as answer:
            return answer.status, answer.read().decode().strip()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode().strip()


@contextmanager
def gone(database):
    database.query("CREATE TABLE any_commit ()")  # a lease isn't waited for: this one's commit is, and so it survives
    database.server.stop("immediate")
    try:
        yield
    finally:
        database.server.start()


@contextmanager
def frozen(database):
    """It acknowledges what it is sent, and says nothing."""
    root = int((Path(database.server.directory) / "data/postmaster.pid").read_text().splitlines()[0])
    children = (Path(f"/proc/{root}/task/{root}/children")).read_text().split()
    pids = [root, *map(int, children)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


@contextmanager
def refusing(database):
    with psycopg.connect(database.server.url("postgres"), autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{database.name}" ALLOW_CONNECTIONS false')
        connection.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = %s", (database.name,)
        )
        try:
            yield
        finally:
            connection.execute(f'ALTER DATABASE "{database.name}" ALLOW_CONNECTIONS true')


@pytest.mark.parametrize("fault", [gone, frozen, refusing])
def test_a_worker_inside_a_job_tells_that_its_database_went_away_and_that_it_is_back(
    database, start_worker, door, fault
):
    database.query(
        "INSERT INTO jobs (kind, payload) VALUES ('test.waits', jsonb_build_object('door', %s::text))", door.path
    )
    worker = start_worker("--metrics", "127.0.0.1:0", "--kind", "test.waits")
    eventually(lambda: readyz(worker) == (200, "running"), "it runs")
    assert worker.metric("shithub_worker_db_up") == 1
    before = worker.metric('shithub_worker_db_reconnects_total{thread="control"}')
    with fault(database):
        eventually(lambda: readyz(worker) == (503, "reconnecting"), "not ready")
        scrape = worker.metrics()
        assert "\nshithub_worker_db_up 0.0\n" in scrape
        assert '\nshithub_worker_state{state="reconnecting"} 1.0\n' in scrape
        assert '\nshithub_worker_in_flight{kind="test.waits"} 1.0\n' in scrape
        assert "\nshithubd_queue_scrape_success 0.0\n" in scrape
    eventually(lambda: worker.metric("shithub_worker_db_up") == 1, "up again")
    assert readyz(worker) == (200, "running"), "while the job still runs"
    assert worker.metric('shithub_worker_db_reconnects_total{thread="control"}') > before
    eventually(lambda: database.query("SELECT 1 FROM beats WHERE state = 'running'"), "the database is told the same")
    door.open()
    eventually(lambda: database.query("SELECT 1 FROM job_history WHERE outcome = 'ok'"), "the job is done")
    assert worker.terminate() == 0
