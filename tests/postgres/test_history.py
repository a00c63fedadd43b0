"""How rows are written into the history, and how its days are made and dropped."""

from __future__ import annotations

import datetime
import threading
from contextlib import closing

import pytest
from conftest import eventually
from fresh_databases import Bare, blank_database, contract_database, migrate  # noqa: F401 (fixtures)
from rows import add_worker

from shithubd_worker.database.connection import connector
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.database.settles import record_lost
from shithubd_worker.model import Finished, How, Outcome


@pytest.fixture
def bare(any_database):
    any_database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 5)")
    with Bare(any_database.url, "public") as bare:
        yield bare


def partitions(database, retention):
    return [
        row[0]
        for row in database.query(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass(%s) ORDER BY 1",
            f"job_history_{retention}",
        )
    ]


@pytest.fixture
def day():
    """The test begins and ends on the same UTC day, because the history has a partition for each."""
    now = datetime.datetime.now(datetime.UTC)
    midnight = datetime.datetime.combine(now.date() + datetime.timedelta(days=1), datetime.time.min, datetime.UTC)
    if midnight - now < datetime.timedelta(seconds=30):
        eventually(lambda: datetime.datetime.now(datetime.UTC) > midnight, "the next day")


def today(database):
    return database.value("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date")


def name_of(retention, day):
    return f"job_history_{retention}_{day:%Y%m%d}"


def make_day(database, retention, day):
    """A partition of a day in the past, as ensure_history_v1 would have made it then."""
    name = name_of(retention, day)
    after = day + datetime.timedelta(days=1)
    database.query(
        f"SET ROLE shithub_owner; CREATE TABLE {name} PARTITION OF job_history_{retention}"
        f" FOR VALUES FROM ('{day} 00:00+00') TO ('{after} 00:00+00'); RESET ROLE"
    )
    database.query(
        "INSERT INTO job_history (id, kind, outcome, attempts, finished_at, retention)"
        " VALUES (1, 'k', 'ok', 1, %s, %s)",
        datetime.datetime.combine(day, datetime.time(12), datetime.UTC),
        retention,
    )
    return name


@pytest.mark.usefixtures("day")
def test_the_days_are_made_from_yesterday_to_two_weeks_ahead(blank):
    migrate(blank)
    days = [today(blank) + datetime.timedelta(days=n) for n in range(-1, 15)]
    for retention in ("7d", "90d"):
        assert partitions(blank, retention) == [name_of(retention, day) for day in days]
    assert blank.value("SELECT history_days_ready_v1()") == 14
    assert blank.value("SELECT ensure_history_v1()") == 0


@pytest.mark.usefixtures("day")
def test_a_row_of_every_ready_day_can_be_written(contract):
    contract.query("SELECT ensure_history_v1()")  # midnight may have passed since the other days were made
    with contract.connect() as connection, connection.transaction(force_rollback=True):
        for retention in ("7d", "90d"):
            for n in range(-1, 15):
                day = today(contract) + datetime.timedelta(days=n)
                for moment in (datetime.time.min, datetime.time.max):
                    found = connection.execute(
                        "INSERT INTO job_history (id, kind, outcome, attempts, finished_at, retention)"
                        " VALUES (1, 'k', 'ok', 1, %s, %s) RETURNING tableoid::regclass::text",
                        (datetime.datetime.combine(day, moment, datetime.UTC), retention),
                    ).fetchone()
                    assert found == (name_of(retention, day),)


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati"])
def test_the_days_are_utc_days_in_every_time_zone_of_the_session(blank, zone):
    blank.query(f"ALTER DATABASE \"{blank.name}\" SET timezone = '{zone}'")
    migrate(blank)
    with Bare(blank.url, "public") as bare:
        blank.query("INSERT INTO jobs (kind) VALUES ('k')")
        assert bare.settle(bare.worker.lease(bare.kinds))
    place, moment = blank.query("SELECT tableoid::regclass::text, finished_at FROM job_history")[0]
    assert place == name_of("7d", moment.astimezone(datetime.UTC))


