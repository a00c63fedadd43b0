"""A row that is odd, locked or refused blocks no other row: in a sweep, at the end of a hold, or when rows are
shown."""

from __future__ import annotations

import time
from uuid import uuid4

import psycopg
import pytest
from conftest import eventually
from rows import add_worker
from test_refusals import refuse

from shithubd_worker.database.clock import Clock
from shithubd_worker.database.connection import connector
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.turn.upkeep import Upkeep

TOKEN = "00000000-0000-0000-0000-000000000001"
LEASED = "INSERT INTO jobs (kind, state, leased_by, leased_at, lease_expires_at, lease_token, worker_id)"
# The tasks of a sweep: two jobs for each, and how the test sees that a task is done.
PARTS = {
    "leases that end too late": (
        f"{LEASED} SELECT 'late', 'processing', 'x:1', now(), now() + interval '1 day', NULL, NULL"
        " FROM generate_series(1, 2) RETURNING id",
        "lease_expires_at < now() + interval '1 hour'",
    ),
    "leases without an answer": (
        f"{LEASED} SELECT 'stray', 'processing', 'x:2', now(), now() + interval '1 minute', '{TOKEN}', (SELECT id FROM"
        " workers) FROM generate_series(1, 2) RETURNING id",
        "state = 'queued'",
    ),
    "a pause that reached its end": (
        "INSERT INTO jobs (kind, state) VALUES ('held', 'paused'), ('held', 'paused') RETURNING id",
        "state = 'queued'",
    ),
    "leases that expired": (
        f"{LEASED} SELECT 'dead', 'processing', 'x:3', now(), now() - interval '1 minute', NULL, NULL"
        " FROM generate_series(1, 2) RETURNING id",
        "state = 'queued'",
    ),
}


def put_all(database):
    """Two jobs for each task; the first of them will be odd."""
    owner = add_worker(database, "here", invocation="abc")
    made = {part: [job for (job,) in database.query(insert)] for part, (insert, _) in PARTS.items()}
    database.query("INSERT INTO holds (scope, target, actor, until) VALUES ('kind', 'held', 'me', '2000-01-01')")
    return owner, made


def sweep(database, owner):
    with database.connect() as connection:
        connection.execute("SET lock_timeout = '10ms'")  # the sweep must wait for nobody
        connection.execute("SELECT sweep_v1(%s, NULL, %s, 2000, NULL, '{late}', '{300}')", (owner, [TOKEN]))


def done(database, made, which):
    return {
        part: database.value(f"SELECT {PARTS[part][1]} FROM jobs WHERE id = %s", jobs[which])
        for part, jobs in made.items()
    }


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("how", ["refuses", "locked"])
def test_a_sweep_goes_on_after_a_job_that_cannot_be_changed(any_database, part, how):
    owner, made = put_all(any_database)
    odd = made[part][0]
    with any_database.connect() as somebody, somebody.transaction():
        if how == "locked":
            somebody.execute("SELECT FROM jobs WHERE id = %s FOR UPDATE", (odd,))
        else:
            refuse(any_database, f"was.id = {odd}")
        sweep(any_database, owner)
    assert done(any_database, made, 0) == {each: each != part for each in PARTS}
    assert done(any_database, made, 1) == dict.fromkeys(PARTS, True)
    if how == "refuses":
        any_database.query("DROP TRIGGER application ON jobs")
    sweep(any_database, owner)
    # A pause ends even if the database refuses one of its jobs. That job stays unchanged.
    stays = how == "refuses" and part == "a pause that reached its end"
    assert done(any_database, made, 0) == {each: not (stays and each == part) for each in PARTS}
    assert any_database.value("SELECT count(*) FROM holds") == 0


def test_expired_leases_are_returned_even_if_a_look_at_all_leases_fails(any_database):
    _, made = put_all(any_database)
    any_database.query(
        "CREATE OR REPLACE FUNCTION shorten_leases_v1(p_now timestamptz, p_kinds text[], p_seconds double precision[])"
        " RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$"
    )
    queue = QueueSession(connector(any_database.url, "test"), "public", uuid4())
    clock = Clock(lambda _: None)
    now = time.monotonic()
    clock.saw(now - 60, time.time() - 60, now - 60)
    upkeep = Upkeep(queue, clock, {"late": 300.0}, drop=False)

    def returned():
        upkeep.do_what_is_due(idle=True)
        return done(any_database, made, 0)["leases that expired"]

    eventually(returned, "the return of the expired leases")
    queue.close()


def test_a_pause_ends_for_all_jobs_after_a_batch_that_the_database_refuses(any_database):
    jobs = [
        job
        for (job,) in any_database.query(
            "INSERT INTO jobs (kind, state) SELECT 'held', 'paused' FROM generate_series(1, 10) RETURNING id"
        )
    ]
    any_database.query("INSERT INTO holds (scope, target, actor, until) VALUES ('kind', 'held', 'me', '2000-01-01')")
    refuse(any_database, f"was.id <= {jobs[4]}")
    any_database.query("SELECT end_expired_holds_v1(2)")
    assert any_database.value("SELECT count(*) FROM holds") == 1
    any_database.query("SELECT end_expired_holds_v1(2)")
    assert any_database.query("SELECT id FROM jobs WHERE state = 'paused' ORDER BY id") == [(job,) for job in jobs[:5]]
    assert any_database.value("SELECT count(*) FROM holds") == 0


def test_a_full_disk_is_not_blamed_on_a_single_job(any_database):
    any_database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 3)")
    any_database.query(
        "CREATE FUNCTION no_disk() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$;"
        "CREATE TRIGGER no_disk BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION no_disk()"
    )
    with pytest.raises(psycopg.errors.DiskFull):
        any_database.query("SELECT flip_v1(ARRAY(SELECT id FROM jobs), 'paused')")


# It holds only leases whose answers it never got.
LEAVE = "SELECT unregister_v1(%s, ARRAY(SELECT lease_token FROM jobs WHERE lease_token IS NOT NULL))"


def test_a_worker_that_leaves_keeps_its_row_while_one_of_its_leases_is_locked(any_database):
    owner, _ = put_all(any_database)
    with any_database.connect() as somebody, somebody.transaction():
        somebody.execute("SELECT FROM jobs WHERE kind = 'stray' FOR UPDATE")
        any_database.query(LEAVE, owner)
        assert any_database.value("SELECT count(*) FROM workers") == 1
    any_database.query(LEAVE, owner)
    assert any_database.value("SELECT count(*) FROM workers") == 0


def test_a_worker_without_a_beat_is_shown_as_silent_counted_and_forgotten_after_a_day(any_database):
    number = add_worker(any_database, "here", invocation="abc")
    any_database.query("DELETE FROM beats")
    (shown,) = any_database.query("SELECT w FROM workers_v1() w")[0]
    assert (shown["id"], shown["silent"], shown["state"]) == (str(number), True, "silent")
    assert any_database.value("SELECT queue_gauges_v1() -> 'workers'") == {"silent": 1}
    any_database.query("SELECT forget_workers_v1()")
    assert any_database.value("SELECT count(*) FROM workers") == 1
    any_database.query("UPDATE workers SET started_at = now() - interval '25 hours'")
    any_database.query("SELECT forget_workers_v1()")
    assert any_database.value("SELECT count(*) FROM workers") == 0
