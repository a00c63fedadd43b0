"""A worker loses the database and finds it again: how soon, and what it reports."""

from __future__ import annotations

import os
import re
import socket

import psycopg
import pytest
from conftest import eventually
from rooms import Rooms
from servers import deaf_port

from shithubd_worker import backoff
from shithubd_worker.database.connection import connector
from shithubd_worker.database.failures import explained
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.database.session import Session
from shithubd_worker.host.identity import identify

OURS = "datname = current_database() AND application_name LIKE 'shithubd-worker%'"
END = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}"


def test_each_thread_reports_the_servers_last_message_once(database, start_worker):
    worker = start_worker("--metrics", "127.0.0.1:0")
    eventually(database.at_rest, "it is at rest")
    database.query(END)
    eventually(lambda: "control connection lost" in worker.log, "the control thread noticed")
    eventually(lambda: "the database is back after" in worker.log, "it is back")
    eventually(database.at_rest, "it is at rest again")
    told = re.findall(r"(the database is away|control connection lost): (.*)", worker.log)
    assert sorted(told) == [
        ("control connection lost", "terminating connection due to administrator command"),
        ("the database is away", "terminating connection due to administrator command"),
    ]
    assert worker.terminate() == 0


@pytest.mark.parametrize("asked", [True, False])
def test_a_session_keeps_the_servers_last_message(any_database, asked):
    """It does so even if nobody was waiting for an answer when the server sent it."""
    session = QueueSession(connector(any_database.url, "test"), "public", identify().id)
    session.value("channel_v1")
    pid = session.connection.info.backend_pid
    any_database.query("SELECT pg_terminate_backend(%s, 60000)", pid)
    heard = ""
    while not heard:
        try:
            if asked:
                session.value("channel_v1")
            else:
                session.heed()
        except psycopg.Error as error:
            heard = session.last_word or str(explained(error))
    assert "terminating connection due to administrator command" in heard
    session.close()
    session.value("channel_v1")
    assert session.last_word == "", "that was another connection"
    session.close()


def test_a_call_that_may_run_twice_outlives_an_error_of_the_socket_that_comes_without_a_byte(database):
    """A cut connection may end like this. In its place the session gets a socket whose first answer is such an error:
    nobody listens there."""
    session = Session(connector(database.url, "test"), "public")
    session.value("channel_v1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as refused, deaf_port() as port:
        refused.connect(("127.0.0.1", port))
        os.dup2(refused.fileno(), session.connection.pgconn.socket)
        assert session.value_again("channel_v1") == database.value("SELECT channel_v1()")
    session.close()


@pytest.fixture
def cut_off():
    """The parts of a worker whose database refuses every connection."""
    with deaf_port() as port:
        made = Rooms(f"postgresql://nobody@127.0.0.1:{port}/none", grace=0.0, reached=False)
        yield made
        made.close()


def test_a_missing_database_is_tried_as_often_after_an_hour_as_at_first(cut_off, monkeypatch):
    tries = []

    def wait(refusals, _):
        tries.append(refusals)
        if len(tries) == 20:
            cut_off.stop.hear(main=True)
        return 0.0

    monkeypatch.setattr(backoff, "reconnect", wait)
    gone = psycopg.OperationalError("gone")
    assert cut_off.reconnect(gone) is False
    assert tries == [0] * 20
    # The database is back, and refuses what it is asked, again and again. So the worker asks less and less often.
    assert [cut_off.reconnect(gone) for _ in range(3)] == [False] * 3
    assert tries[20:] == [1, 2, 3]
    # It answered a turn meanwhile, so the worker asks often again.
    cut_off.exchange.answered += 1
    assert [cut_off.reconnect(gone) for _ in range(2)] == [False] * 2
    assert tries[23:] == [0, 1]


@pytest.mark.parametrize("name", ["channel_v1", "enqueues_notify_v1"])
def test_a_start_whose_connection_ends_at_any_query_waits_for_the_database(database, start_worker, name):
    (result,) = database.query("SELECT pg_get_function_result(%s::regproc)", name)[0]
    database.query("CREATE SEQUENCE asked")
    database.query(f"ALTER FUNCTION {name}() RENAME TO real_{name}")
    database.query(
        f"CREATE FUNCTION {name}() RETURNS {result} LANGUAGE plpgsql AS $$ BEGIN IF nextval('asked') = 1 THEN"
        f" PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(60); END IF; RETURN real_{name}(); END $$"
    )
    worker = start_worker()
    assert "waiting for the database" in worker.log
    assert worker.terminate() == 0
