"""A schema where the application has objects with our names, and a queue that was renamed or moved.

One line says what to do, and nothing was changed."""

from __future__ import annotations

import re

import psycopg
import pytest
from fresh_databases import blank_database, former_release, migrate  # noqa: F401 (a fixture)

from shithubd_worker import enqueue
from shithubd_worker.database import schema
from shithubd_worker.database.operations import Operations
from shithubd_worker.errors import EXIT_SCHEMA, Refused, SchemaMismatch

TAKEN = {
    "table audit": "CREATE TABLE {s}.audit (id int)",
    "table workers": "CREATE TABLE {s}.workers (id int)",
    "table job_history": "CREATE TABLE {s}.job_history (id int)",
    "table worker_schema": "CREATE TABLE {s}.worker_schema (version int, functions text)",
    "table jobs": "CREATE TABLE {s}.jobs (id int) PARTITION BY RANGE (id)",
    "view holds": "CREATE VIEW {s}.holds AS SELECT 1",
    "materialized view search_files": "CREATE MATERIALIZED VIEW {s}.search_files AS SELECT 1",
    "sequence queue_counts": "CREATE SEQUENCE {s}.queue_counts",
    "sequence worker_schema": "CREATE SEQUENCE {s}.worker_schema",
    "index jobs_queue": "CREATE TABLE {s}.x (a int); CREATE INDEX jobs_queue ON {s}.x (a)",
    "type beats": "CREATE TYPE {s}.beats AS ENUM ('a')",
    "type gate": "CREATE DOMAIN {s}.gate AS int",
    "type standing_holds": "CREATE TYPE {s}.standing_holds AS (a int)",
    "function status_v1()": "CREATE FUNCTION {s}.status_v1() RETURNS jsonb LANGUAGE sql AS 'SELECT null::jsonb'",
    "function drain_v1(text)": "CREATE FUNCTION {s}.drain_v1(text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "aggregate wake_v1(integer)": "CREATE AGGREGATE {s}.wake_v1(int) (sfunc = int4pl, stype = int)",
    "procedure hold_v1()": "CREATE PROCEDURE {s}.hold_v1() LANGUAGE sql AS 'SELECT 1'",
}
OBJECTS = """
    SELECT classid::regclass::text, objid, objsubid FROM pg_depend JOIN pg_namespace n ON n.oid = refobjid
     WHERE refclassid = 'pg_namespace'::regclass AND nspname NOT LIKE 'pg\\_%' ORDER BY 1, 2, 3
"""


def refused(connection, do, *arguments, **options):
    with pytest.raises(SchemaMismatch) as caught:
        do(connection, *arguments, **options)
    assert caught.value.exit_code == EXIT_SCHEMA
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_name_that_the_application_has_taken_is_told_with_its_owner(blank):
    with blank.connect() as connection:
        connection.execute("CREATE ROLE app_of_others")
        try:
            for number, (what, made) in enumerate(TAKEN.items()):
                name = f"s{number}"
                connection.execute(f"CREATE SCHEMA {name} AUTHORIZATION app_of_others; SET ROLE app_of_others")
                connection.execute(made.format(s=name) + "; RESET ROLE")
                before = connection.execute(OBJECTS).fetchall()
                for roles in (False, True):
                    assert refused(connection, schema.migrate, name, roles=roles) == (
                        f"schema '{name}' has other objects with names that the queue needs: {what} of role"
                        " 'app_of_others'. Name another schema with --schema NAME"
                    )
                assert connection.execute(OBJECTS).fetchall() == before
        finally:
            connection.execute("DROP OWNED BY app_of_others CASCADE; DROP ROLE app_of_others")


def test_several_taken_names_are_one_line_and_another_schema_works(blank):
    blank.query("CREATE TABLE audit (); CREATE TABLE workers (); CREATE VIEW holds AS SELECT 1; CREATE TYPE gate AS ()")
    with blank.connect() as connection:
        said = refused(connection, schema.migrate, "public")
        assert "table audit of role 'postgres', table workers of role 'postgres', type gate of role" in said
        assert "'postgres' and 1 more. Name another" in said
        assert "has no queue: run `shithubd-worker migrate`" in refused(connection, schema.check, "public")
        schema.migrate(connection, "beside")
        schema.check(connection, "beside")


def test_what_postgresql_names_itself_is_in_nobodys_way(blank):
    blank.query("CREATE TABLE jobs_id_seq (); CREATE TABLE jobs_pkey (); CREATE TYPE _jobs AS ENUM ('a')")
    assert migrate(blank)


def test_a_name_that_only_a_later_migration_needs_is_told_before_it_begins(blank, monkeypatch):
    blank.query(f'ALTER DATABASE "{blank.name}" SET check_function_bodies = off')
    former_release(monkeypatch, 1)
    migrate(blank)
    monkeypatch.undo()
    blank.query("CREATE VIEW gate AS SELECT 1")
    with blank.connect() as connection:
        assert "needs: view gate of role 'postgres'. Rename, move" in refused(connection, schema.migrate, "public")
    assert blank.value("SELECT version FROM worker_schema") == 1
    blank.query("DROP VIEW gate")
    assert migrate(blank)


