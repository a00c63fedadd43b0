"""`jobs explain`: what it says of each obstacle, in text and in JSON; it changes nothing, and reads little."""

from __future__ import annotations

import json
import os
import re
import subprocess
from contextlib import contextmanager

import psycopg
import pytest
from commands import HOST, emptied_database, exact_command, one_database  # noqa: F401 (fixtures)
from rows import add_job, add_worker

from shithubd_worker.cli import reasons
from shithubd_worker.plain import to_the_second

ALL = {"tables", "locked", "state", "hold", "run_at", "drains", "workers", "busy", "alone"}


@pytest.fixture
def worker(database):
    """A free worker that knows the kind k."""
    made = add_worker(database, unit="a.service")
    database.query("SELECT beat_v1(%s, 'idle', NULL, NULL, NULL)", made)
    return made


def obstacles(found):
    return {check["check"]: check for check in found["checks"] if not check["ok"]}


def explained(command, job):
    """The first line of the text, the lines of what is in the way, and the commands."""
    told = command("jobs", "explain", job).stdout
    lines = told.splitlines()
    assert max(len(line) for line in lines if "to change it" not in line) <= 80
    column = len("  table lock ")  # at which the words of each check begin
    assert all(line[:column].rstrip() != line[: column + 1].rstrip() for line in lines[lines.index("") + 1 :])
    marked = [line for line in lines if line.startswith("x ")]
    return lines[0], marked, [line.partition("to change it: ")[2] for line in lines if "to change it: " in line]


@contextmanager
def transaction(database, *statements):
    with database.connect() as connection:
        connection.execute("BEGIN")
        for statement in statements:
            connection.execute(statement)
        yield connection
        connection.execute("ROLLBACK")


def test_a_job_that_can_run_has_its_place_and_no_obstacle(database, command, worker):
    first, second = add_job(database), add_job(database)
    said, marked, changes = explained(command, first)
    assert said.startswith(f"job {first} can run now: it is the first of its kind")
    assert (marked, changes) == ([], [])
    database.query("INSERT INTO kind_stats (kind, ok) VALUES ('k', 7)")
    found = command.json("jobs", "explain", second)
    assert (found["verdict"], found["place"], found["ahead_capped"]) == ("leasable", 2, False)
    assert found["eta_seconds"] > 0
    assert found["eta_window"] == "5m"
    assert {check["check"] for check in found["checks"]} == ALL
    assert "payload" not in found["job"]
    assert explained(command, second)[0].startswith(f"job {second} can run now: 1 due job of its kind comes first")


def test_a_pause_is_named_with_whose_it_is_and_why_and_the_command(database, command, worker):
    job = add_job(database, kind="k")
    command("pause-kind", "k", "--reason", "disk full")
    first, marked, changes = explained(command, job)
    assert first.startswith(f"job {job} does not run: the kind k is paused by ")
    assert len(marked) == 2
    assert changes == ["shithubd-worker resume-kind k"]
    hold = obstacles(command.json("jobs", "explain", job))["hold"]
    assert (hold["hold"]["reason"], hold["changes"]) == ("disk full", [])  # the line before it has the command
    assert hold["since"] == hold["hold"]["created"]
    database.query("UPDATE jobs SET state = 'queued'")
    assert obstacles(command.json("jobs", "explain", job)).keys() == {"hold"}


def test_a_job_paused_by_hand_says_so(database, command, worker):
    job = add_job(database, state="paused")
    first, marked, changes = explained(command, job)
    assert "by hand" in first
    assert (len(marked), changes) == (1, ["shithubd-worker resume-kind k"])


def test_drains_that_cover_all_workers_are_named(database, command, worker):
    job = add_job(database)
    other = add_worker(database, "web2", 2, unit="b.service")
    database.query("SELECT beat_v1(%s, 'idle', NULL, NULL, NULL)", other)
    command("drain", "--host", "web1", "--reason", "a new kernel")
    assert command.json("jobs", "explain", job)["verdict"] == "leasable"
    assert "no drain is in the way; 1 worker that knows the kind is drained" in command("jobs", "explain", job).stdout
    command("drain", "--host", "web2")
    command("drain", "--unit", "b.service")
    assert explained(command, job)[2] == ["shithubd-worker resume --host web1"]
    assert obstacles(command.json("jobs", "explain", job))["drains"]["holds"][0]["reason"] == "a new kernel"
    command("drain", "--reason", "all of it")
    assert explained(command, job)[2] == ["shithubd-worker resume  # ends all drains"]


