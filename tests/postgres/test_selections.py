"""`jobs` with a selection: what a preview shows is what the change then does, and nothing else."""

from __future__ import annotations

import json
import os
import re
import select
from datetime import UTC, datetime, timedelta

import nursery
import pytest
from commands import emptied_database, exact_command, one_database  # noqa: F401 (fixtures)
from conftest import PATIENCE, dice
from rows import add_job, add_worker, state

from shithubd_worker.admin.change import Change, change_batch, preview
from shithubd_worker.cli.change import choose, preview_object
from shithubd_worker.cli.choosing import how_many
from shithubd_worker.database.connection import connector
from shithubd_worker.database.operations import Operations
from shithubd_worker.plain import Json

LATER = datetime.now(UTC) + timedelta(days=1)


def states(database):
    return dict(database.query("SELECT id, state FROM jobs"))


def rows(database):
    """All that a change may change, by id."""
    return {
        row[0]: row[1:]
        for row in database.query(
            "SELECT id, state, priority, run_at, attempts, max_attempts, crashes, last_error, leased_by FROM jobs"
        )
    }


def test_a_selection_is_shown_and_without_a_terminal_only_yes_changes_it(database, command):
    jobs = [add_job(database, "mail.send", "failed", last_error="503") for _ in range(4)]
    running = add_job(database, "mail.send", "processing", worker=add_worker(database))
    other = add_job(database, "other", "failed")
    before = rows(database)
    shown = command("jobs", "discard", "--kind", "mail.send", code=5)
    assert shown.stderr == ("shithubd-worker: nothing is changed: no terminal is there to ask you; --yes does it\n")
    first, *examples, left, statement = shown.stdout.splitlines()
    assert first == "4 jobs would be discarded, for example:"
    assert [int(each.split()[0]) for each in examples] == jobs[:3]
    assert left == "left alone: 1 running"
    assert database.query(statement) == [(job,) for job in jobs]
    assert command("jobs", "discard", "--kind", "mail.send", "--dry-run").stdout == shown.stdout
    assert rows(database) == before
    done = command("jobs", "discard", "--kind", "mail.send", "--yes", "--reason", "r")
    number = database.value("SELECT id FROM audit WHERE jobs = 4")
    assert done.stdout.splitlines() == [
        "left alone: 1 running",
        *(f"job {job} discarded" for job in jobs),
        f"undo: shithubd-worker audit undo {number}",
    ]
    assert {*states(database)} == {running, other}


SELECTIONS = {
    "--kind a": {"a1", "a2"},
    "--state failed": {"a2", "b1"},
    "--state failed --kind a": {"a2"},
    "--error 50%": {"b1"},
    "--error 503:": {"a2"},
    "--older-than 1d": {"a1"},
    "--older-than 200d": set(),
    '--payload {"to":{"id":7}}': {"a1", "b1"},
    '--payload {"n":0.10000000000000000555}': {"b2"},
    '--payload {"n":0.1}': set(),
    "--payload {} --limit 3": {"a1", "a2", "b1"},
    "--kind it's": set(),
}


@pytest.mark.parametrize("words", SELECTIONS)
def test_each_option_of_a_selection_means_the_same_in_list_and_in_a_change(database, command, words):
    ids = {
        "a1": add_job(database, "a", payload='{"to": {"id": 7, "x": 1}}', created_at=LATER - timedelta(days=90)),
        "a2": add_job(database, "a", "failed", last_error="503: busy"),
        "b1": add_job(database, "b", "failed", last_error="50% of it", payload='{"to": {"id": 7}}'),
        "b2": add_job(database, "b", "paused", last_error="5", payload='{"n": 0.10000000000000000555}'),
    }
    meant = [ids[name] for name in sorted(SELECTIONS[words])]
    assert [job["id"] for job in command.json("jobs", "list", *words.split())] == meant
    told = command.json("jobs", "complete", *words.split(), "--yes")
    assert (told["action"], told["jobs"], told["changed"], told["refused"]) == ("complete", len(meant), len(meant), {})
    assert {*states(database)} == {*ids.values()} - {*meant}


