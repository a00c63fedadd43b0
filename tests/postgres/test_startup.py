"""The way in, in this process: what a worker does before its first turn, and how long it waits for the database."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rooms import Rooms
from servers import deaf_port

from shithubd_worker.errors import DatabaseUnavailable, SchemaMismatch
from shithubd_worker.host.dead_man import DeadMan
from shithubd_worker.model import How, Registration
from shithubd_worker.process.duties.figures import Figures
from shithubd_worker.process.duties.heartbeat import Heartbeat
from shithubd_worker.process.duties.trust import Trust
from shithubd_worker.process.presence import Presence
from shithubd_worker.process.startup import Startup


@pytest.fixture
def rooms(database):
    made = Rooms(database.url, reached=False)
    yield made
    made.close()


class Told:
    """In place of systemd: records what it was told."""

    def __init__(self):
        self.said = []

    def __getattr__(self, name):
        return lambda *words: self.said.append((name, *words))


def startup(rooms, *, woken=True):
    me, trust = Registration(rooms.identity, ["k"]), Trust(rooms.progress, DeadMan(), 300.0)
    heartbeat = Heartbeat(rooms.beat, me, rooms.progress, rooms.settler, trust, rooms.clock)
    return Startup(me, rooms.queue, rooms.beat, heartbeat, rooms.listen, woken=woken)


def presence(rooms, systemd=None):
    systemd = systemd or Told()
    figures = Figures(rooms.beat, rooms.metrics)
    return Presence(startup(rooms), rooms.beat, rooms.progress, rooms.sleep, systemd, figures, rooms.close)


def test_a_starting_worker_registers_and_learns_the_holds_that_cover_it(database, rooms):
    database.query("SELECT drain_v1('fleet', '', 'a change')")
    startup(rooms).begin()
    assert [hold.reason for hold in rooms.progress.holds] == ["a change"]
    assert database.query("SELECT id, kinds FROM workers") == [(rooms.identity.id, ["k"])]
    assert rooms.queue.connection.execute("SELECT pg_listening_channels()").fetchone() is not None


def test_a_starting_worker_returns_the_jobs_of_a_dead_process_of_this_host(database, rooms):
    other = Rooms(database.url, reached=False)
    other.beat.register(Registration(replace(other.identity, pid=2**22 - 1, start_ticks=1, invocation_id=None), ["k"]))
    database.query("INSERT INTO jobs (kind, payload) VALUES ('k', '{}')")
    other.exchange.turn()
    assert database.query("SELECT state FROM jobs") == [("processing",)]
    startup(rooms).begin()
    assert database.query("SELECT state, crashes FROM jobs") == [("queued", 1)]
    assert database.query("SELECT outcome FROM job_history") == [(How.CRASHED,)]
    other.close()


def test_a_schema_that_is_not_ours_is_reported_at_once(database, rooms):
    database.query("UPDATE worker_schema SET version = 1")
    with pytest.raises(SchemaMismatch, match="run `shithubd-worker migrate`"):
        presence(rooms).enter(3600.0)


def test_a_start_waits_for_the_database_as_long_as_configured(database):
    with deaf_port() as port:
        rooms = Rooms(f"postgresql://nobody@127.0.0.1:{port}/none", reached=False)
        waits, systemd = [], Told()
        rooms.waits(waits.append)
        with pytest.raises(DatabaseUnavailable, match="can't be reached"):
            presence(rooms, systemd).enter(0.0)
        assert (waits, systemd.said) == ([], [])

        def stop(seconds):
            waits.append(seconds)
            rooms.stop.hear(main=True)

        rooms.waits(stop)
        assert presence(rooms, systemd).enter(3600.0) is False
        assert len(waits) == 1
        assert [name for name, *_ in systemd.said] == ["status", "extend"]
        rooms.close()


def test_only_a_worker_that_leaves_cleanly_removes_its_row(database, rooms):
    made = presence(rooms)
    assert made.enter(0.0)
    made.ready()
    assert rooms.progress.ready
    made.leave([], clean=False)
    assert database.value("SELECT count(*) FROM workers") == 1
    again = Rooms(database.url, reached=False)
    made = presence(again)
    made.enter(0.0)
    made.leave([], clean=True)
    assert database.query("SELECT id FROM workers") == [(rooms.identity.id,)]


def test_a_worker_that_ends_stores_its_counts_since_the_last_scrape(database, rooms):
    made = presence(rooms)
    made.enter(0.0)
    rooms.metrics.processed({("k", How.OK): 3})
    made.leave([], clean=True)
    assert database.value("SELECT ok FROM leases_returned WHERE kind = 'k'") == 3


def test_a_worker_that_leaves_asks_nothing_of_a_database_that_is_away(database, rooms):
    rooms.beat.count_ended = lambda _: pytest.fail("it was asked")
    rooms.progress.database_up = False
    presence(rooms).leave([], clean=False)
