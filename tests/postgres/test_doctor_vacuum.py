"""The doctor names what holds back vacuum: transactions, prepared ones, replication slots, standbys."""

from __future__ import annotations

import os
import signal
import subprocess

import psycopg
import pytest
from conftest import eventually
from diagnoses import diagnosed, findings, own_server, standby
from fresh_databases import SERVERS, server_of

from shithubd_worker.doctor.finding import Severity, Unchecked

SETTINGS = ("max_prepared_transactions = 5", "wal_level = logical", "wal_receiver_status_interval = 1")


@pytest.fixture(name="ill", scope="module", params=SERVERS)
def ill_database(request):
    """A database in a server of its own: slots, standbys and prepared transactions concern a whole server."""
    with own_server(server_of(request), *SETTINGS) as database:
        yield database


@pytest.fixture
def someone():
    """Sessions of somebody else, as a program of a name."""
    opened = []

    def open_one(url, program):
        opened.append(psycopg.connect(url, application_name=program, autocommit=True))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


def changed(database):
    """Somebody changes something, so that other transactions get older."""
    for _ in range(3):
        database.query("INSERT INTO jobs (kind) VALUES ('k')")


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param(["BEGIN", "SELECT pg_current_xact_id()"], id="with an id and no snapshot"),
        pytest.param(["BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT 1"], id="with a snapshot and no id"),
    ],
)
def test_an_idle_transaction_is_found_until_it_ends(any_database, someone, statements):
    session = someone(any_database.url, "psql of alice")
    for statement in statements:
        session.execute(statement)
    changed(any_database)
    (found,) = findings(any_database.url, "old-transaction", old_seconds=0)
    pid = session.info.backend_pid
    assert found.severity is Severity.WARNING
    assert found.page == "vacuum-held-back"
    assert found.said == (
        f"the transaction of pid {pid} (postgres, psql of alice, 127.0.0.1) keeps vacuum from removing dead rows;"
        " it is open, and does nothing"
    )
    told = found.evidence
    assert (told["pid"], told["login"], told["program"], told["address"]) == (
        pid,
        "postgres",
        "psql of alice",
        "127.0.0.1",
    )
    assert told["state"] == "idle in transaction"
    assert told["transactions"] >= 3
    assert told["seconds"] >= 0
    began = any_database.query("SELECT xact_start FROM pg_stat_activity WHERE pid = %s", pid)[0][0]
    assert found.since == began
    assert findings(any_database.url, "old-transaction") == []  # it is young
    session.execute("ROLLBACK")
    eventually(lambda: not findings(any_database.url, "old-transaction", old_seconds=0), "the finding goes away")


def test_a_long_query_is_found_until_it_ends(any_database, someone):
    session = someone(any_database.url, "report")
    session.pgconn.send_query(b"SELECT count(*), pg_sleep(300) FROM jobs")
    (found,) = eventually(lambda: findings(any_database.url, "old-transaction", old_seconds=0), "the query runs")
    assert (found.severity, found.evidence["state"]) == (Severity.WARNING, "active")
    assert "does nothing" not in found.said
    session.cancel()
    eventually(lambda: not findings(any_database.url, "old-transaction", old_seconds=0), "the finding goes away")


def test_the_dead_rows_decide_how_bad_it_is(any_database, someone):
    dump = someone(any_database.url, "pg_dump")
    dump.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    dump.execute("SELECT FROM jobs")
    any_database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 500)")
    any_database.query("DELETE FROM jobs")
    any_database.query("SELECT pg_stat_force_next_flush()")

    def found():
        (one,) = findings(any_database.url, "old-transaction", old_seconds=0, many_dead_rows=500)
        return one

    eventually(lambda: found().evidence["dead_rows"] >= 500, "the dead rows are counted")
    assert found().severity is Severity.WARNING
    (notice,) = findings(any_database.url, "old-transaction", old_seconds=0)  # a dump ends
    assert notice.severity is Severity.NOTICE
    (critical,) = findings(any_database.url, "old-transaction", old_seconds=0, too_many_dead_rows=500)
    assert critical.severity is Severity.CRITICAL