def test_a_retry_of_a_selection_means_failed_jobs_unless_a_state_is_given(database, command):
    failed, waits = add_job(database, state="failed"), add_job(database, run_at=LATER)
    command("jobs", "retry", "--kind", "k", "--yes")
    assert database.query("SELECT id FROM jobs WHERE run_at <= now()") == [(failed,)]
    command("jobs", "retry", "--kind", "k", "--state", "queued", "--yes")
    assert database.value("SELECT count(*) FROM jobs WHERE run_at <= now()") == 2
    assert database.query("SELECT jobs, job_ids FROM audit ORDER BY id") == [(1, [failed]), (1, [waits])]


def test_a_release_of_a_selection_means_jobs_of_dead_workers_unless_a_second_run_is_accepted(database, command):
    dead = [add_job(database, state="processing", worker=add_worker(database, silent=True)) for _ in range(2)]
    alive = add_job(database, state="processing", worker=add_worker(database))
    assert command("jobs", "release", "--kind", "k", "--yes").stdout.splitlines()[:3] == [
        "left alone: 1 running",
        *(f"job {job} released" for job in dead),
    ]
    assert state(database, alive) == ("processing", 1)
    command("jobs", "release", "--state", "processing", "--yes", "--accept-second-run", "--reason", "it hangs")
    assert state(database, alive) == ("queued", 0)


def test_a_reschedule_changes_what_is_named_and_revives_failed_jobs(database, command):
    failed = add_job(database, state="failed", attempts=10, crashes=2, priority=3)
    paused = add_job(database, state="paused", attempts=4)
    command("jobs", "reschedule", failed, paused, "--delay", "2h", "--max-attempts", "12")
    looked = "SELECT state, priority, attempts, max_attempts, crashes, run_at - now() BETWEEN '119 min' AND '2 h'"
    assert database.query(f"{looked} FROM jobs ORDER BY id") == [
        ("queued", 3, 10, 12, 0, True),
        ("paused", 0, 4, 12, 0, True),
    ]
    words = ("--run-at", "2030-01-01", "--priority", "-5", "--attempts", "0")
    assert command.json("jobs", "reschedule", failed, *words)["changed"] == 1
    assert database.query("SELECT run_at, priority, attempts FROM jobs WHERE id = %s", failed) == [
        (datetime(2030, 1, 1, tzinfo=UTC), -5, 0)
    ]
    again = command("jobs", "reschedule", failed, *words)
    assert again.stdout == f"job {failed} is unchanged: it was so already\n"


def test_a_failed_job_has_the_message_or_the_reason_as_its_error(database, command):
    first, second = (add_job(database, max_attempts=5) for _ in range(2))
    command("jobs", "fail", first, "--message", "the customer is gone", "--reason", "ticket 7")
    command("jobs", "fail", second, "--reason", "ticket 8")
    assert database.query("SELECT state, last_error, attempts = max_attempts FROM jobs ORDER BY id") == [
        ("failed", "the customer is gone", True),
        ("failed", "ticket 8", True),
    ]


def test_ids_that_come_twice_run_or_do_not_exist_are_told_one_by_one(database, command):
    job, running = add_job(database), add_job(database, state="processing", worker=add_worker(database))
    missing = running + 99
    told = command("jobs", "complete", job, running, job, missing, "--dry-run").stdout.splitlines()
    assert told[0] == "1 job would be completed, for example:"
    assert told[2] == "left alone: 1 not in the queue, 1 running"
    done = command("jobs", "complete", job, running, job, missing, code=5)
    assert done.stdout.startswith(f"job {job} completed\nundo: ")
    assert done.stderr.splitlines() == [
        f"shithubd-worker: job {running} is not completed: it is running: wait for its end, or stop it first:"
        f" shithubd-worker jobs release {running} --accept-second-run --reason TEXT",
        f"shithubd-worker: no job {missing}: it is not in the queue: shithubd-worker jobs show {missing} finds a"
        " finished job",
    ]