def test_the_inventory_is_what_the_migrations_make(blank):
    migrate(blank)
    found = blank.query(
        "SELECT relname::text FROM pg_class c WHERE relnamespace = 'public'::regnamespace"
        " AND relkind IN ('r', 'p', 'v') AND NOT (relispartition AND relname ~ '[0-9]{8}$')"
        " UNION ALL SELECT c.relname::text FROM pg_index"
        " JOIN pg_class c ON c.oid = indexrelid WHERE relnamespace = 'public'::regnamespace AND NOT relispartition"
        " AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = c.oid)"
    )
    assert {name for (name,) in found} == {part.name for part in schema.parts(schema.newest_version())}


@pytest.mark.parametrize("new", ["new", 'new "home"', "Grö§e"])
@pytest.mark.parametrize("roles", [True, False])
def test_a_renamed_schema_works_again_after_migrate(blank, roles, new):
    with blank.connect() as connection:
        schema.migrate(connection, "old", roles=roles)
        job = enqueue(connection, "k", schema="old")
        connection.execute(psycopg.sql.SQL("ALTER SCHEMA old RENAME TO {}").format(psycopg.sql.Identifier(new)))
        assert refused(connection, schema.check, new) == (
            f"schema {new!r} had another name when its functions were made: run `shithubd-worker migrate`"
        )
        assert re.search(
            r"schema 'old' of database .* has no queue, but schema .* has one: name it with --schema, or run",
            refused(connection, schema.check, "old"),
        )
        with blank.connect() as caller, caller.transaction():
            assert "had another name" in refused(caller, enqueue, "k", schema=new)
            assert caller.execute("SELECT 1").fetchone() == (1,)
        digest = f"functions {schema.functions_digest(new)}"
        assert schema.migrate(connection, new, dry_run=True) == [digest]
        assert schema.migrate(connection, new) == [digest]
        assert schema.migrate(connection, new) == []
        schema.check(connection, new)
        later = enqueue(connection, "k", schema=new)
    operations = Operations(blank.connect, new)
    assert operations.pause_kind("k", None, None).scope == "kind"
    assert [each["id"] for each in operations.jobs({"kind": "k"}, 10)] == [job, later]
    operations.close()


MOVED = {
    "the jobs": (["TABLE public.jobs"], "jobs"),
    "the holds": (["TABLE public.holds", "VIEW public.standing_holds"], "holds, standing_holds"),
    "the audit": (["TABLE public.audit"], "audit"),
}


@pytest.mark.parametrize(("objects", "names"), MOVED.values(), ids=MOVED)
def test_a_table_that_was_moved_is_brought_back_by_what_the_line_says(blank, objects, names):
    migrate(blank)
    with blank.connect() as connection:
        connection.execute("CREATE SCHEMA o")
        for each in objects:
            connection.execute(f"ALTER {each} SET SCHEMA o")
        for do in (schema.check, schema.migrate):
            said = refused(connection, do, "public")
            assert said.startswith(f"schema 'public' is half-migrated. It lacks {names}: ALTER TABLE o.")
        connection.execute(said.partition(f"{names}: ")[2])
        schema.check(connection, "public")
        assert schema.migrate(connection, "public") == []
        assert enqueue(connection, "k")


def test_the_table_of_another_queue_is_not_taken(blank):
    migrate(blank, "theirs")
    migrate(blank)
    blank.query("DROP TABLE audit CASCADE")
    with blank.connect() as connection:
        assert refused(connection, schema.check, "public").endswith("It lacks audit: restore it from a backup")


@pytest.mark.parametrize(
    "lost", ["DROP FUNCTION status_v1()", "CREATE SCHEMA o; ALTER FUNCTION status_v1() SET SCHEMA o"]
)
def test_migrate_brings_back_a_function_that_was_lost(blank, lost):
    migrate(blank)
    blank.query(lost)
    assert migrate(blank) == [f"functions {schema.functions_digest()}"]
    assert blank.value("SELECT count(*) FROM status_v1()") == 1


def test_a_view_of_the_application_that_a_migration_would_break_is_named(blank, monkeypatch):
    blank.query(f'ALTER DATABASE "{blank.name}" SET check_function_bodies = off')
    former_release(monkeypatch, 7)
    migrate(blank)
    monkeypatch.undo()
    blank.query("DROP FUNCTION kinds_v1; CREATE FUNCTION kinds_v1(jsonb) RETURNS int LANGUAGE sql AS 'SELECT 1'")
    blank.query('CREATE VIEW "Our kinds" AS SELECT kinds_v1(NULL); CREATE VIEW more AS SELECT kinds_v1(NULL)')
    with blank.connect() as connection, pytest.raises(Refused) as caught:
        schema.migrate(connection, "public")
    assert re.fullmatch(
        r"cannot drop function kinds_v1\(jsonb\) because other objects depend on it"
        r" \(view (\"Our kinds\"|more) depends on function kinds_v1\(jsonb\), and 1 more\):"
        " drop what depends on it, migrate, and create it again",
        str(caught.value),
    )
    blank.query('DROP VIEW "Our kinds", more')
    assert migrate(blank)
