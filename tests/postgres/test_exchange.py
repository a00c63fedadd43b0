"""The turns of one worker, driven by the test: what they bring to the tray, and what they take from it."""

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
    """What a handler that runs all jobs at hand would leave on the tray."""
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


def test_a_worker_looks_from_the_start_before_it_calls_the_queue_empty(database):
    rooms = Rooms(database.url, until_empty=True, monotonic=lambda: 0.0)  # no look from the start is due
    enqueue(database, 1)
    assert rooms.exchange.turn() is Next.WORK
    run(rooms)
    database.query("INSERT INTO jobs (kind, payload, run_at) VALUES ('k', '{}', now() - interval '1 hour')")
    assert rooms.exchange.turn() is Next.AGAIN
    assert rooms.exchange.turn() is Next.WORK
    rooms.exchange.put_down()
    rooms.close()


def test_the_next_turn_is_sent_ahead_of_quick_jobs(database, rooms):
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


def test_put_down_returns_unstarted_jobs_to_the_queue_and_settles_finished_ones(database, rooms):
    enqueue(database, 20)
    rooms.selection.ran("k", jobs=1, seconds=0.0, too_many=False)
    rooms.exchange.turn()  # four are at hand, and a query for as many was sent
    rooms.tray.finished.append(Finished(rooms.tray.next(), OK, "7d", 0.001))
    rooms.exchange.put_down()
    assert states(database) == [("queued", 19)]
    assert database.query("SELECT outcome FROM job_history") == [("ok",)]
    assert not rooms.exchange.unsettled
    assert database.value("SELECT sum(attempts) FROM jobs") == 0


def test_after_a_turn_without_an_answer_its_settles_and_its_lease_are_doubtful(database, rooms):
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
    assert rooms.tray.ahead is None  # and it sends no turn ahead
    assert database.value("SELECT count(*) FROM job_history WHERE outcome = 'ok'") == 8
    assert not rooms.selection.caution.wanted
    rooms.exchange.put_down()


def test_a_job_that_the_database_refuses_to_lease_is_passed_over_and_logged(database, rooms):
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


def test_a_job_given_back_before_it_started_leaves_nothing_in_the_history(database, rooms):
    enqueue(database, 1)
    rooms.exchange.turn()
    rooms.tray.give_back(rooms.tray.take_leased())
    assert [each.outcome for each in rooms.tray.finished] == [NOT_STARTED]
    rooms.exchange.put_down()
    assert (states(database), database.query("SELECT FROM job_history")) == ([("queued", 1)], [])


@pytest.mark.parametrize("when", ["before the turn", "after the turn", "within the turn"])
def test_the_queue_is_not_empty_while_the_control_thread_has_a_job_in_hand(database, when):
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


def test_the_answer_to_an_earlier_turn_does_not_end_the_work(database):
    rooms = Rooms(database.url, until_empty=True)
    assert rooms.exchange.turn() is Next.END
    rooms.selection.anew()
    rooms.exchange._send()
    assert rooms.exchange.turn() is Next.AGAIN
    rooms.selection.anew()
    assert rooms.exchange.turn() is Next.END
    rooms.close()


def test_a_job_that_the_control_thread_retries_during_a_turn_is_found_by_the_next_turn(database):
    """Its settle was put off because of a lock, which is gone. Its retry is due at once."""
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
