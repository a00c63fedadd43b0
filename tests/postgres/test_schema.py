"""The schema: how it comes into a database, what it refuses, and how the history comes and goes."""

from __future__ import annotations

import datetime
import os
import threading
import time
from contextlib import closing

import psycopg
import pytest
from bare import BareWorker
from conftest import Database, eventually

from shithubd_worker.client import enqueue
from shithubd_worker.database import schema
from shithubd_worker.database.connection import connector
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.database.settles import record_lost
from shithubd_worker.errors import EXIT_SCHEMA, SchemaMismatch
from shithubd_worker.host import shipped
from shithubd_worker.host.identity import identify
from shithubd_worker.model import Finished, How, Outcome
from shithubd_worker.registry import Registry

SERVERS = ["debian", "embedded"]
NAMES = [migration.name for migration in schema.migrations()]


def server_of(request):
    return request.getfixturevalue("server" if request.param == "debian" else "embedded_server")


def fresh_database(server):
    """A database without anything in it."""
    name = f"s{time.monotonic_ns()}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    yield Database(server, name)
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(params=SERVERS)
def blank(request):
    """An empty database, on each of the servers."""
    yield from fresh_database(server_of(request))


@pytest.fixture(scope="module", params=SERVERS)
def contract(request):
    """One migrated database on each of the servers, for tests that leave nothing behind."""
    for database in fresh_database(server_of(request)):
        migrate(database)
        yield database


def migrate(database, name="public"):
    with database.connect() as connection:
        return schema.migrate(connection, name)


def dump(database, name="public"):
    """Everything of a schema that a migration can change."""
    return [
        database.query(text, name)
        for text in (
            "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
            " WHERE table_schema = %s ORDER BY 1, 2",
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE connamespace = to_regnamespace(%s) ORDER BY 1, 2",
            "SELECT indexdef FROM pg_indexes WHERE schemaname = %s ORDER BY 1",
            "SELECT oid, xmin::text FROM pg_proc WHERE pronamespace = to_regnamespace(%s) ORDER BY 1",
        )
    ]


# Migrating.


def test_a_fresh_database_gets_everything_and_the_second_time_nothing(blank):
    assert migrate(blank) == [*NAMES, f"functions {schema.functions_digest()}"]
    before, row = dump(blank), blank.query("SELECT * FROM worker_schema")
    assert migrate(blank) == []
    assert dump(blank) == before
    assert blank.query("SELECT * FROM worker_schema") == row
    assert row[0][1:3] == (schema.newest_version(), schema.functions_digest())
    with blank.connect() as connection:
        assert schema.check(connection, "public") == schema.Found(schema.newest_version(), schema.functions_digest())


def test_two_at_once_wait_for_each_other_and_one_does_the_work(blank):
    results = []
    gate = threading.Barrier(4)

    def one():
        with blank.connect() as connection:
            gate.wait()
            results.append(schema.migrate(connection, "public"))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, results)) == [0, 0, 0, len(NAMES) + 1]


def test_a_migration_that_fails_leaves_nothing_behind(blank, monkeypatch):
    monkeypatch.setattr(schema, "functions", lambda: "SELECT 1/0")
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(blank)
    assert blank.value("SELECT to_regclass('jobs') IS NULL AND to_regclass('worker_schema') IS NULL")
    monkeypatch.undo()
    assert migrate(blank)


def test_a_database_of_the_first_release_is_brought_up_to_date_with_its_jobs(blank, monkeypatch):
    newest = schema.migrations()
    first = newest[:1]
    # The functions of today stand on the tables of then, for a while.
    blank.query(f'ALTER DATABASE "{blank.name}" SET check_function_bodies = off')
    monkeypatch.setattr(schema, "migrations", lambda: first)
    assert migrate(blank) == [NAMES[0], f"functions {schema.functions_digest()}"]
    blank.query("INSERT INTO jobs (kind) VALUES ('k')")
    monkeypatch.setattr(schema, "migrations", lambda: newest)
    with blank.connect() as connection, pytest.raises(SchemaMismatch, match="run `shithubd-worker migrate`"):
        schema.check(connection, "public")
    assert migrate(blank) == [*NAMES[1:], f"functions {schema.functions_digest()}"]
    assert blank.query("SELECT kind, state FROM jobs") == [("k", "queued")]


