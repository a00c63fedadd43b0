"""Somebody keeps rows of the queue locked for a long time. A finished job waits for the lock; nothing else waits.

The job does not run a second time, and everything else that the worker has to do goes on.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from uuid import uuid4

import pytest
from conftest import eventually
from rows import add_worker
from test_refusals import HANDLERS, WIDE, enqueue, gone, outcomes, states
from test_returning import leased, locked

LOCK = "SELECT FROM jobs WHERE id = ANY (%s) FOR UPDATE"


@contextmanager
def somebody(database):
    """A person's transaction has locked the rows, and the first job of the batch started it."""
    yield
    database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'somebody'")


def a_trigger(database):
    """The rows are free, but a trigger of the application makes each DELETE wait."""
    database.query(
        "CREATE FUNCTION application() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF old.id % 2 = 0 AND old.payload = '{}' THEN PERFORM pg_advisory_xact_lock_shared(999); END IF;"
        " RETURN old; END $$"
    )
    database.query("CREATE TRIGGER application BEFORE DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION application()")
    return locked(database, "SELECT pg_advisory_xact_lock(999)")


@pytest.mark.parametrize("lock", [somebody, a_trigger])
def test_many_locked_rows_delay_no_renewal_and_no_other_job(database, start_worker, door, lock):
    """Half of a batch is locked when it ends, and the last job of the batch runs for longer than its lease."""
    worker = start_worker(*WIDE, handlers=HANDLERS)
    gone(database, enqueue(database, 300, kind="refused.renewed"))  # the worker knows that these jobs are quick
    batch = [{"lock": lock is somebody}, *[{}] * 60, {"door": door.path}]
    lease = "SELECT lease_token, extract(epoch FROM lease_expires_at - leased_at) FROM jobs WHERE id = %s"
    with lock(database):
        rows = database.query(
            "INSERT INTO jobs (kind, payload) SELECT 'refused.renewed', p FROM jsonb_array_elements(%s::jsonb) p"
            " RETURNING id",
            json.dumps(batch),
        )
        _, *jobs, slow = [job for (job,) in rows]
        held = [job for job in jobs if job % 2 == 0]
        gone(database, [job for job in jobs if job not in held])
        (token, _) = database.query(lease, slow)[0]
        assert set(states(database, *held).values()) == {"processing"}
        # The lease lasts 5 s and is renewed every third of that.
        eventually(lambda: database.query(lease, slow)[0][1] > 9, "the second renewal")
        assert database.query(lease, slow)[0][0] == token
    eventually(lambda: database.value("SELECT count(*) FROM job_history") >= 361)
    assert states(database, slow) == {slow: "processing"}
    door.open()
    gone(database, [slow])
    assert worker.terminate() == 0


def test_a_job_locked_at_its_end_is_settled_while_the_next_one_runs(database, start_worker, door, tmp_path):
    (job,) = enqueue(database, door=door.path)
    worker = start_worker(handlers=HANDLERS)
    eventually(lambda: states(database, job) == {job: "processing"})
    another = str(tmp_path / "another door")
    (slow,) = enqueue(database, kind="refused.asks", door=another)
    with locked(database, LOCK, [job]):
        door.open()
        eventually(lambda: states(database, job, slow) == {job: "processing", slow: "processing"})
    gone(database, [job])
    assert states(database, slow) == {slow: "processing"}
    assert outcomes(database, job) == ["ok"]
    (tmp_path / "another door").touch()
    gone(database, [slow])
    assert worker.terminate() == 0


@pytest.mark.parametrize("why", ["a stop", "an empty queue"])
def test_a_worker_that_leaves_waits_for_the_lock_of_its_finished_job(database, start_worker, door, why):
    (job,) = enqueue(database, door=door.path)
    worker = start_worker(*(["--until-empty"] if why == "an empty queue" else []), handlers=HANDLERS)
    eventually(lambda: states(database, job) == {job: "processing"})
    with locked(database, LOCK, [job]):
        if why == "a stop":
            worker.send(15)
        door.open()
        worker.wait_for(f"1 job(s) ended ({job}), and somebody has locked their rows: waiting")
        assert worker.process.poll() is None
    assert worker.wait() == 0
    assert states(database, job) == {}
    assert outcomes(database, job) == ["ok"]
    assert database.query("SELECT FROM workers") == []


def test_a_worker_that_must_leave_before_keeps_the_job_leased_and_says_so(database, start_worker, door):
    (job,) = enqueue(database, door=door.path)
    worker = start_worker("--grace", "2", handlers=HANDLERS)
    eventually(lambda: states(database, job) == {job: "processing"})
    with locked(database, LOCK, [job]):
        door.open()
        worker.send(15)
        assert worker.wait() == 75
    assert f"1 job(s) ended ({job}), but somebody has locked their rows: they stay leased" in worker.log
    assert states(database, job) == {job: "processing"}
    (owner,) = database.query("SELECT id FROM workers")[0]
    assert len(database.query("SELECT * FROM release_worker_v1(%s, 'it is dead')", owner)) == 1
    assert outcomes(database, job) == ["crashed"]


