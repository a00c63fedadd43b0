"""The application has a function with the name of a function that a release brings. `migrate` refuses and names it.

The release of this test brings tidy_up, a name without a version, besides the functions of the real release."""

from __future__ import annotations

import subprocess
from functools import partial

import psycopg
import pytest
from conftest import Database
from fresh_databases import blank_database, migrate  # noqa: F401 (a fixture)
from test_schemas_of_others import refused

from shithubd_worker import enqueue
from shithubd_worker.database import rights, routines, schema
from shithubd_worker.errors import Refused

OURS = """
CREATE OR REPLACE FUNCTION {name}(tasks text[]) RETURNS SETOF jobs LANGUAGE sql SET search_path FROM CURRENT
AS $$ SELECT * FROM jobs WHERE kind = '{body}' $$;
"""
SEVEN = "RETURNS int LANGUAGE sql AS 'SELECT 7'"
# What the application may have, with our arguments and with others.
TAKEN = (
    ("function tidy_up(text[])", f"FUNCTION tidy_up(VARIADIC text[]) {SEVEN}"),
    ("function tidy_up(text[])", "FUNCTION tidy_up(tasks text[]) RETURNS int BEGIN ATOMIC SELECT 7; END"),
    ("function tidy_up()", f"FUNCTION tidy_up() {SEVEN}"),
    ("function tidy_up(interval)", f"FUNCTION tidy_up(interval DEFAULT '1 day') {SEVEN}"),
    ('function tidy_up(public."Mood")', f'FUNCTION tidy_up("Mood") {SEVEN}'),
    ("procedure tidy_up(text[])", "PROCEDURE tidy_up(text[]) LANGUAGE sql AS 'SELECT 7'"),
    ("procedure tidy_up(integer)", "PROCEDURE tidy_up(a int, OUT b int) LANGUAGE sql AS 'SELECT 7'"),
    ("aggregate tidy_up(text[])", "AGGREGATE tidy_up(text[]) (sfunc = array_cat, stype = text[])"),
    ("aggregate tidy_up(integer)", "AGGREGATE tidy_up(int) (sfunc = int4pl, stype = int)"),
    ("function tidy_up(text[])", f"FUNCTION tidy_up(text[]) {SEVEN}"),
)
STANDING = "SELECT oid, ctid::text, proname, proowner, proacl FROM pg_proc WHERE oid > 16000 ORDER BY 1"


def brings(monkeypatch, *bodies, migrations=1):
    """From now on, this release has a further migration, and a function for each body: tidy_up, tidy_up1, ..."""
    monkeypatch.undo()
    former, names, text = schema.migrations(), schema.function_names(), schema.functions()
    ours = {f"tidy_up{number or ''}": body for number, body in enumerate(bodies)}
    column = "-- expand\nALTER TABLE worker_schema ADD COLUMN IF NOT EXISTS made jsonb NOT NULL DEFAULT '{}';"
    added = [schema.Migration(former[-1].version + 1, "more", breaking=False, text=column)][:migrations]
    monkeypatch.setattr(schema, "migrations", lambda: (*former, *added))
    monkeypatch.setattr(schema, "function_names", lambda: (*names, *ours))
    text += "".join(OURS.format(name=name, body=body) for name, body in ours.items())
    monkeypatch.setattr(schema, "functions", lambda: text)
    monkeypatch.setattr(schema, "functions_digest", schema.functions_digest.__wrapped__)  # without its cache