def test_other_functions_than_this_releases_are_replaced(blank):
    migrate(blank)
    blank.query("UPDATE worker_schema SET functions = 'another digest'")
    blank.query("CREATE OR REPLACE FUNCTION channel_v1() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'wrong' $$")
    assert migrate(blank) == [f"functions {schema.functions_digest()}"]
    assert blank.value("SELECT channel_v1()") == "shithubd:public"
    assert migrate(blank) == []


def test_a_database_with_other_functions_will_do_if_it_has_all_of_ours(blank):
    migrate(blank)
    blank.query("UPDATE worker_schema SET functions = 'another digest'")
    with blank.connect() as connection:
        schema.check(connection, "public")
        blank.query("DROP FUNCTION channel_v1()")
        with pytest.raises(SchemaMismatch, match=r"lacks functions of this release \(channel_v1\).* migrate"):
            schema.check(connection, "public")


def test_the_digest_is_of_the_text_of_all_functions():
    digest = schema.functions_digest()
    assert len(digest) == 16
    assert int(digest, 16) >= 0
    assert schema.functions().count("CREATE OR REPLACE FUNCTION") == len(
        list((shipped.SQL / "functions").rglob("*.sql"))
    )


def test_the_migrations_are_numbered_without_a_gap_and_each_says_what_it_breaks():
    assert [migration.version for migration in schema.migrations()] == list(range(1, schema.newest_version() + 1))
    assert all(migration.text.startswith(("-- expand\n", "-- contract\n")) for migration in schema.migrations())


def mismatch(database, do, name="public"):
    with database.connect() as connection, pytest.raises(SchemaMismatch) as caught:
        do(connection, name)
    assert caught.value.exit_code == EXIT_SCHEMA
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_database_that_is_too_new_is_left_alone(blank):
    migrate(blank)
    blank.query("UPDATE worker_schema SET version = 99")
    for do in (schema.migrate, schema.check):
        assert "version 99" in mismatch(blank, do)
    assert blank.value("SELECT version FROM worker_schema") == 99


def test_an_empty_database_has_no_queue(blank):
    told = mismatch(blank, schema.check)
    assert "has no queue" in told
    assert "shithubd-worker migrate" in told


@pytest.mark.parametrize(
    ("remains", "says"),
    [
        ("DROP TABLE jobs CASCADE", "half-migrated"),
        ("DELETE FROM worker_schema", "half-migrated"),
        ("DROP TABLE worker_schema", "didn't make"),
    ],
)
def test_half_of_our_schema_is_a_clear_error(blank, remains, says):
    migrate(blank)
    blank.query(remains)
    for do in (schema.migrate, schema.check):
        assert says in mismatch(blank, do)


@pytest.mark.parametrize("relation", ["CREATE TABLE jobs (id int)", "CREATE VIEW jobs AS SELECT 1 AS id"])
def test_a_strangers_jobs_are_a_clear_error_and_stay_as_they_are(blank, relation):
    blank.query(relation)
    for do in (schema.migrate, schema.check):
        assert "another schema with --schema" in mismatch(blank, do)
    assert blank.query("SELECT column_name::text FROM information_schema.columns WHERE table_name = 'jobs'") == [
        ("id",)
    ]
    migrate(blank, "beside")
    assert blank.value("SELECT count(*) FROM beside.jobs") == 0


