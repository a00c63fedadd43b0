"""What the control thread asks of the database, duty by duty: without a process, at moments that the test chooses."""

from __future__ import annotations

import logging
import time
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from duties import rung
from servers import deaf_port

from shithubd_worker.attempt.attempt import OK
from shithubd_worker.database.connection import connector
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.host.signals import Stop
from shithubd_worker.model import Finished, Registration
from shithubd_worker.process.duties.asking import Asking
from shithubd_worker.process.duties.clock_look import ClockLook
from shithubd_worker.process.duties.heartbeat import Heartbeat
from shithubd_worker.process.duties.outage import Outage
from shithubd_worker.process.shared import Progress
from shithubd_worker.timing import (
    ASK_AGAIN_SECONDS,
    BEAT_SECONDS,
    CLOCK_LOOK_SECONDS,
    GIVE_BACK_AFTER_SECONDS,
    SETTLE_AFTER_SECONDS,
    SHOWN_AFTER_SECONDS,
    TOLD_AGAIN_SECONDS,
)
from shithubd_worker.turn.tray import Ahead

MOMENT = 0.01


@pytest.fixture
def heartbeat(parts):
    return Heartbeat(parts.beat, Registration(parts.me, ["k"]), parts.progress, parts.settler, parts.trust, parts.clock)


@pytest.fixture
def asking(parts, heartbeat):
    look = ClockLook(parts.beat, parts.clock, parts.wake_main)
    return Asking(
        parts.beat,
        parts.progress,
        parts.outage,
        parts.renewal,
        heartbeat,
        (look, parts.renewal, parts.relief, heartbeat),
    )


@pytest.fixture
def beaten(database):
    """Has there been a beat since the last call?"""
    seen = [database.query("SELECT beat_at FROM beats")]

    def ask():
        seen.append(database.query("SELECT beat_at FROM beats"))
        return seen[-1] != seen[-2]

    return ask


def renamed(database, function):
    """A function that the database refuses to call from now on, because it has another name."""
    database.query(f"ALTER FUNCTION {function} RENAME TO as_it_was")


# The heartbeat.


def test_a_beat_is_due_every_few_seconds_and_after_a_change_at_most_once_a_second(heartbeat, parts, beaten):
    began = time.monotonic()

    def beats(after):
        heartbeat.tick(began + after, None)
        return beaten()

    assert [beats(0.0), beats(BEAT_SECONDS - MOMENT), beats(BEAT_SECONDS)] == [True, False, True]
    parts.stop.hear(main=True)
    assert [beats(BEAT_SECONDS + TOLD_AGAIN_SECONDS - MOMENT), beats(BEAT_SECONDS + TOLD_AGAIN_SECONDS)] == [
        False,
        True,
    ]
    assert not beats(2 * BEAT_SECONDS)
    heartbeat.hurry()
    assert beats(2 * BEAT_SECONDS + MOMENT)


def test_a_long_run_causes_a_beat_and_many_quick_runs_do_not(database, heartbeat, parts, beaten):
    def body(attempt):
        began = attempt.started_at
        heartbeat.tick(began, attempt)
        assert beaten()
        heartbeat.tick(began + TOLD_AGAIN_SECONDS, SimpleNamespace(over=False, started_at=began + TOLD_AGAIN_SECONDS))
        heartbeat.tick(began + SHOWN_AFTER_SECONDS, attempt)
        assert not beaten()
        heartbeat.tick(began + TOLD_AGAIN_SECONDS, attempt)
        assert beaten()
        assert database.query("SELECT state, job_id, job_kind FROM beats") == [("running", attempt.lease.id, "k")]

    parts.run(body)


def test_a_worker_whose_row_is_gone_registers_again(database, heartbeat, parts, caplog):
    database.query("DELETE FROM workers")
    heartbeat.tick(time.monotonic(), None)
    assert database.query("SELECT id FROM workers") == [(parts.me.id,)]
    assert "registering again" in caplog.text


def test_a_beat_learns_of_a_hold_which_is_logged_once(database, heartbeat, parts, caplog):
    caplog.set_level(logging.INFO)
    now = time.monotonic()
    database.query("SELECT drain_v1('worker', %s, 'a new disk')", str(parts.me.id))
    for tick in (0, 1):
        heartbeat.tick(now + tick * BEAT_SECONDS, None)
    assert [hold.reason for hold in parts.progress.holds] == ["a new disk"]
    assert caplog.text.count("a new disk") == 1
    database.query("SELECT resume_v1()")
    heartbeat.tick(now + 2 * BEAT_SECONDS, None)
    assert parts.progress.holds == []
    assert "no longer held" in caplog.text


