"""`audit`, `audit show` and `audit undo`, as an operator sees them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from commands import HOST, emptied_database, exact_command, one_database  # noqa: F401 (fixtures)
from conftest import PATIENCE, eventually
from rows import add_job, holds, state

ESCAPES = "\x1b[31m\n\u202e"


def discarded(database, jobs, **how):
    """Discard jobs. Returns the audit row."""
    call = "SELECT discard_jobs(%s, reason := %s, actor := %s)"
    database.query(call, jobs, how.get("reason"), how.get("actor", "alice@web1"))
    return newest(database)


def newest(database):
    return database.value("SELECT max(id) FROM audit")


@contextmanager
def undoing(database, audit, *more):
    """`audit undo` as a process that goes on."""
    words = [sys.executable, "-m", "shithubd_worker", "audit", "undo", str(audit), *more]
    with subprocess.Popen(
        words, env=database.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_list_says_who_did_what_and_why_and_whether_it_was_undone(database, command):
    assert command("audit").stdout == "no such changes\n"
    jobs = [add_job(database) for _ in range(2)]
    audit = discarded(database, jobs, reason=f"wrong kind{ESCAPES}")
    command("audit", "undo", audit, "--reason", "they were needed")
    first, second = command("audit").stdout.splitlines()
    assert first.endswith(f"  alice@web1  discard 2 jobs: wrong kind\\x1b[31m\\n\\u202e  [undone by {audit + 1}]")
    assert first.split()[0] == str(audit)
    assert second.endswith(f"@{HOST}  undo of {audit}: 2 jobs: they were needed")
    assert command("audit", "--limit", 1).stderr == "the newest 1: more with --limit\n"
    for words, found in (
        (("--job", jobs[0]), 2),
        (("--job", jobs[1] + 1), 0),
        (("--actor", "alice"), 1),
        (("--action", "undo"), 1),
        (("--since", "1h"), 2),
        (("--until", "1h"), 0),
        (("--since", "2000-01-01", "--until", "2100-01-01"), 2),
    ):
        listed = command.json("audit", *words)
        assert len(listed) == found, words
    assert command.json("audit")[0]["reason"] == f"wrong kind{ESCAPES}"
    assert command.json("audit")[1]["detail"] == {"undoes": audit, "action": "discard"}


def test_show_has_the_login_and_what_became_of_each_job_and_how_to_undo_it(database, command):
    jobs = [add_job(database, last_error=ESCAPES) for _ in range(12)]
    database.query("SELECT permanently_fail_jobs(%s, %s, 'why', 'mallory@web1')", jobs, "no" + ESCAPES)
    audit = newest(database)
    shown = command("audit", "show", audit).stdout
    for text in ("mallory@web1", database.value("SELECT session_user::text"), "fail 12 jobs", "why"):
        assert text in shown
    assert f'  job {jobs[0]}: last_error: "\\u001b[31m\\n\\u202e" -> "no\\u001b[31m' in shown
    assert f"job {jobs[9]}" in shown
    assert f"job {jobs[10]}" not in shown
    assert "... and 2 more" in shown
    assert f"shithubd-worker audit undo {audit}" in shown
    assert f"job {jobs[11]}" in command("audit", "show", audit, "--all").stdout
    told = command.json("audit", "show", audit, "--all")
    assert len(told["changes"]) == 12
    assert told["changes"][0]["before"]["state"] == "queued"
    assert told["changes"][0]["after"]["last_error"] == "no" + ESCAPES
    assert "no audit row 999" in command.refused("audit", "show", 999, code=1)


def test_an_undo_says_what_it_restored_and_a_dry_run_says_the_same_and_changes_nothing(database, command):
    jobs = [add_job(database, payload='{"n": 1}') for _ in range(5)]
    before = database.query("SELECT jobs::text FROM jobs ORDER BY id")
    audit = discarded(database, jobs)
    said = command("audit", "undo", audit, "--dry-run").stdout
    assert said.startswith(
        f"would restore 5 job(s) of audit row {audit} (discard 5 jobs)\n  job {jobs[0]}: gone -> queued"
    )
    assert f'SQL: SELECT * FROM "public"."undo_jobs"({audit})' in said
    assert database.query("SELECT FROM jobs") == []
    assert newest(database) == audit
    done = command("audit", "undo", audit, "--reason", "needed")
    assert done.stdout == (
        f"restored 5 job(s) of audit row {audit} (discard 5 jobs)\nundo: shithubd-worker audit undo {audit + 1}\n"
    )
    assert database.query("SELECT jobs::text FROM jobs ORDER BY id") == before
    assert command.json("audit", "undo", audit)[0]["unchanged"] == 5
    command("audit", "undo", audit + 1)
    assert database.query("SELECT FROM jobs") == []


def test_each_job_that_is_left_is_named_with_its_reason(database, command):
    jobs = [add_job(database) for _ in range(14)]
    database.query("SELECT permanently_fail_jobs(%s, 'no')", jobs)
    database.query("UPDATE jobs SET last_error = %s WHERE id < %s", ESCAPES, jobs[11])
    database.query("DELETE FROM jobs WHERE id = %s", jobs[11])
    done = command("audit", "undo", newest(database), code=5)
    assert done.stdout.startswith("restored 2 job(s)")
    lines = done.stderr.splitlines()
    assert lines[0].startswith(
        f'shithubd-worker: job {jobs[0]} is left alone: changed: last_error: "no" -> "\\u001b[31m'
    )
    assert lines[-1] == "shithubd-worker: 12 jobs are left alone: 11 changed, 1 gone"
    assert len(lines) == 11
    (told,) = json.loads(command("audit", "undo", newest(database) - 1, "--json", code=5).stdout)
    assert told["left"][str(jobs[11])] == "gone"
    assert len(told["left"]) == 12


def test_several_rows_are_undone_the_newest_first(database, command):
    job = add_job(database)
    before = database.query("SELECT jobs::text FROM jobs")
    rows = []
    for number in range(3):
        database.query("SELECT reschedule_jobs(ARRAY[%s::bigint], priority := %s)", job, number + 1)
        rows.append(newest(database))
    command("audit", "undo", *rows)
    assert database.query("SELECT jobs::text FROM jobs") == before
    assert "no audit row 999" in command.refused("audit", "undo", 999, code=1)


def test_what_can_not_be_undone_is_refused_with_the_reason(database, command):
    job = add_job(database, state="processing")
    database.query("SELECT release_jobs(ARRAY[%s::bigint], true)", job)
    said = command.refused("audit", "undo", newest(database), code=5)
    assert said.endswith(
        f"(release job {job}) cannot be undone: a lease that was ended cannot be given back to its worker"
    )


def test_restored_jobs_that_no_pause_covers_any_more_are_told(database, command):
    job = add_job(database, state="paused", kind="-k")
    said = command("audit", "undo", discarded(database, [job])).stderr
    assert said.endswith("to queue them, shithubd-worker resume-kind -- -k\n")
    assert state(database, job) == ("paused", 0)


def test_an_undo_waits_for_a_locked_job_and_restores_it_at_the_end(database):
    jobs = [add_job(database) for _ in range(3)]
    database.query("SELECT permanently_fail_jobs(%s, 'no')", jobs)
    with database.connect() as other, other.transaction():
        other.execute("SELECT FROM jobs WHERE id IN (%s, %s) FOR UPDATE", jobs[:2])
        with undoing(database, newest(database)) as process:
            assert "waiting: " in process.stderr.readline()
            assert state(database, jobs[2]) == ("queued", 0)
            other.execute("ROLLBACK")
            assert process.wait(PATIENCE) == 0
            assert process.stdout.read().startswith("restored 3 job(s)")
    assert database.value("SELECT count(*) FROM jobs WHERE state = 'queued'") == 3


@pytest.mark.parametrize("end", ["Ctrl-C", "--timeout", "lost"])
def test_an_undo_that_ends_early_says_how_far_it_came_and_can_go_on(database, command, end):
    jobs = [add_job(database) for _ in range(3)]
    database.query("SELECT permanently_fail_jobs(%s, 'no')", jobs)
    audit = newest(database)
    with database.connect() as other, other.transaction():
        other.execute("SELECT FROM jobs WHERE id = %s FOR UPDATE", jobs[:1])
        with undoing(database, audit, *(["--timeout", "4"] if end == "--timeout" else [])) as process:
            assert "waiting: " in process.stderr.readline()
            if end == "Ctrl-C":
                process.send_signal(signal.SIGINT)
            elif end == "lost":
                database.query(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'shithubd-worker command' AND datname = current_database()"
                )
            assert process.wait(PATIENCE) == {"Ctrl-C": 130, "--timeout": 4, "lost": 75}[end]
            said = process.stderr.read()
        # After the time is over, it may be unable to ask what became of its last batch.
        known = (
            rf"2 of the 3 jobs of audit row {audit} are (undone now|restored): go on with shithubd-worker audit undo"
        )
        assert re.search(known, said), said
    eventually(lambda: "restored 1 job(s)" in command("audit", "undo", audit).stdout, "the rest is restored")
    assert database.value("SELECT count(*) FROM jobs WHERE state = 'queued'") == 3


def test_the_undo_of_a_pause_ends_it_and_its_undo_sets_it_again_with_its_words(database, command):
    job = add_job(database)
    command("pause-kind", "k", "--reason", "schema work", "--until", "2h")
    assert state(database, job) == ("paused", 0)
    pause = newest(database)
    until = database.query("SELECT until FROM holds")
    assert "would do the same as: shithubd-worker resume-kind k" in command("audit", "undo", pause, "--dry-run").stdout
    assert "resumed k: schema work" in command("audit", "undo", pause).stdout
    assert (holds(database), state(database, job)) == ([], ("queued", 0))
    assert command("audit", "undo", pause).stdout == "nothing to undo: the hold is over\n"
    resume = newest(database)
    assert database.value("SELECT reason FROM audit WHERE id = %s", resume) == f"undo of audit row {pause}"
    assert "kind k is held until" in command("audit", "undo", resume).stdout
    assert (holds(database), state(database, job)) == ([("kind", "k", "schema work")], ("paused", 0))
    assert database.query("SELECT until FROM holds") == until
    assert command("audit", "undo", resume).stdout == "nothing to undo: kind k is held again\n"


def test_the_undo_of_a_drain_ends_that_drain_alone(database, command):
    command("drain", "--host", "a", "--force")
    drain = newest(database)
    command("drain", "--host", "b", "--force", "--reason", "other")
    assert command.json("audit", "undo", drain)["ended"][0]["target"] == "a"
    assert holds(database) == [("host", "b", "other")]
    command("audit", "undo", newest(database))
    assert ("host", "a", f"undo of audit row {newest(database) - 1}") in holds(database)


def test_a_hold_that_somebody_has_changed_since_is_left_alone(database, command):
    command("pause-kind", "k", "--force", "--reason", "mine")
    first = newest(database)
    command("pause-kind", "k", "--force", "--reason", "yours")
    assert f"audit row {first + 1} has changed the hold" in command.refused("audit", "undo", first, code=5)
    assert "resume-kind k" in command.refused("audit", "undo", first + 1, code=5)
    assert "undo it in a command of its own" in command("audit", "undo", first, 999, code=5).stderr
    assert database.query("SELECT undo_hold_v1(%s)", first) == []
    assert holds(database) == [("kind", "k", "yours")]


def test_the_end_of_a_hold_beyond_the_years_of_python_is_shown_as_the_last_one(database, command):
    database.query("SELECT pause_kind_v1('k', 'r', '12000-01-01')")
    (row,) = command.json("audit", "list")
    assert row["detail"]["until"].startswith("9999-12-31T23:59:59")
    (shown,) = command.json("audit", "timeline")[:1]
    assert shown["until"].startswith("9999-12-31T23:59:59")