def test_many_refusals_of_one_reason_are_one_line(database, command):
    worker = add_worker(database)
    jobs = [add_job(database, state="processing", worker=worker) for _ in range(30)]
    done = command("jobs", "discard", *jobs, code=5)
    assert done.stdout == "0 jobs discarded\n"
    assert done.stderr.startswith(
        f"shithubd-worker: 30 jobs are not discarded, for example {jobs[0]}, {jobs[1]}, {jobs[2]}: it is running: wait"
    )
    assert len(done.stderr.splitlines()) == 1
    assert len(command.json("jobs", "discard", *jobs, code=5)["refused"]) == 30


def test_a_job_that_a_trigger_keeps_or_refuses_is_named_and_the_others_are_changed(database, command):
    jobs = [add_job(database, "k", "failed", priority=n) for n in range(4)]
    database.query(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF OLD.priority = 1 THEN RETURN NULL; END IF;"
        " IF OLD.priority = 2 THEN RAISE EXCEPTION E'not\\x1b[31m this one'; END IF;"
        " RETURN NEW; END $$;"
        " CREATE TRIGGER keep BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION keep()"
    )
    try:
        done = command("jobs", "retry", "--kind", "k", "--yes", code=5)
    finally:
        database.query("DROP TRIGGER keep ON jobs; DROP FUNCTION keep")
    assert done.stdout.startswith(f"job {jobs[0]} retried\njob {jobs[3]} retried\nundo: ")
    assert f"job {jobs[1]} is not retried: a trigger of yours on jobs left it as it was" in done.stderr
    assert f"job {jobs[2]} is not retried: the database refuses it: not\\x1b[31m this one" in done.stderr
    assert [each[1] for each in sorted(states(database).items())] == ["queued", "failed", "failed", "queued"]


def test_no_text_of_a_job_or_of_a_selection_steers_the_terminal(database, command):
    evil = "\x1b[2J\u202eerror\n\r"
    add_job(database, "k", "failed", last_error=evil, payload=json.dumps({"a": evil}))
    for words in (("--error", evil), ("--payload", json.dumps({"a": evil}, ensure_ascii=False))):
        for more in (("--dry-run",), ("--dry-run", "--json")):
            told = command("jobs", "complete", *words, *more).stdout
            assert not re.search("[\x1b\r\u202e]", told)
            assert '"count": 1' in told or told.startswith("1 job would be completed")


# What the dry run says is what the change does.

ACTIONS = {
    "complete": [{}],
    "fail": [{"error": "no"}, {"error": "x"}],
    "reschedule": [
        {"priority": 1},
        {"attempts": 3},
        {"max_attempts": 5, "priority": 0},
        {"run_at": "2030-01-01T00:00Z"},
    ],
    "retry": [{}],
    "discard": [{}],
    "release": [{}, {"accept_second_run": True}],
}


def random_rows(database, luck):
    workers = [add_worker(database, pid=n, silent=bool(n % 2)) for n in range(4)]
    for _ in range(60):
        name = luck.choice(["queued", "queued", "processing", "paused", "failed", "failed"])
        columns = {
            "priority": luck.choice([0, 1]),
            "max_attempts": luck.choice([3, 5, 10]),
            "run_at": luck.choice([LATER, datetime(2030, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)]),
            "created_at": luck.choice([LATER - timedelta(days=2), LATER - timedelta(days=100)]),
            "last_error": luck.choice([None, "no", "x", "xy"]),
            "payload": luck.choice(["{}", '{"a": 1}', '{"a": 1, "b": [2]}']),
            "crashes": luck.choice([0, 0, 2]),
        }
        if name == "processing":
            columns["worker"] = luck.choice([*workers, None])
        else:
            columns["attempts"] = luck.choice([0, 3, 10])
        add_job(database, luck.choice("ab"), name, **columns)


def random_selection(luck):
    choices = {
        "kind": ["a", "b", "c"],
        "state": ["queued", "paused", "failed"],
        "error": ["", "x", "no"],
        "older_than": [86400 * 30.0, 0.0],
        "payload": [Json('{"a": 1}'), Json("{}")],
    }
    return {name: luck.choice(values) for name, values in choices.items() if luck.random() < 0.35}


