"""--plan, apply and plans, as an operator types them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from commands import Command, emptied_database, exact_command, one_database  # noqa: F401 (fixtures)
from conftest import eventually
from rows import add_job
from test_commands_completion import completions
from test_plans import in_chunks_of

PRIORITY = "UPDATE jobs SET priority = 5 WHERE id = %s"


@pytest.fixture(autouse=True)
def no_plans(database):
    database.query("DELETE FROM job_plans")


def planned(command, *words):
    return command.json(*words, "--plan")["plan"]


def test_a_plan_says_what_it_would_do_and_how_to_do_it_and_changes_nothing(database, command):
    jobs = [add_job(database, state="failed", last_error="503") for _ in range(4)]
    said = command("jobs", "retry", "--kind", "k", "--plan", "--reason", "it is back").stdout.splitlines()
    [name] = [name for (name,) in database.query("SELECT name FROM job_plans")]
    assert said[0] == "4 jobs would be retried, for example:"
    assert len(said) == 6
    assert "SELECT j.id FROM public.jobs j WHERE " in said[4]
    assert said[5].startswith("to do it before 20")
    assert said[5].endswith(f" UTC: shithubd-worker apply {name}")
    assert database.value("SELECT count(*) FROM jobs WHERE state = 'failed'") == 4
    assert database.query("SELECT FROM audit") == []
    [listed] = command("plans").stdout.splitlines()
    assert listed.startswith(f"{name}")
    assert "open     retry 4 jobs until 20" in listed
    assert listed.endswith(": it is back")
    looked = command("apply", name, "--dry-run").stdout
    assert "it would change 4 jobs" in looked
    done = command("apply", name).stdout.splitlines()
    [audit] = [audit for (audit,) in database.query("SELECT id FROM audit")]
    assert done[-2:] == [f"changed 4 of 4 jobs (audit {audit})", f"undo: shithubd-worker audit undo {audit}"]
    assert database.query("SELECT reason, job_ids FROM audit") == [("it is back", jobs)]
    assert command("plans").stdout.split()[1] == "applied"


def test_apply_refuses_and_names_what_was_changed_and_partial_does_the_rest(database, command):
    jobs = [add_job(database) for _ in range(3)]
    name = planned(command, "jobs", "discard", *jobs)
    database.query(PRIORITY, jobs[1])
    for words in ((), ("--dry-run",)):
        done = command("apply", name, *words, code=5)
        assert done.stdout.splitlines()[-1] == f"job {jobs[1]}: priority was 0, is 5"
        assert done.stderr == (
            f"shithubd-worker: plan {name} is not applied: 1 of 3 jobs changed since; to change the others:"
            f" shithubd-worker apply {name} --partial\n"
        )
    assert database.value("SELECT count(*) FROM jobs") == 3
    foretold = command.json("apply", name, "--partial", "--dry-run")
    told = command.json("apply", name, "--partial", "--reason", "agreed")
    assert foretold["left"] == [{"id": jobs[1], "why": "priority was 0, is 5", "done": False}]
    assert told["left"] == [{"id": jobs[1], "why": "priority was 0, is 5", "done": True}]
    assert (told["plan"]["changed"], told["plan"]["state"], told["dry_run"]) == (2, "applied", False)
    assert database.query("SELECT reason, job_ids FROM audit") == [("agreed", [jobs[0], jobs[2]])]
    assert f"plan {name} is already applied: by " in command.refused("apply", name, "--partial", code=5)


def test_apply_goes_on_after_a_change_at_the_last_moment(database, command):
    jobs = [add_job(database) for _ in range(3)]
    name = planned(command, "jobs", "discard", *jobs)
    in_chunks_of(database, name, 1)
    database.query(  # the second transaction meets a job that the first one has changed
        "CREATE FUNCTION also() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" UPDATE public.jobs SET priority = 5 WHERE id = {jobs[1]} AND OLD.id = {jobs[0]}; RETURN OLD; END $$;"
        "CREATE TRIGGER also BEFORE DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION also()"
    )
    try:
        said = command("apply", name, code=5).stderr
        assert f"job {jobs[1]}: priority was 0, is 5: 1 of 3 jobs of plan {name} are changed (audit " in said
        assert said.endswith(f"to go on with the rest: shithubd-worker apply {name}\n")
        assert command("plans").stdout.split()[1] == "begun"
        assert command("apply", name, "--partial").stdout.splitlines()[-2] == f"job {jobs[1]}: priority was 0, is 5"
    finally:
        database.query("DROP FUNCTION also() CASCADE")
    assert database.query("SELECT id FROM jobs") == [(jobs[1],)]
    assert database.query("SELECT jobs FROM audit") == [(2,)]


def test_apply_says_how_far_it_came_after_ctrl_c_and_goes_on(database, command):
    jobs = [add_job(database) for _ in range(3)]
    name = planned(command, "jobs", "discard", *jobs)
    in_chunks_of(database, name, 1)
    with database.connect() as other:
        other.execute("BEGIN")
        other.execute("SELECT FROM jobs WHERE id = %s FOR UPDATE", (jobs[1],))
        process = subprocess.Popen(
            [sys.executable, "-m", "shithubd_worker", "apply", name],
            env=database.environment() | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        eventually(lambda: database.value("SELECT done FROM job_plans") == 1, "the first part")
        eventually(lambda: database.query("SELECT 1 FROM pg_locks WHERE NOT granted"), "a wait for the second")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    audit = database.value("SELECT id FROM audit")
    assert said.splitlines()[-1] == (
        f"interrupted: 1 of 3 jobs of plan {name} are changed (audit {audit});"
        f" to go on with the rest: shithubd-worker apply {name}"
    )
    assert "changed 3 of 3 jobs" in command("apply", name).stdout
    assert database.query("SELECT jobs FROM audit") == [(3,)]


def test_a_plan_that_does_not_exist_expired_or_has_no_jobs(database, command):
    assert command("plans").stdout == "no plans\n"
    assert "there is no plan 1-abc" in command.refused("apply", "1-abc", code=1)
    assert "there is no plan :" in command.refused("apply", "", code=1)
    running = add_job(database, state="processing")
    said = command("jobs", "discard", running, "--plan").stdout.splitlines()
    assert said[0] == "0 jobs would be discarded"
    assert said[1] == f"not in the plan: job {running}: it is running"
    assert said[-1] == "no plan is written"
    assert command.json("jobs", "discard", running, "--plan")["plan"] is None
    name = planned(command, "jobs", "discard", add_job(database))
    database.query("UPDATE job_plans SET expires_at = clock_timestamp()")
    assert f"plan {name} expired at 20" in command.refused("apply", name, code=5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--plan", "--dry-run"), "give --plan or --dry-run, not both"),
        (("--expires", "1h"), "--expires needs --plan"),
        (("--plan", "--expires", "8d"), "a plan expires in at most 7d, and not at once"),
        (("--plan", "--expires", "0"), "a plan expires in at most 7d, and not at once"),
    ],
)
def test_options_of_a_plan_that_cannot_be_meant(command, words, said):
    assert said in command.refused("jobs", "discard", "1", *words, code=2)


def test_a_plan_expires_when_the_option_says(database, command):
    job = add_job(database)
    for words, left in ((), "1 hour"), (("--expires", "2d"), "2 days"):
        name = planned(command, "jobs", "discard", job, *words)
        age = database.value("SELECT expires_at - at FROM job_plans WHERE name = %s", name)
        assert database.value("SELECT abs(extract(epoch FROM %s - %s::interval)) < 1", age, left)


def test_the_delay_of_a_reschedule_counts_from_the_plan(database, command):
    job = add_job(database)
    name = planned(command, "jobs", "reschedule", job, "--delay", "5m")
    wanted = database.value("SELECT (arguments->>'run_at')::timestamptz FROM job_plans")
    command("apply", name)
    assert database.query("SELECT run_at FROM jobs") == [(wanted,)]


def test_the_names_of_open_plans_complete(database, command):
    name = planned(command, "jobs", "discard", add_job(database))
    assert completions(command, "apply") == {name}
    command("apply", name)
    assert completions(command, "apply") == set()
