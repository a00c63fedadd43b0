"""Somebody has locked the row of a finished job. The other jobs of its turn are settled at once. None runs again."""

from __future__ import annotations

import math
import select
import time
from types import SimpleNamespace
from uuid import uuid4

import psycopg
import pytest
from conftest import PATIENCE, eventually
from drivers import done
from drivers import enqueue as add
from rooms import Rooms
from test_exchange import run
from test_locked_rows import LOCK, somebody
from test_refusals import HANDLERS, WIDE, enqueue, gone, outcomes, states
from test_returning import locked

from shithubd_worker.timing import GIVE_BACK_AFTER_SECONDS
from shithubd_worker.turn.relief import Relief

# A wait for a lock must end by a limit of the turn's own. Without one it ends after this, as a cancelled statement.
FOR_EVER = "SET lock_timeout = 0; SET statement_timeout = '10s'"
COUNT = 16  # jobs in a batch


@pytest.fixture
def rooms(database):
    made = Rooms(database.url, window=3600.0)
    yield made
    made.close()


def batch_ended(database, rooms):
    """A batch whose handlers have returned. Its turn has not been sent. Returns the ids of the jobs."""
    add(database, COUNT)
    rooms.selection.ran("k", jobs=4, seconds=0.0, too_many=False)
    rooms.exchange.turn()
    rooms.exchange.finish()
    assert run(rooms) == COUNT
    return [each.lease.id for each in rooms.tray.finished]


@pytest.fixture
def relief(rooms):
    return Relief(rooms.beat, rooms.identity.id, rooms.tray, rooms.settler)


def all_told_once(database, rooms):
    """Each job of the batch is settled once and counted once, and nothing more is said of it."""
    assert database.query("SELECT outcome, count(*) FROM job_history GROUP BY 1") == [("ok", COUNT)]
    assert rooms.counted("jobs_processed_total", kind="k", outcome="ok") == COUNT
    assert rooms.counted("fenced_writes_total", kind="k") == 0
    assert rooms.settler.unsettled(math.inf) == ()
    return not rooms.settler.waiting


def slow_handler():
    """An attempt that has run for long."""
    return SimpleNamespace(started_at=time.monotonic() - 60.0)


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("lock", [LOCK, "UPDATE jobs SET priority = priority WHERE id = ANY (%s)"])
def test_a_turn_gives_up_a_lock_soon_and_leaves_the_connection_as_it_was(database, hire, lock, pooled):
    driver = hire(pooled=pooled)
    add(database, 500)
    leases = driver.lease()
    connection = driver.queue.connection
    if pooled:
        ours = [each.replace(b"lock_timeout TO 3000", b"lock_timeout TO 0") for each in connection.opening]
        connection.opening = [each.replace(b"statement_timeout = 0", b"statement_timeout = 10000") for each in ours]
        assert connection.opening != ours
    else:
        connection.execute(FOR_EVER)
    with locked(database, lock, [each.id for each in leases[100:]]):
        driver.send(done(leases))
        with pytest.raises(psycopg.OperationalError) as refused:
            driver.receive()
        assert isinstance(refused.value, psycopg.errors.LockNotAvailable)
        driver.wire.forget()
    assert driver.turn(done(leases)).lost == set()
    if not pooled:
        assert connection.execute("SHOW lock_timeout").fetchone() == ("0",)


def test_another_look_at_the_holds_gives_up_a_lock_soon(database, hire):
    driver = hire()
    add(database, 3)
    leases = driver.lease()
    driver.queue.connection.execute(FOR_EVER)
    with locked(database, LOCK, [leases[1].id]), pytest.raises(psycopg.errors.LockNotAvailable):
        driver.queue.start(leases, str(uuid4()), [60.0] * 3)


def test_no_job_runs_again_because_another_job_of_its_batch_is_locked(database, start_worker):
    """The leases last 2 s, and the lock much longer."""
    worker = start_worker(*WIDE, handlers=HANDLERS)
    gone(database, enqueue(database, 1000, kind="refused.short"))  # the worker knows that these jobs are quick
    with somebody(database):
        _, held, *others = [
            job
            for (job,) in database.query(
                "INSERT INTO jobs (kind, payload) SELECT 'refused.short', p FROM jsonb_array_elements("
                "'[{\"lock\": true}]' || (SELECT jsonb_agg('{}'::jsonb) FROM generate_series(1, 60))) p RETURNING id"
            )
        ]
        swept = []

        def settled():
            swept.extend(database.query("SELECT * FROM sweep_v1(%s)", uuid4()))
            return not states(database, *others)

        eventually(settled, "the end of the others")
        assert swept == []
        eventually(lambda: database.query("SELECT FROM beats WHERE unsettled = ARRAY[%s::bigint]", held), "a beat")
        eventually(lambda: database.value("SELECT lease_expires_at < clock_timestamp() FROM jobs WHERE id = %s", held))
        assert database.query("SELECT * FROM sweep_v1(%s)", uuid4()) == []
    gone(database, [held])
    assert worker.terminate() == 0
    assert {tuple(outcomes(database, job)) for job in (held, *others)} == {("ok",)}