@pytest.mark.parametrize("number", range(6))
def test_what_a_dry_run_says_is_what_the_change_then_does(any_database, number):
    luck = dice(number)
    random_rows(any_database, luck)
    operations = Operations(connector(any_database.url, "test", pooled=True), "public")
    for action in sorted(ACTIONS, key=lambda _: luck.random()):
        for values in ACTIONS[action]:
            where, limit = random_selection(luck), luck.choice([None, None, 5])
            change = Change(action, "me", "why", values, where)
            some = luck.sample(sorted(rows(any_database)), 8) if len(rows(any_database)) > 8 and number % 2 else []
            found = choose(operations, change, [*some, 10**9] if some else [], limit, look=True)
            said = preview_object(found)
            before = rows(any_database)
            named = [*some, 10**9] if some else found.ids
            done = change_batch(operations, found.change if not some else Change(action, "me", "why", values), named)
            after = rows(any_database)
            changed = {job for job in before if before[job] != after.get(job)}
            assert (changed, done.changed, said["count"]) == ({*found.ids}, len(found.ids), len(found.ids)), change
            assert [job["id"] for job in said["examples"]] == found.ids[:3]
            if some:
                assert sum(said["left_alone"].values()) == len(done.refused)
            elif limit is None:
                assert done.refused == {}
                left = preview(operations, Change("complete", "me", selection=where), None)
                meant = len(left.ids) + sum(left.left_alone.values())
                if action in ("complete", "discard"):
                    assert meant == 0 + left.left_alone.get("processing", 0)
    operations.close()


# On a terminal.


class Terminal:
    """A command on a terminal of its own: what it shows, and what is typed."""

    def __init__(self, database, *arguments):
        self.ours, theirs = os.openpty()
        self.said = ""
        with os.fdopen(theirs, "r+b", buffering=0, closefd=True) as end:
            env = {**database.environment(), "TERM": "xterm", "COLUMNS": "200"}
            self.process = nursery.Process([*map(str, arguments)], env=env, files=(end, end, end), session=True)

    def wait_for(self, text):
        while text not in self.said:
            ready, _, _ = select.select([self.ours], [], [], PATIENCE)
            assert ready, f"no {text!r}: {self.said}"
            self.said += os.read(self.ours, 65536).decode()

    def type(self, text):
        os.write(self.ours, text.encode())

    def end(self):
        code = self.process.wait(PATIENCE)
        while select.select([self.ours], [], [], 0)[0]:
            try:
                self.said += os.read(self.ours, 65536).decode()
            except OSError:  # the other end is closed, and all is read
                break
        os.close(self.ours)
        return code


@pytest.mark.parametrize(("typed", "code", "left"), [("y\n", 0, 0), ("n\n", 5, 2), ("\n", 5, 2), ("\x04", 5, 2)])
def test_on_a_terminal_a_selection_is_changed_only_after_a_yes(database, typed, code, left):
    for _ in range(2):
        add_job(database, "k", "failed")
    terminal = Terminal(database, "jobs", "discard", "--kind", "k")
    terminal.wait_for("do it? [y/N] ")
    assert "2 jobs would be discarded" in terminal.said
    assert database.value("SELECT count(*) FROM jobs") == 2
    terminal.type(typed)
    assert terminal.end() == code
    assert database.value("SELECT count(*) FROM jobs") == left
    assert ("nothing is changed" in terminal.said) == (code == 5)


def test_a_large_change_shows_a_bar_on_a_terminal_and_none_without(database, command):
    database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 6000)")
    terminal = Terminal(database, "jobs", "reschedule", "--kind", "k", "--delay", "1h", "--yes")
    assert terminal.end() == 0
    assert "6000/6000" in terminal.said
    assert "6,000 jobs rescheduled" in terminal.said
    done = command("jobs", "reschedule", "--kind", "k", "--delay", "2h", "--yes")
    assert (done.stdout.splitlines()[0], done.stderr) == (f"{how_many(6000)} rescheduled", "")
