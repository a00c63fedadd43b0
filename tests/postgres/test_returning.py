"""The jobs of a dead worker, a pause or an operator return to the queue, even if a single row among them cannot."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager

import psycopg
import pytest
from conftest import eventually
from rows import add_worker
from test_refusals import HANDLERS, enqueue, refuse, states

from shithubd_worker.database import schema

MOST = 9_223_372_036_854_775_807


def leased(database, count, worker, *, expires="2000-01-01"):
    """This many jobs that this worker holds."""
    rows = database.query(
        "INSERT INTO jobs (kind, state, attempts, leased_by, leased_at, lease_expires_at, lease_token, worker_id)"
        " SELECT 'k', 'processing', 1, 'here:1', now(), %s, gen_random_uuid(), %s FROM generate_series(1, %s)"
        " RETURNING id",
        expires,
        worker,
        count,
    )
    return [job for (job,) in rows]


def without_a_history(database):
    """The history has no partition."""
    for (day,) in database.query(
        "SELECT inhrelid::regclass::text FROM pg_inherits"
        " WHERE inhparent IN ('job_history_7d'::regclass, 'job_history_90d'::regclass)"
    ):
        database.query(f"DROP TABLE {day}")


SWEEP = "SELECT * FROM sweep_v1(%s)"
RELEASE = "SELECT * FROM release_worker_v1(%s, 'it is dead')"


@pytest.mark.parametrize("how", [SWEEP, RELEASE])
def test_a_job_that_may_not_be_queued_again_fails_and_the_others_return(any_database, how):
    dead = add_worker(any_database, "here", invocation="abc")
    jobs = leased(any_database, 300, dead)
    refuse(any_database, f"was.id = {jobs[77]} AND dest = 'queued'")
    returned = {job: outcome for job, _, outcome in any_database.query(how, dead)}
    assert len(returned) == 300
    assert [job for job, outcome in returned.items() if outcome == "poison"] == [jobs[77]]
    assert any_database.query("SELECT state, count(*) FROM jobs GROUP BY 1 ORDER BY 1") == [
        ("failed", 1),
        ("queued", 299),
    ]
    # Nobody knows which of them was running. So each is leased alone, and none is charged with a crash.
    assert any_database.query("SELECT DISTINCT crashes, alone FROM jobs WHERE state = 'queued'") == [(0, True)]
    assert "not this one" in any_database.value("SELECT last_error FROM jobs WHERE state = 'failed'")


@pytest.mark.parametrize("how", [SWEEP, RELEASE])
def test_a_job_that_may_not_be_changed_stays_and_the_others_return(any_database, how):
    dead = add_worker(any_database, "here", invocation="abc")
    jobs = leased(any_database, 20, dead)
    refuse(any_database, f"was.id = {jobs[7]}")
    assert len(any_database.query(how, dead)) == 19
    assert any_database.query("SELECT id FROM jobs WHERE state = 'processing'") == [(jobs[7],)]
    # The owner's row stays while the owner holds a job.
    assert any_database.value("SELECT count(*) FROM workers") == 1
    any_database.query("DROP TRIGGER application ON jobs")
    assert len(any_database.query(how, dead)) == 1


def test_a_counter_at_its_largest_value_stays_there(any_database):
    dead = add_worker(any_database, "here", invocation="abc")
    leased(any_database, 3, dead)
    any_database.query("INSERT INTO leases_returned VALUES ('k', %s, %s)", MOST, MOST - 1)
    assert len(any_database.query(SWEEP, dead)) == 3
    assert any_database.query("SELECT crashed, poison FROM leases_returned") == [(MOST, MOST - 1)]


WRITERS = {
    "a sweep": lambda database, dead: database.query(SWEEP, dead),
    "release-dead": lambda database, dead: database.query(RELEASE, dead),
    "an operator's release": lambda database, dead: database.query(
        "SELECT FROM release_jobs(ARRAY(SELECT min(id) FROM jobs), true)"
    ),
    "an operator's discard": lambda database, dead: database.query(
        "SELECT FROM discard_jobs(ARRAY(SELECT id FROM jobs WHERE state = 'queued'))"
    ),
    "a lost lease": lambda database, _: database.query("SELECT lost_v1('h:1', 1, 'k', 1, 'late', '7d')"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_function_that_writes_the_history_makes_a_missing_day(any_database, writer):
    dead = add_worker(any_database, "here", invocation="abc")
    leased(any_database, 1, dead)
    any_database.query("INSERT INTO jobs (kind) VALUES ('k')")
    without_a_history(any_database)
    WRITERS[writer](any_database, dead)
    assert any_database.value("SELECT count(*) FROM job_history") == 1


def test_every_function_that_writes_the_history_is_tried_without_one():
    """Only the settle writes there itself; its worker repeats it."""
    writers = {
        path.stem
        for path in schema.function_files()
        if re.search(r'INSERT INTO (:"schema"\.)?job_history\b', path.read_text())
    }
    assert writers == {"record_v1", "settle_v1"}


@contextmanager
def locked(database, statement, *arguments):
    """Somebody has locked rows, and waits."""
    with database.connect() as somebody, somebody.transaction():
        somebody.execute(statement, arguments)
        yield


def test_a_locked_job_of_a_dead_worker_returns_later_and_the_others_at_once(any_database):
    dead = add_worker(any_database, "here", invocation="abc")
    jobs = leased(any_database, 5, dead, expires="infinity")
    with locked(any_database, "SELECT FROM jobs WHERE id = %s FOR UPDATE", jobs[2]):
        assert len(any_database.query(RELEASE, dead)) == 4
    assert any_database.query("SELECT id FROM jobs WHERE state = 'processing'") == [(jobs[2],)]


def test_a_pause_and_a_resume_skip_a_job_that_may_not_be_flipped(any_database):
    jobs = [
        job
        for (job,) in any_database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 10) RETURNING id")
    ]
    refuse(any_database, f"was.id = {jobs[3]}")
    any_database.query("SELECT pause_kind_v1('k')")
    (hold,) = any_database.query("SELECT id FROM holds")
    assert any_database.query("SELECT flipped FROM mirror_pause_v1(%s)", *hold) == [(9,)]
    refuse_another = f"was.id = {jobs[5]}"
    any_database.query("DROP TRIGGER application ON jobs")
    refuse(any_database, refuse_another)
    any_database.query("SELECT resume_kind_v1('k')")
    assert any_database.query("SELECT flipped FROM unpause_v1('k')") == [(8,)]
    assert any_database.query("SELECT id FROM jobs WHERE state = 'paused'") == [(jobs[5],)]


def test_a_hold_ends_even_if_one_of_its_jobs_may_not_be_flipped(any_database):
    jobs = [
        job
        for (job,) in any_database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 10) RETURNING id")
    ]
    any_database.query("SELECT pause_kind_v1('k', 'for a moment', clock_timestamp() + interval '1 hour')")
    (hold,) = any_database.query("SELECT id FROM holds")
    any_database.query("SELECT mirror_pause_v1(%s)", *hold)
    any_database.query("UPDATE holds SET until = '2000-01-01'")
    refuse(any_database, f"was.id = {jobs[3]}")
    any_database.query("SELECT end_expired_holds_v1()")
    assert any_database.query("SELECT count(*) FROM holds") == [(0,)]
    assert any_database.query("SELECT id FROM jobs WHERE state = 'paused'") == [(jobs[3],)]


def test_an_operators_command_goes_on_after_a_job_that_the_database_refuses(database, command):
    jobs = enqueue(database, 4)
    refuse(database, f"was.id = {jobs[1]}")
    done = command("jobs", "discard", *map(str, jobs), "--json")
    assert done.returncode == 5
    told = json.loads(done.stdout)
    assert (told["changed"], told["refused"]) == (3, {str(jobs[1]): "database: not this one"})
    assert states(database, *jobs) == {jobs[1]: "queued"}


def here(database, worker):
    """A row of an earlier worker on this machine, whose process is gone."""
    from shithubd_worker.host.identity import identify

    me = identify()
    database.query(
        "UPDATE workers SET host = %s, machine_id = %s, boot_id = %s, pid_namespace = %s, start_ticks = 1"
        " WHERE id = %s",
        me.host,
        me.machine_id,
        me.boot_id,
        me.pid_namespace,
        worker,
    )


def test_a_worker_starts_even_if_a_job_of_a_dead_worker_is_locked(database, start_worker):
    dead = add_worker(database, "here", invocation="abc")
    here(database, dead)
    jobs = leased(database, 3, dead, expires="infinity")
    with locked(database, "SELECT FROM jobs WHERE id = %s FOR UPDATE", jobs[0]):
        worker = start_worker(handlers=HANDLERS)
        assert states(database, *jobs) == {jobs[0]: "processing", jobs[1]: "queued", jobs[2]: "queued"}
        assert f"somebody has locked a job of the dead worker {dead}" in worker.log
        assert worker.terminate() == 0


@pytest.mark.parametrize("column", ["started_at", "beat_at", "job_since"])
def test_a_worker_starts_beside_a_row_with_any_times(database, start_worker, column):
    dead = add_worker(database, "here", invocation="abc")
    table, key = ("workers", "id") if column == "started_at" else ("beats", "worker_id")
    database.query(f"UPDATE {table} SET {column} = 'infinity' WHERE {key} = %s", dead)
    here(database, dead)
    (job,) = leased(database, 1, dead, expires="infinity")
    worker = start_worker(handlers=HANDLERS)
    assert states(database, job) == {job: "queued"}
    assert worker.terminate() == 0


def test_a_start_waits_while_the_database_refuses_it(database, start_worker):
    with locked(database, "LOCK TABLE workers"):
        worker = start_worker(handlers=HANDLERS, ready=False)
        worker.wait_for(" holds a lock on workers")
    worker.wait_for(" ready\n")
    assert worker.terminate() == 0


def test_a_worker_survives_a_lock_on_the_whole_queue(database, start_worker):
    worker = start_worker(handlers=HANDLERS)
    with locked(database, "LOCK TABLE jobs"):
        worker.wait_for("pausing for")
    jobs = enqueue(database, 5)
    eventually(lambda: not states(database, *jobs))
    assert worker.terminate() == 0


def test_a_worker_ends_with_77_when_its_role_loses_its_rights(database, start_worker):
    database.query("CREATE ROLE less LOGIN IN ROLE shithub_worker")
    url = psycopg.conninfo.make_conninfo(database.url, user="less")
    worker = start_worker(handlers=HANDLERS, env={"SHITHUBD_WORKER_DATABASE_URL": url})
    database.query("REVOKE UPDATE ON jobs FROM shithub_worker")
    enqueue(database)
    assert worker.wait() == 77
    assert "UPDATE on jobs" in worker.log
    database.query("DROP ROLE less")