# The renewal.


def ends(database):
    return database.value("SELECT extract(epoch FROM max(lease_expires_at)) FROM jobs")


def test_a_lease_is_renewed_after_a_third_of_its_time(database, parts):
    def body(attempt):
        parts.trust.beat(time.monotonic(), attempt)
        before, deadline = ends(database), attempt.lease_deadline
        parts.renewal.tick(deadline - 200.0 - MOMENT, attempt)
        assert (ends(database), attempt.lease_deadline) == (before, deadline)
        parts.renewal.tick(deadline - 200.0, attempt)
        assert ends(database) > before
        assert attempt.lease_deadline > deadline

    attempt, _ = parts.run(body)
    assert not attempt.lost
    assert parts.sample("lease_renewals_total", result="ok") == 1


@pytest.mark.parametrize("doubt", ["the clock was set", "the connection was lost", "the main thread lost the database"])
def test_a_doubtful_lease_is_renewed_at_once(database, parts, doubt):
    def body(attempt):
        before, now = ends(database), time.monotonic()
        parts.renewal.tick(now, attempt)
        assert ends(database) == before
        if doubt == "the clock was set":
            parts.clock.stepped_at = now
        elif doubt == "the connection was lost":
            parts.outage.lost_at = now
        else:
            parts.progress.found_at = now
        parts.renewal.tick(now, attempt)
        assert ends(database) > before
        parts.renewal.tick(now, attempt)
        assert parts.sample("lease_renewals_total", result="ok") == 1, "one is enough"

    parts.run(body)


@pytest.mark.parametrize("over", [False, True], ids=["running", "settling"])
def test_a_refused_renewal_calls_the_main_thread_if_the_handler_still_runs(database, parts, over):
    def body(attempt):
        database.query("UPDATE jobs SET lease_token = gen_random_uuid()")
        for _ in range(2):
            parts.renewal.tick(attempt.lease_deadline, attempt)
        assert attempt.lost
        assert attempt.why_end() == "lost"

    with rung() as heard:
        attempt, _ = parts.run(lambda _attempt: None if over else body(_attempt))
        if over:
            parts.renewal.tick(attempt.lease_deadline, attempt)
    assert (attempt.lost, len(heard)) == (not over, int(not over))
    assert parts.sample("lease_renewals_total", result="lost") == int(not over)


# The clock.


def test_the_clock_is_read_only_while_no_turn_shows_it(parts):
    look = ClockLook(parts.beat, parts.clock, parts.wake_main)
    look.tick(time.monotonic(), None)
    seen = parts.clock.seen_at
    look.tick(seen + CLOCK_LOOK_SECONDS - MOMENT, None)
    assert parts.clock.seen_at == seen
    look.tick(seen + CLOCK_LOOK_SECONDS, None)
    assert parts.clock.seen_at > seen
    assert parts.woken == []


def test_the_main_thread_is_called_if_no_enqueue_can_wake_it(database, parts):
    database.query("ALTER FUNCTION wakes_come_v1() RENAME TO as_it_was")
    database.query("CREATE FUNCTION wakes_come_v1() RETURNS boolean LANGUAGE sql AS 'SELECT false'")
    ClockLook(parts.beat, parts.clock, parts.wake_main).tick(time.monotonic(), None)
    assert parts.woken == [True]


# Relief.


def test_a_slow_handler_delays_no_settle_and_other_leases_only_briefly(database, parts):
    done, *waiting = parts.lease(3)
    ahead = parts.lease(2)
    parts.tray.finished.append(Finished(done, OK, "7d", 0.1))

    def states():
        return dict(database.query("SELECT id, state FROM jobs"))

    def body(attempt):
        began = attempt.started_at
        parts.tray.leased.extend(each._replace(batch=each.batch._replace(sent_at=began)) for each in waiting)
        parts.relief.tick(began + SETTLE_AFTER_SECONDS - MOMENT, attempt)
        assert done.id in states()
        parts.relief.tick(began + SETTLE_AFTER_SECONDS + MOMENT, attempt)
        assert done.id not in states()
        assert {states()[each.id] for each in waiting} == {"processing"}
        parts.tray.ahead = sent = Ahead(ahead[0].token, began)
        parts.relief.tick(began + GIVE_BACK_AFTER_SECONDS + MOMENT, attempt)
        assert {states()[each.id] for each in (*waiting, *ahead)} == {"queued"}
        assert (sent.given_back, parts.tray.given_back, parts.tray.relieving) == (True, 4, False)

    parts.run(body)
    assert database.query("SELECT outcome FROM job_history") == [("ok",)]


