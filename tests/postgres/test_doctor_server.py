"""The doctor names what else threatens the queue in its server: bloat, locks, connections, notifications, settings."""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest
from conftest import eventually
from diagnoses import diagnosed, findings, own_server
from fresh_databases import SERVERS, server_of
from psycopg.conninfo import make_conninfo

from shithubd_worker.doctor import collation
from shithubd_worker.doctor.finding import Severity

SETTINGS = ("max_connections = 20", "max_prepared_transactions = 2", "archive_mode = on")
# PostgreSQL 17 knows it. Before, the queue always has 8 GB.
SMALL_QUEUE = "max_notify_queue_pages = 100"


@pytest.fixture(name="ill", scope="module", params=SERVERS)
def ill_database(request):
    """A database in a server of its own: connections, settings and notifications concern a whole server."""
    server = server_of(request)
    more = (SMALL_QUEUE,) if request.param == "embedded" else ()
    with own_server(server, *SETTINGS, *more) as database:
        yield database


@pytest.fixture
def setting(ill):
    """Change a setting of the server until the end of the test."""
    changed = []

    def put(name, value):
        changed.append(name)
        ill.query(f"ALTER SYSTEM SET {name} = '{value}'")
        read(ill, name, value)

    yield put
    for name in changed:
        ill.query(f"ALTER SYSTEM RESET {name}")
    ill.query("SELECT pg_reload_conf()")


def read(database, name, value):
    database.query("SELECT pg_reload_conf()")
    eventually(lambda: database.value("SELECT current_setting(%s)", name) == value, "the setting is read")


def counted(database, table, dead):
    """Wait until PostgreSQL has counted the dead rows of a table."""
    database.query("SELECT pg_stat_force_next_flush()")
    look = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = %s"
    eventually(lambda: database.value(look, table) >= dead, "the dead rows are counted")


def test_dead_rows_that_no_vacuum_removes_are_found_until_one_does(any_database):
    any_database.query("ALTER TABLE jobs SET (autovacuum_enabled = off)")  # so that none comes in between
    any_database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 2000)")
    any_database.query("DELETE FROM jobs")
    counted(any_database, "jobs", 2000)

    def found(**limits):
        every = findings(any_database.url, "bloat", many_dead_rows=2000, unvacuumed_seconds=0, **limits)
        return [each for each in every if "autovacuum" not in each.said]

    (one,) = found()
    assert (one.severity, one.page) == (Severity.WARNING, "bloat")
    assert one.said == "the table jobs has 2000 dead rows that no vacuum has removed"
    assert one.evidence["table"] == "jobs"
    assert [each.severity for each in found(too_many_dead_rows=2000)] == [Severity.CRITICAL]
    with closing(psycopg.connect(any_database.url, autocommit=True)) as session:
        session.execute("SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1")
        session.pgconn.send_query(b"VACUUM jobs")
        eventually(lambda: not found(), "a vacuum at work is waited for")
        assert any_database.query("SELECT FROM pg_stat_progress_vacuum WHERE relid = 'jobs'::regclass") != []
        session.cancel()
    eventually(found, "the vacuum has ended too early")
    any_database.query("VACUUM jobs")
    eventually(lambda: not found(), "the finding goes away")


def test_a_vacuum_a_moment_ago_lets_a_flood_be_no_finding(any_database):
    # So old was the server when the test began, so the vacuum is younger.
    age = "SELECT date_part('epoch', clock_timestamp() - pg_postmaster_start_time())"
    older = eventually(
        lambda: (seconds := any_database.value(age)) > 10 and seconds, "the server is older than the test"
    )
    any_database.query("ALTER TABLE jobs SET (autovacuum_enabled = off)")
    any_database.query("VACUUM jobs")
    any_database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 400)")
    any_database.query("DELETE FROM jobs")
    counted(any_database, "jobs", 400)
    found = findings(any_database.url, "bloat", many_dead_rows=400, unvacuumed_seconds=older)
    assert [each.said for each in found] == ["autovacuum is off for the table jobs"]


def test_autovacuum_that_is_off_is_found_until_it_is_on(ill, setting):
    assert findings(ill.url, "bloat") == []
    ill.query("ALTER TABLE beats SET (autovacuum_enabled = off)")
    (found,) = findings(ill.url, "bloat")
    assert (found.severity, found.evidence["table"]) == (Severity.WARNING, "beats")
    ill.query("ALTER TABLE beats RESET (autovacuum_enabled)")
    assert findings(ill.url, "bloat") == []
    setting("autovacuum", "off")
    (found,) = findings(ill.url, "bloat")
    assert (found.severity, found.evidence) == (Severity.WARNING, {"setting": "autovacuum"})
    setting("autovacuum", "on")
    assert findings(ill.url, "bloat") == []


