"""The line to the database stands still: all is acknowledged, nothing is answered. That costs no job an attempt."""

from __future__ import annotations

import math
import signal
import time
from contextlib import suppress

import psycopg
import pytest
from conftest import eventually
from servers import free_port
from torture.proxy import Proxy

from shithubd_worker.database.connection import connector
from shithubd_worker.database.handler_session import HandlerSession
from shithubd_worker.errors import Interrupted

TABLES = """
CREATE TABLE effects (job bigint);
CREATE TABLE slow_effects (job bigint);
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock_shared(99); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON slow_effects DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION wait();
"""
# The handlers' connections: those that wait for a lock in a settle or COMMIT, and those in a transaction of a handler.
THEIRS = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'shithubd-worker handler'"
WAITING = f"{THEIRS} AND wait_event_type = 'Lock'"
OPEN = f"{THEIRS} AND state = 'idle in transaction'"
ENQUEUE = "INSERT INTO jobs (kind, payload) VALUES (%s, jsonb_build_object('door', %s::text)) RETURNING id"


@pytest.fixture
def line(database):
    """The line between a worker and the database, and the URL that leads through it."""
    proxy = Proxy(database.server.port, free_port())
    proxy.url = database.url.replace(f":{database.server.port}/", f":{proxy.port}/")
    yield proxy
    proxy.end()


def history(database, job):
    return database.query("SELECT outcome, attempts FROM job_history WHERE id = %s ORDER BY finished_at", job)


def test_a_line_that_stands_still_beyond_the_lease_costs_a_transaction_no_attempt(
    database, start_worker, line, tmp_path
):
    """It may stand still in the settle, the COMMIT, the BEGIN or the ROLLBACK. There is one worker for each, at the
    same time."""
    database.query(TABLES)
    doors = {kind: tmp_path / kind for kind in ("line.settle", "line.commit", "line.begin", "line.rollback")}
    workers, jobs = [], {}
    with database.connect() as holder:
        holder.execute("SELECT pg_advisory_lock(99)")
        for kind, door in doors.items():
            url = {"SHITHUBD_WORKER_DATABASE_URL": line.url}
            workers.append(start_worker("--kind", kind, ready=False, handlers="line_jobs:registry", env=url))
            jobs[kind] = database.value(ENQUEUE, kind, str(door))
        eventually(lambda: len(database.query(OPEN)) == 2, "two are inside their transaction")
        leased = "SELECT 1 FROM jobs WHERE state = 'processing'"
        eventually(lambda: len(database.query(leased)) == 4, "all run")
        doors["line.commit"].touch()
        eventually(lambda: len(database.query(WAITING)) == 1, "one is in its COMMIT")
        line.hold()
        doors["line.settle"].touch()
        doors["line.begin"].touch()
        over = "SELECT count(*) FROM jobs WHERE state = 'processing' AND lease_expires_at < clock_timestamp()"
        eventually(lambda: database.value(over) == 4, "all leases are over")
        assert [worker.process.poll() for worker in workers] == [None] * 4
    doors["line.rollback"].touch()  # for the second run
    line.tell("flow")
    for job in jobs.values():
        eventually(lambda job=job: (*history(database, job),)[-1:] == (("ok", 1),), "it came to its end")
        # Released where the line stood still, or where a slow machine renewed too late. Never crashed.
        assert {outcome for outcome, _ in history(database, job)[:-1]} <= {"released"}
    effects = database.query("TABLE effects UNION ALL TABLE slow_effects")
    assert sorted(effects) == sorted((job,) for job in jobs.values())
    assert [worker.terminate() for worker in workers] == [0] * 4


def test_the_cancel_of_an_interrupted_call_waits_no_longer_than_a_call_may(line):
    # psycopg's own cancel waits for 5 s, and 5 s for the answer. The machine may stand still during one of the three.
    assert any(seconds_of_a_cancelled_call(line) < 4.5 for _ in range(3))


def seconds_of_a_cancelled_call(line):
    """How long a call takes that may take 1 s, is interrupted after half of it, and gets no answer to its cancel."""
    with connector(line.url, "handler", ours=False)() as connection:

        def interrupt(_number, _frame):
            raise Interrupted

        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            line.hold()
            began = time.monotonic()
            connection.answer_by = lambda: began + 1.0
            signal.setitimer(signal.ITIMER_REAL, 0.5)
            with pytest.raises(Interrupted):
                connection.execute("SELECT 1")
            took = time.monotonic() - began
            assert connection.broken
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            line.tell("flow")
    return took


def test_an_interrupted_call_is_cancelled_and_the_connection_stays_usable_if_the_server_answers(any_database):
    with connector(any_database.url, "handler", ours=False)() as connection:

        def interrupt(_number, _frame):
            raise Interrupted

        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            by = time.monotonic() + 60
            connection.answer_by = lambda: by
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(Interrupted):
                connection.execute("SELECT pg_sleep(3600)")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.fixture
def ledger(line, monkeypatch):
    """A worker's handlers' connection through the line. It waits for a shorter time, so that the tests are quick."""
    monkeypatch.setattr("shithubd_worker.database.handler_session.HANDLER_ANSWER_SECONDS", 0.3)
    connect = connector(line.url, "handler", ours=False, answer_seconds=0.3)
    made = HandlerSession(connect, "public")
    yield made
    made.close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("statement", ["SELECT 1", "BEGIN", "SELECT no_such_column"])
def test_the_cleanup_after_a_run_waits_only_for_a_short_time(line, ledger, statement):
    connection = ledger.lend(lambda: math.inf)
    with suppress(psycopg.Error):
        connection.execute(statement)
    del connection
    line.hold()
    ledger.tidy()
    assert not ledger.opened
    line.tell("flow")
    assert ledger.lend(lambda: math.inf).execute("SELECT 1").fetchone() == (1,)


@pytest.mark.timeout(60)
def test_a_connection_that_no_longer_answers_is_not_given_to_a_handler(line, ledger, monkeypatch):
    ledger.lend(lambda: math.inf).execute("SELECT 1")
    ledger.tidy()
    monkeypatch.setattr(
        "shithubd_worker.database.handler_session.HANDLER_FRESH_SECONDS", -1.0
    )  # as after a long idle time
    line.hold()
    with pytest.raises(psycopg.OperationalError):
        ledger.lend(lambda: math.inf)
    line.tell("flow")
    assert ledger.lend(lambda: math.inf).execute("SELECT 1").fetchone() == (1,)