# All duties together.


def test_a_refused_question_blocks_no_other_and_is_repeated_once_a_second(database, parts, asking, caplog):
    renamed(database, "statement_time_v1()")

    def body(attempt):
        began, before = time.monotonic(), ends(database)
        parts.progress.found_at = began  # the lease is doubtful
        for tick in range(60):  # three seconds of ticks while the tray has jobs
            asking.tick(began + tick * 0.05)
        assert ends(database) > before
        assert (attempt.asked_at, attempt.unreachable) == (None, False)

    parts.run(body)
    refused = [record for record in caplog.records if "statement_time_v1" in record.getMessage()]
    assert len(refused) == 3 / ASK_AGAIN_SECONDS
    assert database.value("SELECT count(*) FROM beats WHERE beat_at > now() - interval '1 minute'") == 1
    assert parts.beat.opened


def test_a_refused_beat_is_repeated_once_a_second(database, asking, caplog):
    renamed(database, "beat_v1(uuid, text, bigint, text, double precision, bigint[])")
    began = time.monotonic()
    for tick in range(60):
        asking.tick(began + tick * 0.05)
    assert sum("beat_v1" in record.getMessage() for record in caplog.records) == 3 / ASK_AGAIN_SECONDS


def test_a_run_whose_renewal_is_refused_waits_for_the_database_until_it_is_renewed(database, parts, asking):
    """If its lease ends meanwhile, the handler is not at fault."""
    renamed(database, "renew_v1(bigint, uuid, double precision)")

    def body(attempt):
        now = parts.progress.found_at = time.monotonic()
        for tick in (0.0, 0.5, 1.0):
            asking.tick(now + tick)
            assert attempt.asked_at == now
        database.query("ALTER FUNCTION as_it_was RENAME TO renew_v1")
        asking.tick(now + 1.5)
        assert attempt.asked_at == now, "it was not asked for again yet"
        asking.tick(now + 2.0)
        assert attempt.asked_at is None

    parts.run(body)


# The lost connection.


def test_a_lost_connection_is_reported_and_opened_again(database, parts, asking):
    def body(attempt):
        asking.tick(time.monotonic())
        before, lost_at = ends(database), time.monotonic()
        database.query("SELECT pg_terminate_backend(%s, 60000)", parts.beat.connection.info.backend_pid)
        asking.tick(time.monotonic() + BEAT_SECONDS)
        assert parts.progress.away
        assert parts.outage.lost_at > lost_at
        asking.tick(parts.outage.lost_at)
        assert parts.progress.away, "it is too early to look again"
        assert attempt.unreachable
        asking.tick(parts.outage.lost_at + 0.7)
        assert not parts.progress.away
        assert ends(database) > before, "the database may have forgotten the lease"
        assert (attempt.asked_at, attempt.unreachable) == (None, False)

    parts.run(body)
    assert parts.woken == [True], "the main thread may wait to look for itself"
    assert parts.sample("db_reconnects_total", thread="control") == 1


@pytest.fixture
def nowhere():
    """An outage of a database where nobody answers, and the progress that it reports to."""
    with deaf_port() as port:
        beat = ControlSession(connector(f"postgresql://nobody@127.0.0.1:{port}/none", "test"), "public")
        progress = Progress(Stop(25.0))
        yield Outage(beat, progress, lambda: None, SimpleNamespace(reconnected=lambda _thread: None)), progress, beat


def test_a_missing_database_is_tried_again_after_a_tenth_to_seven_tenths_of_a_second(nowhere):
    outage, progress, beat = nowhere
    for _ in range(30):
        with pytest.raises(Exception, match="connection") as refused:
            beat.value("channel_v1")
        outage.goes_on(refused.value)
        assert outage.lasts
        assert outage.waits(outage.lost_at + 0.1 - MOMENT)
        assert not outage.waits(outage.lost_at + 0.7 + MOMENT)
    progress.found_at = outage.lost_at + MOMENT
    assert not outage.waits(outage.lost_at), "the main thread has found it"
    outage.is_over()
    assert (outage.lasts, progress.away) == (False, False)


def test_a_control_thread_without_a_database_asks_for_a_beat_at_each_try(nowhere):
    outage, progress, beat = nowhere
    hurried = []
    heartbeat = MagicMock(hurry=lambda: hurried.append(True), tick=lambda *_: beat.value("channel_v1"))
    nothing = MagicMock()
    asking = Asking(beat, progress, outage, nothing, heartbeat, (nothing, heartbeat))
    for tries in range(1, 6):
        asking.tick(outage.lost_at + 1.0)
        assert (len(hurried), progress.away) == (tries, True)
