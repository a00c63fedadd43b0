"""Holds: nothing in a scope starts after the barrier, in any race."""

from __future__ import annotations

import threading
import time
from uuid import uuid4

import psycopg
import pytest
from bare import BareWorker
from conftest import dice, eventually
from rows import add_worker

from shithubd_worker.database.connection import connector
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.database.operations import Operations, Scope
from shithubd_worker.model import How, Outcome
from shithubd_worker.registry import Registry

MARKED = "SELECT count(*) FROM starts WHERE kind = 'test.marks'"
STARTS = "CREATE TABLE starts (job bigint, kind text, at timestamptz)"
FLEET = Scope("fleet")

LEASE = (
    "SELECT * FROM lease_v1(%s, %s, %s, %s::smallint[], %s::smallint[], %s::float8[], %s::bigint[], %s::float8[],"
    " %s::int[]) WHERE id IS NOT NULL"
)


@pytest.fixture
def operations(database):
    session = Operations(connector(database.url, "operator"), database.schema)
    yield session
    session.close()


def make_kinds(*names):
    registry = Registry()
    for name in names:
        registry.handler(name)(lambda job: None)
    return list(registry.values())


class Bare:
    """A worker without a process: its row and its queue, driven by the test."""

    def __init__(self, database, host="here", unit=None):
        self.id = add_worker(database, host, unit=unit)
        self.worker = BareWorker(database.url, database.schema, self.id)
        self.queue = self.worker.queue
        self.kinds = make_kinds("k")

    def lease(self):
        return self.worker.lease(self.kinds)

    def close(self):
        self.queue.close()


@pytest.fixture
def hire(database):
    """Makes bare workers, and closes their connections after the test."""
    hired = []

    def make(*arguments):
        hired.append(Bare(database, *arguments))
        return hired[-1]

    yield make
    for worker in hired:
        worker.close()


@pytest.mark.drawn
@pytest.mark.timeout(900)
@pytest.mark.parametrize("races", [150, pytest.param(1000, marks=pytest.mark.long)])
def test_nothing_starts_after_the_barrier_in_any_race(database, start_worker, operations, races):
    database.query(STARTS)
    for _ in range(2):
        start_worker("--kind", "test.marks", "--kind", "test.other")
    feed = (
        "INSERT INTO jobs (kind) SELECT k FROM generate_series(1, 200), unnest(ARRAY['test.marks', 'test.other']) k"
        " WHERE (SELECT count(*) FROM (SELECT FROM jobs WHERE state = 'queued' LIMIT 500) q) < 500"
    )
    chance = dice(1)
    windows = []
    with database.connect() as feeder:
        for race in range(races):
            feeder.execute(feed)
            if race % 5 == 0:  # some jobs run between the holds, even on a slow machine
                ran = feeder.execute(MARKED).fetchone()
                eventually(lambda ran=ran: feeder.execute(MARKED).fetchone() > ran, "a start")
            kind = race % 5 != 0
            scope = Scope("kind", "test.marks") if kind else FLEET
            hold = operations.pause_kind("test.marks", None, None) if kind else operations.drain(FLEET, None, None)
            assert operations.barrier(scope, None, lambda text: None)
            began = operations.now()
            if race % 50 == 0:
                for _ in operations.mirror(hold):
                    pass
            if race % 10 == 0:
                time.sleep(chance.random() * 0.02)  # give a late start the time to show
            windows.append((scope.target, began, operations.now()))
            if kind:
                operations.resume_kind("test.marks", None)
                list(operations.unpause("test.marks"))
            else:
                operations.resume(FLEET, None)
        with feeder.cursor() as cursor:
            cursor.execute("CREATE TABLE windows (kind text, began timestamptz, ended timestamptz)")
            cursor.executemany("INSERT INTO windows VALUES (%s, %s, %s)", windows)
    late = database.query(
        "SELECT s.*, w.began FROM starts s JOIN windows w ON s.at BETWEEN w.began AND w.ended"
        " AND (w.kind = '' OR w.kind = s.kind)"
    )
    assert late == []
    leased_late = database.query(
        "SELECT h.id, h.leased_at, w.began FROM job_history h JOIN windows w ON h.leased_at BETWEEN w.began AND w.ended"
        " AND (w.kind = '' OR w.kind = h.kind)"
    )
    assert leased_late == []
    assert database.value("SELECT count(*) - count(DISTINCT job) FROM starts") == 0