def test_a_worker_that_leaves_gives_back_only_jobs_that_never_started(any_database):
    owner = add_worker(any_database, "here", invocation="abc")
    ran, stray = leased(any_database, 2, owner, expires="infinity")
    token = any_database.value("SELECT lease_token FROM jobs WHERE id = %s", stray)
    any_database.query("SELECT unregister_v1(%s, ARRAY[%s])", owner, token)
    assert states(any_database, ran, stray) == {ran: "processing", stray: "queued"}
    # release-dead finds the jobs that ran by this row
    assert any_database.query("SELECT id FROM workers") == [(owner,)]


def test_an_outcome_is_kept_if_the_database_refuses_to_answer(database, start_worker, door):
    """The handler's own connection broke, and the worker asks whether the database went away."""
    (job,) = enqueue(database, kind="refused.breaks", door=door.path)
    start_worker(handlers=HANDLERS)
    eventually(lambda: states(database, job) == {job: "processing"})
    database.query("ALTER FUNCTION channel_v1() RENAME TO channel_v0")
    door.open()
    eventually(lambda: outcomes(database, job) == ["retry"])


@pytest.mark.parametrize(
    ("beat", "taken"), [("clock_timestamp()", False), ("clock_timestamp() - interval '16 s'", True)]
)
def test_no_sweep_takes_a_finished_job_of_a_worker_that_beats(any_database, beat, taken):
    owner = add_worker(any_database, "here", invocation="abc")
    finished, running = leased(any_database, 2, owner)
    any_database.query("SELECT beat_v1(%s, 'idle', NULL, NULL, NULL, ARRAY[%s::bigint])", owner, finished)
    any_database.query(f"UPDATE beats SET beat_at = {beat}")
    swept = {job for job, _, _ in any_database.query("SELECT * FROM sweep_v1(%s)", uuid4())}
    assert swept == ({finished, running} if taken else {running})


def test_a_job_that_stays_locked_beyond_its_lease_does_not_run_again(database, start_worker, door, tmp_path):
    (job,) = enqueue(database, kind="refused.renewed", door=door.path)
    worker = start_worker(handlers=HANDLERS)
    eventually(lambda: states(database, job) == {job: "processing"})
    with locked(database, LOCK, [job]):
        door.open()
        eventually(lambda: database.query("SELECT 1 FROM beats WHERE unsettled = ARRAY[%s::bigint]", job))
        expired = "SELECT lease_expires_at < clock_timestamp() FROM jobs WHERE id = %s"
        eventually(lambda: database.value(expired, job))
        # The worker's sweeps find nothing else, and go on.
        for _ in range(20):
            assert database.query("SELECT * FROM sweep_v1(%s)", uuid4()) == []
    for _ in range(20):
        assert database.query("SELECT outcome FROM job_history WHERE outcome <> 'ok'") == []
        database.query("SELECT * FROM sweep_v1(%s)", uuid4())
    gone(database, [job])
    assert outcomes(database, job) == ["ok"]
    assert worker.terminate() == 0


def test_a_handlers_transaction_does_not_wait_for_a_lock_until_its_lease_ends(database, start_worker, door):
    """No interrupt falls into this wait. Only the dead man could end it, and with it the process."""
    (job,) = enqueue(database, how="transaction", door=door.path)
    worker = start_worker(handlers=HANDLERS)
    eventually(lambda: states(database, job) == {job: "processing"})
    with locked(database, LOCK, [job]):
        door.open()
        eventually(lambda: database.query("SELECT 1 FROM beats WHERE unsettled = ARRAY[%s::bigint]", job))
    eventually(lambda: outcomes(database, job) == ["released"])
    assert states(database, job) == {job: "queued"}
    assert worker.terminate() == 0


def test_strays_are_given_back_except_those_that_somebody_has_locked(any_database):
    owner = add_worker(any_database, "here", invocation="abc")
    jobs = leased(any_database, 3, owner, expires="infinity")
    any_database.query("UPDATE jobs SET lease_token = %s", owner)
    with locked(any_database, LOCK, jobs[:1]):
        given_back = any_database.query("SELECT id FROM release_strays_v1(%s, ARRAY[%s::uuid])", owner, owner)
    assert {job for (job,) in given_back} == set(jobs[1:])


def test_a_lease_that_a_lock_keeps_from_renewal_costs_no_attempt(database, start_worker, door):
    (job,) = enqueue(database, kind="refused.patient", door=door.path)
    worker = start_worker(handlers=HANDLERS)
    eventually(lambda: states(database, job) == {job: "processing"})
    with locked(database, LOCK, [job]):
        eventually(lambda: database.query("SELECT 1 FROM beats WHERE unsettled = ARRAY[%s::bigint]", job))
    eventually(lambda: outcomes(database, job)[:1] == ["released"])
    door.open()
    gone(database, [job])
    assert worker.terminate() == 0
