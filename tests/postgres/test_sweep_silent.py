"""The sweep for silent workers: whose jobs it takes, by one sweeper at a time, and never one that its owner may run."""

from __future__ import annotations

import threading
from contextlib import suppress
from uuid import uuid4

import psycopg
import pytest
from conftest import eventually

from shithubd_worker.database.connection import connector
from shithubd_worker.database.queue_session import QueueSession

WORKER = (
    "INSERT INTO workers (id, host, pid, version, schema_version, kinds, gives_up, machine_id, boot_id, pid_namespace,"
    " start_ticks) VALUES (%s, 'web3', %s, 'x', 10, '{k}', %s, 'm', 'b', 1, 1)"
)
LEASE = (
    "INSERT INTO jobs (kind, state, leased_by, leased_at, lease_expires_at, lease_token, worker_id, attempts, crashes)"
    " SELECT 'k', 'processing', 'web3:' || %s, clock_timestamp() - make_interval(secs => %s),"
    " clock_timestamp() + interval '1 hour', gen_random_uuid(), %s, 1, %s FROM generate_series(1, %s) RETURNING id"
)


class Fleet:
    """Rows of workers and of what they lease, and two workers that sweep."""

    def __init__(self, database):
        self.database = database
        self.sweepers = [QueueSession(connector(database.url, f"sweeper {n}"), "public", uuid4()) for n in (1, 2)]
        self._pid = 0

    def worker(self, silent=301.0, gives_up=300.0, leased=400.0, jobs=1, crashes=0):
        """A worker that was silent for so many seconds, and the ids of its jobs."""
        self._pid += 1
        worker = uuid4()
        self.database.query(WORKER, worker, self._pid, gives_up)
        self.database.query(
            "INSERT INTO beats (worker_id, beat_at) VALUES (%s, clock_timestamp() - make_interval(secs => %s))",
            *(worker, silent),
        )
        return worker, [job for (job,) in self.database.query(LEASE, self._pid, leased, worker, crashes, jobs)]

    def sweep(self, threshold=300.0, interval=0.0, delay=0.0, earliest=None, steady=1e9, sweeper=0):
        """What a sweep takes: the ids of the jobs."""
        rows = self.sweepers[sweeper].sweep_silent(threshold, interval, delay, earliest or 1e12, steady)
        return sorted(job for job, *_ in rows)

    def close(self):
        for each in self.sweepers:
            each.close()


@pytest.fixture
def fleet(database):
    fleet = Fleet(database)
    yield fleet
    fleet.close()


# Who is silent.


@pytest.mark.parametrize(
    ("worker", "threshold", "taken"),
    [
        pytest.param({}, 300.0, True, id="as long as it promised"),
        pytest.param({"silent": 299.0}, 300.0, False, id="not that long"),
        pytest.param({"gives_up": 310.0}, 10.0, False, id="it promised more than the sweeper's threshold"),
        pytest.param({"gives_up": 10.0}, 310.0, False, id="the sweeper waits for longer"),
        pytest.param({"gives_up": None, "silent": 1e6}, 10.0, False, id="it promised nothing, as a former release"),
        pytest.param({"leased": 299.0}, 300.0, False, id="its last lease is a sign of life"),
        pytest.param({"silent": -3600.0}, 300.0, False, id="its beat lies in the future"),
    ],
)
def test_a_worker_is_silent_after_its_own_time_and_the_sweepers(fleet, worker, threshold, taken):
    worker, jobs = fleet.worker(**worker)
    assert fleet.sweep(threshold) == (jobs if taken else [])
    assert fleet.database.value("SELECT count(*) FROM workers WHERE id = %s", worker) == (0 if taken else 1)


def test_a_worker_that_leases_is_not_silent_and_keeps_its_older_jobs_too(fleet):
    worker, _ = fleet.worker()
    fleet.database.query(LEASE, 1, 10.0, worker, 0, 1)
    assert fleet.sweep() == []


@pytest.mark.parametrize("beat", ["infinity", "-infinity", "294276-12-31", "4713-01-01 BC"])
def test_odd_beats_break_no_sweep(fleet, beat):
    odd, _ = fleet.worker()
    fleet.database.query("UPDATE beats SET beat_at = %s WHERE worker_id = %s", beat, odd)
    _, usual = fleet.worker()
    taken = fleet.sweep()
    assert set(usual) <= set(taken)
    assert len(taken) == (2 if "BC" in beat else 1)


@pytest.mark.parametrize("leased", ["infinity", "294276-12-31"])
def test_a_lease_of_an_odd_time_keeps_its_worker(fleet, leased):
    _, jobs = fleet.worker()
    fleet.database.query("UPDATE jobs SET leased_at = %s", leased)
    assert fleet.sweep() == []
    fleet.database.query("UPDATE jobs SET leased_at = '-infinity'")
    assert fleet.sweep() == jobs