def test_a_role_that_owns_a_schema_and_no_more_can_migrate_and_work(blank):
    role = f"plain_{blank.name}"
    blank.query(f"CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE")
    try:
        blank.query(f"CREATE SCHEMA queue AUTHORIZATION {role}")
        blank.query("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        connect = connector(blank.url.replace("postgres@", f"{role}@"), "plain")
        with connect() as connection:
            assert schema.migrate(connection, "queue")
            assert schema.migrate(connection, "queue") == []
            job = enqueue(connection, "k", schema="queue")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                schema.migrate(connection, "public")
        with Bare(blank.url.replace("postgres@", f"{role}@"), "queue") as bare:
            lease = bare.worker.lease(bare.kinds)
            assert lease.id == job
            assert bare.settle(lease)
            bare.queue.housekeep()
        assert blank.value("SELECT outcome FROM queue.job_history WHERE id = %s", job) == "ok"
    finally:
        blank.query(f"DROP OWNED BY {role} CASCADE")
        blank.query(f"DROP ROLE {role}")


@pytest.mark.parametrize("name", ["odd \"name\" with 'quotes'; --", "Größe"])
def test_a_schema_may_have_any_name_and_is_made_if_it_is_missing(blank, name):
    assert migrate(blank, name)
    assert migrate(blank, name) == []
    with blank.connect() as connection:
        assert schema.check(connection, name).version == schema.newest_version()
        job = enqueue(connection, "k", schema=name)
    with Bare(blank.url, name) as bare:
        lease = bare.worker.lease(bare.kinds)
        assert lease.id == job
        assert bare.settle(lease)
    assert blank.value("SELECT to_regclass('public.jobs')") is None


def test_no_session_can_bend_the_names_inside_the_functions(contract):
    with contract.connect() as connection:
        connection.execute("CREATE TEMP TABLE holds (scope text)")
        connection.execute("CREATE TEMP TABLE jobs (id int)")
        connection.execute("SET search_path TO pg_temp, public")
        assert connection.execute("SELECT public.kinds_v1()").fetchall() == []
        (held,) = connection.execute("SELECT public.held_kinds_v1()").fetchone()
        assert held == []


# A plain INSERT, and what no row can be.


def test_a_kind_and_a_payload_are_a_complete_job(contract):
    with contract.connect() as connection:
        connection.autocommit = False
        row = connection.execute(
            "INSERT INTO jobs (kind, payload) VALUES ('search.reindex', '{\"repo\": \"a.git\"}') RETURNING *"
        ).fetchone()
        names = [column.name for column in connection.execute("SELECT * FROM jobs").description]
        now = connection.execute("SELECT now()").fetchone()[0]
        connection.rollback()
    job = dict(zip(names, row, strict=True))
    assert job.pop("id") > 0
    assert (job.pop("run_at"), job.pop("created_at")) == (now, now)
    assert job == {
        "kind": "search.reindex",
        "payload": {"repo": "a.git"},
        "state": "queued",
        "priority": 0,
        "attempts": 0,
        "alone": False,
        "max_attempts": None,
        "crashes": 0,
        "leased_by": None,
        "leased_at": None,
        "lease_expires_at": None,
        "lease_token": None,
        "worker_id": None,
        "last_error": None,
    }


def test_the_payload_may_be_left_out(contract):
    with contract.connect() as connection, connection.transaction(force_rollback=True):
        assert connection.execute("INSERT INTO jobs (kind) VALUES ('k') RETURNING payload").fetchone() == ({},)


def test_the_columns_are_those_that_were_promised(contract):
    def columns(table):
        return [
            row[0]
            for row in contract.query(
                "SELECT column_name::text FROM information_schema.columns"
                " WHERE table_schema = 'public' AND table_name = %s ORDER BY ordinal_position",
                table,
            )
        ]

    jobs = "id kind payload state priority run_at attempts max_attempts crashes leased_by leased_at lease_expires_at"
    assert set(f"{jobs} lease_token last_error created_at".split()) <= set(columns("jobs"))
    history = "id kind outcome attempts leased_by leased_at finished_at error payload"
    assert set(history.split()) <= set(columns("job_history"))


JOB = "INSERT INTO jobs (kind, payload, state, leased_by, leased_at) VALUES"
LEASED = "'h:1', now()"
IMPOSSIBLE = [
    ("jobs_kind_is_a_name", f"{JOB} ('', '{{}}', 'queued', NULL, NULL)"),
    ("jobs_kind_is_a_name", f"{JOB} (repeat('a', 201), '{{}}', 'queued', NULL, NULL)"),
    ("jobs_kind_is_a_name", f"{JOB} (E'a\\nb', '{{}}', 'queued', NULL, NULL)"),
    ("jobs_kind_is_a_name", f"{JOB} (E'a\\x1bb', '{{}}', 'queued', NULL, NULL)"),
    ("jobs_kind_is_a_name", f"{JOB} (E'a\\x7f', '{{}}', 'queued', NULL, NULL)"),
    ("jobs_kind_is_a_name", f"{JOB} (U&'a\\009b', '{{}}', 'queued', NULL, NULL)"),
    ("jobs_payload_is_an_object", f"{JOB} ('k', '[]', 'queued', NULL, NULL)"),
    ("jobs_payload_is_an_object", f"{JOB} ('k', 'null', 'queued', NULL, NULL)"),
    ("jobs_payload_is_an_object", f"{JOB} ('k', '7', 'queued', NULL, NULL)"),
    (
        "jobs_payload_can_be_sent",
        f"{JOB} ('k', jsonb_build_object('a', repeat(E'\\x01', 130 * 1024 * 1024)), 'queued', NULL, NULL)",
    ),
    ("jobs_state_is_known", f"{JOB} ('k', '{{}}', 'done', NULL, NULL)"),
    ("jobs_state_is_known", f"{JOB} ('k', '{{}}', 'QUEUED', NULL, NULL)"),
    ("jobs_leased_while_processing", f"{JOB} ('k', '{{}}', 'processing', NULL, NULL)"),
    ("jobs_leased_while_processing", f"{JOB} ('k', '{{}}', 'processing', 'h:1', NULL)"),
    ("jobs_leased_while_processing", f"{JOB} ('k', '{{}}', 'processing', NULL, now())"),
    *(
        ("jobs_leased_while_processing", f"{JOB} ('k', '{{}}', '{state}', {by})")
        for state in ("queued", "paused", "failed")
        for by in (LEASED, "'h:1', NULL", "NULL, now()")
    ),
    (
        "job_history_outcome_is_known",
        "INSERT INTO job_history (id, kind, outcome, attempts, finished_at, retention)"
        " VALUES (1, 'k', 'done', 1, now(), '7d')",
    ),
    ("holds_scope_check", "INSERT INTO holds (scope, target, actor) VALUES ('planet', 'x', 'a')"),
    ("holds_fleet_has_no_target", "INSERT INTO holds (scope, target, actor) VALUES ('fleet', 'x', 'a')"),
    ("holds_fleet_has_no_target", "INSERT INTO holds (scope, target, actor) VALUES ('kind', '', 'a')"),
    ("worker_schema_only_row_check", "INSERT INTO worker_schema (only_row, version, functions) VALUES (false, 1, '')"),
]


@pytest.mark.parametrize(("constraint", "statement"), IMPOSSIBLE)
def test_an_impossible_row_is_refused(contract, constraint, statement):
    with contract.connect() as connection, connection.transaction(force_rollback=True):
        with pytest.raises(psycopg.errors.CheckViolation) as caught, connection.transaction():
            connection.execute(statement)
        assert caught.value.diag.constraint_name == constraint


def test_every_check_of_the_queue_is_shown_to_refuse_something(contract):
    checks = contract.query(
        "SELECT conname::text FROM pg_constraint WHERE contype = 'c' AND connamespace = to_regnamespace('public')"
        " AND conrelid IN ('jobs'::regclass, 'job_history'::regclass, 'holds'::regclass, 'workers'::regclass,"
        " 'audit'::regclass, 'worker_schema'::regclass)"
    )
    assert {name for (name,) in checks} == {constraint for constraint, _ in IMPOSSIBLE}


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO jobs (kind) VALUES (NULL)",
        "INSERT INTO jobs (kind, payload) VALUES ('k', NULL)",
        "INSERT INTO jobs (kind, state) VALUES ('k', NULL)",
        "INSERT INTO jobs (kind, run_at) VALUES ('k', NULL)",
        "INSERT INTO jobs (kind, priority) VALUES ('k', NULL)",
        "INSERT INTO jobs (kind, attempts) VALUES ('k', NULL)",
        "INSERT INTO jobs (kind, crashes) VALUES ('k', NULL)",
        "INSERT INTO holds (scope, target) VALUES ('kind', 'k')",
        "INSERT INTO audit (actor, action) VALUES ('a', 'drain')",
    ],
)
def test_what_must_be_there_cannot_be_left_out(contract, statement):
    with contract.connect() as connection, pytest.raises(psycopg.errors.NotNullViolation):
        connection.execute(statement)