@pytest.mark.parametrize("retention", ["7d", "90d"])
@pytest.mark.parametrize("how", [How.OK, How.RETRY, How.FAILED, How.POISON, How.RELEASED])
def test_a_settle_leaves_one_row_in_its_class(contract, retention, how):
    with Bare(contract.url, "public") as bare:
        contract.query("INSERT INTO jobs (kind, payload) VALUES ('k', '{\"a\": 1}')")
        lease = bare.worker.lease(bare.kinds)
        assert bare.settle(lease, how, retention)
        contract.query("DELETE FROM jobs")
    rows = contract.query(
        "SELECT outcome, attempts, leased_by, leased_at < finished_at, error, payload, retention FROM job_history"
        " WHERE id = %s",
        lease.id,
    )
    # The payload stays in jobs while the job is there.
    payload = {"a": 1} if how is How.OK else None
    error = None if how is How.OK else "why"
    assert rows == [(how, 1, bare.me.leased_by, True, error, payload, retention)]


def test_a_kind_without_retention_leaves_no_history(contract):
    with Bare(contract.url, "public") as bare:
        contract.query("INSERT INTO jobs (kind) VALUES ('k'), ('k')")
        first, second = bare.worker.lease(bare.kinds), bare.worker.lease(bare.kinds)
        assert bare.settle(first, How.OK, "none")
        assert bare.settle(second, How.FAILED, "none")
        record_lost(bare.queue, bare.me.leased_by, Finished(second, Outcome(How.LEASE_LOST, "too late"), "none", 0.0))
        contract.query("DELETE FROM jobs")
    assert contract.value("SELECT count(*) FROM job_history WHERE id IN (%s, %s)", first.id, second.id) == 0


@pytest.mark.usefixtures("day")
def test_only_expired_days_are_dropped(any_database, bare):
    now = today(any_database)
    expired = {
        make_day(any_database, retention, now - datetime.timedelta(days=age))
        for retention, age in (("7d", 8), ("7d", 30), ("90d", 91), ("90d", 400))
    }
    kept = {
        make_day(any_database, retention, now - datetime.timedelta(days=age))
        for retention, age in (("7d", 7), ("90d", 8), ("90d", 90))
    }
    any_database.query("CREATE TABLE job_history_7d_notes (id int)")  # a table of somebody else with a similar name
    done = bare.queue.housekeep()
    assert {line.removeprefix("dropped ") for line in done} == expired
    left = {*partitions(any_database, "7d"), *partitions(any_database, "90d")}
    assert kept <= left
    assert not expired & left
    assert all(any_database.value("SELECT to_regclass(%s) IS NULL", name) for name in expired)
    assert any_database.value("SELECT to_regclass('job_history_7d_notes') IS NOT NULL")
    assert bare.queue.housekeep() == []


@pytest.mark.usefixtures("day")
def test_missing_days_are_made_again(any_database, bare):
    gone = name_of("90d", today(any_database) + datetime.timedelta(days=3))
    any_database.query(f"DROP TABLE {gone}")
    assert any_database.value("SELECT history_days_ready_v1()") == 2
    bare.queue.housekeep()
    assert gone in partitions(any_database, "90d")
    assert any_database.value("SELECT history_days_ready_v1()") == 14


@pytest.mark.usefixtures("day")
def test_a_long_reader_that_housekeeping_waits_for_blocks_no_settle_and_no_new_day(any_database, bare):
    old = make_day(any_database, "7d", today(any_database) - datetime.timedelta(days=30))
    any_database.query(f"DROP TABLE IF EXISTS {name_of('7d', today(any_database) + datetime.timedelta(days=14))}")
    keeper = QueueSession(connector(any_database.url, "keeper"), "public", bare.me.id)
    done = []
    with any_database.connect() as reader, reader.transaction(), closing(keeper):
        assert reader.execute("SELECT count(*) FROM job_history").fetchone() == (1,)
        bare.queue.connection.execute("SET lock_timeout = '10ms'")
        thread = threading.Thread(target=lambda: done.extend(keeper.housekeep()))
        thread.start()
        try:
            while thread.is_alive():  # while housekeeping works, and waits for the reader, settles go on
                bare.queue.connection.execute("INSERT INTO jobs (kind) VALUES ('k')")
                assert bare.settle(bare.worker.lease(bare.kinds))
        finally:
            thread.join()
        # It gave up after it had waited for a second. Settles went on all that time.
        assert any_database.value("SELECT count(*) FROM job_history") > 1
        assert done == ["put off: a reader has the history"]
        assert any_database.value("SELECT history_days_ready_v1()") == 14
        # The detach that was given up halfway blocks nothing either, and readers go on.
        assert reader.execute("SELECT count(*) FROM job_history").fetchone() is not None
        bare.queue.connection.execute("RESET lock_timeout")
    assert any_database.query("SELECT partition, state FROM expired_history_v1()") == [(old, "pending")]
    assert bare.queue.housekeep() == [f"dropped {old}"]
    assert any_database.value("SELECT to_regclass(%s) IS NULL", old)