def test_a_kind_that_no_worker_knows_is_named_with_the_closest_one(database, command, worker):
    job = add_job(database, kind="mail.snd")
    database.query("UPDATE workers SET kinds = '{mail.send,k}'")
    first, _, changes = explained(command, job)
    assert first.startswith(f"job {job} does not run: no living worker knows the kind mail.snd")
    assert "mail.send: is the kind mistyped?" in " ".join(command("jobs", "explain", job).stdout.split())
    assert changes[0].startswith("shithubd-worker run --handlers")


def test_silent_workers_that_know_the_kind_are_named(database, command):
    add_worker(database, "web3", 9, unit="a.service", silent=True)
    job = add_job(database)
    first, _, changes = explained(command, job)
    assert "no living worker knows the kind k" in first
    assert "web3:9 (silent for 5 min)" in " ".join(command("jobs", "explain", job).stdout.split())
    assert changes == ["systemctl restart a.service  # on web3"]
    assert obstacles(command.json("jobs", "explain", job))["workers"]["since"] is not None


def test_busy_workers_are_named_with_what_they_run(database, command, worker):
    runs = add_job(database, "slow", "processing", worker=worker)
    database.query("SELECT beat_v1(%s, 'running', %s, 'slow', 240)", worker, runs)
    job = add_job(database)
    first, _, changes = explained(command, job)
    assert f"web1:1 runs job {runs} (slow) for 4 min" in " ".join(command("jobs", "explain", job).stdout.split())
    assert first.startswith(f"job {job} does not run: each worker that could take it is busy")
    unknown = command("jobs", "explain", add_job(database, "unknown")).stdout
    assert "there is no worker that could take it" in unknown
    other = add_worker(database, "web2", 2)
    database.query("SELECT beat_v1(%s, 'idle', NULL, NULL, NULL)", other)
    assert (
        "busy       1 worker is at rest, or runs short jobs; 1 other is busy" in command("jobs", "explain", job).stdout
    )
    database.query("DELETE FROM workers WHERE id = %s", other)
    assert changes == []
    assert command("jobs", "explain", runs).stdout.startswith(f"job {runs} runs: web1:1 has leased it since ")


def test_times_and_retries_are_named(database, command, worker):
    later = add_job(database, run_at="2999-01-01")
    assert f"job {later} does not run: it is scheduled" in command("jobs", "explain", later).stdout
    assert explained(command, later)[2] == [f"shithubd-worker jobs retry {later}"]
    never = add_job(database, run_at="infinity")
    assert "it never runs (run_at is infinity)" in " ".join(command("jobs", "explain", never).stdout.split())
    again = add_job(database, run_at="2999-01-01", attempts=1, last_error="no route\nto host")
    database.query("SELECT ensure_history_v1()")
    for at, outcome in (("1 hour", "released"), ("1 min", "retry")):
        database.query(
            "INSERT INTO job_history (id, kind, outcome, attempts, finished_at, retention)"
            f" VALUES (%s, 'k', %s, 1, now() - interval '{at}', '7d')",
            again,
            outcome,
        )
    told = obstacles(command.json("jobs", "explain", again))["run_at"]
    assert told["why"] == "retry"
    said = " ".join(command("jobs", "explain", again).stdout.split())
    assert f"it failed at {to_the_second(told['since'])}, and it may run at 2999-01-01 00:00:00, in " in said
    assert ": no route " in said
    for column, value in (("created_at", "2000-01-01"), ("attempts", 3)):  # a failed job that an operator put off
        database.query(f"UPDATE jobs SET {column} = %s WHERE id = %s", value, again)
    database.query("UPDATE job_history SET outcome = 'failed' WHERE outcome = 'retry'")
    assert obstacles(command.json("jobs", "explain", again))["run_at"]["since"] == told["since"]
    database.query("DELETE FROM job_history")  # as with a retention that keeps nothing
    assert "it failed, and it may run at" in command("jobs", "explain", again).stdout
    always = add_job(database, run_at="-infinity")
    assert "always due (run_at is -infinity)" in command("jobs", "explain", always).stdout