def test_a_file_that_is_much_larger_than_its_rows_need_is_a_notice(any_database):
    any_database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 3000)")
    any_database.query("ANALYZE jobs")
    full = findings(any_database.url, "bloat", large_bytes=0)
    assert full == []  # many rows need a large file
    any_database.query("DELETE FROM jobs WHERE id < 3000")  # the last row keeps the file from being cut off
    any_database.query("VACUUM ANALYZE jobs")

    def found():
        return {each.evidence["name"]: each for each in findings(any_database.url, "bloat", large_bytes=1)}

    by_name = eventually(lambda: found() if len(found()) >= 4 else None, "the statistics are counted")
    assert {each.severity for each in by_name.values()} == {Severity.NOTICE}
    assert set(by_name) >= {"jobs", "jobs_queue", "jobs_pkey"}
    assert "REINDEX INDEX CONCURRENTLY" in by_name["jobs_queue"].said
    any_database.query("REINDEX INDEX CONCURRENTLY jobs_queue")  # as the finding says
    assert found().get("jobs_queue") is None or found()["jobs_queue"].evidence["bytes"] <= 16384
    assert findings(any_database.url, "bloat") == []


def test_statistics_that_are_out_of_date_are_found_until_an_analyze(any_database):
    any_database.query("ALTER TABLE jobs SET (autovacuum_enabled = off)")
    any_database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 400)")
    any_database.query("SELECT pg_stat_force_next_flush()")

    def found():
        return findings(any_database.url, "stale-statistics", many_changes=400, unvacuumed_seconds=0)

    (never,) = eventually(found, "the changes are counted")
    assert (never.severity, never.page) == (Severity.NOTICE, "bloat")
    assert never.said.startswith("the table jobs has 400 new rows, and was never analyzed: ")
    assert never.said.endswith("the queue does not")
    assert never.evidence["changes"] >= 400
    any_database.query("ANALYZE jobs")
    eventually(lambda: not found(), "the finding goes away")
    any_database.query("UPDATE jobs SET priority = 1")
    any_database.query("SELECT pg_stat_force_next_flush()")
    (stale,) = eventually(found, "the changes are counted")
    assert (stale.severity, stale.since is not None) == (Severity.WARNING, True)
    assert stale.said.startswith("the table jobs was not analyzed since 400 of its rows changed: ")
    assert findings(any_database.url, "stale-statistics") == []


def test_a_queue_of_notifications_that_fills_up_is_found_until_the_listener_goes_on(ill):
    assert findings(ill.url, "notify-queue") == []
    with psycopg.connect(ill.server.url("postgres"), autocommit=True, application_name="deaf") as listener:
        listener.execute("LISTEN anything")
        listener.execute("BEGIN")
        listener.execute("SELECT 1")
        limits = {}
        if not ill.query("SELECT FROM pg_settings WHERE name = 'max_notify_queue_pages'"):
            limits = {"notify_part": 0.0005, "notify_full_part": 0.001}  # of 8 GB

        def fill(part):
            with ill.connect() as talker:
                while talker.execute("SELECT pg_notification_queue_usage()").fetchone()[0] < part:
                    talker.execute(
                        "SELECT pg_notify('to_nobody', repeat('x', 7900) || n) FROM generate_series(1, 20) n"
                    )

        fill(limits.get("notify_part", 0.25))
        (found,) = findings(ill.url, "notify-queue", **limits)
        assert (found.severity, found.page) == (Severity.WARNING, "notify-queue")
        (oldest,) = found.evidence["oldest_transactions"]
        assert (oldest["pid"], oldest["program"]) == (listener.info.backend_pid, "deaf")
        assert (oldest["database"], oldest["state"]) == ("postgres", "idle in transaction")
        fill(limits.get("notify_full_part", 0.75))
        (found,) = findings(ill.url, "notify-queue", **limits)
        assert found.severity is Severity.CRITICAL
        listener.execute("COMMIT")
        eventually(lambda: not findings(ill.url, "notify-queue", **limits), "the finding goes away")


