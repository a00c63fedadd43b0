"""`resume-kind` in steps: what it says and refuses, and what `status`, `jobs show` and the audit record say of it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from commands import HOST, emptied_database, exact_command, moment, one_database  # noqa: F401 (fixtures)
from conftest import PATIENCE, eventually
from locked_tables import somebody
from rows import add_job, add_worker, audit, holds, state

RAMP = "SELECT canary, steps, every, rate, stop_at FROM ramps"
BAD = {
    ("--ramp", "10,5"): "each step of --ramp must be above the one before it, and 5 comes after 10",
    ("--ramp", "10,10"): "each step of --ramp must be above the one before it, and 10 comes after 10",
    ("--ramp", "0,50"): "each step of --ramp must be 1 to 100",
    ("--ramp", "50,101"): "each step of --ramp must be 1 to 100",
    ("--ramp", "50,,100"): "'50,,100' are not steps",
    ("--ramp", "half"): "'half' are not steps",
    ("--ramp", ""): "'' are not steps",
    ("--ramp", "-10"): "'-10' are not steps",
    ("--ramp", "9" * 5000): "are not steps",
    ("--ramp", ",".join(["1"] * 101)): "--ramp must have 1 to 100 steps, not 101",
    ("--ramp", "10", "--every", "0"): "--every must be 1 second to 10 days, not 0 s",
    ("--ramp", "10", "--every", "11d"): "--every must be 1 second to 10 days",
    ("--ramp", "10", "--every", "soon"): "'soon' is not a duration",
    ("--every", "2m"): "--every says how long each step lasts: it needs --ramp",
    ("--every", "2m", "--canary", "1"): "it needs --ramp",
    ("--stop-at", "20%"): "--stop-at needs --ramp or --rate",
    ("--canary", "1", "--stop-at", "50%"): "--stop-at needs --ramp or --rate: the first job of --canary that does not",
    ("--rate", "1/s", "--stop-at", "0"): "--stop-at must be above 0",
    ("--rate", "1/s", "--stop-at", "20"): "--stop-at must be above 0, and at most 1",
    ("--rate", "1/s", "--stop-at", "101%"): "--stop-at must be above 0, and at most 1",
    ("--canary", "1", "--stop-at", "many"): "'many' is not a part of the runs",
    ("--canary", "0"): "0 is not in the range 1<=x<=1000",
    ("--canary", "9" * 30): "is not in the range",
    ("--canary", "one"): "'one' is not a valid integer",
    ("--rate", "0/s"): "--rate must be above 0",
    ("--rate", "9" * 400 + "/s"): "--rate must be above 0, and at most 1,000,000",
    ("--rate", "50"): "'50' is not a rate",
    ("--rate", "50/d"): "'50/d' is not a rate",
    ("--rate", "nan/s"): "'nan/s' is not a rate",
    ("--rate", "-5/s"): "'-5/s' is not a rate",
    ("--until", "2h"): "--until is the end of a ramp",
    ("--canary", "1", "--until", "soon"): "'soon' is neither a time",
}


def test_a_ramp_that_cannot_be_is_refused_in_one_line_and_changes_nothing(database, command):
    job = add_job(database)
    command("pause-kind", "k")
    before = audit(database)
    for words, told in BAD.items():
        assert told in command.refused("resume-kind", "k", *words, code=2), words
    assert "lies in the past" in command.refused("resume-kind", "k", "--canary", "1", "--until", "2020-01-01", code=5)
    assert database.query(RAMP) == []
    assert audit(database) == before
    assert state(database, job) == ("paused", 0)


@pytest.mark.parametrize(
    ("words", "row"),
    [
        (("--ramp", "10,50,100"), (None, [10, 50, 100], 120, None, 0.2)),
        (("--ramp", "10%, 50%", "--every", "90"), (None, [10, 50], 90, None, 0.2)),
        (("--rate", "50/s"), (None, None, None, 50, 0.2)),
        (("--rate", "90/m", "--stop-at", "5%"), (None, None, None, 1.5, 0.05)),
        (("--rate", "0.36/h", "--stop-at", "1"), (None, None, None, 0.36 / 3600, 1)),
        (("--canary", "1", "--stop-at", "0.5", "--rate", "1/s"), (1, None, None, 1, 0.5)),
    ],
)
def test_the_options_are_the_ramp_of_the_database(database, command, words, row):
    add_job(database)
    command("resume-kind", "k", *words)
    assert database.query(RAMP) == [row]


def test_a_ramp_says_what_it_does_and_how_to_go_on(database, command):
    job = add_job(database)
    command("pause-kind", "k", "--reason", "schema work", env={"SUDO_USER": "alice"})
    told = command("resume-kind", "k", "--ramp", "10,50,100", "--every", "2m", "--until", "1h").stdout
    lines = told.splitlines()
    assert lines[0] == "k is resumed in steps: schema work"
    assert lines[1].startswith(f"it was paused by alice@{HOST} at 20")
    assert lines[2] == "the ramp: 10, 50, 100 % of the workers for 2m each"
    assert lines[3] == "now: step 1 of 3 (10 % of the workers), next step in 2 min"
    assert re.fullmatch(r"next: 50 % at \d\d:\d\d:\d\d, 100 % at \d\d:\d\d:\d\d \(UTC\)", lines[4])
    over = re.fullmatch(r"the pause ends at (.*), unless the ramp stops", lines[5])
    left = datetime.fromisoformat(over[1]) - datetime.now(UTC)
    assert timedelta(minutes=1) < left <= timedelta(minutes=6)
    assert lines[6:] == [
        "it stops when 20 % of at least 10 runs do not end ok",
        "1 paused job(s) back in the queue",
        "watch it: shithubd-worker status k --watch",
        "to hold everything again: shithubd-worker pause-kind k",
        "to let everything go: shithubd-worker resume-kind k",
    ]
    assert state(database, job) == ("queued", 0)
    assert holds(database) == [("kind", "k", "schema work")]
    again = command("resume-kind", "k", "--rate", "5/m", "--canary", "2").stdout
    assert "the ramp of k begins anew; it was: step 1 of 3 (10 % of the workers)" in again
    assert "it stops when a job of the canary does not end ok; afterwards when 20 % of at least 10 runs" in again
    ended = command("resume-kind", "k").stdout
    assert "its ramp has ended; it was: the canary waits for 2 jobs to end ok, at most 5/m\n" in ended
    assert holds(database) == []
    alone = command("resume-kind", "k", "--rate", "5/m").stdout
    assert "k was not paused: the ramp holds it from now on" in alone
    assert "the pause has no end: `resume-kind` without options ends it" in alone
    paused = command("pause-kind", "k").stdout
    assert "the ramp of k has ended; it was: at most 5/m\n" in paused
    assert "kind k is held: nothing of it starts any more" in paused
    assert database.query(RAMP) == []
    assert state(database, job) == ("paused", 0)


def test_the_json_of_a_ramp_has_exactly_these_members(database, command):
    add_job(database)
    first = command.json("pause-kind", "k", "--reason", "why", env={"SUDO_USER": "alice"})["hold"]
    told = command.json("resume-kind", "k", "--canary", "1", "--ramp", "10,100", "--stop-at", "30%")
    ramp = told.pop("ramp")
    assert told == {
        "kind": "k",
        "hold": first,
        "replaced": None,
        "requeued": 1,
        "refused": 0,
        "stop": "shithubd-worker pause-kind k",
        "let_go": "shithubd-worker resume-kind k",
    }
    assert moment(ramp.pop("began")) <= datetime.now(UTC)
    shown = {
        "kind": "k",
        "state": "canary",
        "canary": 1,
        "steps": [10, 100],
        "every": 120,
        "rate": None,
        "stop_at": 0.3,
    }
    shown |= {"ok": 0, "bad": 0, "step": None, "percent": None, "next_in": None, "ends_in": None}
    shown |= {"passed_at": None, "over_at": None, "stopped_at": None, "stopped": None}
    assert ramp == shown
    (hold,) = command.json("status")["holds"]
    assert {name: value for name, value in hold["ramp"].items() if name != "began"} == shown
    plain = command.json("resume-kind", "k")
    assert plain.pop("ramp")["state"] == "canary"
    assert plain == {"kind": "k", "ended": first, "requeued": 0, "refused": 0}
    assert command.json("resume-kind", "k") == {"kind": "k", "ended": None, "ramp": None, "requeued": 0, "refused": 0}


def test_a_ramp_of_an_unknown_kind_is_refused_but_not_of_one_that_is_paused(database, command):
    assert "no job, history or worker knows kind 'serach'" in command.refused(
        "resume-kind", "serach", "--rate", "1/s", code=5
    )
    assert holds(database) == []
    command("pause-kind", "serach", "--force", "--reason", "it comes tomorrow")
    command("resume-kind", "serach", "--canary", "1")
    assert holds(database) == [("kind", "serach", "it comes tomorrow")]


def test_status_and_jobs_show_say_where_a_ramp_is(database, command):
    job = add_job(database)
    add_worker(database)
    command("resume-kind", "k", "--ramp", "10,50,100", "--reason", "slowly")
    database.query(
        "UPDATE ramps SET passed_at = passed_at - interval '170 s', began = began - interval '170 s',"
        " over_at = over_at - interval '170 s', ok = 120, bad = 3"
    )
    shown = command("status").stdout
    assert shown.startswith("running 0, held 1 ")
    assert "hold: pause of kind k: slowly\n" in shown
    now = r"ramp: step 2 of 3 \(50 % of the workers\), next step in \d+ s; 120 ok and 3 not ok\n"
    assert re.search(rf"\n      {now}", shown)
    told = command("jobs", "show", job).stdout
    assert re.search(rf"hold +the kind is paused by \S+ since 20\S+ \S+: slowly\n +{now}", told)
    assert command.json("jobs", "show", job)["hold"]["ramp"]["step"] == 2
    database.query("UPDATE ramps SET passed_at = passed_at - interval '100 s', over_at = over_at - interval '100 s'")
    assert re.search(
        r"ramp: step 3 of 3 \(100 % of the workers\), the pause ends in \d+ s", command("status", "k").stdout
    )
    command("resume-kind", "k")
    assert command.json("jobs", "show", job)["hold"] is None
    assert "hold" not in command("jobs", "show", job).stdout


def test_an_end_that_comes_before_the_next_step_is_what_status_names(database, command):
    add_job(database)
    told = command("resume-kind", "k", "--ramp", "10,50", "--every", "1h", "--until", "100s").stdout
    assert re.search(r"\nnow: step 1 of 2 \(10 % of the workers\), the pause ends in \d+ s\n", told)
    assert "next:" not in told
    assert re.search(r"ramp: step 1 of 2 \(10 % of the workers\), the pause ends in \d+ s\n", command("status").stdout)
    told = command("resume-kind", "k", "--ramp", "10,50", "--every", "2d").stdout
    assert re.search(r"\nnext: 50 % at 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d \(UTC\)\n", told)


def test_a_canary_that_ends_well_lets_the_others_go(database, command, start_worker):
    jobs = [add_job(database, "test.ok") for _ in range(3)]
    command("pause-kind", "test.ok")
    start_worker("--kind", "test.ok")
    command("resume-kind", "test.ok", "--canary", "1")
    eventually(lambda: all(state(database, job) is None for job in jobs), "all jobs ran")
    eventually(lambda: holds(database) == [], "the pause is over")
    assert [row[:2] for row in audit(database)] == [(name, "kind test.ok") for name in ("pause", "ramp", "expire")]


def test_a_canary_that_fails_stops_the_ramp_and_status_says_what_to_do(database, command, start_worker):
    jobs = [add_job(database, "test.fails") for _ in range(3)]
    command("pause-kind", "test.fails")
    start_worker("--kind", "test.fails")
    command("resume-kind", "test.fails", "--canary", "2", "--ramp", "50,100", "--every", "90", "--until", "1h")
    shown = eventually(lambda: told if "STOPPED" in (told := command("status").stdout) else "", "it stopped")
    assert re.search(
        r"\n      ramp: STOPPED since 20\S+ \S+: a canary job did not end ok \(([12]) of 2 ended, \1 of them badly\)\n"
        r"      to try the ramp again: (.*)\n      to let everything go: shithubd-worker resume-kind test.fails\n",
        shown,
    )
    again = re.search("try the ramp again: shithubd-worker (.*)", shown)[1]
    assert again == "resume-kind --canary 2 --ramp 50,100 --every 90s test.fails"
    assert ("queued", 0) in [state(database, job) for job in jobs]
    (row,) = command.json("audit", "list", "--action", "stop")
    assert (row["actor"], row["target"]) == ("shithubd-worker", "kind test.fails")
    assert f"{row['id']:>6}  " in command("audit").stdout
    timeline = command("audit", "timeline").stdout
    assert "`shithubd-worker` `stop` `kind test.fails`: `a canary job did not end ok" in timeline
    assert "; ramp: STOPPED since 20" in timeline
    assert timeline.rstrip().endswith("alerts/KindRampStopped.md)")
    told = command(*again.split()).stdout
    assert "the ramp of test.fails begins anew; it was: STOPPED since 20" in told
    database.query("UPDATE ramps SET stopped_at = now(), stopped = 'a test'")
    ended = command("resume-kind", "test.fails").stdout
    assert "its ramp has ended; it was: STOPPED since 20" in ended
    eventually(lambda: all(state(database, job)[1] == 1 for job in jobs), "the others ran, too")


def test_a_rate_is_obeyed_by_the_whole_fleet(database, command, start_worker):
    jobs = [add_job(database, "test.ok") for _ in range(13)]
    command("pause-kind", "test.ok")
    for _ in range(2):
        start_worker("--kind", "test.ok")
    command("resume-kind", "test.ok", "--rate", "240/m")
    eventually(lambda: all(state(database, job) is None for job in jobs), "all jobs ran")
    took = "SELECT max(leased_at) - min(leased_at) FROM job_history WHERE kind = 'test.ok'"
    # The first one at once, then at most four at once that were saved up.
    assert database.value(took) >= timedelta(seconds=(13 - 1 - 4) / 4)
    assert holds(database) == [("kind", "test.ok", None)], "a rate alone has no end"
    assert re.search(r"ramp: at most 4/s; 13 ok and 0 not ok\n", command("status").stdout)


def test_the_audit_record_tells_of_a_ramp_and_does_not_undo_it(database, command):
    add_job(database)
    command("pause-kind", "k")
    command("resume-kind", "k", "--ramp", "10,100", "--every", "5m", "--until", "2h", "--reason", "slowly")
    pause, ramp = (row["id"] for row in command.json("audit"))
    what = "ramp kind k (10, 100 % of the workers for 5m each): slowly"
    assert what in command("audit").stdout
    assert re.search(
        r"`ramp` `kind k` \(10, 100 % of the workers for 5m each\) until 20\S+ \S+: `slowly`",
        command("audit", "timeline").stdout,
    )
    why = "a ramp is not taken back. To hold kind k wholly: pause-kind. To end its pause: resume-kind"
    assert command.json("audit", "show", ramp)["final"] == why
    refused = command.refused("audit", "undo", ramp, code=5)
    assert refused.endswith(f"audit row {ramp} (ramp kind k) cannot be undone: {why}")
    # The pause is no longer as its row set it. To end it would let everything go at once.
    assert f"audit row {ramp} has changed the hold" in command.refused("audit", "undo", pause, code=5)
    command("pause-kind", "k")
    again = command.json("audit")[-1]["id"]
    assert f"it changed the hold of audit row {ramp}" in command.refused("audit", "undo", again, code=5)
    assert holds(database) == [("kind", "k", "slowly")]


@pytest.mark.parametrize("role", ["shithub_operator", "shithub_metrics", "shithub_worker", "shithub_enqueue"])
def test_only_an_operator_sets_a_ramp(database, command, login, role):
    add_job(database)
    done = command(
        "resume-kind", "k", "--canary", "1", "--database-url", login(role), code=0 if role == "shithub_operator" else 77
    )
    assert len(holds(database)) == (1 if role == "shithub_operator" else 0), done.stderr


def test_behind_a_lock_a_ramp_gives_up_and_says_that_none_was_set(database, command):
    add_job(database)
    with somebody(database, "LOCK TABLE ramps IN SHARE MODE"):
        done = command("resume-kind", "k", "--rate", "1/s", "--timeout", "1", code=4)
    assert "holds a lock on ramps" in done.stderr
    assert "no ramp was set" in done.stderr
    assert holds(database) == []


def test_an_interrupted_ramp_stays_and_the_command_says_how_to_go_on(database, command):
    job = add_job(database)
    command("pause-kind", "k")
    with database.connect() as locker, locker.transaction():
        locker.execute("LOCK TABLE jobs IN SHARE MODE")
        process = subprocess.Popen(
            [sys.executable, "-m", "shithubd_worker", "resume-kind", "k", "--ramp", "10,100", "--until", "2h"],
            env=database.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "k is resumed in steps\n"
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"
        eventually(lambda: database.value(waits, database.name), "it puts the jobs back")
        process.send_signal(signal.SIGINT)
        with process:
            assert process.wait(PATIENCE) == 130
            assert process.stderr.read() == (
                "interrupted; some jobs may still be marked paused: to go on, run this again (the ramp begins anew):"
                " shithubd-worker resume-kind --ramp 10,100 --every 2m --until 2h k\n"
            )
    assert holds(database) == [("kind", "k", None)]
    assert state(database, job) == ("paused", 0)
    command("resume-kind", "--ramp", "10,100", "--every", "2m", "--until", "2h", "k")
    assert state(database, job) == ("queued", 0)


def test_a_kind_whose_name_begins_like_an_option_gets_commands_that_can_be_pasted(database, command):
    add_job(database, "--x")
    told = command("resume-kind", "--rate", "1/s", "--", "--x").stdout
    assert "to let everything go: shithubd-worker resume-kind -- --x" in told
    database.query("UPDATE ramps SET stopped_at = now(), stopped = 'a test'")
    again = re.search("try the ramp again: shithubd-worker (.*)", command("status").stdout)[1]
    assert again == "resume-kind --rate 1/s -- --x"
    command(*again.split())
