"""A worker counts as alive for 30 s after its beat, in every query; and the effect of a crash on a job."""

from __future__ import annotations

import pytest
from rows import add_job, add_worker, state

from shithubd_worker.database.connection import connector
from shithubd_worker.database.control_session import ControlSession

# Far enough from 30 s that even a slow machine does not reach the limit.
QUIET = [(20, True), (31, False), (300, False)]


@pytest.fixture
def beat(database):
    session = ControlSession(connector(database.url, "beat"), database.schema)
    yield session
    session.close()


@pytest.mark.parametrize(("seconds", "lives"), QUIET)
def test_a_worker_lives_for_thirty_seconds_after_its_beat_in_every_query(database, seconds, lives):
    worker = add_worker(database)
    job = add_job(database, state="processing", worker=worker)
    database.query("UPDATE beats SET beat_at = clock_timestamp() - %s * interval '1 second'", seconds)
    status = database.value("SELECT status_v1()")
    assert [each["silent"] for each in status["workers"]] == [not lives]
    assert [each["workers"] for each in status["kinds"]] == [int(lives)]
    gauges = database.value("SELECT queue_gauges_v1()")
    assert gauges["workers"] == ({"starting": 1} if lives else {"silent": 1})
    said = database.value("SELECT refused FROM change_jobs_v1('release', ARRAY[%s::bigint])", job)
    assert said.get(str(job), "released").startswith("alive: web1:1 beat " if lives else "released")
    assert state(database, job)[0] == ("processing" if lives else "queued")


def test_a_job_runs_again_at_once_after_the_first_crash_and_half_a_minute_later_after_the_second(database, beat):
    job = add_job(database)
    delays = []
    for crash in (1, 2, 3):
        worker = add_worker(database)
        database.query(
            "UPDATE jobs SET state = 'processing', leased_by = 'web1:1', leased_at = now(), worker_id = %s,"
            " run_at = now() - interval '1 hour', attempts = attempts + 1 WHERE id = %s",
            worker,
            job,
        )
        returned = beat.release_worker(worker, "it died")
        assert returned == [(job, "k", "poison" if crash == 3 else "crashed")]
        delays.append(database.value("SELECT date_part('epoch', run_at - clock_timestamp()) FROM jobs"))
        assert database.query("SELECT attempts, crashes, alone FROM jobs") == [(0, crash, True)]
    assert delays[0] <= 0
    assert 20 < delays[1] <= 36  # 30 s, plus or minus a fifth
    assert database.query("SELECT kind, crashed, poison FROM leases_returned") == [("k", 2, 1)]
    assert database.query("SELECT outcome FROM job_history ORDER BY finished_at") == [
        ("crashed",),
        ("crashed",),
        ("poison",),
    ]


def test_a_worker_that_leaves_with_a_lease_keeps_its_row_and_its_drain(database, beat):
    worker = add_worker(database)
    add_job(database, state="processing", worker=worker)
    database.query("SELECT drain_v1('worker', %s)", str(worker))
    beat.unregister(worker, [])
    assert database.query("SELECT id FROM workers") == [(worker,)]
    assert database.query("SELECT scope FROM holds") == [("worker",)]
    database.query("DELETE FROM jobs")
    beat.unregister(worker, [])
    assert database.query("SELECT FROM workers") == database.query("SELECT FROM holds") == []
    last = "SELECT actor, action, target FROM audit ORDER BY id DESC LIMIT 1"
    assert database.query(last) == [("shithubd-worker", "expire", f"worker {worker}")]


def test_the_counts_of_a_worker_that_left_are_added_once(database, beat):
    outcomes = ("ok", "retry", "failed", "poison", "released", "lease_lost", "forced")
    ended = {("k", how): count for count, how in enumerate(outcomes, 1)}
    for times in (1, 2):
        beat.count_ended(ended)
        rows = database.query(
            "SELECT ok, retry, failed, poison, released, lease_lost, forced, crashed FROM leases_returned"
        )
        assert rows == [(*(count * times for count in ended.values()), 0)]


def test_a_silent_worker_is_forgotten_only_after_a_day(database):
    old, young = add_worker(database), add_worker(database)
    database.query("UPDATE beats SET beat_at = now() - interval '23 hours' WHERE worker_id = %s", young)
    database.query("UPDATE beats SET beat_at = now() - interval '25 hours' WHERE worker_id = %s", old)
    assert database.value("SELECT forget_workers_v1()") == 1
    assert database.query("SELECT id FROM workers") == [(young,)]