def test_there_is_at_most_one_hold_for_a_scope_and_one_version(contract):
    with contract.connect() as connection, connection.transaction(force_rollback=True):
        connection.execute("INSERT INTO holds (scope, target, actor) VALUES ('kind', 'k', 'a')")
        for again in (
            "INSERT INTO holds (scope, target, actor) VALUES ('kind', 'k', 'b')",
            "INSERT INTO worker_schema (version, functions) VALUES (1, '')",
        ):
            with pytest.raises(psycopg.errors.UniqueViolation), connection.transaction():
                connection.execute(again)


ODD = [
    "attempts = -5",
    "attempts = 2147483647",
    "crashes = -1",
    "crashes = 2147483647",
    "max_attempts = -1",
    "max_attempts = 0",
    "run_at = '-infinity'",
    "run_at = '4713-01-01 BC'",
    "lease_token = gen_random_uuid(), lease_expires_at = '2000-01-01', worker_id = gen_random_uuid()",
    "created_at = 'infinity', priority = -32768",
    "id = -9223372036854775808",
    "id = 9223372036854775807",
]


@pytest.mark.parametrize("odd", ODD)
def test_whatever_row_an_update_can_make_can_be_leased_and_settled(contract, odd):
    with Bare(contract.url, "public") as bare:
        for how in (How.OK, How.RETRY, How.FAILED, How.RELEASED):
            bare.queue.connection.execute("INSERT INTO jobs (kind) VALUES ('k')")
            bare.queue.connection.execute(f"UPDATE jobs SET {odd}")
            lease = bare.worker.lease(bare.kinds)
            assert lease is not None
            assert bare.settle(lease, how)
            bare.queue.connection.execute("DELETE FROM jobs")