def test_a_day_that_is_only_detached_is_dropped_the_next_time(any_database, bare):
    old = make_day(any_database, "7d", today(any_database) - datetime.timedelta(days=30))
    any_database.query(f"ALTER TABLE job_history_7d DETACH PARTITION {old}")
    assert bare.queue.housekeep() == [f"dropped {old}"]
    assert any_database.value("SELECT to_regclass(%s) IS NULL", old)


def test_workers_that_drop_days_at_once_drop_each_day_once(any_database, bare):
    days = [today(any_database) - datetime.timedelta(days=n) for n in range(30, 36)]
    old = {f"dropped {make_day(any_database, '7d', day)}" for day in days}
    keepers = [QueueSession(connector(any_database.url, "keeper"), "public", bare.me.id) for _ in range(3)]
    begin, done = threading.Barrier(len(keepers)), []

    def keep(keeper):
        begin.wait()
        done.extend(keeper.housekeep())
        keeper.close()

    threads = [threading.Thread(target=keep, args=(keeper,)) for keeper in keepers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while any_database.query("SELECT FROM expired_history_v1()"):  # days that each of them left to another
        done.extend(bare.queue.housekeep())
    assert sorted(each for each in done if not each.startswith("put off")) == sorted(old)


@pytest.mark.usefixtures("day")
def test_one_of_several_workers_that_make_days_at_once_does_the_work(any_database):
    any_database.value("SELECT ensure_history_v1(14)")  # the template of this database may be from yesterday
    with any_database.connect() as one, any_database.connect() as other, one.transaction():
        assert one.execute("SELECT ensure_history_v1(20)").fetchone() == (12,)
        assert other.execute("SELECT ensure_history_v1(21)").fetchone() == (0,)
    assert any_database.value("SELECT ensure_history_v1(21)") == 2


def test_dead_workers_are_forgotten_after_a_day_unless_they_hold_a_lease(any_database, bare):
    now = datetime.datetime.now(datetime.UTC)
    silent, holding, fresh = (
        add_worker(any_database, "h", beat_at=now - datetime.timedelta(hours=hours)).hex for hours in (48, 48, 1)
    )
    for worker in (silent, holding, fresh):
        any_database.query("SELECT drain_v1('worker', %s::uuid::text)", worker)
    any_database.query(
        "UPDATE jobs SET state = 'processing', leased_by = 'h:1', leased_at = now(), worker_id = %s WHERE id = 1",
        holding,
    )
    bare.queue.housekeep()
    left = {row[0].hex for row in any_database.query("SELECT id FROM workers")}
    assert left == {holding, fresh, bare.me.id.hex}
    held = any_database.query("SELECT replace(target, '-', '') FROM holds WHERE scope = 'worker'")
    assert {target for (target,) in held} == {holding, fresh}


def test_two_schemas_in_one_database_have_separate_histories(blank):
    for name in ("public", "beside"):
        migrate(blank, name)
    with blank.connect() as other, Bare(blank.url, "beside") as bare, other.transaction():
        other.execute("SELECT FROM public.worker_schema FOR UPDATE")
        old = "job_history_7d_20200101"
        blank.query(f"CREATE TABLE beside.{old} (id int)")
        blank.query(f"CREATE TABLE public.{old} (id int)")
        assert bare.queue.housekeep() == [f"dropped {old}"]
        assert blank.value("SELECT to_regclass(%s) IS NOT NULL", f"public.{old}")
