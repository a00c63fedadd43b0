"""The SQL of Graphile Worker's page "Administrative functions" runs unchanged in a queue whose schema has that name."""

from __future__ import annotations

import pytest

from shithubd_worker.database import schema

# As the page prints them. Only ", ..." is left out of the lists of ids.
COMPLETE = "SELECT * FROM graphile_worker.complete_jobs(ARRAY[7, 99, 38674]);"
FAIL = "SELECT * FROM graphile_worker.permanently_fail_jobs(ARRAY[7, 99, 38674], 'Enter reason here');"
RESCHEDULE = """
SELECT * FROM graphile_worker.reschedule_jobs(
ARRAY[7, 99, 38674],
run_at := NOW() + interval '5 minutes',
priority := 5,
attempts := 5,
max_attempts := 25
);
"""
UNLOCK = """
SELECT graphile_worker.force_unlock_workers(ARRAY[
'worker-0d069f0d6be41d1adb',
'worker-cd357d05e3382cd169'
]);
"""

# What each leaves of the jobs: 7 failed after 3 of 3 attempts and two crashes, 99 is queued, 38674 runs.
LEFT = {
    COMPLETE: [],
    FAIL: [
        (7, "failed", "Enter reason here", 3, 3, 2, 0, False),
        (99, "failed", "Enter reason here", 0, None, 0, 0, False),
    ],
    RESCHEDULE: [
        (7, "queued", "no", 5, 25, 0, 5, True),
        (99, "queued", None, 5, 25, 0, 5, True),
    ],
}


@pytest.fixture
def page(any_database):
    """A connection to the queue in the schema graphile_worker, with the jobs of the page in it."""
    with any_database.connect() as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS graphile_worker")
        schema.migrate(connection, "graphile_worker")
        connection.execute("RESET search_path")
        connection.execute(
            "INSERT INTO graphile_worker.jobs"
            " (id, kind, state, attempts, max_attempts, crashes, last_error, leased_by, leased_at)"
            " VALUES (7, 'k', 'failed', 3, 3, 2, 'no', NULL, NULL), (99, 'k', 'queued', 0, NULL, 0, NULL, NULL, NULL),"
            " (38674, 'k', 'processing', 1, NULL, 0, NULL, 'web1:1', now())"
        )
        yield connection


@pytest.mark.parametrize("statement", LEFT, ids=["complete", "fail", "reschedule"])
def test_a_statement_of_the_page_returns_the_jobs_that_it_changed(page, statement):
    columns = "id, state, last_error, attempts, max_attempts, crashes, priority, run_at > now()"
    before = page.execute("SELECT * FROM graphile_worker.jobs WHERE id < 1000 ORDER BY id").fetchall()
    cursor = page.execute(statement)
    returned = sorted(cursor.fetchall())
    names = [column.name for column in cursor.description]
    assert names == [column.name for column in page.execute("TABLE graphile_worker.jobs LIMIT 0").description]
    left = page.execute("SELECT * FROM graphile_worker.jobs WHERE id < 1000 ORDER BY id").fetchall()
    assert returned == (left if left else before)
    assert [*page.execute(f"SELECT {columns} FROM graphile_worker.jobs WHERE id < 1000 ORDER BY id")] == LEFT[statement]
    assert [*page.execute("SELECT state, attempts FROM graphile_worker.jobs WHERE id = 38674")] == [("processing", 1)]
    assert [*page.execute("SELECT job_ids, jobs FROM graphile_worker.audit")] == [([7, 99], 2)]
    assert page.execute(statement).fetchall() == [] if statement == COMPLETE else True


def test_a_job_that_the_page_completes_stands_in_the_history(page):
    page.execute(COMPLETE)
    rows = page.execute(
        "SELECT id, outcome, retention, payload FROM graphile_worker.job_history ORDER BY id"
    ).fetchall()
    assert rows == [(7, "completed", "90d", {}), (99, "completed", "90d", {})]


def test_the_page_unlocks_the_jobs_of_the_workers_that_it_names_and_no_others(page):
    assert page.execute(UNLOCK).fetchall() == []  # no worker has these names
    page.execute(
        "INSERT INTO graphile_worker.jobs (id, kind, state, attempts, leased_by, leased_at) VALUES"
        " (1, 'k', 'processing', 1, 'worker-0d069f0d6be41d1adb', now()),"
        " (2, 'k', 'processing', 1, 'worker-cd357d05e3382cd169', now())"
    )
    returned = page.execute(UNLOCK.replace("SELECT", "SELECT id FROM", 1).replace(";", "")).fetchall()
    assert sorted(returned) == [(1,), (2,)]
    assert page.execute(
        "SELECT id, state, attempts FROM graphile_worker.jobs WHERE id <> 99 ORDER BY id"
    ).fetchall() == [
        (1, "queued", 0),
        (2, "queued", 0),
        (7, "failed", 3),
        (38674, "processing", 1),
    ]
    page.execute(
        "UPDATE graphile_worker.jobs SET state = 'processing', leased_by = 'worker-0d069f0d6be41d1adb',"
        " leased_at = now() WHERE id = 1"
    )
    ((row,),) = page.execute(UNLOCK).fetchall()
    assert row.startswith("(1,k,")


def test_the_page_cleans_up_all_at_once(page):
    tasks = ["DELETE_PERMAFAILED_JOBS", "GC_TASK_IDENTIFIERS", "GC_JOB_QUEUES"]
    assert page.execute("SELECT id FROM graphile_worker.cleanup(%s)", (tasks,)).fetchall() == [(7,)]
    assert page.execute("SELECT id FROM graphile_worker.jobs ORDER BY id").fetchall() == [(99,), (38674,)]
