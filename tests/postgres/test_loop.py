"""The loop and the way out, in this process: when they go on, wait, give up, and end."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import psycopg
import pytest
from conftest import eventually
from rooms import Rooms

from shithubd_worker import backoff
from shithubd_worker.errors import RightsMissing, SchemaMismatch, Unsettled
from shithubd_worker.host.signals import Stop
from shithubd_worker.model import Finished, How, Outcome
from shithubd_worker.process.live import LiveConfig
from shithubd_worker.process.loop import Loop
from shithubd_worker.settings.config import Config

OK = Outcome(How.OK)


class Hands:
    """In place of the runner: each job at hand ends as ok, after a call of `before`."""

    def __init__(self, rooms, before=lambda: None):
        self.rooms, self.before, self.ran = rooms, before, 0

    def do(self):
        self.before()
        for lease in self.rooms.tray.take_leased():
            self.ran += 1
            self.rooms.tray.finished.append(Finished(lease, OK, "7d", 0.001))


@pytest.fixture
def rooms(database):
    made = Rooms(database.url, until_empty=True)
    yield made
    made.close()


def loop(rooms, hands, *, sessions=()):
    return Loop(rooms.exchange, hands, rooms.sleep, rooms.patience, rooms.shutdown, rooms.progress, sessions)


def enqueue(database, count):
    database.query("INSERT INTO jobs (kind, payload) SELECT 'k', '{}' FROM generate_series(1, %s)", count)


def test_the_loop_ends_when_the_queue_is_empty_if_asked_to(database, rooms):
    enqueue(database, 5)
    hands = Hands(rooms)
    loop(rooms, hands).run()
    assert hands.ran == 5
    assert database.query("SELECT state FROM jobs") == []


def test_the_loop_goes_on_while_the_control_thread_has_jobs_in_hand(database, rooms):
    rooms.tray.relieving = True
    turns = []

    def turn(ask=rooms.exchange.turn):
        turns.append(ask())
        if len(turns) == 3:
            rooms.tray.relieving = False
        return turns[-1]

    rooms.exchange.turn = turn
    loop(rooms, Hands(rooms)).run()
    assert len(turns) > 3


def test_the_loop_ends_at_a_stop_after_the_running_job(database, rooms):
    enqueue(database, 5)
    hands = Hands(rooms, before=lambda: rooms.stop.hear(main=True))
    loop(rooms, hands).run()
    assert hands.ran == 1
    rooms.shutdown.put_down()
    assert database.query("SELECT state, count(*) FROM jobs GROUP BY 1") == [("queued", 4)]


def test_the_loop_rests_while_there_is_nothing_to_do(database, rooms):
    rested = []

    def rest():
        rested.append("rested")
        rooms.stop.hear(main=True)

    rooms.selection.until_empty = False
    rooms.sleep.rest = rest
    loop(rooms, Hands(rooms)).run()
    assert rested == ["rested"]


def test_a_handler_without_disk_space_puts_all_jobs_down_and_pauses_the_worker(database, rooms):
    enqueue(database, 5)
    pauses = []
    rooms.waits(lambda _: pauses.append((rooms.progress.trouble, rooms.exchange.unsettled)))

    class Refused(Hands):
        def do(self):
            super().do()
            return None if pauses else "no space left"

    loop(rooms, Refused(rooms)).run()
    assert pauses == [("no space left", False)]
    assert rooms.progress.trouble == ""


def test_a_login_that_is_refused_for_good_ends_the_loop(database, rooms):
    refused = RightsMissing("no such role")
    with pytest.raises(RightsMissing, match="no such role"):
        loop(rooms, Hands(rooms), sessions=[SimpleNamespace(login_refused=refused)]).run()


def test_a_lost_connection_is_opened_again_and_its_jobs_are_settled_once(database, rooms):
    enqueue(database, 3)
    cut = []

    def once():
        if not cut:
            cut.append(rooms.queue.connection.info.backend_pid)
            database.query("SELECT pg_terminate_backend(%s, 60000)", cut[0])

    hands = Hands(rooms, before=once)
    loop(rooms, hands).run()
    assert (hands.ran, rooms.found) == (3, ["found"])
    assert database.query("SELECT outcome, count(*) FROM job_history GROUP BY 1") == [("ok", 3)]
    assert rooms.counted("claims_total", result="error") == 1


def test_repeatedly_refused_turns_are_careful_and_then_pause_longer_each_time(database, rooms, monkeypatch):
    monkeypatch.setattr(backoff, "reconnect", lambda times, _: float(times))
    pauses, refusals, ask = [], [psycopg.errors.DiskFull("no space left")] * 4, rooms.exchange.turn

    def turn():
        if refusals:
            raise refusals.pop()
        return ask()

    rooms.exchange.turn = turn
    rooms.waits(lambda seconds: pauses.append((seconds, rooms.progress.trouble)))
    loop(rooms, Hands(rooms)).run()
    assert pauses == [(times, "the database can't do it now: no space left") for times in (1.0, 2.0, 3.0)]
    assert rooms.selection.caution.wanted


def test_a_schema_that_was_replaced_during_the_run_ends_the_loop(database, rooms):
    loop(rooms, Hands(rooms)).run()
    database.query("UPDATE worker_schema SET version = version + 1; ALTER FUNCTION lease_v1 RENAME TO lease_v0")
    with pytest.raises(SchemaMismatch, match="install the newer release"):
        loop(rooms, Hands(rooms)).run()


def at_hand(database, rooms):
    """One job that has ended and is not settled."""
    enqueue(database, 1)
    rooms.exchange.turn()
    rooms.tray.finished.append(Finished(rooms.tray.next(), OK, "7d", 0.001))


def test_a_finished_job_waits_for_a_lock_until_the_grace_is_over(database, rooms):
    at_hand(database, rooms)
    waits = []
    with database.connect() as other:
        other.execute("BEGIN")
        other.execute("SELECT FROM jobs FOR UPDATE")

        def wait(seconds):
            waits.append(seconds)
            if len(waits) == 3:
                other.execute("ROLLBACK")

        rooms.waits(wait)
        rooms.shutdown.put_down()
    assert len(waits) == 3
    assert database.query("SELECT outcome FROM job_history") == [("ok",)]


def test_a_lock_that_outlasts_the_grace_leaves_the_job_leased_and_says_so(database):
    rooms = Rooms(database.url, grace=0.0)
    at_hand(database, rooms)
    rooms.stop.hear(main=True)
    with database.connect() as other:
        other.execute("BEGIN")
        other.execute("SELECT FROM jobs FOR UPDATE")
        with pytest.raises(Unsettled, match=r"1 job\(s\) ended \(1\), but somebody has locked their rows"):
            rooms.shutdown.put_down()
        other.execute("ROLLBACK")
    assert database.query("SELECT state FROM jobs") == [("processing",)]
    rooms.close()


def test_a_database_that_stays_away_on_the_way_out_is_reported_with_the_open_jobs(database):
    rooms = Rooms(database.url, grace=0.0)
    at_hand(database, rooms)
    rooms.stop.hear(main=True)
    rooms.waits(lambda _: None)
    rooms.queue.close()

    def refuse():
        raise psycopg.OperationalError("connection failed: nobody listens")

    rooms.queue._connect = refuse
    with pytest.raises(Unsettled, match="but the database is away: they stay leased until their timeout"):
        rooms.shutdown.put_down()
    rooms.close()


def test_a_reload_applies_what_a_running_worker_can_change_and_no_more():
    stop = Stop(25.0)
    pace = SimpleNamespace(window=0.1)
    new = Config(grace=5.0, prefetch=0.5, poll_interval=7.0, database_wait=9.0)
    live = LiveConfig(Config(), lambda: new, stop, pace)
    live.reload()
    assert (live.now.grace, live.now.prefetch, live.now.poll_interval) == (5.0, 0.5, 7.0)
    assert live.now.database_wait == Config().database_wait
    assert (stop.grace, pace.window) == (5.0, 0.5)


def test_a_ring_or_a_notification_ends_a_rest(database, rooms):
    rooms.live.now = replace(rooms.live.now, poll_interval=3600.0)
    rooms.listen()
    rooms.exchange.turn()
    rooms.exchange.turn()  # the worker rests from here on
    rooms.bell.wake()
    rooms.sleep.rest()
    assert not rooms.selection.wakeups.called
    enqueue(database, 1)
    eventually(lambda: rooms.sleep.rest() or rooms.selection.wakeups.called, "it is called")
    rooms.sleep.rest()  # the worker knows of a job: it does not rest