def test_the_barrier_waits_for_a_lease_that_has_the_gate(database, operations, hire):
    bare = hire()
    database.query("INSERT INTO jobs (kind) VALUES ('k')")
    with database.connect() as slow:
        slow.autocommit = False
        arguments = (bare.id, uuid4(), ["k"], [0], [0], [float("-inf")], [0], [60.0], [1])
        slow.execute(LEASE, arguments)
        operations.pause_kind("k", None, None)
        assert not operations.barrier(Scope("kind", "k"), time.monotonic() + 0.3, lambda text: None)
        slow.commit()
    # The lease is committed, and the job has not started. The barrier waits for such leases for 800 ms.
    assert operations.barrier(Scope("kind", "k"), None, lambda text: None)
    assert database.value("SELECT clock_timestamp() - leased_at >= interval '800 ms' FROM jobs")


def test_a_lease_query_that_takes_the_gate_after_the_hold_sees_it(database, operations, hire):
    bare = hire()
    database.query("INSERT INTO jobs (kind) VALUES ('k')")
    with database.connect() as old:
        old.autocommit = False
        old.execute("SELECT 1")
        operations.pause_kind("k", None, None)
        assert operations.barrier(Scope("kind", "k"), None, lambda text: None)
        rows = old.execute(LEASE, (bare.id, uuid4(), ["k"], [0], [0], [float("-inf")], [0], [60.0], [1])).fetchall()
    assert rows == []


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_the_lease_refuses_a_snapshot_that_is_older_than_the_gate(database, level, hire):
    bare = hire()
    with database.connect() as connection, connection.transaction():
        connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        with pytest.raises(psycopg.errors.RaiseException, match="READ COMMITTED"), connection.transaction():
            connection.execute(LEASE, (bare.id, uuid4(), ["k"], [0], [0], [float("-inf")], [0], [60.0], [1]))


def test_a_second_look_keeps_a_job_leased_before_a_pause_from_starting(database, operations, hire):
    bare = hire()
    database.query("INSERT INTO jobs (kind) VALUES ('k')")
    lease = bare.lease()
    operations.pause_kind("k", None, None)
    assert bare.queue.start([lease], str(uuid4()), [60]) == []
    assert bare.worker.settle(lease, Outcome(How.RELEASED))
    operations.resume_kind("k", None)
    lease = bare.lease()
    (started,) = bare.queue.start([lease], str(uuid4()), [60])
    assert (started.id, started.token != lease.token) == (lease.id, True)
    assert not bare.worker.settle(lease, Outcome(How.RELEASED))  # a release by the old token has no effect any more


def test_the_barrier_refuses_a_hold_that_is_not_committed(database):
    with database.connect() as connection, connection.transaction():
        connection.execute("SELECT pause_kind_v1('k')")
        with pytest.raises(psycopg.errors.RaiseException, match="not committed"), connection.transaction():
            connection.execute("SELECT barrier_v1('kind', 'k')")


@pytest.mark.parametrize(
    ("scope", "held"),
    [
        (FLEET, {"a", "b"}),
        (Scope("host", "one"), {"a"}),
        (Scope("host", "three"), set()),
        (Scope("unit", "w@1.service"), {"b"}),
        ("worker", {"a"}),
    ],
)
def test_a_drain_holds_exactly_its_scope(database, operations, scope, held, hire):
    workers = {"a": hire("one"), "b": hire("two", "w@1.service")}
    if scope == "worker":
        scope = Scope("worker", str(workers["a"].id))
    database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 2)")
    operations.drain(scope, None, None)
    assert {name for name, worker in workers.items() if worker.lease() is None} == held
    assert len(operations.resume(scope, None)) == 1
    assert operations.resume(scope, None) == []


def test_resume_without_a_scope_ends_all_drains_and_no_pause(database, operations):
    operations.drain(FLEET, None, None)
    operations.drain(Scope("host", "x"), "why", None)
    operations.pause_kind("k", None, None)
    assert {hold.scope for hold in operations.resume(None, None)} == {"fleet", "host"}
    assert database.query("SELECT scope, mode FROM holds") == [("kind", "pause")]


