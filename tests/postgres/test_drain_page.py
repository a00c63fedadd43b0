"""The drain page's own statements, read from the page and run with psql, at every stage of a job's life."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import psycopg
import pytest
from conftest import eventually

PAGE = Path(__file__).with_name("drain_page.sql").read_text()
STATEMENTS = {
    title: statement.strip()
    for title, statement in (
        part.split("\n", 1) for part in PAGE.partition("\n\n")[2].removeprefix("-- ").split("\n-- ")
    )
}


@pytest.fixture
def psql(any_database):
    """Run a statement of the page as the page says: psql -c. The login is an operator, with no more rights."""
    bindir = any_database.server.bindir
    url = psycopg.conninfo.make_conninfo(any_database.url, options="-c role=shithub_operator")

    def run(name, job=None):
        statement = STATEMENTS[name].replace("<job-id>", str(job))
        done = subprocess.run(
            [str(bindir / "psql"), "-X", "-A", "-t", url, "-c", statement],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    return run


def enqueue(database, kind, **members):
    return database.value("INSERT INTO jobs (kind, payload) VALUES (%s, %s) RETURNING id", kind, json.dumps(members))


def test_the_page_has_its_five_statements():
    assert len(STATEMENTS) == 5


def test_confirm_drain_counts_by_state(any_database, psql):
    any_database.query("INSERT INTO jobs (kind) VALUES ('a'), ('a')")
    any_database.query(
        "INSERT INTO jobs (kind, state, leased_by, leased_at) VALUES ('a', 'processing', 'web1:1', now())"
    )
    assert sorted(psql("confirm drain")) == ["processing|1", "queued|2"]
    (row,) = psql("find the rogue worker")[:1]
    assert row.startswith("3|a|web1:1|")


def test_pausing_by_update_covers_the_rows_of_that_moment_and_flipping_back_resumes_them(any_database, psql):
    any_database.query("INSERT INTO jobs (kind) VALUES ('search.reindex'), ('other')")
    assert psql("drain only one job kind") == ["UPDATE", "1"]
    any_database.query("INSERT INTO jobs (kind) VALUES ('search.reindex')")
    states = "SELECT kind, state FROM jobs ORDER BY id"
    assert any_database.query(states) == [
        ("search.reindex", "paused"),
        ("other", "queued"),
        ("search.reindex", "queued"),
    ]
    assert psql("resume by flipping back") == ["UPDATE", "1"]
    assert {state for _, state in any_database.query(states)} == {"queued"}


@pytest.mark.parametrize("state", ["queued", "paused", "failed", "processing"])
def test_a_forced_release_works_on_a_row_in_any_state(any_database, psql, state):
    owner = ("web1:1", "now()") if state == "processing" else (None, None)
    any_database.query(
        "INSERT INTO jobs (kind, state, leased_by, leased_at, lease_token, attempts)"
        " VALUES ('a', %s, %s, %s::timestamptz, gen_random_uuid(), 99)",
        state,
        owner[0],
        owner[1] and "2026-01-01",
    )
    assert psql("force re-lease of a stuck job", 1) == ["UPDATE", "1"]
    assert any_database.query("SELECT state, leased_by, leased_at FROM jobs") == [("queued", None, None)]


def psql_on(database, name, job):
    database.query(STATEMENTS[name].replace("<job-id>", str(job)))


def test_a_forced_release_of_a_running_job_fences_its_owner_off(database, start_worker, door):
    job = enqueue(database, "test.waits", door=door.path)
    first = start_worker("--metrics", "127.0.0.1:0")
    eventually(lambda: database.query("SELECT 1 FROM jobs WHERE state = 'processing'"), "running")
    token = database.value("SELECT lease_token FROM jobs")
    psql_on(database, "force re-lease of a stuck job", job)
    second = start_worker()
    eventually(
        lambda: database.query("SELECT 1 FROM jobs WHERE state = 'processing' AND lease_token <> %s", token), "again"
    )
    door.open()
    outcomes = "SELECT outcome, leased_by FROM job_history"
    eventually(lambda: len(database.query(outcomes)) == 2, "both ended")
    names = dict(database.query("SELECT pid, host || ':' || pid FROM workers"))
    assert set(database.query(outcomes)) == {("lease_lost", names[first.pid]), ("ok", names[second.pid])}
    fenced = 'shithub_worker_fenced_writes_total{kind="test.waits"}'
    eventually(lambda: first.metric(fenced) == 1, "counted")
    assert first.terminate() == 0
    assert second.terminate() == 0


def test_a_pause_by_update_leaves_a_running_job_alone_and_is_no_hold(database, start_worker, door):
    job = enqueue(database, "test.waits", door=door.path)
    worker = start_worker()
    eventually(lambda: database.query("SELECT 1 FROM jobs WHERE state = 'processing'"), "running")
    waiting = enqueue(database, "test.waits", door=door.path)
    database.query("UPDATE jobs SET state='paused' WHERE state='queued' AND kind='test.waits'")
    later = enqueue(database, "test.waits", door=door.path)
    door.open()
    eventually(lambda: database.value("SELECT count(*) FROM job_history WHERE outcome = 'ok'") == 2, "two ran")
    assert database.query("SELECT id, state FROM jobs") == [(waiting, "paused")]
    assert {row[0] for row in database.query("SELECT id FROM job_history")} == {job, later}
    assert worker.terminate() == 0
