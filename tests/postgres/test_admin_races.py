"""Operators who do opposite things to the same jobs at the same moment: state and record agree for every job."""

from __future__ import annotations

import json
import threading

import pytest
from rows import add_job
from waiting import eventually

JOBS = 1250
AT_ONCE = 50  # how many jobs a statement names
PAIRS = {
    "retry, discard": ("failed", ("retry", {}), ("discard", {})),
    "complete, fail": ("queued", ("complete", {}), ("fail", {"error": "no"})),
    "reschedule, release": ("processing", ("reschedule", {"priority": 7}), ("release", {"accept_second_run": True})),
    "fail, reschedule": ("paused", ("fail", {"error": "no"}), ("reschedule", {"attempts": 2})),
}

# The record of each job, in its order: each change begins where the one before ended, and the last one is the row.
BROKEN = """
    WITH changes AS (
        SELECT k.id AS chunk, c.* FROM audit_chunks k, ROWS FROM (unnest(k.job_ids), unnest(k.before), unnest(k.after))
               c (job, before, after)
    ), chain AS (
        SELECT c.*, lag(c.after) OVER (PARTITION BY c.job ORDER BY c.chunk) AS earlier,
               row_number() OVER (PARTITION BY c.job ORDER BY c.chunk) AS number,
               lead(c.chunk) OVER (PARTITION BY c.job ORDER BY c.chunk) IS NULL AS is_last
          FROM changes c
    )
    SELECT c.job FROM chain c LEFT JOIN jobs j ON j.id = c.job
     WHERE (c.number > 1 AND same_face_v1(c.earlier, c.before) IS NOT TRUE)
        OR (c.is_last AND CASE WHEN j.id IS NULL THEN c.after IS NOT NULL ELSE same_face_v1(c.after, job_face_v1(j)) IS NOT TRUE END)
"""


def add_jobs(database, state):
    jobs = [add_job(database, state=state, attempts=1)] if state != "processing" else [add_job(database, state=state)]
    names = "kind, payload, state, attempts, leased_by, leased_at, lease_token, lease_expires_at"
    database.query(f"INSERT INTO jobs ({names}) SELECT {names} FROM jobs, generate_series(2, {JOBS})")
    jobs = [job for (job,) in database.query("SELECT id FROM jobs ORDER BY id")]
    assert len(jobs) == JOBS
    return jobs


def do(database, action, given, jobs, start, told):
    """Do an action to all jobs, many at once, each time at the moment when the other one names the same jobs. Do it
    again to those that the other one has locked."""
    try:
        left, changed, met = list(jobs), 0, JOBS // AT_ONCE
        with database.connect() as connection:
            while left:
                if met > 0:
                    start.wait(30)
                    met -= 1
                these, left = left[:AT_ONCE], left[AT_ONCE:]
                done, refused, rest = connection.execute(
                    "SELECT changed, refused, rest FROM change_batch_v1(%s, %s, %s, '{}', 'race', 'a', NULL)",
                    (action, these, json.dumps(given)),
                ).fetchone()
                changed += done
                states = {"queued", "processing", "failed"}
                assert set(refused.values()) <= {"locked", "changed", "no such job", "unchanged", *states}
                left += rest + [int(job) for job, why in refused.items() if why in ("locked", "changed")]
        told[action] = changed
    except BaseException as error:  # for the thread that waits
        told[action] = error
        raise


@pytest.mark.parametrize("pair", PAIRS)
def test_opposite_changes_of_the_same_jobs_agree_with_their_record(any_database, pair):
    state, *both = PAIRS[pair]
    jobs = add_jobs(any_database, state)
    start, told = threading.Barrier(2), {}
    threads = [threading.Thread(target=do, args=(any_database, *doing, jobs, start, told)) for doing in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(isinstance(changed, int) for changed in told.values()), told
    assert len(told) == 2
    with any_database.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        assert connection.execute(BROKEN).fetchall() == []
    recorded = dict(any_database.query("SELECT action, sum(jobs) FROM audit GROUP BY 1"))
    assert {action: int(recorded.get(action, 0)) for action in told} == told
    assert sum(told.values()) >= JOBS
    gone = any_database.value("SELECT count(*) FROM job_history WHERE outcome IN ('completed', 'discarded')")
    assert gone == JOBS - any_database.value("SELECT count(*) FROM jobs")
    assert any_database.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0


def test_two_who_complete_the_same_jobs_share_them(any_database):
    jobs = add_jobs(any_database, "queued")
    counts = []

    def complete(ids):
        with any_database.connect() as connection:
            for begin in range(0, JOBS, AT_ONCE):
                rows = connection.execute(
                    "SELECT id FROM complete_jobs(%s)", (ids[begin : begin + AT_ONCE],)
                ).fetchall()
                counts.extend(job for (job,) in rows)

    threads = [threading.Thread(target=complete, args=(ids,)) for ids in (jobs, jobs[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(counts) == len(set(counts))  # nobody was told of a job that the other one has completed
    left = any_database.query("SELECT id FROM jobs")  # both skipped what the other one had locked
    assert len(counts) + len(left) == JOBS


def test_changes_disturb_no_worker_that_leases_and_settles_the_same_kind(database, start_worker):
    workers = [start_worker() for _ in range(2)]
    add = "INSERT INTO jobs (kind, run_at) SELECT 'test.ok', 'infinity' FROM generate_series(1, 3000) RETURNING id"
    jobs = [job for (job,) in database.query(add)]
    calls = (
        "reschedule_jobs(%s, now())",  # the workers begin
        "permanently_fail_jobs(%s, 'no')",
        "retry_jobs(%s)",
        "reschedule_jobs(%s, priority := 2)",
        "release_jobs(%s)",
        "complete_jobs(%s)",
    )
    for n, begin in enumerate(range(0, 3000, 100)):
        database.query(f"SELECT FROM {calls[0]}", jobs[begin : begin + 100])
        for call in calls[n % 4 + 1 : n % 4 + 3]:  # also to jobs that the workers may not take yet
            database.query(f"SELECT FROM {call}", jobs[max(begin - 100, 0) : begin + 120])
    database.query("SELECT FROM retry_jobs(ARRAY(SELECT id FROM jobs))")
    eventually(lambda: not database.query("SELECT FROM jobs"), "the end of all jobs")
    ends = dict(database.query("SELECT outcome, count(DISTINCT id) FROM job_history GROUP BY 1"))
    assert ends["ok"] + ends["completed"] == 3000, ends
    assert ends.keys() <= {"ok", "completed", "failed"}, ends
    assert database.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0
    for worker in workers:
        assert worker.terminate() == 0
        assert "WARNING" not in worker.log
        assert "ERROR" not in worker.log