def test_a_failed_job_says_why_and_since_when(database, command, worker):
    job = add_job(database)
    command("jobs", "fail", job, "--message", "the customer is gone")
    first, _, changes = explained(command, job)
    assert first.startswith(f"job {job} has failed since ")
    assert "by hand: the customer is gone" in " ".join(command("jobs", "explain", job).stdout.split())
    assert changes == [f"shithubd-worker jobs retry {job}"]


def test_a_finished_job_is_done_and_an_unknown_one_is_an_error(database, command, worker):
    job = add_job(database)
    command("jobs", "complete", job, "--reason", "by hand")
    found = command.json("jobs", "explain", job)
    assert (found["verdict"], found["job"]["kind"], found["place"]) == ("done", "k", None)
    assert command("jobs", "explain", job).stdout.startswith(f"job {job} is done: completed at ")
    assert f"no job {job + 99}" in command.refused("jobs", "explain", job + 99, code=1)


def test_a_silent_owner_is_named_with_when_its_lease_returns(database, command):
    gone = add_worker(database, "web3", 9, silent=True)
    job = add_job(database, "k", "processing", worker=gone, leased_by="web3:9")
    first, _, changes = explained(command, job)
    assert first.startswith(f"job {job} is leased: web3:9 has leased it since ")
    assert changes == [f"shithubd-worker workers unlock {gone}"]
    over = "its lease is over, and the next sweep takes it"
    for gives_up, end, told in (
        (None, "now() + interval '59 min'", "its lease ends in 59 min"),
        (600, "now() + interval '59 min'", "a sweep may take it in 9 min, and its lease ends in 59 min"),
        (600, "now() + interval '90 s'", "its lease ends in 90 s"),
        (600, "'infinity'", "a sweep may take it in 9 min"),
        (None, "'infinity'", "its lease never ends"),
        (600, "now()", over),
        (600, "NULL", over),
    ):
        database.query("UPDATE workers SET gives_up = %s", gives_up)
        database.query(f"UPDATE jobs SET leased_at = now() - interval '1 min', lease_expires_at = {end}")
        said = " ".join(command("jobs", "explain", job).stdout.partition("\n\n")[0].split())
        assert re.fullmatch(f".* and is silent for 5 min[:;] {told}", said), said


def test_a_lease_that_is_over_and_a_job_that_is_not_settled_do_not_run(database, command, worker):
    job = add_job(database, "k", "processing", worker=worker, leased_by="web1:1")
    database.query("SELECT beat_v1(%s, 'running', NULL, NULL, NULL, %s)", worker, [job])
    said = " ".join(command("jobs", "explain", job).stdout.split())
    assert "has run it, but could not settle it yet" in said
    database.query("UPDATE jobs SET lease_expires_at = now() - interval '1 s'")
    first, _, changes = explained(command, job)
    assert first.startswith(f"job {job} is leased: web1:1 has leased it since ")
    assert changes == []
    assert "its lease is over, and the next sweep takes it" in " ".join(command("jobs", "explain", job).stdout.split())


def test_a_job_whose_pause_has_ended_waits_for_a_worker_to_put_it_back(database, command, worker):
    job = add_job(database, state="paused")
    command("pause-kind", "k", "--until", "1h")
    database.query("UPDATE holds SET until = '2026-01-02 03:04:05Z'")
    first, _, changes = explained(command, job)
    assert first.startswith(f"job {job} does not run: paused: its kind was paused until 2026-01-02 03:04:05")
    assert changes == ["shithubd-worker resume-kind k"]
    command("resume-kind", "k")
    assert command.json("jobs", "explain", job)["verdict"] == "leasable"