def sent_unread(rooms):
    """The turn was sent and is over, and nobody has read its answer. Returns the time of a look a while later."""
    rooms.exchange._send()
    assert select.select([rooms.queue.connection], [], [], PATIENCE)[0], "no answer came"
    return time.monotonic() + GIVE_BACK_AFTER_SECONDS


def test_a_slow_handler_keeps_nobody_from_settling_a_turn_that_was_refused_unread(database, rooms, relief):
    held, *others = batch_ended(database, rooms)
    with locked(database, LOCK, [held]):
        later = sent_unread(rooms)
        relief.tick(later, slow_handler())
        assert states(database, held, *others) == {held: "processing"}
        assert rooms.settler.unsettled(later) == (held,)
    eventually(lambda: (relief.tick(time.monotonic(), slow_handler()), not states(database, held))[1])
    with pytest.raises(psycopg.errors.LockNotAvailable):
        rooms.exchange.turn()
    rooms.exchange.put_down(at_last=True)
    assert all_told_once(database, rooms)


def test_a_turn_that_was_committed_unread_is_left_to_the_main_thread(database, rooms, relief):
    batch_ended(database, rooms)
    relief.tick(sent_unread(rooms), slow_handler())
    assert len(rooms.tray.sent) == COUNT
    rooms.exchange.put_down()
    assert all_told_once(database, rooms)


def test_a_turn_whose_answer_the_main_thread_awaits_is_left_to_it(database, rooms, relief):
    jobs = batch_ended(database, rooms)
    with locked(database, LOCK, jobs[:1]):
        relief.tick(sent_unread(rooms), None)
        assert len(rooms.tray.sent) == COUNT
    with pytest.raises(psycopg.errors.LockNotAvailable):
        rooms.exchange.turn()
    rooms.exchange.put_down()
    assert all_told_once(database, rooms)


def test_what_ends_before_a_late_answer_is_settled_by_the_control_thread(database, rooms, relief):
    jobs = batch_ended(database, rooms)
    ended = rooms.tray.take_finished()
    with locked(database, "LOCK TABLE gate"):  # a lease takes it; a settle does not
        rooms.exchange._send()
        rooms.tray.finished.extend(ended)
        relief.tick(time.monotonic() + GIVE_BACK_AFTER_SECONDS, None)
        assert states(database, *jobs) == {}
    rooms.exchange.put_down()
    assert all_told_once(database, rooms)


def test_a_stop_settles_the_others_and_waits_for_the_locked_one(database, rooms):
    """The turn was refused, and nobody has read that yet."""
    held, *others = batch_ended(database, rooms)
    left = []
    with database.connect() as other:
        other.execute("BEGIN")
        other.execute(LOCK, ([held],))
        sent_unread(rooms)

        def wait(_seconds):
            left.append(states(database, held, *others))
            other.execute("ROLLBACK")

        rooms.waits(wait)
        rooms.shutdown.put_down()
    assert left[0] == {held: "processing"}
    assert all_told_once(database, rooms)


def test_a_process_that_ends_its_handler_settles_a_turn_that_was_refused_unread(database, rooms, relief):
    held, *others = batch_ended(database, rooms)
    with locked(database, LOCK, [held]):
        sent_unread(rooms)
        relief.put_down(None)
        assert states(database, held, *others) == {held: "processing"}
    rooms.queue.close()
    rooms.exchange.give_up()
    rooms.exchange.put_down(at_last=True)
    assert all_told_once(database, rooms)


def test_beats_name_all_jobs_of_a_turn_until_they_are_settled(database, rooms):
    """Its answer is late, then it fails, because somebody has locked the table."""
    jobs = batch_ended(database, rooms)
    with locked(database, "LOCK TABLE jobs IN SHARE MODE"):
        rooms.exchange._send()
        now = time.monotonic()
        assert rooms.settler.unsettled(now) == ()
        assert rooms.settler.unsettled(now + GIVE_BACK_AFTER_SECONDS) == tuple(jobs)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            rooms.exchange.turn()
        for _ in range(2):
            assert rooms.settler.unsettled(now) == tuple(jobs)
            rooms.settler.resolve(rooms.queue)
    rooms.exchange.put_down(at_last=True)
    assert all_told_once(database, rooms)
