"""Which session holds the lock, as a command tells its operator: by the login's rights, behind a queue of waiters, in
plain text, and repeatedly."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import psycopg
import pytest
from commands import exact_command  # noqa: F401 (fixtures)
from conftest import eventually
from locked_tables import somebody
from rows import add_job, add_worker, holds

from shithubd_worker.cli.common import Shared
from shithubd_worker.cli.deadline import Deadline
from shithubd_worker.database import blockers
from shithubd_worker.database.operations import Operations, Scope
from shithubd_worker.errors import DatabaseUnavailable, TimedOut
from shithubd_worker.plain import on_one_line

EVIL = "SELECT 'red \x1b[31m\n \u202e' /* a forgotten transaction, which goes on for a very long time and much text */"


@contextmanager
def waiting(url, statement, name="ours"):
    """A session that waits for what the statement needs. Yields its pid."""
    connection = psycopg.connect(url, autocommit=True, application_name=name)
    pid = connection.info.backend_pid

    def wait():
        try:
            connection.execute(statement)
        except psycopg.Error:
            return  # the session was ended

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        yield pid
    finally:
        connection.cancel_safe()
        thread.join()
        connection.close()


def blocker_of(database, pid, url=None, name="ours"):
    """The session that blocks this one, once there is one, as the login of the URL sees it."""
    with psycopg.connect(url or database.url, autocommit=True) as asking:
        return eventually(lambda: blockers.of_session(asking, pid, name), "a blocker")


def test_the_blocker_is_shown_with_pid_login_program_address_state_age_and_query_in_plain_text(any_database):
    with (
        somebody(any_database, "LOCK TABLE jobs IN SHARE MODE", EVIL) as locked,
        waiting(any_database.url, "INSERT INTO jobs (kind) VALUES ('k')") as pid,
    ):
        found = blocker_of(any_database, pid)
    told = on_one_line(str(found))
    assert told.startswith(f"pid {locked} (postgres, somebody, 127.0.0.1) holds a lock on jobs, idle in")
    assert told.isprintable()
    said = told.partition("; its last query: ")[2]
    assert said.startswith("SELECT 'red \\x1b[31m \\u202e'")
    assert len(found.query) > len(said)
    assert found.way_out == f"to end it: SELECT pg_terminate_backend({found.pid}), as postgres, or a superuser"


def test_a_login_without_the_right_to_see_more_sees_pid_login_and_program(database, login):
    url = login("shithub_operator")
    with (
        somebody(database, "LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE") as locked,
        waiting(url, "SELECT count(*) FROM jobs") as pid,
    ):
        told = str(blocker_of(database, pid, url))
    assert told == f"pid {locked} (postgres, somebody) holds a lock on jobs"


def test_a_lock_of_a_row_is_named_as_such(database):
    job = add_job(database)
    lock = f"SELECT FROM jobs WHERE id = {job} FOR UPDATE"
    with somebody(database, lock) as locked, waiting(database.url, lock) as pid:
        told = str(blocker_of(database, pid))
    assert told.startswith(f"pid {locked} (postgres, somebody, 127.0.0.1) holds a lock on a row of jobs")


def test_the_waiter_before_us_and_its_blocker_are_named(database):
    """A dump reads, a migration waits for it, and all others wait behind the migration."""
    with (
        somebody(database, "SELECT count(*) FROM jobs") as dump,
        waiting(database.url, "ALTER TABLE jobs ADD note text", name="deploy") as deploy,
    ):
        blocker_of(database, deploy, name="deploy")  # it waits
        with waiting(database.url, "SELECT count(*) FROM jobs") as pid:
            found = blocker_of(database, pid)
        with database.connect() as asking:
            in_vain = blockers.on_tables(asking, "public")  # as a worker asks after its own wait is over
    for each in (found, in_vain):
        assert str(each).startswith(
            f"pid {deploy} (postgres, deploy, 127.0.0.1) waits for a lock on jobs, and we wait behind it"
        )
        assert f"pid {dump} (postgres, somebody, 127.0.0.1) blocks it, idle in transaction" in str(each)
        ends = f"to end it: SELECT pg_terminate_backend({dump}) or SELECT pg_terminate_backend({deploy}), as postgres,"
        assert each.way_out == f"{ends} or a superuser"


@pytest.fixture
def kept(database):
    """Makes a connection of an operator that keeps a deadline, as a command's connection does."""
    made = []

    def make(timeout=None, **limits):
        shared = Shared(database.url, None)
        limits = {"patience": 30.0, "answer": 30.0, **limits}
        shared.kept_by = Deadline(timeout, connect=lambda: shared.connect("looks", by=time.monotonic() + 60), **limits)
        made.extend([shared.kept_by, operations := shared.operations()])
        return operations

    yield make
    for each in made:
        each.close()


@pytest.fixture
def short(monkeypatch):
    """A session that waits repeats its message soon."""
    monkeypatch.setattr("shithubd_worker.database.operations.TELL_SECONDS", 0.1)


def test_an_endless_wait_says_again_and_again_for_whom(database, kept, short, capsys):
    operations = kept(patience=float("inf"))
    heard = []
    with somebody(database, "LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE") as locked:
        thread = threading.Thread(target=lambda: heard.append(operations.leases(Scope("fleet"))))
        thread.start()
        told = ""

        def again():
            nonlocal told
            told += capsys.readouterr().err
            return told.count(f"waiting: pid {locked} (postgres, somebody") >= 2

        eventually(again, "the second message")
    thread.join()
    assert heard == [[]]