@pytest.mark.parametrize(
    ("kind", "host", "unit"), [("k", "web 3", "a b.service"), ("-k; touch x", "web3", "$(touch x).service")]
)
def test_each_printed_command_is_one_of_a_shell(database, command, tmp_path, kind, host, unit):
    jobs = [add_job(database, kind, state) for state in ("queued", "paused", "failed")]
    jobs.append(add_job(database, kind, run_at="infinity"))
    add_worker(database, host, 9, kinds=[kind], unit=unit, silent=True)
    command("drain", "--reason", "x")
    command("pause-kind", "--reason", "x", "--", kind)
    changes = {change for job in jobs for change in explained(command, job)[2]}
    for name in ("shithubd-worker", "systemctl"):  # they show how the shell has read their words
        (tmp_path / name).write_text('#!/bin/sh\nprintf \'%s\\n\' "${0##*/}" "$@"; echo\n')
        (tmp_path / name).chmod(0o700)
    shell = {"args": ["sh", "-e"], "cwd": tmp_path, "env": {"PATH": f"{tmp_path}:{os.environ['PATH']}"}}
    done = subprocess.run(**shell, input="\n".join(changes), capture_output=True, text=True, check=True)
    assert {tuple(each.splitlines()) for each in done.stdout.split("\n\n") if each} == {
        ("shithubd-worker", "resume"),
        ("shithubd-worker", "resume-kind", *(["--"] if kind.startswith("-") else []), kind),
        *(("shithubd-worker", "jobs", "retry", str(job)) for job in jobs[2:]),
        ("systemctl", "restart", unit),
    }
    assert not (tmp_path / "x").exists()


def test_a_job_that_crashed_is_leased_alone(database, command, worker):
    job = add_job(database, crashes=2, alone=True)
    told = " ".join(command("jobs", "explain", job).stdout.split())
    assert "it is leased alone, because its worker died 2 times" in told
    assert command.json("jobs", "explain", job)["verdict"] == "leasable"


@pytest.mark.parametrize("lock", ["UPDATE", "NO KEY UPDATE", "SHARE", "KEY SHARE"])
@pytest.mark.parametrize("several", [False, True], ids=["alone", "beside another"])
def test_who_has_locked_the_row_is_named(database, command, worker, lock, several):
    job = add_job(database)
    row = f"SELECT FROM jobs WHERE id = {job} FOR "
    with transaction(database) as ended:
        if several and "SHARE" in lock:  # several transactions that share a lock are a list of their own
            ended.execute(f"{row} KEY SHARE")
        with transaction(database, "SAVEPOINT one", f"{row} {lock}") as holder:
            ended.execute("ROLLBACK")
            _, marked, changes = explained(command, job)
            assert changes == [f"SELECT pg_terminate_backend({holder.info.backend_pid})"]
            assert len(marked) == 1
            assert "idle in transaction" in command("jobs", "explain", job).stdout
    assert (
        command.json("jobs", "explain", job)["verdict"] == "leasable"
    )  # the lock is over, and left its trace in the row


@pytest.mark.parametrize(("table", "mode"), [("gate", "EXCLUSIVE"), ("jobs", "EXCLUSIVE"), ("jobs", "SHARE")])
def test_who_has_locked_the_queue_is_named(database, command, worker, table, mode):
    job = add_job(database)
    with transaction(database, f"LOCK TABLE {table} IN {mode} MODE") as holder:
        first, _, changes = explained(command, job)
        assert first.startswith(f"job {job} does not run: no lease begins: pid {holder.info.backend_pid} (")
        assert changes == [f"SELECT pg_terminate_backend({holder.info.backend_pid})"]


def everything(database):
    tables = [
        name
        for (name,) in database.query(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p')"
            " AND relnamespace = 'public'::regnamespace ORDER BY 1"
        )
    ]
    return {name: database.query(f"SELECT t::text, t.xmax::text FROM {name} t ORDER BY 1") for name in tables}


def test_it_changes_nothing_and_works_where_nothing_can_be_written(database, command, worker):
    jobs = [add_job(database), add_job(database, state="failed"), add_job(database, state="paused")]
    jobs.append(add_job(database, "k", "processing", worker=worker))
    database.query("SELECT ramp_kind_v1('k', p_canary => 1)")
    database.query("INSERT INTO ramp_ends (ramp, ok, bad) SELECT id, 1, 0 FROM ramps")
    before = everything(database)
    with database.connect() as connection:
        connection.execute("SET default_transaction_read_only = on")
        with connection.transaction():
            for job in jobs:
                assert connection.execute("SELECT explain_job_v1(%s)", [job]).fetchone()[0]["job"]["id"] == job
            assert connection.execute("SELECT pg_current_xact_id_if_assigned()").fetchone() == (None,)
    for job in jobs:
        command("jobs", "explain", job)
    assert everything(database) == before


