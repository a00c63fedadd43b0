"""Rights that somebody gave the roles by hand and that they must not have: `migrate` takes them, refuses, or warns."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from conftest import Database
from test_migrate_roles import Blank, blank

from shithubd_worker.database import rights, schema
from shithubd_worker.database.connection import connector
from shithubd_worker.errors import Refused

__all__ = ["blank"]  # a fixture

RECIPIENTS = (*rights.GRANTED, rights.MIGRATE)
OF_THE_QUEUE = (
    "SELECT ON audit",
    "SELECT (payload) ON jobs",
    "USAGE ON SEQUENCE jobs_id_seq",
    "EXECUTE ON FUNCTION flip_v1",
)


def migrate(database: Database) -> list[str]:
    with connector(database.url, "test")() as connection:
        return schema.migrate(connection, "public")


def refused(database: Database) -> str:
    """The statement that the refusal tells a superuser to run."""
    with pytest.raises(Refused) as error:
        migrate(database)
    told = re.search(r"As a superuser: (.*)", str(error.value))
    assert told
    return told[1]


@pytest.mark.parametrize("role", RECIPIENTS)
def test_migrate_takes_the_right_to_create_in_a_schema_of_the_owner(blank: Blank, role: str) -> None:
    blank.migrate(by=blank.url, name="q", roles=True)
    blank.query(f"GRANT CREATE ON SCHEMA q TO {role}")
    assert blank.migrate(by=blank.url, name="q") == ["rights: 0 given, 1 taken"]
    assert blank.query("SELECT has_schema_privilege(%s, 'q', 'CREATE')", role) == [(False,)]
    if role != rights.MIGRATE:
        assert blank.query("SELECT has_schema_privilege(%s, 'q', 'USAGE')", role) == [(True,)]


@pytest.mark.parametrize("role", RECIPIENTS)
def test_migrate_refuses_the_right_to_create_in_another_owners_schema_and_names_the_fix(
    any_database: Database, role: str
) -> None:
    any_database.query(f"GRANT CREATE ON SCHEMA public TO {role}")
    any_database.query(refused(any_database))
    assert migrate(any_database) == []
    assert any_database.query("SELECT has_schema_privilege(%s, 'public', 'CREATE')", role) == [(False,)]


@pytest.fixture
def friend(any_database: Database) -> Iterator[str]:
    """A login that was given rights that it may pass on."""
    name = f"friend of {any_database.name}"
    any_database.query(f'CREATE ROLE "{name}"')
    yield f'"{name}"'
    any_database.query(f'DROP OWNED BY "{name}" CASCADE; DROP ROLE "{name}"')


@pytest.mark.parametrize("what", OF_THE_QUEUE)
def test_migrate_refuses_a_right_that_another_login_passed_on_and_names_the_fix(
    any_database: Database, friend: str, what: str
) -> None:
    any_database.query(f"GRANT {what} TO {friend} WITH GRANT OPTION")
    any_database.query(f"SET ROLE {friend}; GRANT {what} TO shithub_enqueue")
    any_database.query(f"SET search_path = ''; {refused(any_database)}")
    assert migrate(any_database) == []
    any_database.query(f"SET ROLE {friend}; GRANT {what} TO PUBLIC")
    any_database.query(refused(any_database))
    assert migrate(any_database) == []


GIVEN = (
    ("shithub_owner", "shithub_metrics"),
    ("shithub_operator", "shithub_metrics"),
    ("shithub_worker", "shithub_migrate"),
    ("shithub_owner", "{}"),
)


@pytest.mark.parametrize(("role", "member"), GIVEN)
def test_migrate_warns_about_a_membership_that_is_not_on_the_page(
    database: Database, command, role: str, member: str
) -> None:
    who = f"m{database.name}"
    database.query(f"CREATE ROLE {who} IN ROLE shithub_migrate, shithub_worker")
    member = member.format(who)
    try:
        assert "warning" not in command("migrate").stderr
        database.query(f"GRANT {role} TO {member}")
        done = command("migrate")
        assert (done.returncode, done.stdout) == (0, command("migrate").stdout)
        assert done.stderr.startswith(f"warning: {member} is a member of {role}, so it has rights that ")
    finally:
        database.query(f"REVOKE {role} FROM {member}; DROP ROLE {who}")


def test_the_roles_keep_the_use_of_the_schema_when_everybody_loses_it(blank: Blank) -> None:
    blank.query("GRANT CREATE ON SCHEMA public TO shithub_owner")
    blank.migrate(by=blank.url, roles=True)
    blank.query("REVOKE USAGE ON SCHEMA public FROM PUBLIC")
    for role in (rights.OWNER, *rights.GRANTED):
        assert blank.value("SELECT has_schema_privilege(%s, 'public', 'USAGE')", role), role
    assert blank.migrate(by=blank.url, roles=True) == []
