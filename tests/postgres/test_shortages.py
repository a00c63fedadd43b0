"""Too few connections, memory or disk: no attempt is used up, the loop pauses, and the rest goes on."""

from __future__ import annotations

import re

import psycopg
import pytest
from conftest import eventually
from test_refusals import HANDLERS, enqueue, gone, outcomes, states

LOG = "SELECT outcome, count(*) FROM job_history GROUP BY 1"


@pytest.fixture
def narrow(database):
    """The URL of a role that may have two connections, which the worker itself needs."""
    database.query("CREATE ROLE narrow LOGIN CONNECTION LIMIT 2 IN ROLE shithub_worker")
    yield psycopg.conninfo.make_conninfo(database.url, user="narrow")
    database.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE usename = 'narrow' AND datname = current_database()"
    )
    database.query("DROP OWNED BY narrow; DROP ROLE narrow")


def test_at_the_connection_limit_no_attempt_is_used_up_and_other_jobs_run(database, start_worker, narrow):
    asking = enqueue(database, 300, kind="refused.asks")
    # otherwise the other jobs wait until each of these was tried
    database.query("UPDATE jobs SET priority = priority + 1")
    worker = start_worker("--prefetch", "3600", handlers=HANDLERS, env={"SHITHUBD_WORKER_DATABASE_URL": narrow})
    worker.wait_for("pausing for ")
    others = enqueue(database, 50)
    gone(database, others)
    refused = database.query(
        "SELECT id, attempts, last_error FROM jobs WHERE last_error IS NOT NULL AND state = 'queued'"
    )
    assert refused
    assert {attempts for _, attempts, _ in refused} == {0}
    assert all("too many connections" in error for _, _, error in refused)
    assert set(dict(database.query(LOG))) == {"released", "ok"}
    # One after the other, with pauses, and not all of them again and again.
    assert dict(database.query(LOG))["released"] < 100
    database.query("ALTER ROLE narrow CONNECTION LIMIT 10")
    database.query("UPDATE jobs SET run_at = now() WHERE state = 'queued'")
    gone(database, asking)
    assert worker.terminate() == 0


def test_a_stop_is_heard_during_a_pause(database, start_worker):
    enqueue(database, 20, how="no space")
    worker = start_worker(handlers=HANDLERS)
    eventually(lambda: re.search("pausing for [1-9]", worker.log), "a long pause")
    assert worker.terminate() == 0
    assert database.query("SELECT DISTINCT state, attempts FROM jobs") == [("queued", 0)]
    assert set(dict(database.query(LOG))) == {"released"}


def test_not_now_postpones_a_job_and_costs_no_attempt(database, start_worker):
    (job,) = enqueue(database, how="not now")
    others = enqueue(database, 20)
    worker = start_worker(handlers=HANDLERS)
    gone(database, others)
    eventually(lambda: outcomes(database, job) == ["released"])
    assert states(database, job) == {job: "queued"}
    assert database.query("SELECT attempts, last_error, run_at > now() + interval '900 s' FROM jobs") == [
        (0, "somebody has it", True)
    ]
    assert "pausing" not in worker.log
    assert worker.terminate() == 0
