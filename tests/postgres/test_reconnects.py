"""Losing the database and finding it again: how soon, and what is told."""

from __future__ import annotations

import re
from types import SimpleNamespace

import psycopg
import pytest
from conftest import eventually
from servers import deaf_port

from shithubd_worker.database.connection import connector
from shithubd_worker.database.handler_session import HandlerSession
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.host.identity import identify
from shithubd_worker.host.signals import Stop, Wakeup
from shithubd_worker.process import line
from shithubd_worker.process.shared import Progress
from shithubd_worker.settings.config import Config

OURS = "datname = current_database() AND application_name LIKE 'shithubd-worker%'"
END = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}"


def test_the_servers_last_word_is_told_once_by_each_thread(database, start_worker):
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
def test_a_session_keeps_the_servers_last_word(any_database, asked):
    """Whether or not anybody was waiting for an answer when it was said."""
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
            heard = session.last_word or str(line.explained(error))
    assert "terminating connection due to administrator command" in heard
    session.close()
    session.value("channel_v1")
    assert session.last_word == "", "that was another connection"
    session.close()


@pytest.fixture
def cut_off():
    """A Line whose database refuses every connection; and the waits that it asked for."""
    with deaf_port() as port:
        connect = connector(f"postgresql://nobody@127.0.0.1:{port}/none", "test")
        stop, me, wakeup = Stop(0.0), identify(), Wakeup()
        nothing = SimpleNamespace(woken=lambda _: None)
        made = line.Line(
            Config(),
            me,
            [],
            queue=QueueSession(connect, "public", me.id),
            beat=None,
            ledger=HandlerSession(connect, "public"),
            stop=stop,
            wakeup=wakeup,
            progress=Progress(),
            systemd=None,
            metrics=nothing,
            on_anew=lambda: None,
            wake_control=lambda: None,
        )
        yield made, stop
        wakeup.close()


def test_a_database_that_is_away_is_looked_for_as_often_after_an_hour_as_at_first(cut_off, monkeypatch):
    made, stop = cut_off
    waits = []

    def wait(refusals, _):
        waits.append(refusals)
        if len(waits) == 20:
            stop.hear(main=True)
        return 0.0

    monkeypatch.setattr(line.backoff, "reconnect", wait)
    assert made.reconnect(OSError("gone"), unsettled=False) is False
    assert waits == [0] * 20
    # Found again, it refuses what it is asked for, again and again: then there is no hurry.
    assert [made.reconnect(OSError("no"), unsettled=False) for _ in range(3)] == [False] * 3
    assert waits[20:] == [1, 2, 3]


@pytest.mark.parametrize("name", ["channel_v1", "enqueues_notify_v1"])
def test_a_start_whose_connection_ends_waits_for_the_database_whatever_it_asks(database, start_worker, name):
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
