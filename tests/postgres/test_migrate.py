"""How the schema gets into a database, and what it needs there."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import psycopg
import pytest
from fresh_databases import Bare, blank_database, contract_database, former_release, migrate  # noqa: F401 (fixtures)

from shithubd_worker.client import enqueue
from shithubd_worker.database import schema
from shithubd_worker.database.connection import connector
from shithubd_worker.errors import EXIT_SCHEMA, SchemaMismatch
from shithubd_worker.host import shipped

NAMES = [migration.name for migration in schema.migrations()]


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


def test_migrate_gives_a_fresh_database_everything_and_the_second_time_nothing(blank):
    assert migrate(blank) == [*NAMES, f"functions {schema.functions_digest()}"]
    before, row = dump(blank), blank.query("SELECT * FROM worker_schema")
    assert migrate(blank) == []
    assert dump(blank) == before
    assert blank.query("SELECT * FROM worker_schema") == row
    assert row[0][1:3] == (schema.newest_version(), schema.functions_digest())
    with blank.connect() as connection:
        assert schema.check(connection, "public") == schema.Found(schema.newest_version(), schema.functions_digest())


def test_two_migrates_at_once_wait_for_each_other_and_one_does_the_work(blank):
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


def test_a_failed_migration_changes_nothing(blank, monkeypatch):
    monkeypatch.setattr(schema, "functions", lambda: "SELECT 1/0")
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(blank)
    assert blank.value("SELECT to_regclass('jobs') IS NULL AND to_regclass('worker_schema') IS NULL")
    monkeypatch.undo()
    assert migrate(blank)


def test_migrate_updates_a_database_of_the_first_release_and_keeps_its_jobs(blank, monkeypatch):
    # For a while, today's functions work on the tables of that release.
    blank.query(f'ALTER DATABASE "{blank.name}" SET check_function_bodies = off')
    former_release(monkeypatch, 1)
    assert migrate(blank) == [NAMES[0], f"functions {schema.functions_digest()}"]
    blank.query("INSERT INTO jobs (kind) VALUES ('k')")
    monkeypatch.undo()
    with blank.connect() as connection, pytest.raises(SchemaMismatch, match="run `shithubd-worker migrate`"):
        schema.check(connection, "public")
    assert migrate(blank) == [*NAMES[1:], f"functions {schema.functions_digest()}"]
    assert blank.query("SELECT kind, state FROM jobs") == [("k", "queued")]


def test_migrate_replaces_functions_of_another_release(blank):
    migrate(blank)
    blank.query("UPDATE worker_schema SET functions = 'another digest'")
    blank.query("CREATE OR REPLACE FUNCTION channel_v1() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'wrong' $$")
    assert migrate(blank) == [f"functions {schema.functions_digest()}"]
    assert blank.value("SELECT channel_v1()") == "shithubd:public"
    assert migrate(blank) == []


def test_migrate_makes_a_function_anew_that_somebody_replaced(blank):
    migrate(blank)
    made = "SELECT prosrc FROM pg_proc WHERE oid = 'lives_v1'::regproc"
    before = blank.query(made)
    [(text,)] = blank.query("SELECT pg_get_functiondef('lives_v1'::regproc)")
    blank.query(text.replace("30", "3000"))
    assert blank.query(made) != before
    assert migrate(blank) == [f"functions {schema.functions_digest()}"]
    assert blank.query(made) == before
    assert migrate(blank) == []


def test_a_database_with_other_functions_is_accepted_if_it_has_all_of_ours(blank):
    migrate(blank)
    blank.query("UPDATE worker_schema SET functions = 'another digest'")
    with blank.connect() as connection:
        schema.check(connection, "public")
        blank.query("DROP FUNCTION channel_v1()")
        with pytest.raises(SchemaMismatch, match=r"lacks functions of this release \(channel_v1\).* migrate"):
            schema.check(connection, "public")


def test_the_digest_covers_the_text_of_all_functions():
    digest = schema.functions_digest()
    assert len(digest) == 16
    assert int(digest, 16) >= 0
    assert schema.functions().count("CREATE OR REPLACE FUNCTION") == len(
        list((shipped.SQL / "functions").rglob("*.sql"))
    )


def test_the_migrations_have_no_gap_and_each_is_marked_expand_or_contract():
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
        ("DROP TABLE worker_schema", "restore the backup whole"),
        ("DROP TABLE queue_counts", "It lacks queue_counts: restore it from a backup"),
        ("DROP VIEW standing_holds", "It lacks standing_holds: restore it from a backup"),
    ],
)
def test_an_incomplete_schema_is_a_clear_error(blank, remains, says):
    migrate(blank)
    blank.query(remains)
    for do in (schema.migrate, schema.check):
        assert says in mismatch(blank, do)


@pytest.mark.parametrize("relation", ["CREATE TABLE jobs (id int)", "CREATE VIEW jobs AS SELECT 1 AS id"])
def test_a_foreign_table_jobs_is_a_clear_error_and_stays_unchanged(blank, relation):
    blank.query(relation)
    for do in (schema.migrate, schema.check):
        assert re.search("(table|view) jobs of role 'postgres'. Name another schema with --schema", mismatch(blank, do))
    assert blank.query("SELECT column_name::text FROM information_schema.columns WHERE table_name = 'jobs'") == [
        ("id",)
    ]
    migrate(blank, "beside")
    assert blank.value("SELECT count(*) FROM beside.jobs") == 0


def test_a_role_that_only_owns_a_schema_can_migrate_and_work(blank):
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


def test_no_search_path_of_a_session_changes_the_names_inside_the_functions(contract):
    with contract.connect() as connection:
        connection.execute("CREATE TEMP TABLE holds (scope text)")
        connection.execute("CREATE TEMP TABLE jobs (id int)")
        connection.execute("SET search_path TO pg_temp, public")
        assert connection.execute("SELECT public.kinds_v1()").fetchall() == []
        (held,) = connection.execute("SELECT public.held_kinds_v1()").fetchone()
        assert held == []


def test_the_changelog_names_each_migration_with_its_mark():
    """There an operator learns whether to drain before an upgrade."""
    text = " ".join((Path(__file__).parents[2] / "CHANGELOG.md").read_text().split())
    for each in schema.migrations():
        mark = "contract" if each.breaking else "expand"
        assert re.search(rf"\b{each.version:04d} \(\*{mark}\*:", text), each.name