def test_a_worker_without_beats_keeps_its_jobs_until_they_expire(fleet):
    worker, _ = fleet.worker()
    fleet.database.query("DELETE FROM beats WHERE worker_id = %s", worker)
    assert fleet.sweep() == []


def test_a_sweeper_that_is_silent_itself_sweeps_the_others_and_keeps_its_own(fleet):
    me, mine = fleet.worker()
    _, others = fleet.worker()
    fleet.sweepers[0].worker = me
    assert fleet.sweep() == others
    assert fleet.database.query("SELECT id FROM jobs WHERE state = 'processing'") == [(mine[0],)]


# The clock.


def test_a_silence_that_is_longer_than_the_clock_was_watched_is_not_certain(fleet):
    _, jobs = fleet.worker(silent=90_000.0, leased=90_000.0)
    assert fleet.sweep(steady=299.0) == []
    assert fleet.sweep(steady=300.0) == jobs


def test_a_silence_counts_by_the_clock_that_the_sweeper_vouches_for(fleet):
    _, jobs = fleet.worker(silent=3601.0, leased=3601.0)
    now = fleet.database.value("SELECT date_part('epoch', clock_timestamp())")
    assert fleet.sweep(earliest=now - 3600.0) == []
    assert fleet.sweep(earliest=now) == jobs


# One sweeper at a time.


def test_the_fleet_sweeps_once_in_an_interval_whoever_does_it(fleet):
    fleet.sweep(interval=60.0)
    _, jobs = fleet.worker()
    assert [fleet.sweep(interval=60.0, sweeper=each) for each in (0, 1)] == [[], []]
    fleet.database.query("UPDATE sweeper SET swept_at = clock_timestamp() + interval '61 s'")  # the clock was set back
    assert fleet.sweep(interval=60.0, sweeper=1) == jobs
    fleet.worker()
    fleet.database.query("UPDATE sweeper SET swept_at = 'infinity'")
    assert len(fleet.sweep(interval=60.0)) == 1


def test_a_sweeper_that_stands_still_in_its_transaction_keeps_nobody_waiting_and_ends_with_its_session(fleet):
    _, jobs = fleet.worker()
    with psycopg.connect(fleet.database.url) as stopped:
        taken = stopped.execute("SELECT id FROM sweep_silent_v1(gen_random_uuid(), 300, 0, 0)").fetchall()
        assert taken == [(jobs[0],)]
        fleet.sweepers[1].connection.execute("SET lock_timeout = '1s'")
        try:
            waited, found = False, fleet.sweep(sweeper=1)
        except psycopg.errors.LockNotAvailable:
            waited, found = True, []
        assert (waited, found) == (False, [])
        fleet.database.query("SELECT pg_terminate_backend(%s)", stopped.info.backend_pid)
        gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = %s"
        eventually(lambda: fleet.database.value(gone, stopped.info.backend_pid), "its session is gone")
        assert fleet.sweep(sweeper=1) == jobs
        with suppress(psycopg.OperationalError):
            stopped.rollback()


def test_one_answer_of_a_sweep_is_short_and_the_next_sweeps_go_on(fleet):
    """An answer that fits into the buffers of a socket ends the sweep's transaction, even if nobody reads it."""
    for _ in range(5):
        fleet.worker(jobs=900)
    assert [len(fleet.sweep()) for _ in range(3)] == [2700, 1800, 0]


# What the worker does meanwhile.


def test_a_job_that_a_silent_worker_leases_during_the_sweep_stays_its_own(fleet):
    """Its control thread cannot connect, and its main thread can. The list of silent workers was made before that."""
    worker, old = fleet.worker()
    taken = []
    at_it = threading.Thread(target=lambda: taken.extend(fleet.sweep()))
    # Between the two looks of the sweep it waits for a lock of the test's.
    (text,) = fleet.database.query("SELECT pg_get_functiondef('silent_workers_v1'::regproc)")[0]
    assert text.count("LOOP\n") == 1
    fleet.database.query(text.replace("LOOP\n", "LOOP PERFORM pg_advisory_xact_lock(815);\n"))
    with psycopg.connect(fleet.database.url, autocommit=True) as test:
        test.execute("SELECT pg_advisory_lock(815)")
        at_it.start()
        waiting = "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        eventually(lambda: fleet.database.value(waiting), "the sweep has begun")
        (fresh,) = fleet.database.query(LEASE, 1, 0.0, worker, 0, 1)[0]
        test.execute("SELECT pg_advisory_unlock(815)")
        at_it.join()
    assert taken == old
    assert fleet.database.query("SELECT id FROM jobs WHERE state = 'processing'") == [(fresh,)]
    assert fleet.database.value("SELECT count(*) FROM workers") == 1


