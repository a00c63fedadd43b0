"""The administrative functions change what they say, tell what they changed, and leave running jobs alone."""

from __future__ import annotations

import pytest
from rows import add_job

STATES = ("queued", "processing", "paused", "failed")


def text(database, job):
    """The whole row of a job; an empty list if it is gone."""
    return database.query("SELECT jobs::text FROM jobs WHERE id = %s", job)


def returned(database, call, *arguments):
    """The ids that a function returns, and what became of them."""
    return sorted(job for (job,) in database.query(f"SELECT id FROM {call}", *arguments))


@pytest.mark.parametrize(
    ("call", "changes"),
    [
        ("complete_jobs(%s)", {"queued", "paused", "failed"}),
        ("permanently_fail_jobs(%s, 'no')", {"queued", "paused", "failed"}),
        ("reschedule_jobs(%s, run_at := now() + interval '5 minutes')", {"queued", "paused", "failed"}),
        ("retry_jobs(%s)", {"failed"}),  # a queued job that is due is so already
        ("discard_jobs(%s)", {"queued", "paused", "failed"}),
        ("release_jobs(%s)", {"processing"}),
    ],
)
def test_a_function_returns_the_jobs_that_it_changed_and_leaves_the_others(any_database, call, changes):
    jobs = {state: add_job(any_database, state=state) for state in STATES}
    before = {state: text(any_database, job) for state, job in jobs.items()}
    ids = [*jobs.values(), *jobs.values(), None, 10**12]
    assert returned(any_database, call, ids) == sorted(jobs[state] for state in changes)
    for state, job in jobs.items():
        assert (text(any_database, job) == before[state]) == (state not in changes), state
    (recorded,) = any_database.query("SELECT jobs, job_ids, login = session_user FROM audit")
    assert recorded == (len(changes), sorted(jobs[state] for state in changes), True)
    assert returned(any_database, call, [10**12]) == []
    assert any_database.value("SELECT count(*) FROM audit") == 1