@pytest.fixture(name="app")
def application(blank):
    """The application's role, which may create in the schema."""
    name = f"app_{blank.name}"
    blank.query(f"CREATE ROLE {name}; GRANT CREATE ON SCHEMA public TO {name}")
    yield name
    blank.query(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")
    blank.close()


def test_an_upgrade_refuses_each_function_of_the_name_and_changes_nothing(blank, app, monkeypatch):
    migrate(blank)
    blank.query("""CREATE TYPE "Mood" AS ENUM ('a')""")
    brings(monkeypatch, "one")
    with blank.connect() as connection:
        for what, made in TAKEN:
            connection.execute(f"SET ROLE {app}; CREATE {made}; RESET ROLE")
            before = connection.execute(STANDING).fetchall()
            for options in ({}, {"dry_run": True}, {"roles": True}):
                said = refused(connection, schema.migrate, "public", **options)
                assert said.startswith(f"schema 'public' has {what} of role '{app}'. The queue needs the name, and")
            assert connection.execute(STANDING).fetchall() == before
            connection.execute("DROP ROUTINE IF EXISTS another_name")
            connection.execute(said.rpartition(": ")[2])
            assert "more" in schema.migrate(connection, "public", dry_run=True)
        assert schema.migrate(connection, "public")
        assert connection.execute("SELECT another_name('{}')").fetchone() == (7,)
        assert connection.execute("SELECT * FROM tidy_up('{}')").fetchall() == []


def test_all_names_without_a_version_are_kept_and_the_rest_are_counted(blank, app, monkeypatch):
    brings(monkeypatch, "one", "two")
    names = [name for name in schema.function_names() if "_v" not in name]
    monkeypatch.undo()
    migrate(blank)
    blank.query("ALTER TABLE worker_schema DROP COLUMN IF EXISTS made")
    brings(monkeypatch, "one", "two")
    with blank.connect() as connection:
        for name in names:
            connection.execute(f"DROP ROUTINE IF EXISTS {name}; SET ROLE {app}")
            connection.execute(f"CREATE FUNCTION {name}(int) {SEVEN}; RESET ROLE")
        said = refused(connection, schema.migrate, "public")
        assert f"has function {min(names)}(integer) of role '{app}' and {len(names) - 1} more." in said


def restored(database, app):
    """The database after a dump and a restore under another name."""
    name = f"r_{database.name}"
    with psycopg.connect(database.server.url("postgres"), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    run = partial(subprocess.run, check=True, stdout=subprocess.PIPE)
    dumped = run([database.server.bindir / "pg_dump", database.url]).stdout
    run([database.server.bindir / "psql", "-qX", "-v", "ON_ERROR_STOP=1", database.server.url(name)], input=dumped)
    database.query("DROP SCHEMA public CASCADE")
    return Database(database.server, name), "public"


def renamed(database, app):
    database.query("ALTER SCHEMA public RENAME TO later; CREATE SCHEMA public")
    return database, "later"


def given_away(database, app):
    with database.connect() as connection:
        assert schema.migrate(connection, "public", roles=True)
    return database, "public"


def as_it_was(database, app):
    return database, "public"


@pytest.mark.parametrize("fate", [as_it_was, renamed, restored, given_away])
def test_migrate_knows_its_own_functions_later_and_no_others(blank, app, monkeypatch, fate):
    brings(monkeypatch, "one")
    migrate(blank)
    database, name = fate(blank, app)
    brings(monkeypatch, "two")
    digest = f"functions {schema.functions_digest(name)}"
    try:
        with database.connect() as connection:
            connection.execute(f"SET search_path TO {name}")
            body = "SELECT prosrc LIKE '%two%' FROM pg_proc WHERE proname = 'tidy_up' AND proargtypes::text = '1009'"
            connection.execute(f"SET ROLE {app}; CREATE FUNCTION tidy_up(int[]) {SEVEN}; RESET ROLE")
            assert f"function tidy_up(integer[]) of role '{app}'" in refused(connection, schema.migrate, name)
            assert connection.execute(body).fetchone() == (False,)
            connection.execute("DROP FUNCTION tidy_up(int[])")
            assert schema.migrate(connection, name) == [digest]
            assert connection.execute(body).fetchone() == (True,)
            assert schema.migrate(connection, name) == []
            # The same digest: nothing is to be loaded.
            connection.execute(f"DROP FUNCTION tidy_up; SET ROLE {app}")
            connection.execute(f"CREATE FUNCTION tidy_up(text[]) {SEVEN}; RESET ROLE")
            said = refused(connection, schema.migrate, name)
            assert f"function tidy_up(text[]) of role '{app}'" in said
            assert connection.execute("SELECT tidy_up('{}')").fetchone() == (7,)
            connection.execute("DROP FUNCTION tidy_up")
            assert schema.migrate(connection, name) == [digest]
    finally:
        if database is not blank:
            database.close()
            blank.query(f'DROP DATABASE "{database.name}" WITH (FORCE)')


def test_a_name_that_comes_without_a_migration_is_not_taken_either(blank, app, monkeypatch):
    brings(monkeypatch, "one")
    migrate(blank)
    with blank.connect() as connection:
        connection.execute(f"SET ROLE {app}; CREATE FUNCTION tidy_up1(text[]) {SEVEN}; RESET ROLE")
        brings(monkeypatch, "one", "two")
        assert "lacks functions of this release (tidy_up1)" in refused(connection, schema.check, "public")
        assert "function tidy_up1(text[])" in refused(connection, schema.migrate, "public")
        assert connection.execute("SELECT tidy_up1('{}')").fetchone() == (7,)


def test_an_older_release_of_the_same_version_forgets_no_function_of_ours(blank, monkeypatch):
    brings(monkeypatch, "one", "two")
    migrate(blank)
    brings(monkeypatch, "older")
    assert migrate(blank)
    brings(monkeypatch, "newer", "two")
    assert migrate(blank) == [f"functions {schema.functions_digest()}"]


def test_a_function_that_somebody_makes_during_the_migration_is_not_replaced(blank, app, monkeypatch):
    migrate(blank)
    brings(monkeypatch, "one")
    theirs = "CREATE FUNCTION tidy_up(tasks text[]) RETURNS SETOF jobs LANGUAGE sql AS 'TABLE jobs'"
    create_new = routines.create_new

    def overtaken(text, names, standing):
        """Both have looked. Now the other is the first to create it."""
        monkeypatch.setattr(routines, "create_new", create_new)
        blank.query(theirs)
        return create_new(text, names, standing)

    monkeypatch.setattr(routines, "create_new", overtaken)
    with blank.connect() as connection:
        assert "function tidy_up(text[]) of role 'postgres'" in refused(connection, schema.migrate, "public")
    assert blank.value("SELECT prosrc FROM pg_proc WHERE proname = 'tidy_up'") == "TABLE jobs"


@pytest.mark.parametrize("roles", [True, False])
def test_a_second_function_beside_ours_stops_no_work_and_the_next_migrate_names_it(blank, app, monkeypatch, roles):
    with blank.connect() as connection:
        schema.migrate(connection, "public", roles=roles)
        for name in ("show_job_v1", "lease_v1", "wake_v1"):
            connection.execute(f"SET ROLE {app}; CREATE FUNCTION {name}(point) {SEVEN}")
            connection.execute(f"REVOKE ALL ON FUNCTION {name}(point) FROM PUBLIC; RESET ROLE")
        schema.check(connection, "public")
        assert enqueue(connection, "k")
        if roles:
            connection.execute("SET ROLE shithub_worker")
            rights.check(connection, "public", "shithub_worker")
            connection.execute("RESET ROLE")
        before = connection.execute(STANDING).fetchall()
        said = refused(connection, schema.migrate, "public")
        assert f"has function lease_v1(point) of role '{app}' and 2 more." in said
        assert connection.execute(STANDING).fetchall() == before
        connection.execute("DROP FUNCTION show_job_v1(point), lease_v1(point), wake_v1(point)")
        assert schema.migrate(connection, "public") == []


def test_the_roles_get_no_function_of_the_owner_of_before(blank, monkeypatch):
    migrate(blank)
    brings(monkeypatch, "one")
    blank.query("CREATE PROCEDURE lease_v1(point) LANGUAGE sql AS 'SELECT 7'")
    with blank.connect() as connection:
        assert "has procedure lease_v1(point) of role" in refused(connection, schema.migrate, "public", roles=True)
        blank.query(f"CREATE FUNCTION tidy_up(interval) {SEVEN}")
        said = refused(connection, schema.migrate, "public", roles=True)
        assert "has function tidy_up(interval) of role 'postgres'." in said


def test_a_stranger_with_such_a_function_is_named_with_its_arguments(blank, app, monkeypatch):
    migrate(blank)
    brings(monkeypatch, "one")
    with blank.connect() as connection:
        connection.execute(f"SET ROLE {app}; CREATE FUNCTION tidy_up(interval) {SEVEN}; RESET ROLE")
        connection.execute(f"REVOKE CREATE ON SCHEMA public FROM {app}")
        with pytest.raises(Refused, match=rf"^the function tidy_up\(interval\) in schema 'public' belongs to '{app}'"):
            schema.migrate(connection, "public")
