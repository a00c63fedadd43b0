"""A Client works on any connection that an application has, or says in one line why not, before it changes anything."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader
from rows import add_job, audit, state

from shithubd_worker import Client
from shithubd_worker.database import schema
from shithubd_worker.errors import NotTheWorker, SchemaMismatch

LATER = datetime(2030, 1, 2, tzinfo=UTC)


class Traced(psycopg.Connection):
    """An application's own class of connections: all rows are dictionaries, and it says what it executes."""

    def execute(self, *given, **options):
        raise AssertionError("this is for the application's own statements")


@pytest.fixture
def strange(database):
    """All that an application may have set at once: as Django does it, in German, and with a class of its own."""
    options = {"autocommit": True, "row_factory": dict_row, "cursor_factory": psycopg.ClientCursor}
    with Traced.connect(database.url, **options) as connection:
        for name in ("jsonb", "timestamptz"):
            connection.adapters.register_loader(name, TextLoader)
        connection.cursor().execute("SET datestyle = 'German'; SET timezone = 'Asia/Tokyo'")
        yield connection


def test_what_the_application_has_set_changes_no_result(database, strange):
    queue = Client(strange)
    job = add_job(database, state="failed", payload='{"text": "größer"}', run_at="-infinity")
    (row,) = queue.retry_jobs([job])
    assert (row.payload, row.run_at) == ({"text": "größer"}, datetime.min.replace(tzinfo=UTC))
    assert queue.job(job)["payload"] == {"text": "größer"}
    assert queue.status()["kinds"][0]["kind"] == "k"
    assert queue.pause_kind("k", until=LATER).until == LATER
    database.query("UPDATE holds SET until = 'infinity'")
    assert queue.resume_kind("k").until == datetime.max.replace(tzinfo=UTC)
    plan = queue.plan_jobs("fail", [job])
    assert plan.expires_at > datetime.now(UTC)
    assert [row.last_error for row in queue.apply_plan(plan.name)] == ["failed by an operator"]
    assert strange.cursor().execute("SELECT '{}'::jsonb AS one").fetchone() == {"one": "{}"}


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_connection_that_cannot_send_all_letters_is_refused(database, encoding):
    job = add_job(database, state="failed", payload='{"text": "größer"}')
    with psycopg.connect(database.url, autocommit=True, client_encoding=encoding) as connection:
        queue = Client(connection)
        for call in (lambda: queue.retry_jobs([job]), queue.status, lambda: queue.resume_kind("k")):
            with pytest.raises(ValueError, match=r"client_encoding is .*: use UTF8"):
                call()
        queue.enqueue_many("k", [{"text": "größer"}])
    assert state(database, job) == ("failed", 0)
    assert database.query("SELECT payload FROM jobs ORDER BY id") == [({"text": "größer"},)] * 2


def test_another_thread_on_the_connection_gets_its_own_rows(database):
    with psycopg.connect(database.url, autocommit=True, row_factory=dict_row) as connection:
        done, found = threading.Event(), []

        def application():
            while not done.is_set():
                found.append(connection.execute("SELECT 1 AS one").fetchone())

        other = threading.Thread(target=application)
        other.start()
        for _ in range(5):
            Client(connection).status()
        done.set()
        other.join()
        assert [row for row in found if row != {"one": 1}] == []


def test_in_a_pipeline_each_method_works_but_those_that_must_commit(database):
    job = add_job(database, state="failed")
    with psycopg.connect(database.url, autocommit=True) as connection:
        queue = Client(connection)
        with connection.pipeline():
            assert len({queue.enqueue("k"), *queue.enqueue_many("k", [{}, {}])}) == 3
            assert [row.id for row in queue.retry_jobs([job])] == [job]
            for hold in (queue.drain, lambda: queue.pause_kind("k")):
                with pytest.raises(RuntimeError, match="no transaction and no pipeline"):
                    hold()
    assert database.value("SELECT count(*) FROM jobs WHERE state = 'queued'") == 4
    assert database.value("SELECT count(*) FROM holds") == 0


def test_a_savepoint_takes_back_what_was_done_in_it_and_only_that(database):
    first, second = add_job(database, state="failed"), add_job(database, state="failed")
    with psycopg.connect(database.url) as connection:
        queue = Client(connection)
        queue.retry_jobs([first])
        with connection.transaction(force_rollback=True):
            queue.retry_jobs([second])
        with pytest.raises(KeyError):
            queue.enqueue_many("k", ({"n": 1 / n if n else {}[n]} for n in (2, 1, 0)))
        with pytest.raises(psycopg.errors.SyntaxError):
            connection.execute("SELEC")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            queue.retry_jobs([second])
        connection.rollback()
        connection.read_only = True
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            queue.retry_jobs([first])
        connection.rollback()
        connection.read_only, connection.isolation_level = False, psycopg.IsolationLevel.SERIALIZABLE
        queue.retry_jobs([second])
        connection.commit()
        connection.close()
        with pytest.raises(psycopg.OperationalError, match="closed"):
            queue.retry_jobs([first])
    assert (state(database, first), state(database, second)) == (("failed", 0), ("queued", 0))
    assert [row[1] for row in audit(database)] == [f"job {second}"]


def test_a_client_that_was_closed_or_cut_off_opens_another_connection(database):
    queue = Client(database.url)
    queue.enqueue("k")
    queue.close()
    queue.enqueue("k")
    database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%%client'")
    with pytest.raises(psycopg.OperationalError):
        queue.retry_jobs([1])
    assert queue.retry_jobs([1]) == []
    queue.close()
    assert database.value("SELECT count(*) FROM jobs") == 2


def test_a_forked_child_cannot_use_the_connection_of_its_parent_or_close_it(database):
    with Client(database.url) as queue:
        queue.enqueue("k")
        if (child := os.fork()) == 0:
            code = 1
            try:
                queue.enqueue("k")
            except NotTheWorker:
                queue.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        queue.enqueue("k")
    assert database.value("SELECT count(*) FROM jobs") == 2


def test_a_schema_with_an_odd_name_works_and_one_without_a_queue_is_named(any_database):
    name = """a"b'c.{d} ü"""
    with any_database.connect() as connection:
        schema.migrate(connection, name)
    with psycopg.connect(any_database.url, autocommit=True) as connection:
        queue = Client(connection, schema=name)
        queue.enqueue_many("k", [{"n": 1}])
        assert [row.payload for row in queue.reschedule_jobs([queue.enqueue("k", n=2)], priority=2)] == [{"n": 2}]
        assert queue.pause_kind("k").target == queue.resume_kind("k").target == "k"
        with pytest.raises(SchemaMismatch, match=r"schema 'elsewhere' .* has no queue, but schema"):
            Client(connection, schema="elsewhere").status()


def test_an_async_connection_is_refused_by_name(database):
    with pytest.raises(TypeError, match="not AsyncConnection"):
        Client(psycopg.AsyncConnection.__new__(psycopg.AsyncConnection))
