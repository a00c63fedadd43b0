"""A trigger of the application keeps a job unchanged: the operator's command says so, and records nothing."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest
from conftest import Database

STEPS = {
    "retry": ("UPDATE", "failed", "not retried"),
    "release": ("UPDATE", "processing", "not released"),
    "discard": ("DELETE", "failed", "not discarded"),
}
# What the trigger's function returns, and for which commands the row then stays unchanged.
KEEPING = [*[(step, "NULL") for step in STEPS], ("retry", "OLD"), ("release", "OLD")]
LEASED = "leased_by = 'web1:1', leased_at = '2000-01-01', worker_id = '{}'"


def keep(database: Database, event: str, answer: str) -> None:
    database.query(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql SET search_path = ''"
        f" AS $$ BEGIN RETURN {answer}; END $$;"
        f" CREATE TRIGGER keeping BEFORE {event} ON jobs FOR EACH ROW WHEN (OLD.kind = 'k') EXECUTE FUNCTION keep()"
    )


def add(database: Database, state: str, kind: str = "k", more: str = "priority = 0") -> int:
    job = database.value("INSERT INTO jobs (kind) VALUES (%s) RETURNING id", kind)
    leased = LEASED.format(uuid4()) if state == "processing" else "leased_by = NULL"
    database.query(f"UPDATE jobs SET state = '{state}', {leased}, {more} WHERE id = {job}")
    return int(job)


def rows(database: Database) -> list[tuple[object, ...]]:
    return database.query("SELECT jobs::text FROM jobs ORDER BY id")


@pytest.mark.parametrize(("step", "answer"), KEEPING)
def test_a_change_that_a_trigger_prevented_is_refused_and_not_recorded(any_database, command, step, answer):
    event, state, says = STEPS[step]
    job, other = add(any_database, state), add(any_database, state, kind="free")
    before = rows(any_database)[:1]
    keep(any_database, event, answer)
    env = {"SHITHUBD_WORKER_DATABASE_URL": any_database.url}
    refused = command("jobs", step, str(job), env=env)
    assert refused.stdout == ""
    assert refused.stderr == f"shithubd-worker: job {job} is {says}: a trigger left the job as it was\n"
    assert refused.returncode == 5
    assert rows(any_database)[:1] == before
    assert any_database.query("SELECT FROM audit") == any_database.query("SELECT FROM job_history") == []
    both = command("jobs", step, str(job), str(other), "--json", env=env)  # the next one is tried
    assert both.returncode == 5
    assert [row["id"] for row in json.loads(both.stdout)] == [job, other]
    assert any_database.query("SELECT job_ids FROM audit") == [([other],)]


@pytest.mark.parametrize("answer", ["NULL", "OLD"])
def test_a_postponed_job_that_a_trigger_keeps_postponed_is_not_retried(any_database, command, answer):
    job = add(any_database, "queued", more="run_at = '2100-01-01'")
    keep(any_database, "UPDATE", answer)
    assert any_database.value(f"SELECT retry_job_v1({job})") == "not retried: a trigger left the job as it was"
    assert any_database.query("SELECT FROM audit") == []


def test_a_due_job_is_retried_even_if_its_row_does_not_change(any_database):
    job = add(any_database, "queued", more="run_at = '2000-01-01'")
    assert any_database.value(f"SELECT retry_job_v1({job})") == "retried"
