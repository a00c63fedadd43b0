"""What the application, other sessions and other operators put in the way of an administrative function."""

from __future__ import annotations

import psycopg
import pytest
from bare import BareWorker
from conftest import Database
from rows import add_job, add_worker
from test_refusals import refuse

from shithubd_worker.model import How, Outcome
from shithubd_worker.registry import Registry

registry = Registry()
registry.handler("k")(lambda job: None)


def batch(database, action, jobs, given="{}", audit=None):
    """What change_batch_v1 says of these jobs: how many were changed, and why the others were not."""
    call = "SELECT changed, refused, audit_id, rest FROM change_batch_v1(%s, %s, %s, '{}', 'r', 'a', %s)"
    done, why = 0, {}
    while jobs:
        changed, refused, audit, jobs = database.query(call, action, jobs, given, audit)[0]
        done += changed
        why |= {int(job): word for job, word in refused.items()}
    return done, why


def add_jobs(database, count, **columns):
    names = "".join(f", {name}" for name in columns)
    marks = ", %s" * len(columns)
    rows = database.query(
        f"INSERT INTO jobs (kind{names}) SELECT 'k'{marks} FROM generate_series(1, {count}) RETURNING id",
        *columns.values(),
    )
    return [job for (job,) in rows]


@pytest.mark.parametrize("place", [0, 1233, 2499])
def test_one_job_of_2500_that_the_application_refuses_keeps_no_other(any_database, place):
    jobs = add_jobs(any_database, 2500)
    refuse(any_database, f"was.id = {jobs[place]}", says="no: 50%%")
    assert batch(any_database, "reschedule", jobs, '{"priority": 1}') == (2499, {jobs[place]: "database: no: 50%"})
    assert batch(any_database, "complete", jobs) == (2499, {jobs[place]: "database: no: 50%"})
    assert any_database.query("SELECT id, priority FROM jobs") == [(jobs[place], 0)]
    assert any_database.query("SELECT action, jobs FROM audit ORDER BY id") == [
        ("reschedule", 2499),
        ("complete", 2499),
    ]
    assert any_database.value("SELECT count(*) FROM job_history") == 2499


def test_a_unique_index_lets_one_of_three_be_retried(any_database):
    any_database.query("CREATE UNIQUE INDEX once ON jobs (kind) WHERE state = 'queued'")
    jobs = add_jobs(any_database, 3, state="failed")
    changed, refused = batch(any_database, "retry", jobs)
    assert (changed, refused.keys()) == (1, set(jobs[1:]))
    assert {why.partition('"')[0] for why in refused.values()} == {
        "database: duplicate key value violates unique constraint "
    }
    assert any_database.query("SELECT state, count(*) FROM jobs GROUP BY 1 ORDER BY 1") == [
        ("failed", 2),
        ("queued", 1),
    ]


def test_a_deferred_constraint_of_the_application_refuses_one_job_of_a_batch(any_database):
    jobs = add_jobs(any_database, 20)
    any_database.query("CREATE TABLE receipts (job bigint REFERENCES jobs DEFERRABLE INITIALLY DEFERRED)")
    any_database.query("INSERT INTO receipts VALUES (%s)", jobs[7])
    changed, refused = batch(any_database, "discard", jobs)
    assert (changed, [*refused]) == (19, [jobs[7]])
    assert "receipts" in refused[jobs[7]]


@pytest.mark.parametrize("state", ["53100", "53200", "40P01", "40001", "55P03", "57P04", "25006", "XX001"])
def test_an_error_that_is_about_no_single_job_is_raised_by_a_change_and_by_an_undo(database, state):
    jobs = add_jobs(database, 3)
    batch(database, "discard", add_jobs(database, 3))
    database.query(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql SET search_path = ''"
        f" AS $$ BEGIN RAISE 'as told' USING ERRCODE = '{state}'; END $$;"
        " CREATE TRIGGER failing BEFORE INSERT OR DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION fail()"
    )
    for does in (lambda: batch(database, "discard", jobs), lambda: database.query("SELECT undo_jobs(1)")):
        with pytest.raises(psycopg.Error) as raised:
            does()
        assert raised.value.sqlstate == state
    assert database.query("SELECT action FROM audit") == [("discard",)]


def test_of_several_jobs_a_locked_one_is_left_also_beside_a_refused_one(database):
    jobs = add_jobs(database, 4)
    refuse(database, f"was.id = {jobs[0]}")
    with database.connect() as somebody, somebody.transaction():
        somebody.execute("SELECT FROM jobs WHERE id = %s FOR UPDATE", (jobs[1],))
        url = psycopg.conninfo.make_conninfo(database.url, options="-c lock_timeout=1s")
        impatient = Database(database.server, database.name, url)
        found = batch(impatient, "reschedule", jobs, '{"priority": 1}')
        with pytest.raises(psycopg.errors.LockNotAvailable):  # for a single job it waits
            batch(impatient, "reschedule", jobs[1:2], '{"priority": 1}')
        impatient.close()
    assert found == (2, {jobs[1]: "locked", jobs[0]: "database: not this one"})


@pytest.mark.parametrize(
    ("call", "state", "outcomes"),
    [
        ("complete_jobs(%s)", None, ["completed", "released"]),
        ("discard_jobs(%s)", None, ["discarded", "released"]),
        ("permanently_fail_jobs(%s, 'by hand')", "failed", ["failed", "released"]),
        ("reschedule_jobs(%s, 'infinity')", "queued", ["released"]),
    ],
)
def test_a_worker_that_still_runs_a_job_that_was_taken_from_it_writes_nothing(any_database, call, state, outcomes):
    job = add_job(any_database)
    worker = BareWorker(any_database.url, "public", add_worker(any_database))
    lease = worker.lease(list(registry.values()))
    assert any_database.query(f"SELECT FROM {call}", [job]) == []  # it runs
    assert any_database.query("SELECT FROM release_jobs(%s)", [job]) == []  # its worker lives
    assert len(any_database.query("SELECT FROM release_jobs(%s, accept_second_run := true)", [job])) == 1
    assert len(any_database.query(f"SELECT FROM {call}", [job])) == 1
    left = any_database.query("TABLE jobs")
    for how in (How.OK, How.RETRY, How.FAILED):
        assert not worker.settle(lease, Outcome(how, "from its old worker"))
    worker.close()
    assert any_database.query("TABLE jobs") == left
    assert any_database.query("SELECT state FROM jobs") == ([(state,)] if state else [])
    ended = any_database.query("SELECT outcome FROM job_history WHERE outcome <> 'lease_lost' ORDER BY 1")
    assert [outcome for (outcome,) in ended] == outcomes