def test_a_beat_that_was_sent_before_the_sweep_came_keeps_the_jobs(fleet):
    worker, _ = fleet.worker()
    with psycopg.connect(fleet.database.url) as beating:
        beating.execute("SELECT beat_v1(%s, 'running', NULL, NULL, NULL)", (worker,))
        assert fleet.sweep() == []
    assert fleet.sweep() == []


def test_a_worker_that_was_swept_finds_its_row_gone_and_its_lease_lost(fleet):
    worker, jobs = fleet.worker()
    (token,) = fleet.database.query("SELECT lease_token FROM jobs")[0]
    assert fleet.sweep() == jobs
    assert fleet.database.value("SELECT beat_v1(%s, 'running', NULL, NULL, NULL)", worker) is None
    assert fleet.database.value("SELECT renew_v1(%s, %s, 300)", jobs[0], token) is False


def test_a_drain_of_a_silent_worker_is_there_when_it_comes_back(fleet):
    worker, jobs = fleet.worker()
    fleet.database.query("SELECT drain_v1('worker', %s, 'a bad disk')", str(worker))
    assert fleet.sweep() == jobs
    assert fleet.database.query("SELECT target FROM holds") == [(str(worker),)]
    assert fleet.database.value("SELECT jsonb_array_length(beat_v1(%s, 'idle', NULL, NULL, NULL))", worker) == 1


# Rows that do not return.


def test_a_locked_job_and_a_refused_one_keep_no_other_and_the_next_sweep_goes_on(fleet):
    worker, (locked, refused, *free) = fleet.worker(jobs=4)
    fleet.database.query(
        "CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no, never'; END $$;"
        "CREATE TRIGGER refuses BEFORE UPDATE ON jobs FOR EACH ROW"
        f" WHEN (OLD.id = {refused}) EXECUTE FUNCTION refuses()"
    )
    with psycopg.connect(fleet.database.url) as stranger:
        stranger.execute("SELECT FROM jobs WHERE id = %s FOR UPDATE", (locked,))
        assert fleet.sweep() == free
        assert fleet.database.value("SELECT count(*) FROM workers WHERE id = %s", worker) == 1
    assert fleet.sweep() == [locked]
    fleet.database.query("DROP TRIGGER refuses ON jobs")
    assert fleet.sweep() == [refused]
    assert fleet.database.value("SELECT count(*) FROM workers WHERE id = %s", worker) == 0


def test_a_locked_row_of_a_worker_keeps_no_job_from_its_return(fleet):
    worker, jobs = fleet.worker()
    _, others = fleet.worker()
    with psycopg.connect(fleet.database.url) as stranger:
        stranger.execute("SELECT FROM workers WHERE id = %s FOR UPDATE", (worker,))
        assert fleet.sweep() == sorted(jobs + others)
    fleet.sweep()
    assert fleet.database.value("SELECT count(*) FROM workers") == 0


# What becomes of the jobs.


@pytest.mark.parametrize(
    ("jobs", "crashes", "state", "counted", "usual", "delayed"),
    [
        pytest.param(1, 0, "queued", 1, (0, 0), (60, 60), id="first crash"),
        pytest.param(1, 1, "queued", 2, (24, 36), (60, 60), id="second crash"),
        pytest.param(2, 1, "queued", 1, (0, 0), (60, 60), id="one of several"),
        pytest.param(1, 2, "failed", 3, (24, 36), (60, 60), id="third crash"),
    ],
)
@pytest.mark.parametrize("expired", [False, True])
@pytest.mark.parametrize("delay", [0.0, 60.0])
def test_a_job_returns_as_after_any_crash_and_as_late_as_was_asked_for(
    fleet, jobs, crashes, state, counted, usual, delayed, expired, delay
):
    fleet.worker(jobs=jobs, crashes=crashes)
    if expired:
        fleet.database.query("UPDATE jobs SET lease_expires_at = clock_timestamp() - interval '1 s'")
        assert len(fleet.sweepers[0].sweep(delay=delay)) == jobs
    else:
        assert len(fleet.sweep(delay=delay)) == jobs
    least, most = delayed if delay else usual
    for found, attempts, alone, count, due in fleet.database.query(
        "SELECT state, attempts, alone, crashes, date_part('epoch', run_at - clock_timestamp()) FROM jobs"
    ):
        assert (found, attempts, alone, count) == (state, 0, True, counted)
        assert least - 20 < due <= most if most else due <= 0
    if not expired:
        assert fleet.database.value("SELECT bool_and(last_error LIKE '%was silent for 30_ s%') FROM jobs")


def test_a_delay_without_end_fails_no_job(fleet):
    fleet.worker()
    assert len(fleet.sweep(delay=1e300)) == 1
    assert fleet.database.value("SELECT state FROM jobs") == "queued"