def test_a_wait_for_a_job_says_again_and_again_for_which(database, short):
    job = add_job(database, state="processing", worker=add_worker(database))
    operations = Operations(database.connect, "public")
    told = []

    def say(text):
        told.append(text)
        if len(told) == 3:
            database.query("DELETE FROM jobs")

    assert operations.wait_until_idle(Scope("fleet"), None, say)
    assert all(f"k {job} by web1:1" in each for each in told)
    operations.close()


@contextmanager
def frozen(operations):
    """The server's process of this connection stands still. Its kernel acknowledges, and nothing answers."""
    pid = operations.connection.info.backend_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize(("limits", "error"), [({"timeout": 0.5}, TimedOut), ({"answer": 0.5}, DatabaseUnavailable)])
def test_a_command_gives_up_a_server_that_stands_still_by_its_own_clock(kept, limits, error):
    operations = kept(**limits)
    with frozen(operations), pytest.raises(error, match="no answer") as raised:
        operations.status()
    assert raised.value.__notes__ == [
        "the server did not confirm that it gave up, so it may still do what it was asked"
    ]


def test_an_interrupted_command_leaves_no_statement_waiting_in_the_server(database, kept):
    operations = kept()

    def ctrl_c(_asking, _seconds):
        raise KeyboardInterrupt

    operations.connection.meanwhile = ctrl_c
    with somebody(database, "LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"):
        with pytest.raises(KeyboardInterrupt):
            operations.rows("discard_jobs", [1])
        waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        assert database.query(waits) == []
    assert operations.leases(Scope("fleet")) == []


def test_a_command_gives_up_in_time_if_the_server_lets_nobody_in(command):
    """The server accepts connections and says nothing. A variable allows ten minutes for that, longer than the test."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"postgresql://somebody@127.0.0.1:{deaf.getsockname()[1]}/queue"
        refused = command.refused(
            "status", "--database-url", url, "--timeout", "1", env={"PGCONNECT_TIMEOUT": "600"}, code=75
        )
    assert "the database can't be reached" in refused


def test_a_pause_that_waits_for_a_lock_is_set_when_the_lock_ends(database, command, start_worker):
    """The hold is set first. So no job of the kind starts in between."""
    waits = add_job(database, "test.marks")
    with somebody(database, "LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"):
        worker = start_worker()
        done = command("pause-kind", "test.marks", "--timeout", "1", code=4)
        assert "the name of kind test.marks is not checked: pid " in done.stderr
        assert "kind test.marks is held, but it is not certain yet" in done.stdout
        assert "undo: shithubd-worker resume-kind test.marks" in done.stdout
        assert holds(database) == [("kind", "test.marks", None)]
    other = add_job(database, "test.ok")
    eventually(lambda: database.query("SELECT FROM jobs WHERE id = %s", other) == [], "the end of another kind's job")
    assert database.query("SELECT state, attempts FROM jobs WHERE id = %s", waits) == [("queued", 0)]
    assert worker.terminate() == 0


def test_json_has_what_is_known_and_why_the_command_gave_up(database, command):
    with somebody(database, "LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE") as locked:
        told = command.json("drain", "--timeout", "0.5", code=4)
        looked = command("status", "--drained", "--json", "--timeout", "0.5", code=4)
    assert (told["barrier"], told["drained"], told["running"]) == (False, None, None)
    assert f"pid {locked} (postgres, somebody" in told["gave_up"]
    assert looked.stdout == ""
    assert f"pid {locked} (postgres, somebody" in looked.stderr


def test_a_change_of_many_jobs_does_the_free_ones_and_gives_up_the_locked_one(database, command):
    ids = [add_job(database, state="failed") for _ in range(3)]
    with somebody(database, f"SELECT FROM jobs WHERE id = {ids[1]} FOR UPDATE"):
        done = command("jobs", "retry", *ids, "--timeout", "1", code=4)
    assert done.stdout.startswith(f"job {ids[0]} retried\njob {ids[2]} retried\nundo: ")
    assert "2 of 3 jobs retried; to go on, run the command again: gave up after" in done.stderr
    assert f"job {ids[1]} is not retried: another session has locked it" in done.stderr
    assert "holds a lock on a row of jobs" in done.stderr
    assert [state for (state,) in database.query("SELECT state FROM jobs ORDER BY id")] == [
        "queued",
        "failed",
        "queued",
    ]


def test_status_with_watch_goes_on_and_says_for_how_long_it_got_no_answer(database, tmp_path):
    add_job(database, "waiting")
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("w") as stdout, err.open("w") as stderr:
        watching = subprocess.Popen(
            [sys.executable, "-m", "shithubd_worker", "status", "--watch", "0.1"],
            env=database.environment(),
            stdout=stdout,
            stderr=stderr,
        )
    try:
        eventually(lambda: "queued 1" in out.read_text(), "the first figures")
        with somebody(database, "LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE") as locked:
            told = f" s: pid {locked} (postgres, somebody"
            eventually(lambda: "no figures for" in err.read_text() and told in err.read_text(), "the reason")
            assert watching.poll() is None
        seen = len(out.read_text())
        eventually(lambda: len(out.read_text()) > seen, "figures again")
    finally:
        watching.kill()
        watching.wait()


def test_a_completion_does_not_hang(database, command):
    words = {
        "_SHITHUBD_WORKER_COMPLETE": "bash_complete",
        "COMP_WORDS": "shithubd-worker pause-kind ",
        "COMP_CWORD": "2",
    }
    with somebody(database, "LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"):
        done = command(env=words)
    assert (done.stdout.strip(), done.stderr) == ("", "")
