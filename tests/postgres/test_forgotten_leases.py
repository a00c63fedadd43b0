"""A crash of the database may lose a lease, because no lease waits for the disk. The owner of such a lease stops."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psycopg
import pytest
from conftest import Database, WorkerProcess, eventually
from servers import Server

from shithubd_worker.database import schema


@pytest.fixture
def forgetful(server):
    """A server that writes only commits that somebody waits for, and a database in which nobody waits for beats."""
    quiet = ("bgwriter_lru_maxpages = 0", "autovacuum = off", "wal_level = minimal", "max_wal_senders = 0")
    own = Server(server.bindir, *quiet)
    try:
        with psycopg.connect(own.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE forgetful")
            connection.execute("ALTER DATABASE forgetful SET synchronous_commit = off")
        with psycopg.connect(own.url("forgetful"), autocommit=True) as connection:
            schema.migrate(connection, "public")
            connection.execute("CHECKPOINT")
        yield Database(own, "forgetful")
    finally:
        own.remove()


def crash(server):
    """The postmaster and all its processes end at once, and start again."""
    pid = int((server.directory / "data" / "postmaster.pid").read_text().split()[0])
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    for each in pids:
        os.kill(each, signal.SIGKILL)
    eventually(lambda: not any(Path(f"/proc/{each}").exists() for each in pids), "all of it is gone")
    server.start()


def test_the_owner_of_a_lease_lost_in_a_crash_stops_and_the_history_shows_it(forgetful, tmp_path, door):
    writer = forgetful.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'")
    os.kill(writer, signal.SIGSTOP)
    with forgetful.connect() as enqueuer:
        enqueuer.execute("SET synchronous_commit = on")
        (job,) = enqueuer.execute(
            "INSERT INTO jobs (kind, payload)"
            " VALUES ('test.notes_for_hours', jsonb_build_object('path', %s::text, 'door', %s::text)) RETURNING id",
            (str(tmp_path / "notes"), door.path),
        ).fetchone()

    def runs():
        notes = tmp_path / "notes"
        return len(notes.read_text().splitlines()) if notes.exists() else 0

    worker = WorkerProcess(forgetful, tmp_path, "--handlers", "sample_jobs:registry", "--metrics", "off")
    try:
        eventually(lambda: runs() == 1, "the job runs")
        crash(forgetful.server)
        lost = "SELECT leased_by LIKE '%%:' || %s FROM job_history WHERE id = %s AND outcome = 'lease_lost'"
        # This is long before its renewal would be due (after most of an hour), although its handler would wait for
        # ever.
        eventually(lambda: forgetful.query(lost, worker.pid, job) == [(True,)], "its owner gave up")
        eventually(lambda: runs() == 2, "it runs once more")
        door.open()
        ended = "SELECT outcome, attempts FROM job_history WHERE id = %s ORDER BY finished_at"
        both_first = [("lease_lost", 1), ("ok", 1)]  # the database no longer counts the attempt of the lost lease
        eventually(lambda: forgetful.query(ended, job) == both_first, "and comes to its end")
        assert worker.terminate() == 0
    finally:
        worker.end()
