"""Days of the history that are over: only their owner drops them, and status says who did."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from conftest import Database

from shithubd_worker.database.clock import Clock
from shithubd_worker.database.connection import connector
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.turn.upkeep import Upkeep

OLD = "job_history_7d_20200101"


@pytest.fixture
def over(database: Database) -> Database:
    """A database with a day that is over."""
    database.query(
        f"CREATE TABLE {OLD} PARTITION OF job_history_7d FOR VALUES FROM ('2020-01-01') TO ('2020-01-02');"
        f" ALTER TABLE {OLD} OWNER TO shithub_owner"
    )
    return database


@pytest.fixture
def admin(over: Database) -> Iterator[str]:
    """The URL of a member of shithub_migrate."""
    name = f"admin_{over.name}"
    over.query(f"CREATE ROLE {name} LOGIN IN ROLE shithub_migrate")
    yield psycopg.conninfo.make_conninfo(over.url, user=name)
    over.query(f"DROP ROLE {name}")


def says(command) -> str:
    """What status prints, in one line."""
    return " ".join(command("status").stdout.split())


WARNING = (
    "warning: 1 day(s) of the history should have been dropped 2 days ago or earlier: shithubd-worker history drop"
)
NOBODY = "old history: nobody has dropped a day yet"


def test_history_drop_drops_the_days_and_status_says_who_did(over, admin, command):
    before = says(command)
    assert WARNING in before
    assert NOBODY in before
    as_admin = {"SHITHUBD_WORKER_DATABASE_URL": admin}
    assert command("history", "drop", "--dry-run", env=as_admin).stdout == f"would drop {OLD}\n"
    assert says(command) == before
    done = command("history", "drop", "--json", env=as_admin)
    pruned = {"audit_rows": 0, "undo_values": 0}
    assert (done.returncode, json.loads(done.stdout)) == (0, {"dropped": [OLD], "dry_run": False, **pruned})
    assert command("history", "drop", env=as_admin).stdout == "no day of the history is over\n"
    after = says(command)
    assert "warning:" not in after
    assert f"(login admin_{over.name})" in after
    drops = json.loads(command("status", "--json").stdout)["history_drops"]
    assert (drops["waiting"], drops["late"], drops["login"]) == (0, 0, f"admin_{over.name}")
    assert drops["actor"].startswith("history drop of ")


@pytest.mark.parametrize(("class_", "days"), [("7d", 7), ("90d", 90)])
def test_a_day_that_waits_for_more_than_two_days_is_late(database, class_, days):
    drops = "SELECT (status_v1()->'history_drops'->>'waiting')::int, (status_v1()->'history_drops'->>'late')::int"
    ago = "SELECT ((now() AT TIME ZONE 'UTC')::date - {})::text"
    found = {}
    for n in range(days, days + 4):
        first, following = (database.value(ago.format(m)) for m in (n, n - 1))
        table = f"job_history_{class_}_{first.replace('-', '')}"
        database.query(f"DROP TABLE IF EXISTS {table}")
        database.query(
            f"CREATE TABLE {table} PARTITION OF job_history_{class_}"
            f" FOR VALUES FROM ('{first} 00:00Z') TO ('{following} 00:00Z'); ALTER TABLE {table} OWNER TO shithub_owner"
        )
        found[n - days] = database.query(drops)[0]
        database.query(f"DROP TABLE {table}")
    assert found == {0: (0, 0), 1: (1, 0), 2: (1, 0), 3: (1, 1)}


@pytest.mark.parametrize("reading", [f"SELECT FROM {OLD}", "SELECT pg_partition_tree('job_history_7d'::regclass)"])
def test_a_blocked_drop_is_not_recorded_and_status_still_warns(over, admin, command, reading):
    over.query("INSERT INTO history_drops (at, actor) VALUES (now() - interval '1 hour', 'the time before')")
    with over.connect() as reader, reader.transaction():
        reader.execute(reading.encode())
        done = command("history", "drop", env={"SHITHUBD_WORKER_DATABASE_URL": admin})
        assert (done.returncode, done.stdout) == (75, "")
        assert "put off: a reader has the history" in done.stderr
        said = says(command)
        assert WARNING in said
        assert "by the time before (login postgres)" in said, "it says nothing of now"
    assert command("history", "drop", env={"SHITHUBD_WORKER_DATABASE_URL": admin}).stdout == f"dropped {OLD}\n"
    assert "by history drop of " in says(command)


def upkeep(url: str) -> tuple[QueueSession, Upkeep]:
    queue = QueueSession(connector(url, "test"), "public", uuid4())
    return queue, Upkeep(queue, Clock(lambda _: None), {}, drop=True)


def test_a_worker_that_does_not_own_the_days_leaves_them_and_says_so_once(over, caplog):
    caplog.set_level(logging.INFO)
    name = f"worker_{over.name}"
    over.query(f"CREATE ROLE {name} LOGIN IN ROLE shithub_worker")
    over.query(
        "DROP TABLE job_history_7d_" + over.value("SELECT to_char((now() AT TIME ZONE 'UTC') + '14 days', 'YYYYMMDD')")
    )
    queue, keeper = upkeep(psycopg.conninfo.make_conninfo(over.url, user=name))
    for _ in range(3):
        keeper._housekeep()
    queue.close()
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "`shithubd-worker history drop`" in caplog.text
    assert over.value(f"SELECT to_regclass('{OLD}') IS NOT NULL")
    assert over.value("SELECT count(*) FROM history_drops") == 0
    assert over.value("SELECT history_days_ready_v1()") == 14, "it makes days all the same"
    over.query(f"DROP ROLE {name}")


def test_a_blocked_worker_records_no_drop(over):
    with over.connect() as reader, reader.transaction():
        reader.execute(f"SELECT FROM {OLD}")
        queue, keeper = upkeep(over.url)
        keeper._housekeep()
        queue.close()
    assert over.value("SELECT count(*) FROM history_drops") == 0


def test_a_worker_that_owns_the_days_drops_them_and_records_it(over):
    queue, keeper = upkeep(over.url)
    keeper._housekeep()
    queue.close()
    assert over.value(f"SELECT to_regclass('{OLD}') IS NULL")
    assert over.query("SELECT actor, login FROM history_drops") == [
        (f"worker {socket.gethostname()}:{os.getpid()}", "postgres")
    ]
