"""The turns of one worker, driven by hand: what they bring to the tray, and what they take from it."""

from __future__ import annotations

import time

import psycopg
import pytest
from rooms import Rooms

from shithubd_worker.model import NOT_STARTED, Finished, How, Outcome
from shithubd_worker.timing import LOCKED_AGAIN_SECONDS
from shithubd_worker.turn.exchange import Next
from shithubd_worker.turn.relief import Relief

OK = Outcome(How.OK)


@pytest.fixture
def rooms(database):
    made = Rooms(database.url, window=3600.0)
    yield made
    made.close()


def enqueue(database, count, kind="k"):
    database.query("INSERT INTO jobs (kind, payload) SELECT %s, '{}' FROM generate_series(1, %s)", kind, count)


def run(rooms, outcome=OK):
    """What a handler of all jobs at hand would leave on the tray."""
    jobs = rooms.tray.take_leased()
    rooms.tray.finished.extend(Finished(lease, outcome, "7d", 0.001) for lease in jobs)
    return len(jobs)


def states(database):
    return database.query("SELECT state, count(*) FROM jobs GROUP BY 1 ORDER BY 1")


def test_a_turn_says_what_to_do_next(database, rooms):
    assert rooms.exchange.turn() is Next.REST
    enqueue(database, 1)
    rooms.selection.anew()
    assert rooms.exchange.turn() is Next.WORK
    assert run(rooms) == 1
    assert rooms.exchange.turn() is Next.REST
    assert states(database) == []
    assert database.query("SELECT outcome FROM job_history") == [("ok",)]
    assert rooms.counted("claims_total", result="job") == 1
    assert rooms.counted("jobs_processed_total", kind="k", outcome="ok") == 1


def test_a_worker_that_works_until_the_queue_is_empty_looks_from_the_start_before_it_believes_that(database):
    rooms = Rooms(database.url, until_empty=True, monotonic=lambda: 0.0)  # no look from the start by itself
    enqueue(database, 1)
    assert rooms.exchange.turn() is Next.WORK
    run(rooms)
    database.query("INSERT INTO jobs (kind, payload, run_at) VALUES ('k', '{}', now() - interval '1 hour')")
    assert rooms.exchange.turn() is Next.AGAIN
    assert rooms.exchange.turn() is Next.WORK
    rooms.exchange.put_down()
    rooms.close()


def test_while_jobs_are_quick_the_next_turn_is_sent_before_they_run(database, rooms):
    enqueue(database, 20)
    rooms.selection.ran("k", jobs=4, seconds=0.0, too_many=False)
    assert rooms.exchange.turn() is Next.WORK
    assert rooms.tray.ahead is not None
    assert len(rooms.tray.leased) == 16
    run(rooms)
    rooms.exchange.finish()
    assert rooms.tray.ahead is None
    assert len(rooms.tray.leased) == 4
    rooms.exchange.put_down()


@pytest.mark.parametrize("why", ["a stop is wanted", "the job at hand is leased alone"])
def test_no_turn_is_sent_ahead_when(database, rooms, why):
    enqueue(database, 20)
    rooms.selection.ran("k", jobs=1, seconds=0.0, too_many=False)
    if why == "a stop is wanted":
        rooms.stop.hear(main=True)
    else:
        database.query("UPDATE jobs SET alone = true, crashes = 1 WHERE id = 1")
    assert rooms.exchange.turn() is Next.WORK
    assert rooms.tray.ahead is None
    rooms.exchange.put_down()


def test_what_is_put_down_is_back_in_the_queue_and_what_was_finished_is_settled(database, rooms):
    enqueue(database, 20)
    rooms.selection.ran("k", jobs=1, seconds=0.0, too_many=False)
    rooms.exchange.turn()  # four are at hand, and as many were sent for
    rooms.tray.finished.append(Finished(rooms.tray.next(), OK, "7d", 0.001))
    rooms.exchange.put_down()
    assert states(database) == [("queued", 19)]
    assert database.query("SELECT outcome FROM job_history") == [("ok",)]
    assert not rooms.exchange.unsettled
    assert database.value("SELECT sum(attempts) FROM jobs") == 0


def test_a_turn_that_gets_no_answer_leaves_its_settles_in_doubt_and_its_lease_to_be_looked_for(database, rooms):
    enqueue(database, 2)
    rooms.exchange.turn()
    assert run(rooms) == 1
    database.query("SELECT pg_terminate_backend(%s, 60000)", rooms.queue.connection.info.backend_pid)
    with pytest.raises(psycopg.OperationalError):
        rooms.exchange.turn()
    assert [each.lease.id for each in rooms.tray.doubtful] == [1]
    assert len(rooms.exchange.strays) == 1
    assert rooms.tray.ahead is None
    rooms.exchange.database_is_back()
    assert rooms.exchange.turn() is Next.WORK
    assert not rooms.tray.doubtful
    assert database.query("SELECT outcome FROM job_history") == [("ok",)]
    rooms.exchange.put_down()


