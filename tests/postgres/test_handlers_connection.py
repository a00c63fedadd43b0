"""Each job finds the handlers' connection as new, no matter what the last job did to it."""

from __future__ import annotations

import math
import threading
from contextlib import suppress

import psycopg
import pytest
from conftest import eventually
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import IsolationLevel
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader

from shithubd_worker.database.connection import connector
from shithubd_worker.database.handler_session import HandlerSession
from shithubd_worker.timing import HANDLER_ANSWER_SECONDS

# Warnings about objects that a handler kept or left open.
pytestmark = pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")


@pytest.fixture
def ledger(any_database):
    """The handlers' connection as a worker has it."""
    made = HandlerSession(
        connector(any_database.url, "handler", ours=False, answer_seconds=HANDLER_ANSWER_SECONDS), "public"
    )
    yield made
    made.close()


# What a handler can do to its connection.


def enter_transaction(connection):
    connection.transaction().__enter__()


def enter_pipeline(connection):
    connection.pipeline().__enter__()


def leave_copy_open(connection):
    connection.cursor().copy("COPY (SELECT generate_series(1, 100000)) TO STDOUT").__enter__()


def prepare_two_phases(connection):
    connection.tpc_begin("a transaction of a handler's")


def setting(name, value):
    def act(connection):
        setattr(connection, name, value)

    act.__name__ = f"{name} = {value}"
    return act


def statement(text, **options):
    def act(connection):
        connection.execute(text, **options)

    act.__name__ = text
    return act


ACTIONS = [
    setting("autocommit", False),
    setting("read_only", True),
    setting("isolation_level", IsolationLevel.SERIALIZABLE),
    setting("deferrable", True),
    setting("row_factory", dict_row),
    setting("cursor_factory", psycopg.ClientCursor),
    setting("server_cursor_factory", psycopg.ServerCursor[dict]),
    setting("prepare_threshold", 0),
    setting("prepared_max", 1),
    setting("answer_seconds", 30.0),
    setting("answer_by", lambda: 0.0),
    setting("an_attribute_of_its_own", 1),
    lambda connection: connection.adapters.register_loader("int4", TextLoader),
    lambda connection: connection.adapters.register_dumper(str, psycopg.types.json.JsonDumper),
    lambda connection: connection.adapters.types.add(psycopg.types.TypeInfo("mine", 99999, 99998)),
    lambda connection: connection.add_notice_handler(print),
    lambda connection: connection.add_notify_handler(print),
    lambda connection: connection.commit(),
    lambda connection: connection.rollback(),
    lambda connection: connection.close(),
    enter_transaction,
    enter_pipeline,
    leave_copy_open,
    prepare_two_phases,
    statement("BEGIN"),
    statement("SELECT 1"),
    statement("SELECT 1", prepare=True),
    statement("SELECT no_such_column"),
    statement("SET statement_timeout = '1min'"),
    statement("SET search_path = pg_catalog"),
    statement("SET client_encoding = 'LATIN1'"),
    statement("SET timezone = 'Asia/Tokyo'"),
    statement("SET application_name = 'a handler'"),
    statement("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"),
    statement("SET ROLE pg_monitor"),
    statement("SET SESSION AUTHORIZATION pg_monitor"),
    statement("CREATE TEMP TABLE mine (n int)"),
    statement("CREATE TEMP SEQUENCE numbers"),
    statement("SELECT nextval('kept_numbers')"),
    statement("LISTEN something"),
    statement("NOTIFY something"),
    statement("DECLARE mine CURSOR WITH HOLD FOR SELECT 1"),
    statement("PREPARE mine AS SELECT 1"),
    statement("SELECT pg_advisory_lock(1, 2)"),
    statement("SELECT pg_advisory_lock_shared(3)"),
    statement("SELECT pg_terminate_backend(pg_backend_pid())"),
]

# On both sides. Left out: what differs between any two sessions, and psycopg's count of the statements that it saw.
SERVER = """
SELECT (SELECT array_agg((name, setting) ORDER BY name) FROM pg_settings)::text, current_user, session_user,
       (SELECT count(*) FROM pg_cursors WHERE name <> ''), (SELECT count(*) FROM pg_prepared_statements),
       (SELECT count(*) FROM pg_listening_channels()),
       (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
       (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())
"""
OF_EACH = {"pgconn", "lock", "_prepared", "_adapters", "_created_at"}