def test_connections_of_the_server_that_run_out_are_found(ill):
    ill.close()
    held = []
    try:
        while len(held) < 13:
            held.append(psycopg.connect(ill.url, application_name="greedy"))
        (found,) = findings(ill.url, "connections")  # 14 with its own, of 17
        assert (found.severity, found.page) == (Severity.WARNING, "connections")
        assert found.said == "14 of the 17 connections of the server are used"
        first = found.evidence["most_have"][0]
        assert first == {
            "login": "postgres",
            "program": "greedy",
            "connections": 13,
            "idle": 13,
            "idle_in_transaction": 0,
        }
        held += [psycopg.connect(ill.url) for _ in range(3)]
        assert [each.severity for each in findings(ill.url, "connections")] == [Severity.CRITICAL]
    finally:
        for each in held:
            each.close()
    eventually(lambda: not findings(ill.url, "connections"), "the finding goes away")


def test_connections_of_a_login_or_a_database_that_run_out_are_found(any_database):
    name = f"limited_{any_database.name}"
    any_database.query(f"CREATE ROLE {name} LOGIN CONNECTION LIMIT 5; CREATE ROLE {name}_not LOGIN")
    try:
        limited = make_conninfo(any_database.url, user=name, application_name="shithubd-worker")
        assert findings(limited, "connections", used_part=0.2) == []  # its own does not count
        held = [psycopg.connect(limited) for _ in range(4)]
        held.append(psycopg.connect(any_database.url, user=f"{name}_not"))
        (found,) = findings(any_database.url, "connections")
        assert (found.severity, found.evidence["of"]) == (Severity.WARNING, f"the login {name}")
        assert [each["connections"] for each in found.evidence["most_have"]] == [4]
        any_database.query(f"ALTER DATABASE {any_database.name} CONNECTION LIMIT 7")
        found = findings(any_database.url, "connections")
        assert {each.evidence["of"] for each in found} == {f"the login {name}", f"the database {any_database.name}"}
        for each in held:
            each.close()
        any_database.close()
        eventually(lambda: not findings(any_database.url, "connections"), "the finding goes away")
    finally:
        any_database.query(f"DROP ROLE {name}, {name}_not")


def test_a_session_that_locks_a_table_is_found_until_it_ends(any_database):
    with psycopg.connect(any_database.url, application_name="a change by hand") as session:
        session.execute("LOCK TABLE jobs IN SHARE MODE")
        (found,) = findings(any_database.url, "blocked", locked_seconds=0)
        pid = session.info.backend_pid
        assert (found.severity, found.page) == (Severity.CRITICAL, "LeasingStalled")
        assert found.said == (
            f"pid {pid} (postgres, a change by hand, 127.0.0.1) has a lock on jobs, so workers can't write there"
        )
        assert (found.evidence["has_it"], found.evidence["others_wait"], found.evidence["waits_for"]) == (True, 0, None)
        assert findings(any_database.url, "blocked") == []  # it is young
        session.rollback()
        assert findings(any_database.url, "blocked", locked_seconds=0) == []