def test_a_careful_turn_settles_before_it_leases_and_leases_one_job(database, rooms):
    enqueue(database, 8)
    rooms.selection.ran("k", jobs=1, seconds=0.0, too_many=False)
    rooms.exchange.turn()
    rooms.exchange.finish()
    run(rooms)
    enqueue(database, 8)
    rooms.selection.caution.raise_it()
    assert rooms.exchange.turn() is Next.WORK
    assert len(rooms.tray.leased) == 1
    assert rooms.tray.ahead is None  # and sends none ahead
    assert database.value("SELECT count(*) FROM job_history WHERE outcome = 'ok'") == 8
    assert not rooms.selection.caution.wanted
    rooms.exchange.put_down()


def test_a_job_that_the_database_refuses_to_lease_is_passed_over_and_told(database, rooms):
    enqueue(database, 2)
    database.query("ALTER TABLE jobs ADD CONSTRAINT ours CHECK (state <> 'processing' OR id <> 1)")
    with pytest.raises(psycopg.errors.CheckViolation):
        rooms.exchange.turn()
    rooms.selection.caution.raise_it()
    assert rooms.exchange.turn() is Next.AGAIN
    assert rooms.exchange.turn() is Next.WORK
    assert [lease.id for lease in rooms.tray.leased] == [2]
    assert rooms.counted("refused_writes_total", kind="k") == 1
    rooms.exchange.put_down()


def test_who_gives_back_a_job_that_never_started_leaves_nothing_in_the_history(database, rooms):
    enqueue(database, 1)
    rooms.exchange.turn()
    rooms.tray.give_back(rooms.tray.take_leased())
    assert [each.outcome for each in rooms.tray.finished] == [NOT_STARTED]
    rooms.exchange.put_down()
    assert (states(database), database.query("SELECT FROM job_history")) == ([("queued", 1)], [])


@pytest.mark.parametrize("when", ["before the turn", "after the turn", "within the turn"])
def test_the_queue_is_not_believed_to_be_empty_while_the_control_thread_has_something_in_hand(database, when):
    rooms = Rooms(database.url, until_empty=True)
    assert rooms.exchange.turn() is Next.END
    rooms.selection.anew()
    rooms.tray.relieving = when == "before the turn"

    def meanwhile(*, idle, ask=rooms.upkeep.do_what_is_due):
        rooms.tray.relieving = when == "after the turn"
        rooms.tray.reliefs += when == "within the turn"
        ask(idle=idle)

    rooms.upkeep.do_what_is_due = meanwhile
    assert rooms.exchange.turn() is Next.AGAIN
    rooms.close()


def test_the_answer_to_a_turn_that_was_sent_before_does_not_end_the_work(database):
    rooms = Rooms(database.url, until_empty=True)
    assert rooms.exchange.turn() is Next.END
    rooms.selection.anew()
    rooms.exchange._send()
    assert rooms.exchange.turn() is Next.AGAIN
    rooms.selection.anew()
    assert rooms.exchange.turn() is Next.END
    rooms.close()


def test_a_job_that_the_control_thread_settles_within_a_turn_is_found_by_the_next(database):
    """It was put off for a lock, which is gone; it is to be tried again at once."""
    rooms = Rooms(database.url, until_empty=True)
    enqueue(database, 1)
    rooms.exchange.turn()
    with database.connect() as other:
        other.execute("BEGIN")
        other.execute("SELECT FROM jobs FOR UPDATE")
        run(rooms, Outcome(How.RETRY, "again", 0.0))
        rooms.tray.doubtful.extend(rooms.tray.take_finished())
        rooms.settler.resolve(rooms.queue)
        other.execute("ROLLBACK")
    assert rooms.settler.waiting
    relief = Relief(rooms.beat, rooms.identity.id, rooms.tray, rooms.settler)

    def meanwhile(*, idle, ask=rooms.upkeep.do_what_is_due):
        time.sleep(LOCKED_AGAIN_SECONDS)
        relief.tick(time.monotonic(), None)
        ask(idle=idle)

    rooms.upkeep.do_what_is_due, due = meanwhile, rooms.upkeep.do_what_is_due
    rooms.selection.anew()
    assert rooms.exchange.turn() is Next.AGAIN
    rooms.upkeep.do_what_is_due = due
    rooms.selection.anew()
    assert rooms.exchange.turn() is Next.WORK
    rooms.exchange.put_down()
    rooms.close()