def test_its_text_fits_a_terminal_and_cannot_steer_it(database, command, worker):
    job = add_job(database, state="failed", last_error="\x1b[2J" + "word " * 500)
    told = command("jobs", "explain", job).stdout
    assert max(map(len, told.splitlines())) <= 80


def test_every_check_has_words():
    assert {*reasons.WEIGHT, "alone"} == ALL


def buffers(connection, job):
    """How many pages the explanation reads."""
    explained = connection.execute(
        "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT explain_job_v1(%s)", [job]
    ).fetchone()
    plan = explained[0][0]["Plan"]
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


@pytest.mark.parametrize("first", [True, False], ids=["the first job", "a job that is not due"])
def test_what_it_reads_does_not_grow_with_the_queue_and_the_history(database, worker, first):
    job = add_job(database, run_at="-infinity" if first else "2999-01-01")
    database.query("SELECT ensure_history_v1()")
    with database.connect() as connection:
        connection.execute("SELECT explain_job_v1(%s)", [job])
        few = buffers(connection, job)
        connection.execute(
            "INSERT INTO jobs (kind, run_at, priority)"
            " SELECT 'k', '2998-01-01', n % 3 - 1 FROM generate_series(1, 30000) n"
        )
        connection.execute(
            "INSERT INTO job_history (id, kind, outcome, attempts, finished_at, retention)"
            " SELECT n + 1000000, 'k', 'ok', 1, now(), '7d' FROM generate_series(1, 60000) n"
        )
        connection.execute(
            "SELECT brin_summarize_new_values(c.oid) FROM pg_class c JOIN pg_index i ON indexrelid = c.oid"
            " WHERE relam = (SELECT oid FROM pg_am WHERE amname = 'brin') AND relkind = 'i'"
        )
        connection.execute("SELECT explain_job_v1(%s)", [job])
        assert buffers(connection, job) <= few + 100


def test_counting_those_ahead_stops(database, worker):
    database.query("INSERT INTO jobs (kind, run_at) SELECT 'k', '2000-01-01' FROM generate_series(1, 50)")
    job = add_job(database, run_at="2010-01-01")
    ahead = "SELECT ahead_v1('k', 0::smallint, '2010-01-01', %s, %s)"
    assert [database.value(ahead, job, cap) for cap in (49, 50, 51)] == [50, 50, 50]
    assert database.value(ahead, job, 10) == 11
    database.query("UPDATE jobs SET priority = -3 WHERE mod(id, 2) = 0 AND id <> %s", job)
    assert database.value(ahead, job, 1000) == 50
    assert database.value(ahead, job, 10) == 11


def test_json_has_what_the_text_says(database, command, worker):
    job = add_job(database, run_at="2999-01-01")
    found = json.loads(command("jobs", "explain", job, "--json").stdout)
    assert found["said"] == " ".join(explained_sentence(command, job))
    assert [check["changes"] for check in found["checks"] if not check["ok"]] == [[f"shithubd-worker jobs retry {job}"]]
    assert all(check["said"] for check in found["checks"])


def explained_sentence(command, job):
    return command("jobs", "explain", job).stdout.partition("\n\n")[0].split()


def test_a_login_that_may_not_look_at_sessions_still_learns_who_holds_the_lock(database, login, worker):
    job = add_job(database)
    with (
        transaction(database, f"SELECT FROM jobs WHERE id = {job} FOR UPDATE") as holder,
        psycopg.connect(login("shithub_operator"), autocommit=True) as operator,
    ):
        found = operator.execute("SELECT explain_job_v1(%s)", [job]).fetchone()[0]
        locker = obstacles(found)["locked"]["locker"]
        assert (locker["pid"], locker["login"], locker["query"]) == (holder.info.backend_pid, "postgres", None)