# The history.


class Bare:
    """A worker without a process: its row and its queue, driven by hand."""

    def __init__(self, url, name):
        connect = connector(url, "bare")
        registry = Registry()
        registry.handler("k")(lambda job: None)
        self.kinds = list(registry.values())
        me = identify()
        self.beat = ControlSession(connect, name)
        self.beat.register(me, ["k"])
        self.me = me
        self.worker = BareWorker(url, name, me.id)
        self.queue = self.worker.queue

    def settle(self, lease, how=How.OK, retention="7d"):
        return self.worker.settle(lease, Outcome(how, "why", 5.0), retention)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with closing(self.queue), closing(self.beat):
            self.beat.unregister(self.me.id, [])


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
    """The test begins and ends on the same day of UTC, by which the history has its partitions."""
    now = datetime.datetime.now(datetime.UTC)
    midnight = datetime.datetime.combine(now.date() + datetime.timedelta(days=1), datetime.time.min, datetime.UTC)
    if midnight - now < datetime.timedelta(seconds=30):
        eventually(lambda: datetime.datetime.now(datetime.UTC) > midnight, "the next day")


def today(database):
    return database.value("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date")


def name_of(retention, day):
    return f"job_history_{retention}_{day:%Y%m%d}"


def make_day(database, retention, day):
    """A partition of a day that is past, as ensure_history_v1 would have made it then."""
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
def test_a_row_finds_its_place_on_every_day_that_is_ready(contract):
    contract.query("SELECT ensure_history_v1()")  # midnight may have come since the others
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
def test_the_days_are_days_of_utc_whatever_the_session_thinks(blank, zone):
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
    # The payload stays in jobs while the job lives on there.
    payload = {"a": 1} if how is How.OK else None
    error = None if how is How.OK else "why"
    assert rows == [(how, 1, bare.me.leased_by, True, error, payload, retention)]


def test_a_kind_without_retention_leaves_nothing(contract):
    with Bare(contract.url, "public") as bare:
        contract.query("INSERT INTO jobs (kind) VALUES ('k'), ('k')")
        first, second = bare.worker.lease(bare.kinds), bare.worker.lease(bare.kinds)
        assert bare.settle(first, How.OK, "none")
        assert bare.settle(second, How.FAILED, "none")
        record_lost(bare.queue, bare.me.leased_by, Finished(second, Outcome(How.LEASE_LOST, "too late"), "none", 0.0))
        contract.query("DELETE FROM jobs")
    assert contract.value("SELECT count(*) FROM job_history WHERE id IN (%s, %s)", first.id, second.id) == 0


@pytest.mark.usefixtures("day")
def test_expired_days_are_dropped_and_no_other(any_database, bare):
    now = today(any_database)
    expired = {
        make_day(any_database, retention, now - datetime.timedelta(days=age))
        for retention, age in (("7d", 8), ("7d", 30), ("90d", 91), ("90d", 400))
    }
    kept = {
        make_day(any_database, retention, now - datetime.timedelta(days=age))
        for retention, age in (("7d", 7), ("90d", 8), ("90d", 90))
    }
    any_database.query("CREATE TABLE job_history_7d_notes (id int)")  # somebody's own, with a similar name
    done = bare.queue.housekeep()
    assert {line.removeprefix("dropped ") for line in done} == expired
    left = {*partitions(any_database, "7d"), *partitions(any_database, "90d")}
    assert kept <= left
    assert not expired & left
    assert all(any_database.value("SELECT to_regclass(%s) IS NULL", name) for name in expired)
    assert any_database.value("SELECT to_regclass('job_history_7d_notes') IS NOT NULL")
    assert bare.queue.housekeep() == []