def test_what_holds_nothing_back_here_is_no_finding(any_database, someone):
    elsewhere = someone(any_database.server.url("postgres"), "in another database")
    elsewhere.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    elsewhere.execute("SELECT pg_current_xact_id()")
    nothing = someone(any_database.url, "has read nothing yet")
    nothing.execute("BEGIN")
    failed = someone(any_database.url, "has failed")
    failed.execute("BEGIN")
    failed.execute("SELECT pg_current_xact_id()")
    with pytest.raises(psycopg.errors.DivisionByZero):
        failed.execute("SELECT 1 / 0")
    # A VACUUM, which other vacuums look past. It rests after each page, for a tenth of a second.
    any_database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 3000)")
    any_database.query("DELETE FROM jobs")
    vacuum = someone(any_database.url, "vacuum")
    vacuum.execute("SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1")
    vacuum.pgconn.send_query(b"VACUUM jobs")
    at_work = "SELECT count(*) FROM pg_stat_progress_vacuum WHERE heap_blks_scanned > 0"
    eventually(lambda: any_database.value(at_work), "the VACUUM is at work")
    assert findings(any_database.url, "old-transaction", old_seconds=0) == []
    assert any_database.value(at_work) == 1
    vacuum.cancel()


def test_who_writes_in_another_database_counts_once_there_are_many_dead_rows(ill, someone):
    """A snapshot here is as old as the oldest transaction that writes in the server."""
    elsewhere = ill.server.url("postgres")
    reader = someone(elsewhere, "reads")
    reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    reader.execute("SELECT 1")
    writer = someone(elsewhere, "writes")
    writer.execute("BEGIN")
    writer.execute("CREATE TABLE elsewhere ()")
    here = someone(ill.url, "reads here")
    here.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    oldest = "SELECT age(backend_xmin) >= age(pg_snapshot_xmin(pg_current_snapshot())::text::xid) FROM pg_stat_activity"
    here.execute("SELECT 1")
    assert ill.value(f"{oldest} WHERE application_name = 'reads here'")
    here.execute("ROLLBACK")
    assert findings(ill.url, "old-transaction", old_seconds=0) == []
    found = findings(ill.url, "old-transaction", old_seconds=0, many_dead_rows=0)
    assert [(each.evidence["program"], each.evidence["database"]) for each in found] == [("writes", "postgres")]
    assert "database postgres) keeps vacuum from" in found[0].said
    writer.execute("PREPARE TRANSACTION 'elsewhere'")
    assert findings(ill.url, "old-transaction", old_seconds=0, many_dead_rows=0) == []
    assert findings(ill.url, "prepared-transaction", old_seconds=0) == []
    found = findings(ill.url, "prepared-transaction", old_seconds=0, many_dead_rows=0)
    assert [each.evidence["database"] for each in found] == ["postgres"]
    writer.execute("ROLLBACK PREPARED 'elsewhere'")


def test_a_login_that_may_not_see_since_when_is_told_and_goes_by_transactions(database, someone, login):
    look = login("shithub_metrics")
    someone(database.url, "forgotten").execute("BEGIN; SELECT pg_current_xact_id()")
    changed(database)
    (unchecked,) = diagnosed(look, "old-transaction", old_seconds=0)
    assert isinstance(unchecked, Unchecked)
    assert "may not see since when" in unchecked.why
    found, still = diagnosed(look, "old-transaction", old_seconds=0, many_transactions=3)
    assert still == unchecked
    assert (found.severity, found.since, found.evidence["program"]) == (Severity.WARNING, None, "forgotten")
    remedy = unchecked.why.rpartition(": ")[2]
    database.query(remedy)  # as the finding says
    (found,) = findings(look, "old-transaction", old_seconds=0)
    assert found.evidence["state"] == "idle in transaction"


def test_a_prepared_transaction_is_found_until_it_ends(ill):
    with psycopg.connect(ill.url, autocommit=True) as session:
        session.execute("BEGIN")
        session.execute("INSERT INTO jobs (kind) VALUES ('k')")
        session.execute("PREPARE TRANSACTION 'of_the_forge'")
    changed(ill)
    (found,) = findings(ill.url, "prepared-transaction", old_seconds=0)
    assert found.severity is Severity.WARNING
    assert "'of_the_forge' of postgres has not ended" in found.said
    assert found.evidence["transactions"] >= 3
    assert found.since is not None
    assert findings(ill.server.url("postgres"), "prepared-transaction", old_seconds=0) == []  # it holds nothing there
    assert findings(ill.url, "prepared-transaction") == []  # it is young
    ill.query("ROLLBACK PREPARED 'of_the_forge'")
    assert findings(ill.url, "prepared-transaction", old_seconds=0) == []


