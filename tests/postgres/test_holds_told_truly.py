"""A command sets a hold first, and what it then says is true: behind a full pool, and when a COMMIT hangs."""

from __future__ import annotations

import math
import re
import signal
import socket
import subprocess
import sys
import time

import psycopg
import pytest
from conftest import eventually
from locked_tables import somebody
from rows import add_job

from shithubd_worker.cli import deadline
from shithubd_worker.cli.common import Shared
from shithubd_worker.cli.deadline import Deadline
from shithubd_worker.errors import DatabaseUnavailable

HELD = "SELECT scope FROM holds"


def start(database, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "shithubd_worker", *arguments],
        env=database.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def behind(database, pooler):
    """The database behind a pooler with one connection for all: a session that waits keeps it, so no other can ask."""
    add_job(database, "k")
    return pooler(database, pool=1)


def test_behind_a_full_pool_a_hold_is_set_before_its_name_is_checked(database, behind):
    with somebody(database, "LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"):
        pausing = start(behind, "pause-kind", "k")
        eventually(lambda: database.query(HELD) or pausing.poll() is not None, "a hold")
        assert database.query(HELD) == [("kind",)]
        assert pausing.poll() is None
    out, err = pausing.communicate()
    assert (pausing.returncode, "kind k is held: nothing of it starts any more" in out) == (0, True)
    assert "the name of kind k is not checked" in err


@pytest.mark.parametrize("command", [["pause-kind", "k"], ["drain"], ["status"]])
def test_behind_a_full_pool_a_command_keeps_its_timeout_and_names_the_blocker_afterwards(database, behind, command):
    with somebody(database, "LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE") as pid:
        giving_up = start(behind, *command, "--timeout", "2")
        out, err = giving_up.communicate()
    assert giving_up.returncode == 4, err
    assert re.search(
        rf"gave up after [0-9.]+ s: pid {pid} \(postgres, somebody, [0-9.]+\) holds a lock on jobs", out + err
    )
    assert f"SELECT pg_terminate_backend({pid})" in out + err
    assert database.query(HELD) == ([] if command == ["status"] else [("kind" if "k" in command else "fleet",)])


def test_an_interrupted_command_without_an_answer_prints_no_remark_of_psycopg(database, behind):
    """psycopg logs a remark about a connection that it has to give up."""
    with somebody(database, "LOCK TABLE holds IN ACCESS EXCLUSIVE MODE"):
        draining = start(behind, "drain")
        waits = "SELECT FROM pg_stat_activity WHERE query LIKE '%drain_v1%' AND wait_event_type = 'Lock'"
        eventually(lambda: database.query(waits), "it waits")
        draining.send_signal(signal.SIGINT)
        out, err = draining.communicate()
    assert (draining.returncode, out) == (130, "")
    assert err.split("\n") == [
        "it is not known whether the hold was set: see `shithubd-worker status`",
        "",
        "interrupted",
        "",
    ]


@pytest.mark.parametrize("how", ["time", "interrupt"])
def test_an_unconfirmed_commit_is_not_reported_as_no_hold_set(database, how):
    """The COMMIT may be under way, as on a disk that stands still. This one goes on, even after a cancel."""
    database.query(
        "CREATE FUNCTION hangs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN LOOP BEGIN"
        " PERFORM pg_catalog.pg_advisory_xact_lock_shared(42); RETURN NULL;"
        " EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$"
    )
    database.query(
        "CREATE CONSTRAINT TRIGGER hangs AFTER INSERT ON holds DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION hangs()"
    )
    with somebody(database, "SELECT pg_advisory_xact_lock(42)"):
        draining = start(database, "drain", *(["--timeout", "1"] if how == "time" else []))
        if how == "interrupt":
            waits = "SELECT FROM pg_stat_activity WHERE query = 'COMMIT' AND wait_event_type = 'Lock'"
            eventually(lambda: database.query(waits), "it commits")
            draining.send_signal(signal.SIGINT)
        _, err = draining.communicate()
        assert draining.returncode == (4 if how == "time" else 130)
    assert "no hold was set" not in err
    assert "it is not known whether the hold was set: see `shithubd-worker status`" in err
    eventually(lambda: database.query(HELD) == [("fleet",)], "the end of the COMMIT")


def test_the_connection_that_looks_for_locks_opens_soon_or_is_given_up(monkeypatch):
    """With the variable alone it would wait for a silent server for longer than this test may take."""
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "600")
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        shared = Shared(f"postgresql://somebody@127.0.0.1:{deaf.getsockname()[1]}/queue", None)
        with pytest.raises(psycopg.OperationalError, match="timeout"):
            shared.connect("looks", pooled=True, by=time.monotonic() + 1)()


@pytest.fixture
def patient(monkeypatch):
    """Makes a connection like that of migrate. It waits while other connections, to `looks`, are let in."""
    monkeypatch.setattr(deadline, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(deadline, "UNANSWERED_SECONDS", 0.1)
    made = []

    def make(database, looks):
        shared, looking = Shared(database.url, None), Shared(looks, None)

        def look():
            return looking.connect("looks", pooled=True, answer_seconds=0.5, by=time.monotonic() + 1)

        shared.kept_by = Deadline(None, patience=30.0, answer=math.inf, connect=look)
        made.extend([shared.kept_by, connection := shared.connect("migrate", pooled=True)()])
        return connection

    yield make
    for each in made:
        each.close()


def test_a_long_statement_of_migrate_with_the_only_connection_of_its_pool_goes_on(behind, patient):
    connection = patient(behind, behind.url)
    with connection.transaction():
        connection.execute("SELECT pg_sleep(2.5)")


def test_migrate_gives_up_when_the_server_lets_nobody_in(database, patient):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        connection = patient(database, f"postgresql://somebody@127.0.0.1:{deaf.getsockname()[1]}/queue")
        with pytest.raises(DatabaseUnavailable, match="no answer"):
            connection.execute("SELECT pg_sleep(600)")
