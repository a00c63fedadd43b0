"""What is refused beside the turns: at the start, to the control thread, in a pause, in a handler's own transaction."""

from __future__ import annotations

import logging
import time
from types import SimpleNamespace

import psycopg
import pytest
from conftest import eventually
from servers import deaf_port
from test_reconnects import cut_off  # noqa: F401 (a fixture)
from test_refusals import HANDLERS, enqueue, gone, outcomes, refuse
from test_returning import without_a_history

from shithubd_worker import backoff
from shithubd_worker.database.clock import Clock
from shithubd_worker.database.connection import connector
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.host.identity import identify
from shithubd_worker.host.signals import Stop
from shithubd_worker.process.control import Control
from shithubd_worker.process.progress import Progress

OURS = "ALTER TABLE job_history ADD CONSTRAINT ours CHECK (outcome <> 'ok')"


def replaced(database, name, arguments, returns, body):
    """A function of ours that does this first, and then what it did."""
    database.query(f"ALTER FUNCTION {name} RENAME TO {name}_as_it_was")
    names = ", ".join(each.split()[0] for each in arguments.split(", ") if each)
    database.query(
        f"CREATE FUNCTION {name}({arguments}) RETURNS {returns} LANGUAGE plpgsql AS $$ BEGIN {body};"
        f" RETURN {'QUERY SELECT * FROM' if returns.startswith('TABLE') else ''} {name}_as_it_was({names}); END $$"
    )


def test_a_check_of_the_applications_fails_the_attempt_of_a_job_that_settles_itself(database, start_worker):
    database.query(OURS)
    (job,) = enqueue(database, how="transaction")
    worker = start_worker(handlers=HANDLERS)
    eventually(lambda: outcomes(database, job), "its first outcome")
    assert outcomes(database, job) == ["retry"]
    assert "ours" in database.value("SELECT last_error FROM jobs")
    assert worker.terminate() == 0


def test_so_does_a_trigger_that_says_check_violation(database, start_worker):
    (job,) = enqueue(database, how="transaction")
    refuse(database, "dest = 'gone'", says="not this one' USING ERRCODE = 'check_violation', HINT = 'ask")
    worker = start_worker(handlers=HANDLERS)
    eventually(lambda: outcomes(database, job), "its first outcome")
    assert outcomes(database, job) == ["retry"]
    assert worker.terminate() == 0


def test_a_job_that_settles_itself_without_todays_history_is_released_and_the_day_is_made(database, start_worker):
    worker = start_worker(handlers=HANDLERS)
    without_a_history(database)
    (job,) = enqueue(database, how="transaction")
    eventually(lambda: outcomes(database, job), "its first outcome")
    assert outcomes(database, job) == ["released"]
    database.query("UPDATE jobs SET run_at = now()")
    gone(database, [job])
    assert worker.terminate() == 0


def test_a_row_that_a_check_refuses_is_not_tried_again_in_vain(any_database):
    any_database.query("CREATE SEQUENCE tries")
    any_database.query("ALTER TABLE job_history ADD CONSTRAINT ours CHECK (nextval('tries') < 0)")
    with pytest.raises(psycopg.errors.CheckViolation, match="ours"):
        any_database.query(
            "SELECT record_v1(ARRAY[ROW(1, 'k', 'ok', 1, NULL, NULL, now(), NULL, NULL, NULL, '7d')::job_history])"
        )
    assert any_database.value("SELECT last_value FROM tries") == 1


def test_a_payload_that_can_not_be_had_now_leaves_nothing_in_the_history(database, start_worker):
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
    eventually(lambda: "can't be had now" in (database.value("SELECT coalesce(last_error, '') FROM jobs")))
    assert outcomes(database, job) == []
    database.query("DROP TABLE short; CREATE VIEW short AS SELECT 1 WHERE false; UPDATE jobs SET run_at = now()")
    gone(database, [job])
    assert outcomes(database, job) == ["ok"]
    assert worker.terminate() == 0


def test_a_connection_lost_with_the_last_question_of_the_start_is_waited_for(database, start_worker):
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


def test_a_connection_that_can_not_listen_is_not_kept(any_database):
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


def control_of(beat):
    """A control thread that isn't started; and a list that grows when it calls the main thread."""
    called = []
    unused = dict.fromkeys(
        ("ears", "reload", "systemd", "dead_man", "lethal", "metrics", "strays"), SimpleNamespace(wake=None)
    )
    made = Control(
        beat=beat,
        clock=Clock(lambda _: None),
        identity=identify(),
        kinds=[],
        shortest_lease=60.0,
        progress=Progress(),
        stop=Stop(25.0),
        tray=SimpleNamespace(at_hand=True),
        settler=SimpleNamespace(waiting=False, unsettled=()),
        wake_main=lambda: called.append(True),
        **unused,
    )
    return made, called


def test_what_is_refused_to_the_control_thread_is_asked_for_once_a_second(any_database, caplog):
    beat = "uuid, text, bigint, text, double precision, bigint[]"
    for name, arguments in (("statement_time_v1", ""), ("beat_v1", beat)):
        any_database.query(f"ALTER FUNCTION {name}({arguments}) RENAME TO {name}_as_it_was")
    beat = ControlSession(connector(any_database.url, "test"), "public")
    control, _ = control_of(beat)
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        for tick in range(60):  # three seconds of its ticks while it watches the tray
            control._speak_to_database(began + tick * 0.05)
    told = [record.getMessage() for record in caplog.records]
    assert {name: sum(name in each for each in told) for name in ("statement_time_v1", "beat_v1")} == {
        "statement_time_v1": 3,
        "beat_v1": 3,
    }
    beat.close()


def test_a_control_thread_without_a_database_asks_for_it_at_each_try():
    with deaf_port() as port:
        control, called = control_of(
            ControlSession(connector(f"postgresql://nobody@127.0.0.1:{port}/none", "test"), "public")
        )
        for tries in range(1, 6):
            control._speak_to_database(max(time.monotonic(), control._retry_at))
            assert control._tries == tries
        assert called == []


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