def test_a_pause_covers_jobs_enqueued_retried_and_due_later(database, operations, hire):
    bare = hire()
    database.query("INSERT INTO jobs (kind, run_at) VALUES ('k', now()), ('k', now() + interval '1 hour')")
    running = bare.lease()
    hold = operations.pause_kind("k", None, None)
    assert list(operations.mirror(hold)) == [1]
    database.query("INSERT INTO jobs (kind) VALUES ('k')")
    assert bare.worker.settle(running, Outcome(How.RETRY, "again", 0.0))
    assert bare.lease() is None
    assert {(k["queued"], k["paused"], k["held"]) for k in operations.status()["kinds"]} == {(2, 1, 3)}
    operations.resume_kind("k", None)
    assert sum(operations.unpause("k")) == 1
    assert bare.lease() is not None


def test_a_pause_whose_end_has_passed_gives_back_the_jobs_that_it_marked(database, operations, hire):
    worker = hire()
    database.query("INSERT INTO jobs (kind) VALUES ('k')")
    hold = operations.pause_kind("k", "once", operations.now().replace(year=2100))
    assert list(operations.mirror(hold)) == [1]
    database.query("UPDATE holds SET until = now() - interval '1 second'")
    worker.queue.sweep()
    assert database.query("SELECT state FROM jobs") == [("queued",)]
    assert database.value("SELECT count(*) FROM holds") == 0
    assert database.value("SELECT action FROM audit ORDER BY id DESC LIMIT 1") == "expire"


def test_a_new_hold_does_not_continue_an_ended_one(database, operations):
    operations.drain(FLEET, "old", operations.now().replace(year=2100))
    database.query("UPDATE holds SET until = now() - interval '1 second'")
    assert operations.drain(FLEET, None, None).reason is None


def test_a_pause_with_an_end_ends_then(database, operations, hire):
    bare = hire()
    database.query("INSERT INTO jobs (kind) VALUES ('k')")
    operations.pause_kind("k", None, operations.now().replace(year=2100))
    assert bare.lease() is None
    database.query("UPDATE holds SET until = now() - interval '1 second'")
    assert bare.lease() is not None


def test_pausing_again_updates_the_one_pause(database, operations):
    first = operations.pause_kind("k", "one", None)
    second = operations.pause_kind("k", "two", None)
    assert (second.id, second.reason) == (first.id, "two")
    assert database.value("SELECT count(*) FROM holds") == 1
    assert database.value("SELECT count(*) FROM audit") == 2


def test_a_resume_during_the_marking_leaves_no_job_paused(database):
    database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 20000)")
    first = Operations(connector(database.url, "one"), "public")
    second = Operations(connector(database.url, "two"), "public")
    hold = first.pause_kind("k", None, None)
    batches = first.mirror(hold)
    next(batches)
    resumer = threading.Thread(target=lambda: (second.resume_kind("k", None), list(second.unpause("k"))))
    resumer.start()
    for _ in batches:
        pass
    resumer.join()
    assert database.query("SELECT state, count(*) FROM jobs GROUP BY 1") == [("queued", 20000)]
    first.close()
    second.close()


def test_a_hold_survives_the_restart_of_the_database_and_of_the_worker(database, start_worker, operations):
    operations.drain(FLEET, "disk", None)
    operations.close()
    database.server.stop("fast")
    database.server.start()
    worker = start_worker("--metrics", "127.0.0.1:0")
    assert "starting under a hold: fleet held by" in worker.log
    assert "disk" in worker.log
    job = database.value("INSERT INTO jobs (kind) VALUES ('test.ok') RETURNING id")
    eventually(lambda: database.value("SELECT state FROM beats") == "held", "held")
    assert database.value("SELECT state FROM jobs WHERE id = %s", job) == "queued"
    operations.resume(None, None)
    eventually(lambda: database.query("SELECT 1 FROM job_history WHERE id = %s", job), "ran after the resume")
    assert worker.terminate() == 0


def test_a_worker_without_its_row_leases_nothing_and_registers_again(database, start_worker):
    worker = start_worker()
    database.query("DELETE FROM workers")
    job = database.value("INSERT INTO jobs (kind) VALUES ('test.ok') RETURNING id")
    eventually(lambda: database.query("SELECT 1 FROM job_history WHERE id = %s", job), "registered and ran")
    assert worker.terminate() == 0


def test_the_drain_of_a_dead_worker_ends_with_it(database, operations, hire):
    bare = hire()
    operations.drain(Scope("worker", str(bare.id)), None, None)
    beat = ControlSession(connector(database.url, "beat"), "public")
    beat.unregister(bare.id, [])
    beat.close()
    assert database.value("SELECT count(*) FROM holds") == 0
