"""What `migrate --roles` makes shithub_owner's, what it takes from the roles and from PUBLIC, and what it leaves."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from conftest import Database
from test_migrate_roles import Blank, blank

from shithubd_worker.database import schema
from shithubd_worker.database.connection import connector
from shithubd_worker.errors import Refused, SchemaMismatch

__all__ = ["blank"]  # a fixture

OLD, PENDING = "job_history_7d_20200101", "job_history_90d_20200101"
THEIRS = "job_history_7d_20361201"
OWNERS = (
    "SELECT relname, relowner::regrole::text FROM pg_class WHERE relkind IN ('r', 'p') AND relname ~ '^job_history'"
    " AND relnamespace = 'public'::regnamespace"
)
GIVEN = {
    "a table": "TRUNCATE ON holds",
    "a column": "SELECT (payload) ON jobs",
    "a day of the history": "SELECT ON {day}",
    "a sequence": "ALL ON SEQUENCE jobs_id_seq",
    "a function": "EXECUTE ON FUNCTION ensure_history_v1",
}
# All rights that a role, or PUBLIC (0), has on the objects in public.
RIGHTS = (
    "SELECT c.relname, '', a.privilege_type FROM pg_class c, aclexplode(c.relacl) a"
    " WHERE c.relnamespace = 'public'::regnamespace AND a.grantee = {who}"
    " UNION SELECT c.relname, t.attname, a.privilege_type"
    " FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid, aclexplode(t.attacl) a"
    " WHERE c.relnamespace = 'public'::regnamespace AND a.grantee = {who}"
    " UNION SELECT p.proname, '', a.privilege_type FROM pg_proc p, aclexplode(p.proacl) a"
    " WHERE p.pronamespace = 'public'::regnamespace AND a.grantee = {who}"
)


def rights_of(database: Database, grantee: str) -> set[tuple[object, ...]]:
    return {*database.query(RIGHTS.format(who="0" if grantee == "PUBLIC" else f"'{grantee}'::regrole"))}


@pytest.mark.parametrize("what", GIVEN)
@pytest.mark.parametrize("grantee", ["PUBLIC", "shithub_metrics", "shithub_migrate"])
def test_migrate_takes_every_right_that_was_given_by_hand(any_database: Database, what: str, grantee: str) -> None:
    before = rights_of(any_database, grantee)
    day = any_database.value("SELECT min(relid::text) FROM pg_partition_tree('job_history') WHERE isleaf")
    with connector(any_database.url, "test")() as connection:
        connection.execute(f"GRANT {GIVEN[what].format(day=day)} TO {grantee}".encode())
        assert rights_of(any_database, grantee) != before
        said = schema.migrate(connection, "public")
    # PUBLIC could not call a function before either, with or without roles.
    assert said == [] if grantee == "PUBLIC" and what == "a function" else said[0].startswith("rights: 0 given, ")
    assert rights_of(any_database, grantee) == before


def test_migrate_also_takes_what_a_role_passed_on(any_database: Database) -> None:
    name = f"friend_{any_database.name}"
    any_database.query(f"CREATE ROLE {name}; GRANT SELECT ON audit TO shithub_metrics WITH GRANT OPTION")
    try:
        any_database.query(f"SET ROLE shithub_metrics; GRANT SELECT ON audit TO {name}; RESET ROLE")
        with connector(any_database.url, "test")() as connection:
            assert schema.migrate(connection, "public") == ["rights: 0 given, 1 taken"]
        assert not any_database.value("SELECT has_table_privilege(%s, 'audit', 'SELECT')", name)
    finally:
        any_database.query(f"DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.fixture
def stranger(blank: Blank) -> Iterator[str]:
    """A login that may create in the schema, and has made a table and a function with names like ours."""
    name = f"stranger_{blank.name}"
    blank.migrate()
    blank.query(f"CREATE ROLE {name} LOGIN; GRANT CREATE ON SCHEMA public TO {name}")
    with connector(psycopg.conninfo.make_conninfo(blank.url, user=name), "test")() as connection:
        connection.execute(f"CREATE TABLE {THEIRS} (secret text)".encode())
        connection.execute(
            "CREATE FUNCTION jobs_enqueued_v1(text) RETURNS text SECURITY DEFINER RETURN current_user::pg_catalog.text"
        )
    yield name
    blank.query(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_a_strangers_object_with_a_name_like_ours_stays_the_strangers(blank: Blank, stranger: str) -> None:
    with pytest.raises(SchemaMismatch, match=rf"has function jobs_enqueued_v1\(text\) of role '{stranger}'"):
        blank.migrate(by=blank.url, roles=True)
    assert blank.value("SELECT jobs_enqueued_v1('')") == stranger
    blank.query("DROP FUNCTION jobs_enqueued_v1(text)")
    assert blank.migrate(by=blank.url, roles=True)
    assert blank.value("SELECT relowner::regrole::text FROM pg_class WHERE relname = %s", THEIRS) == stranger
    assert blank.value("SELECT count(*) FROM expired_history_v1()") == 0


def test_migrate_refuses_a_function_whose_owner_may_no_longer_create(blank: Blank, stranger: str) -> None:
    blank.query(f"REVOKE CREATE ON SCHEMA public FROM {stranger}")
    with pytest.raises(
        Refused, match=rf"the function jobs_enqueued_v1\(text\) in schema 'public' belongs to '{stranger}'"
    ):
        blank.migrate(by=blank.url, roles=True)


def test_migrate_takes_over_each_day_of_the_history_even_after_an_interrupted_drop(blank: Blank) -> None:
    blank.migrate()
    with connector(blank.as_login, "test")() as connection, connector(blank.url, "test")() as reader:
        for day in (OLD, PENDING):
            connection.execute(
                f"CREATE TABLE {day} PARTITION OF {day[:-9]} FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')".encode()
            )
        connection.execute(f"ALTER TABLE job_history_7d DETACH PARTITION {OLD}".encode())
        with reader.transaction():
            reader.execute("SELECT FROM job_history")
            connection.execute("SET lock_timeout = '100ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                connection.execute(f"ALTER TABLE job_history_90d DETACH PARTITION {PENDING} CONCURRENTLY".encode())
    expired = "SELECT partition, state FROM expired_history_v1() ORDER BY 1"
    assert blank.query(expired) == [(OLD, "detached"), (PENDING, "pending")]
    assert blank.migrate(by=blank.url, roles=True)
    assert {owner for _, owner in blank.query(OWNERS)} == {"shithub_owner"}
    assert blank.query(expired) == [(OLD, "detached"), (PENDING, "detached")]