def test_a_session_that_waits_for_a_table_so_that_all_wait_behind_it_is_found(any_database):
    with psycopg.connect(any_database.url) as reader, closing(psycopg.connect(any_database.url)) as changer:
        reader.execute("SELECT FROM jobs")
        changer.pgconn.send_query(b"BEGIN; LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        (found,) = eventually(lambda: findings(any_database.url, "blocked", locked_seconds=0), "it waits")
        assert found.evidence["pid"] == changer.info.backend_pid
        assert found.evidence["waits_for"] == [reader.info.backend_pid]
        assert "waits for a lock on jobs" in found.said
        reader.rollback()  # then the other one has the lock
        eventually(lambda: findings(any_database.url, "blocked", locked_seconds=0)[0].evidence["has_it"], "it has it")
    eventually(lambda: not findings(any_database.url, "blocked", locked_seconds=0), "the finding goes away")


def test_usual_work_on_the_tables_is_no_lock_that_blocks(any_database):
    with psycopg.connect(any_database.url) as session:
        session.execute("INSERT INTO jobs (kind) VALUES ('k')")
        session.execute("SELECT FROM jobs FOR UPDATE")
        session.execute(
            "LOCK TABLE jobs IN SHARE UPDATE EXCLUSIVE MODE"
        )  # as vacuum, ANALYZE, CREATE INDEX CONCURRENTLY
        assert findings(any_database.url, "blocked", locked_seconds=0) == []


def test_a_lock_is_found_by_a_login_that_may_see_little_as_soon_as_somebody_waits(database, login):
    look = login("shithub_metrics")
    with psycopg.connect(database.url) as session, closing(psycopg.connect(database.url)) as waiter:
        session.execute("LOCK TABLE jobs")
        assert diagnosed(look, "blocked", locked_seconds=0) == []
        waiter.pgconn.send_query(b"INSERT INTO jobs (kind) VALUES ('k')")
        (found,) = eventually(lambda: diagnosed(look, "blocked", locked_seconds=0), "somebody waits")
        assert (found.severity, found.evidence["pid"]) == (Severity.CRITICAL, session.info.backend_pid)
        assert found.evidence["others_wait"] == 1
        session.rollback()


def test_a_prepared_transaction_with_a_lock_is_found(ill):
    with psycopg.connect(ill.url, autocommit=True) as session:
        session.execute("BEGIN; LOCK TABLE jobs; PREPARE TRANSACTION 'left'")
    (found,) = findings(ill.url, "blocked", locked_seconds=0)
    assert found.said == "a prepared transaction has a lock on jobs, so workers can't write there"
    ill.query("ROLLBACK PREPARED 'left'")
    assert findings(ill.url, "blocked", locked_seconds=0) == []


def test_an_index_that_was_never_finished_is_found_until_it_is_dropped(any_database):
    any_database.query("INSERT INTO jobs (kind) VALUES ('a'), ('a')")
    with psycopg.connect(any_database.url, autocommit=True) as session, pytest.raises(psycopg.errors.UniqueViolation):
        session.execute("CREATE UNIQUE INDEX CONCURRENTLY jobs_by_kind ON jobs (kind)")
    (found,) = findings(any_database.url, "unfinished-index")
    assert (found.severity, found.page, found.evidence["index"]) == (Severity.WARNING, "bloat", "jobs_by_kind")
    any_database.query("DROP INDEX CONCURRENTLY jobs_by_kind")
    assert findings(any_database.url, "unfinished-index") == []


def test_a_database_that_takes_no_writes_is_found(any_database):
    assert findings(any_database.url, "read-only") == []
    any_database.query(f"ALTER DATABASE {any_database.name} SET default_transaction_read_only = on")
    (found,) = findings(any_database.url, "read-only")
    assert (found.severity, found.page) == (Severity.CRITICAL, "PostgresUnreachable")
    assert "default_transaction_read_only" in found.said


def test_settings_with_which_a_crash_loses_jobs_are_a_notice(ill, setting):
    off = lambda: {each.evidence["setting"]: each.severity for each in findings(ill.url, "durability")}  # noqa: E731
    assert off() == {"fsync": Severity.NOTICE}
    setting("synchronous_commit", "off")
    setting("fsync", "on")
    assert off() == {"synchronous_commit": Severity.NOTICE}


def test_an_archive_that_fails_is_found_until_it_works(ill, setting):
    failed = lambda: findings(ill.url, "disk", old_seconds=0)  # noqa: E731
    assert failed() == []
    setting("archive_command", "false")
    ill.query("SELECT pg_switch_wal()")
    (found,) = eventually(failed, "the archive has failed")
    assert (found.severity, found.page) == (Severity.WARNING, "disk-full")
    assert found.evidence["failed"] >= 1
    assert findings(ill.url, "disk") == []  # for a moment only
    setting("archive_command", "true")
    ill.query("SELECT pg_switch_wal()")
    eventually(lambda: not failed(), "the finding goes away")


def test_a_history_that_will_be_much_larger_is_a_notice(any_database):
    any_database.query(
        "INSERT INTO job_history (id, kind, outcome, attempts, finished_at, error, retention)"
        " SELECT n, 'k', 'ok', 1, clock_timestamp() - interval '1 day', repeat('x', 1000), '90d'"
        " FROM generate_series(1, 1000) n"
    )
    assert findings(any_database.url, "disk") == []
    (found,) = findings(any_database.url, "disk", large_bytes=5_000_000)
    assert (found.severity, found.evidence["table"], found.evidence["days_kept"]) == (
        Severity.NOTICE,
        "job_history_90d",
        90,
    )
    assert found.evidence["yesterday"] > 1_000_000


def test_indexes_that_another_collation_has_sorted_are_found(any_database):
    """As after an upgrade of the operating system."""

    def found():
        with any_database.connect() as connection:
            return list(collation.examine(connection, "public"))

    assert found() == []
    any_database.query("UPDATE pg_database SET datcollversion = '2.28' WHERE datname = current_database()")
    (one,) = found()
    assert (one.severity, one.page) == (Severity.CRITICAL, "bloat")
    assert one.evidence["built_with"] == "2.28"
    any_database.query("UPDATE pg_database SET datcollversion = NULL WHERE datname = current_database()")
    assert found() == []
