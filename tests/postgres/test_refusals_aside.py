"""What the database refuses outside of the turns: at the start, to the control thread, in a pause, in a handler's
transaction."""

from __future__ import annotations

import psycopg
import pytest
from conftest import eventually
from test_reconnects import cut_off  # noqa: F401 (a fixture)
from test_refusals import HANDLERS, enqueue, gone, outcomes, refuse
from test_returning import without_a_history

from shithubd_worker import backoff
from shithubd_worker.database.connection import connector
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.host.identity import identify

OURS = "ALTER TABLE job_history ADD CONSTRAINT ours CHECK (outcome <> 'ok')"


def replaced(database, name, arguments, returns, body):
    """A function of ours that first does this, and then its usual work."""
    database.query(f"ALTER FUNCTION {name} RENAME TO {name}_as_it_was")
    names = ", ".join(each.split()[0] for each in arguments.split(", ") if each)
    database.query(
        f"CREATE FUNCTION {name}({arguments}) RETURNS {returns} LANGUAGE plpgsql AS $$ BEGIN {body};"
        f" RETURN {'QUERY SELECT * FROM' if returns.startswith('TABLE') else ''} {name}_as_it_was({names}); END $$"
    )


def test_a_check_of_the_application_fails_the_attempt_of_a_job_that_settles_itself(database, start_worker):
    database.query(OURS)
    (job,) = enqueue(database, how="transaction")
    worker = start_worker(handlers=HANDLERS)
    eventually(lambda: outcomes(database, job), "its first outcome")
    assert outcomes(database, job) == ["retry"]
    assert "ours" in database.value("SELECT last_error FROM jobs")
    assert worker.terminate() == 0


def test_a_trigger_that_raises_check_violation_fails_the_attempt_too(database, start_worker):
    (job,) = enqueue(database, how="transaction")
    refuse(database, "dest = 'gone'", says="not this one' USING ERRCODE = 'check_violation', HINT = 'ask")
    worker = start_worker(handlers=HANDLERS)
    eventually(lambda: outcomes(database, job), "its first outcome")
    assert outcomes(database, job) == ["retry"]
    assert worker.terminate() == 0


def test_a_job_that_settles_itself_without_todays_history_is_released_and_makes_the_day(database, start_worker):
    worker = start_worker(handlers=HANDLERS)
    without_a_history(database)
    (job,) = enqueue(database, how="transaction")
    eventually(lambda: outcomes(database, job), "its first outcome")
    assert outcomes(database, job) == ["released"]
    database.query("UPDATE jobs SET run_at = now()")
    gone(database, [job])
    assert worker.terminate() == 0


def test_a_history_row_that_a_check_refuses_is_not_tried_again(any_database):
    any_database.query("CREATE SEQUENCE tries")
    any_database.query("ALTER TABLE job_history ADD CONSTRAINT ours CHECK (nextval('tries') < 0)")
    with pytest.raises(psycopg.errors.CheckViolation, match="ours"):
        any_database.query(
            "SELECT record_v1(ARRAY[ROW(1, 'k', 'ok', 1, NULL, NULL, now(), NULL, NULL, NULL, '7d')::job_history])"
        )
    assert any_database.value("SELECT last_value FROM tries") == 1


def test_a_payload_that_cannot_be_fetched_now_leaves_nothing_in_the_history(database, start_worker):
    database.query("CREATE TABLE short AS SELECT 1")
    replaced(
        database,
        "payloads_v1",
        "p_ids bigint[], p_token uuid",
        "TABLE (id bigint, payload text, fault text)",
        "IF EXISTS (SELECT FROM short) THEN RAISE EXCEPTION USING ERRCODE = 'out_of_memory'; END IF",
    )
    (job,) = enqueue(database, text="x" * 100_000)
    worker = start_worker(handlers=HANDLERS)
    eventually(lambda: "can't be read now" in (database.value("SELECT coalesce(last_error, '') FROM jobs")))
    assert outcomes(database, job) == []
    database.query("DROP TABLE short; CREATE VIEW short AS SELECT 1 WHERE false; UPDATE jobs SET run_at = now()")
    gone(database, [job])
    assert outcomes(database, job) == ["ok"]
    assert worker.terminate() == 0


def test_a_start_waits_for_the_database_if_its_last_query_loses_the_connection(database, start_worker):
    database.query("CREATE SEQUENCE asked")
    replaced(
        database,
        "enqueues_notify_v1",
        "",
        "boolean",
        "IF nextval('asked') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF",
    )
    worker = start_worker()
    assert "waiting for the database" in worker.log
    assert worker.terminate() == 0


def test_a_connection_that_cannot_listen_is_closed(any_database):
    queue = QueueSession(connector(any_database.url, "test"), "public", identify().id)
    queue.listen(lambda _: None)
    queue.close()
    any_database.query("ALTER FUNCTION channel_v1 RENAME TO channel_v0")
    with pytest.raises(psycopg.errors.UndefinedFunction):
        _ = queue.connection
    assert not queue.opened
    any_database.query("ALTER FUNCTION channel_v0 RENAME TO channel_v1")
    heard = queue.connection.execute("SELECT pg_listening_channels()").fetchall()
    assert len(heard) == 1
    queue.close()


def test_a_pause_counts_as_progress_and_ends_with_the_grace(cut_off, monkeypatch):  # noqa: F811
    waits = []
    cut_off.waits(waits.append)
    monkeypatch.setattr(backoff, "reconnect", lambda *_: 5.0)
    cut_off.progress.ticked_at = 0.0
    cut_off.patience.short("no disk")
    assert cut_off.progress.ticked_at > 0.0
    cut_off.stop.hear(main=True)
    cut_off.patience.short("no disk")
    assert waits == [5.0, 0.0]