def test_a_slot_that_nobody_uses_is_found_until_it_is_dropped(ill):
    ill.query("SELECT pg_create_logical_replication_slot('of_a_subscriber', 'pgoutput')")
    ill.query("SELECT pg_create_physical_replication_slot('of_a_standby', true)")
    ill.query("SELECT pg_create_physical_replication_slot('keeps_nothing')")
    changed(ill)
    found = {each.evidence["slot"]: each for each in findings(ill.url, "replication-slot", much_wal_bytes=1 << 40)}
    assert {*found} == {"of_a_subscriber", "of_a_standby"}
    assert {name: each.severity for name, each in found.items()} == dict.fromkeys(found, Severity.NOTICE)
    assert found["of_a_subscriber"].evidence["transactions"] >= 3
    assert found["of_a_subscriber"].said.endswith(" of the write-ahead log, and dead rows of the catalogs")
    assert found["of_a_standby"].evidence["bytes"] > 0
    assert found["of_a_standby"].said.startswith("nobody uses the replication slot of_a_standby, and it keeps ")

    def severity(name, **limits):
        (one,) = [each for each in findings(ill.url, "replication-slot", **limits) if each.evidence["slot"] == name]
        return one.severity

    assert severity("of_a_standby", much_wal_bytes=1) is Severity.WARNING
    assert severity("of_a_standby", too_much_wal_bytes=1) is Severity.CRITICAL
    assert severity("of_a_subscriber", many_transactions=3) is Severity.WARNING
    if ill.value("SELECT current_setting('server_version_num')::integer") >= 170000:  # it knows since when
        assert severity("of_a_standby", old_seconds=0) is Severity.WARNING
        assert found["of_a_standby"].since is not None
    ill.query("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
    assert findings(ill.url, "replication-slot") == []


def test_a_slot_whose_log_is_gone_is_found(ill):
    ill.query("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
    ill.query("SELECT pg_reload_conf()")
    ill.query("SELECT pg_create_physical_replication_slot('left_behind', true)")
    try:

        def found():
            ill.query("SELECT pg_switch_wal()")
            changed(ill)
            ill.query("CHECKPOINT")
            (one,) = findings(ill.url, "replication-slot")
            return one if one.evidence["wal_status"] == "lost" else None

        lost = eventually(found, "the slot has lost its log")
        assert lost.severity is Severity.WARNING
        assert lost.said == (
            "what the replication slot left_behind kept is gone: its standby or subscriber must be built anew"
        )
    finally:
        ill.query("SELECT pg_drop_replication_slot('left_behind')")
        ill.query("ALTER SYSTEM RESET max_slot_wal_keep_size")
        ill.query("SELECT pg_reload_conf()")


@pytest.mark.parametrize("slot", [None, "of_the_standby"])
def test_a_standby_that_holds_back_vacuum_is_found_until_its_query_ends(ill, slot):
    settings = ("hot_standby_feedback = on", "wal_receiver_status_interval = 1")
    with standby(ill.server, "replica", *settings, slot=slot) as replica:
        assert eventually(lambda: ill.query("SELECT FROM pg_stat_replication WHERE state = 'streaming'"), "it streams")
        with psycopg.connect(replica.url("queue")) as reader:
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            reader.execute("SELECT FROM jobs")
            changed(ill)
            changed(ill)

            def found():
                return findings(ill.url, "standby", many_transactions=5)

            (one,) = eventually(found, "the standby's transaction is known here")
            assert (one.severity, one.page) == (Severity.WARNING, "vacuum-held-back")
            assert one.said.startswith("a query on the standby replica (pid ")
            assert one.evidence["transactions"] >= 5
            assert one.evidence["slot"] == slot
            assert findings(ill.url, "standby") == []
            assert findings(ill.url, "replication-slot") == []  # the slot is in use, and nobody is far behind
            assert findings(ill.url, "old-transaction", old_seconds=0) == []  # it is no transaction of this server
        eventually(lambda: not found(), "the finding goes away")
        read_only = findings(replica.url("queue"), "read-only")
        assert [(each.severity, each.page) for each in read_only] == [(Severity.CRITICAL, "PostgresUnreachable")]
        assert "standby" in read_only[0].said


def test_a_standby_that_is_far_behind_is_found_until_it_is_back(ill):
    with standby(ill.server, "slow") as replica:
        eventually(lambda: ill.query("SELECT FROM pg_stat_replication WHERE flush_lsn > '0/0'"), "it has answered")
        with psycopg.connect(replica.url("queue")) as look:
            (receiver,) = look.execute("SELECT pid FROM pg_stat_wal_receiver").fetchone()
        os.kill(receiver, signal.SIGSTOP)
        try:
            changed(ill)
            (found,) = eventually(lambda: findings(ill.url, "standby", much_wal_bytes=1), "it is behind")
            assert found.severity is Severity.WARNING
            assert "a failover to it would lose the jobs of that time" in found.said
            assert found.evidence["bytes"] > 0
            assert findings(ill.url, "standby") == []
        finally:
            os.kill(receiver, signal.SIGCONT)
        eventually(lambda: not findings(ill.url, "standby", much_wal_bytes=1), "the standby is back")


def test_commits_that_wait_for_a_standby_that_is_gone_are_found(ill):
    ill.query("ALTER SYSTEM SET synchronous_standby_names = 'replica'")
    ill.query("SELECT pg_reload_conf()")
    try:
        (found,) = eventually(lambda: findings(ill.url, "standby"), "the setting is read")
        assert found.severity is Severity.CRITICAL
        assert found.evidence == {"synchronous_standby_names": "replica"}
        with standby(ill.server, "replica"):
            eventually(lambda: not findings(ill.url, "standby"), "the finding goes away")
            for names in ("ANY 2 (replica, other)", "first 2 (replica, other)", "2(replica,other)"):
                ill.query(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
                ill.query("SELECT pg_reload_conf()")
                (found,) = eventually(lambda: findings(ill.url, "standby"), "the setting is read")
                assert found.said.startswith("every commit waits for 2 standby(s) of "), names
            ill.query("ALTER SYSTEM SET synchronous_commit = 'local'")
            ill.query("SELECT pg_reload_conf()")
            eventually(lambda: not findings(ill.url, "standby"), "no commit waits any more")
    finally:
        ill.query("ALTER SYSTEM RESET synchronous_standby_names")
        ill.query("ALTER SYSTEM RESET synchronous_commit")
        ill.query("SELECT pg_reload_conf()")


def test_a_subscriber_is_no_standby(ill):
    """It takes one change after the other, and nobody fails over to it."""
    ill.query("CREATE PUBLICATION all_of_it FOR ALL TABLES")
    ill.query("SELECT pg_create_logical_replication_slot('of_a_subscriber', 'pgoutput')")
    receiver = [ill.server.bindir / "pg_recvlogical", "-d", ill.url, "--slot", "of_a_subscriber", "--start"]
    options = ("--file", "-", "--status-interval", "1", "-o", "proto_version=1", "-o", "publication_names=all_of_it")
    with subprocess.Popen([*receiver, *options], stdout=subprocess.DEVNULL) as reader:
        try:
            streams = "SELECT FROM pg_stat_replication WHERE flush_lsn IS NOT NULL"
            eventually(lambda: ill.query(streams), "it streams")
            os.kill(reader.pid, signal.SIGSTOP)
            changed(ill)
            behind = "SELECT pg_current_wal_lsn() > flush_lsn FROM pg_stat_replication"
            eventually(lambda: ill.value(behind), "it is behind")
            assert findings(ill.url, "standby", much_wal_bytes=1, many_transactions=0) == []
            (found,) = findings(ill.url, "replication-slot", much_wal_bytes=1)
            assert found.said.startswith("the user of the replication slot of_a_subscriber is behind")
        finally:
            reader.kill()
    ill.query("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
    gone = "SELECT FROM pg_replication_slots WHERE active"
    eventually(lambda: not ill.query(gone), "the slot is free")
    ill.query("SELECT pg_drop_replication_slot('of_a_subscriber')")
    ill.query("DROP PUBLICATION all_of_it")


def test_a_login_that_may_not_see_standbys_is_told(ill):
    ill.query("CREATE ROLE watcher LOGIN IN ROLE shithub_metrics")
    look = psycopg.conninfo.make_conninfo(ill.url, user="watcher")
    assert diagnosed(look, "standby") == []  # there is none
    with standby(ill.server, "replica"):
        (unchecked,) = eventually(lambda: diagnosed(look, "standby"), "the standby is connected")
        assert isinstance(unchecked, Unchecked)
        assert "how far standbys are behind" in unchecked.why
    ill.query("DROP ROLE watcher")


def test_transaction_ids_that_run_out_are_found(any_database):
    assert findings(any_database.url, "wraparound") == []
    found = findings(any_database.url, "wraparound", unfrozen=1)
    assert {each.evidence["database"] for each in found} >= {any_database.name, "postgres"}
    assert {each.severity for each in found} == {Severity.WARNING}
    worse = findings(any_database.url, "wraparound", unfrozen=1, too_unfrozen=1)
    assert {each.severity for each in worse} == {Severity.CRITICAL}