@pytest.mark.usefixtures("day")
def test_days_that_are_missing_are_made_again(any_database, bare):
    gone = name_of("90d", today(any_database) + datetime.timedelta(days=3))
    any_database.query(f"DROP TABLE {gone}")
    assert any_database.value("SELECT history_days_ready_v1()") == 2
    bare.queue.housekeep()
    assert gone in partitions(any_database, "90d")
    assert any_database.value("SELECT history_days_ready_v1()") == 14


@pytest.mark.usefixtures("day")
def test_a_long_reader_blocks_neither_a_settle_nor_new_days_while_housekeeping_waits_for_it(any_database, bare):
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
            while thread.is_alive():  # for as long as it works, and waits for the reader, settles go on
                bare.queue.connection.execute("INSERT INTO jobs (kind) VALUES ('k')")
                assert bare.settle(bare.worker.lease(bare.kinds))
        finally:
            thread.join()
        # It gave up after a second of waiting, in which there was no end of settles.
        assert any_database.value("SELECT count(*) FROM job_history") > 1
        assert done == ["put off: a reader has the history"]
        assert any_database.value("SELECT history_days_ready_v1()") == 14
        # The detach that was given up halfway doesn't block anything either, and readers go on.
        assert reader.execute("SELECT count(*) FROM job_history").fetchone() is not None
        bare.queue.connection.execute("RESET lock_timeout")
    assert any_database.query("SELECT partition, state FROM expired_history_v1()") == [(old, "pending")]
    assert bare.queue.housekeep() == [f"dropped {old}"]
    assert any_database.value("SELECT to_regclass(%s) IS NULL", old)


def test_a_day_that_was_detached_and_not_dropped_is_dropped_the_next_time(any_database, bare):
    old = make_day(any_database, "7d", today(any_database) - datetime.timedelta(days=30))
    any_database.query(f"ALTER TABLE job_history_7d DETACH PARTITION {old}")
    assert bare.queue.housekeep() == [f"dropped {old}"]
    assert any_database.value("SELECT to_regclass(%s) IS NULL", old)


def test_workers_that_keep_house_at_once_drop_each_day_once(any_database, bare):
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
    while any_database.query("SELECT FROM expired_history_v1()"):  # what one left to another that left it to the first
        done.extend(bare.queue.housekeep())
    assert sorted(each for each in done if not each.startswith("put off")) == sorted(old)


def test_of_workers_that_make_days_at_once_one_does_the_work(any_database):
    with any_database.connect() as one, any_database.connect() as other, one.transaction():
        assert one.execute("SELECT ensure_history_v1(20)").fetchone() == (12,)
        assert other.execute("SELECT ensure_history_v1(21)").fetchone() == (0,)
    assert any_database.value("SELECT ensure_history_v1(21)") == 2


def test_dead_workers_are_forgotten_after_a_day_unless_they_hold_a_lease(any_database, bare):
    silent, holding, fresh = (os.urandom(16).hex() for _ in range(3))
    for worker, age in ((silent, "2 days"), (holding, "2 days"), (fresh, "1 hour")):
        any_database.query(
            "WITH w AS (INSERT INTO workers (id, host, pid, machine_id, boot_id, pid_namespace, start_ticks, version,"
            " schema_version, kinds) VALUES (%s, 'h', 1, 'm', 'b', 0, 0, 'v', 1, '{}') RETURNING id)"
            " INSERT INTO beats (worker_id, beat_at) SELECT id, now() - %s::interval FROM w",
            worker,
            age,
        )
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


def test_two_schemas_in_one_database_keep_house_apart(blank):
    for name in ("public", "beside"):
        migrate(blank, name)
    with blank.connect() as other, Bare(blank.url, "beside") as bare, other.transaction():
        other.execute("SELECT FROM public.worker_schema FOR UPDATE")
        old = "job_history_7d_20200101"
        blank.query(f"CREATE TABLE beside.{old} (id int)")
        blank.query(f"CREATE TABLE public.{old} (id int)")
        assert bare.queue.housekeep() == [f"dropped {old}"]
        assert blank.value("SELECT to_regclass(%s) IS NOT NULL", f"public.{old}")
