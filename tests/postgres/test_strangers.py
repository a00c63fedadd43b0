"""What a login without any right on the queue can do to it: it delays no lease and no barrier. See SECURITY.md."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress

import psycopg
import pytest
from conftest import Database, eventually
from servers import Server
from test_history import make_day, today
from test_wake_ups import ENQUEUE, Sleeper, fill, listening

from shithubd_worker.database import schema
from shithubd_worker.database.connection import connector
from shithubd_worker.database.operations import Operations, Scope
from shithubd_worker.database.queue_session import QueueSession

KEYS = range(7300, 7306)  # our one lock that remains, the numbers of our former ones, and those around them
# What PostgreSQL checks about a table that a statement names. The stranger has no right on any; can he still wait for
# their locks?
STATEMENTS = (
    "SELECT FROM {schema}.jobs FOR UPDATE",
    "INSERT INTO {schema}.jobs (kind) VALUES ('k')",
    "DELETE FROM {schema}.gate",
    "TRUNCATE {schema}.jobs",
    "LOCK TABLE {schema}.gate IN ACCESS EXCLUSIVE MODE",
    "LOCK TABLE {schema}.gate IN ROW SHARE MODE",
    "LOCK TABLE {schema}.gate IN ACCESS SHARE MODE",
    "COPY {schema}.jobs FROM STDIN",
    "ALTER TABLE {schema}.jobs ADD x int",
    "ALTER TABLE {schema}.gate RENAME TO x",
    "DROP TABLE {schema}.gate",
    "CREATE INDEX ON {schema}.jobs (id)",
    "CREATE POLICY p ON {schema}.jobs",
    "CREATE TEMP TABLE mine (LIKE {schema}.jobs)",
    "CREATE TEMP TABLE mine () INHERITS ({schema}.jobs)",
    "SELECT nextval('{schema}.jobs_id_seq')",
    "SELECT {schema}.ensure_history_v1(3000)",
    "SELECT {schema}.barrier_v1('fleet')",
    "SELECT {schema}.drain_v1('fleet')",
)
# PostgreSQL first takes these locks, and then checks the right.
LOCKING = (
    "CREATE RULE r AS ON INSERT TO {schema}.jobs DO NOTHING",
    "CREATE RULE r AS ON INSERT TO {schema}.gate DO NOTHING",
    "CREATE TRIGGER t AFTER INSERT ON {schema}.jobs EXECUTE FUNCTION {schema}.jobs_enqueued_v1()",
    "CREATE TEMP TABLE mine (id bigint REFERENCES {schema}.jobs)",
)


@contextmanager
def stranger(database):
    """A connection of a login that may only connect."""
    name = f"stranger_{database.name}"
    database.query(f"CREATE ROLE {name} LOGIN")
    try:
        with psycopg.connect(psycopg.conninfo.make_conninfo(database.url, user=name), autocommit=True) as connection:
            yield connection
    finally:
        database.query(f"DROP OWNED BY {name}; DROP ROLE {name}")


def keys(database):
    """The two numbers of each advisory lock that could be ours: every login can compute them."""
    return [(first, database.value("SELECT hashtext('public')")) for first in KEYS]


def barrier(database):
    operator = Operations(connector(database.url, "operator"), "public")
    operator.connection.execute("SET statement_timeout = '30s'")
    try:
        operator.drain(Scope("fleet"), None, None)
        return operator.value("barrier_v1", "fleet", "", 0.0)
    finally:
        operator.resume(None, None)
        operator.close()


@pytest.mark.parametrize("how", ["pg_advisory_lock", "pg_advisory_lock_shared"])
def test_a_stranger_with_every_advisory_lock_delays_no_lease_barrier_migrate_or_housekeeping(any_database, how):
    sleeper = Sleeper(any_database)
    queue = QueueSession(connector(any_database.url, "keeper"), "public", sleeper.id)
    with stranger(any_database) as theirs, any_database.connect() as owner:
        for first, second in keys(any_database):
            theirs.execute(f"SELECT {how}(%s, %s)", (first, second))
        owner.execute("SET lock_timeout = 1")  # milliseconds: a statement that would wait for anybody fails
        sleeper.connection.execute("SET lock_timeout = 1")
        owner.execute(ENQUEUE)
        assert sleeper.turn() == 1
        (job,) = owner.execute("SELECT array_agg(id) FROM jobs").fetchone()
        token = "SELECT lease_token FROM jobs LIMIT 1"
        started = f"SELECT start_v1(%s, %s, ({token}), gen_random_uuid(), '{{300}}')"
        assert sleeper.connection.execute(started, (sleeper.id, job)).fetchall() == [(job[0],)]
        owner.execute("UPDATE jobs SET leased_at = now() - interval '1 hour'")
        assert barrier(any_database)
        assert schema.migrate(owner, "public") == []
        old = make_day(any_database, "7d", today(any_database).replace(year=2020))
        assert queue.housekeep() == [f"dropped {old}"]
        with listening(any_database) as heard:
            owner.execute(ENQUEUE)
            assert heard() == [""]  # at worst a NOTIFY that nobody needs
    queue.close()
    sleeper.connection.close()


@pytest.mark.parametrize("how", ["he has it", "he waits for it"])
def test_a_worker_that_cannot_take_the_lock_of_a_rest_polls(any_database, start_worker, how):
    """Once the stranger releases the lock, nobody has it. So no enqueue would know of the resting worker."""
    (key,) = [each for each in keys(any_database) if each[0] == 7304]
    env = {"SHITHUBD_WORKER_DATABASE_URL": any_database.url}
    arguments = ("--poll-interval", "3600", "--metrics", "127.0.0.1:0")
    with stranger(any_database) as theirs, any_database.connect() as another, suppress(psycopg.errors.QueryCanceled):
        if how == "he has it":
            theirs.execute("SELECT pg_advisory_lock(%s, %s)", key)
        else:
            another.execute("SELECT pg_advisory_lock_shared(%s, %s)", key)
            waiting = threading.Thread(target=lambda: suppressed(theirs, "SELECT pg_advisory_lock(%s, %s)", key))
            waiting.start()
            queued = "SELECT count(*) FROM pg_locks WHERE NOT granted AND classid = 7304"
            eventually(lambda: any_database.value(queued) == 1, "he waits for it")
        worker = start_worker(*arguments, env=env)
        polled = 'shithub_worker_wakeups_total{source="poll"}'
        eventually(lambda: (worker.metric(polled) or 0) >= 2, "it polls")
        if how == "he has it":
            theirs.execute("SELECT pg_advisory_unlock_all()")
        else:
            theirs.cancel()
            waiting.join()
            another.execute("SELECT pg_advisory_unlock_all()")
        job = any_database.value("INSERT INTO jobs (kind) VALUES ('test.ok') RETURNING id")
        done = "SELECT count(*) FROM job_history WHERE id = %s AND outcome = 'ok'"
        eventually(lambda: any_database.value(done, job) == 1, "the job ran")
        assert worker.terminate() == 0


def suppressed(connection, statement, arguments):
    with suppress(psycopg.errors.QueryCanceled):
        connection.execute(statement, arguments)


def test_a_stranger_who_fills_the_queue_of_notifications_delays_no_job(embedded_server, start_worker):
    server = Server(embedded_server.bindir, "max_notify_queue_pages = 64")
    try:
        database = Database(server, "postgres")
        with database.connect() as connection:
            schema.migrate(connection, "public")
        worker = start_worker("--poll-interval", "3600", env={"SHITHUBD_WORKER_DATABASE_URL": database.url})
        eventually(database.at_rest, "it is at rest")
        with stranger(database) as stuck, stranger_again(stuck, database) as flood:
            stuck.execute("LISTEN something")
            stuck.execute("BEGIN")
            stuck.execute("SELECT 1")
            with pytest.raises(psycopg.errors.ProgramLimitExceeded):
                fill(flood)
            job = database.value("INSERT INTO jobs (kind) VALUES ('test.ok') RETURNING id")
            done = "SELECT count(*) FROM job_history WHERE id = %s AND outcome = 'ok'"
            eventually(lambda: database.value(done, job) == 1, "the job ran")
            stuck.execute("ROLLBACK")
        assert worker.terminate() == 0
    finally:
        server.remove()


def stranger_again(connection, database):
    """Another connection of the same login."""
    return psycopg.connect(psycopg.conninfo.make_conninfo(database.url, user=connection.info.user), autocommit=True)


def test_a_flood_of_notifications_multiplies_no_queries_and_delays_no_job(any_database, start_worker):
    worker = start_worker(
        "--poll-interval", "3600", "--metrics", "127.0.0.1:0", env={"SHITHUBD_WORKER_DATABASE_URL": any_database.url}
    )
    eventually(any_database.at_rest, "it is at rest")
    looks = 'shithub_worker_claims_total{result="empty"}'
    heard = 'shithub_worker_wakeups_total{source="notify"}'
    with stranger(any_database) as theirs:
        before, over = worker.metric(looks), threading.Event()

        def flood():
            while not over.is_set():
                theirs.execute("SELECT pg_notify('shithubd:public', 'anew')")

        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            eventually(lambda: (worker.metric(heard) or 0) > 300, "the flood is there")
            job = any_database.value("INSERT INTO jobs (kind) VALUES ('test.ok') RETURNING id")
            done = "SELECT count(*) FROM job_history WHERE id = %s AND outcome = 'ok'"
            eventually(lambda: any_database.value(done, job) == 1, "the job ran")
            eventually(lambda: (worker.metric(heard) or 0) > 1000, "the flood goes on")
        finally:
            over.set()
            flooding.join()
    assert worker.metric(looks) - before < worker.metric(heard) / 3
    assert worker.terminate() == 0


@pytest.mark.parametrize("usage", [True, False])
def test_a_statement_about_our_tables_is_refused_before_it_waits_for_their_locks(any_database, usage):
    if not usage:
        any_database.query("REVOKE USAGE ON SCHEMA public FROM PUBLIC")
    with any_database.connect() as reader, stranger(any_database) as theirs, reader.transaction():
        reader.execute("LOCK TABLE jobs, gate, holds, workers, beats, job_history, worker_schema IN ACCESS SHARE MODE")
        reader.execute("LOCK TABLE jobs, gate IN ROW EXCLUSIVE MODE")
        theirs.execute("SET lock_timeout = 1")  # milliseconds
        waited = []
        for statement in (*STATEMENTS, *LOCKING):
            try:
                with theirs.transaction():
                    theirs.execute(statement.format(schema="public"))
            except psycopg.errors.InsufficientPrivilege:
                pass
            except psycopg.errors.LockNotAvailable:
                waited.append(statement)
            else:
                pytest.fail(f"he may: {statement}")
    # PostgreSQL's own functions, and only for logins with USAGE on the schema: SECURITY.md says so.
    assert waited == (list(LOCKING) if usage else [])


@pytest.mark.parametrize("role", [None, "shithub_enqueue", "shithub_operator", "shithub_metrics"])
def test_a_lock_of_the_gate_without_the_right_to_it_delays_no_barrier(any_database, role):
    """PREPARE locks the tables of its statement until the transaction ends, without a check of rights."""
    with stranger(any_database) as theirs:
        if role:
            any_database.query(f"GRANT {role} TO {theirs.info.user}")
        theirs.execute("BEGIN")
        theirs.execute("PREPARE p AS SELECT FROM public.gate FOR UPDATE")
        assert any_database.value("SELECT count(*) FROM pg_locks WHERE relation = 'gate'::regclass AND granted") == 1
        assert barrier(any_database)
        theirs.execute("ROLLBACK")
        if role:  # a barrier waits for a login with the right, even if another role gives it
            any_database.query(f"GRANT shithub_worker TO {role}")
            try:
                theirs.execute("BEGIN")
                theirs.execute("PREPARE q AS SELECT FROM public.gate FOR UPDATE")
                assert not barrier(any_database)
                theirs.execute("ROLLBACK")
            finally:
                any_database.query(f"REVOKE shithub_worker FROM {role}")


def test_a_read_or_a_vacuum_of_the_gate_delays_no_barrier(any_database):
    with any_database.connect() as reader, any_database.connect() as other, reader.transaction():
        reader.execute("LOCK TABLE gate IN ACCESS SHARE MODE")  # as a dump does
        assert barrier(any_database)
        reader.execute("LOCK TABLE gate IN ROW SHARE MODE")  # as a lease does
        other.execute("SET lock_timeout = 1")
        for routine in ("VACUUM gate", "VACUUM (FREEZE) gate", "ANALYZE gate", "SELECT FROM gate"):
            other.execute(routine)
        assert not any_database.value("SELECT barrier_v1('fleet', '', 0)")