def as_it_is(connection):
    """All that a handler can notice of a connection."""
    pgconn = connection.pgconn
    values = {name: value for name, value in vars(connection).items() if name not in OF_EACH}
    libpq = (pgconn.transaction_status, pgconn.pipeline_status, pgconn.nonblocking, pgconn.socket >= 0)
    limits = (connection.prepare_threshold, connection.prepared_max)
    maps = [connection.adapters._dumpers, connection.adapters._loaders, list(connection.adapters.types)]
    server = connection.execute(SERVER).fetchone()
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        connection.execute("SELECT lastval()")
    return values, libpq, limits, maps, server


@pytest.mark.drawn
# On a slow machine, a transaction block that an action left open may be collected after its answer was given up.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_next_handler_finds_a_connection_as_new(any_database, ledger):
    any_database.query("CREATE SEQUENCE kept_numbers")
    with connector(any_database.url, "handler", ours=False, answer_seconds=HANDLER_ANSWER_SECONDS)() as fresh:
        as_new = as_it_is(fresh)

    def check(actions):
        for act in actions:
            with suppress(psycopg.Error):
                act(ledger.connection)
        ledger.tidy()
        assert as_it_is(ledger.connection) == as_new, actions
        ledger.tidy()

    for act in ACTIONS:
        check([act])
    settings(max_examples=40)(given(st.lists(st.sampled_from(ACTIONS), min_size=2, max_size=5))(check))()


def write(connection):
    with connection.transaction():
        connection.execute("CREATE TABLE IF NOT EXISTS written (n int)")
        connection.execute("INSERT INTO written VALUES (%s)", (1,))


def fail_in_a_transaction(connection):
    with suppress(ZeroDivisionError), connection.transaction():
        connection.execute("SELECT 1")
        raise ZeroDivisionError


def read(connection):
    with connection.cursor(row_factory=dict_row) as cursor:
        assert cursor.execute("SELECT 1 AS one").fetchall() == [{"one": 1}]


def change_much(connection):
    connection.row_factory = dict_row
    connection.read_only = True
    connection.execute("SET statement_timeout = '1min'")
    connection.execute("LISTEN something")


@pytest.mark.parametrize("act", [write, fail_in_a_transaction, read, change_much, statement("SELECT 1", prepare=True)])
def test_the_session_is_kept_if_everything_can_be_restored(ledger, act):
    session = ledger.connection.info.backend_pid
    for _ in range(3):
        act(ledger.connection)
        ledger.tidy()
    assert ledger.connection.info.backend_pid == session


@pytest.mark.parametrize(
    "keep",
    [
        lambda connection: connection,
        lambda connection: connection.cursor(),
        lambda connection: connection.transaction(),
        lambda connection: connection.execute("SELECT 1"),
        lambda connection: connection.execute,
        lambda connection: (
            connection.stream if hasattr(connection, "stream") else connection.cursor().stream("SELECT 1")
        ),
    ],
)
def test_a_kept_reference_to_the_connection_does_not_reach_the_next_job(ledger, keep):
    kept = keep(ledger.connection)
    session = ledger.connection.info.backend_pid
    ledger.tidy()
    assert ledger.connection.info.backend_pid != session
    assert kept


def test_a_thread_that_still_uses_the_connection_gets_an_error_and_not_the_next_jobs_transaction(any_database, ledger):
    failed = []

    def use(connection):
        try:
            connection.execute("SELECT pg_sleep(3600)")
        except psycopg.Error as error:
            failed.append(error)

    session = ledger.connection.info.backend_pid
    thread = threading.Thread(target=use, args=(ledger.connection,))
    thread.start()
    busy = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"
    eventually(lambda: any_database.query(busy, session), "the thread's query runs")
    ledger.tidy()
    assert ledger.connection.info.backend_pid != session
    any_database.query("SELECT pg_terminate_backend(%s)", session)
    thread.join()
    assert failed


def test_behind_a_pooler_the_plans_of_other_clients_are_kept(any_database):
    ledger = HandlerSession(connector(any_database.url, "handler", ours=False, pooled=True), "public", pooled=True)
    ledger.connection.execute("PREPARE by_the_pooler AS SELECT 1")
    ledger.tidy()
    assert ledger.connection.execute("EXECUTE by_the_pooler").fetchone() == (1,)
    assert ledger.connection.prepare_threshold is None
    ledger.close()


def test_the_server_looks_for_a_handler_and_does_not_mind_that_it_reads_slowly(any_database):
    """With tcp_user_timeout, Linux would end the connection of a handler that rests within a long answer."""
    session = HandlerSession(connector(any_database.url, "test", ours=False), "public")
    for _ in range(2):  # the second time, after the session was tidied up
        shown = "SELECT current_setting('tcp_keepalives_idle'), current_setting('tcp_user_timeout')"
        assert session.lend(lambda: math.inf).execute(shown).fetchone() == ("10", "0")
        session.tidy()
    session.close()
