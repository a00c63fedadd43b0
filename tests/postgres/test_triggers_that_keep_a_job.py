"""A trigger of the application keeps a job unchanged: the function says so, and records nothing about this job."""

from __future__ import annotations

from uuid import uuid4

import pytest
from conftest import Database

# What each action does to the row, and a job to which it applies.
ACTIONS = {
    "complete": ("DELETE", "failed"),
    "fail": ("UPDATE", "queued"),
    "reschedule": ("UPDATE", "paused"),
    "retry": ("UPDATE", "failed"),
    "discard": ("DELETE", "failed"),
    "release": ("UPDATE", "processing"),
}
# What the trigger's function returns, and for which actions the row then stays unchanged.
KEEPING = [
    *[(action, "NULL") for action in ACTIONS],
    *[(action, "OLD") for action, (event, _) in ACTIONS.items() if event == "UPDATE"],
]
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


def refused(database: Database, action: str, *jobs: int) -> dict[str, str]:
    given = {"fail": '{"error": "no"}', "reschedule": '{"priority": 7}'}.get(action, "{}")
    return dict(database.value("SELECT refused FROM change_jobs_v1(%s, %s, %s)", action, list(jobs), given))


def row(database: Database, job: int) -> list[tuple[object, ...]]:
    return database.query("SELECT jobs::text FROM jobs WHERE id = %s", job)


@pytest.mark.parametrize(("action", "answer"), KEEPING)
def test_a_change_that_a_trigger_prevented_is_refused_and_not_recorded(any_database, action, answer):
    event, state = ACTIONS[action]
    job, other = add(any_database, state), add(any_database, state, kind="free")
    before = row(any_database, job)
    keep(any_database, event, answer)
    assert refused(any_database, action, job) == {str(job): "trigger"}
    assert any_database.query("SELECT FROM audit") == any_database.query("SELECT FROM job_history") == []
    assert refused(any_database, action, job, other) == {str(job): "trigger"}  # the other one is changed
    assert row(any_database, job) == before
    assert any_database.query("SELECT job_ids FROM audit") == [([other],)]
    assert any_database.query("SELECT FROM job_history WHERE id = %s", job) == []


@pytest.mark.parametrize("answer", ["NULL", "OLD"])
def test_a_postponed_job_that_a_trigger_keeps_postponed_is_not_retried(any_database, answer):
    job = add(any_database, "queued", more="run_at = '2100-01-01'")
    keep(any_database, "UPDATE", answer)
    assert refused(any_database, "retry", job) == {str(job): "trigger"}
    assert any_database.query("SELECT FROM audit") == []


def test_a_due_job_is_not_retried_because_it_would_not_change(any_database):
    job = add(any_database, "queued", more="run_at = '2000-01-01'")
    assert refused(any_database, "retry", job) == {str(job): "unchanged"}
