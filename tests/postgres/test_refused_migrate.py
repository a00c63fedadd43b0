"""A login that may not migrate is told who may. It is never told to take a right that equals the owner's, or one that
would not help."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from test_migrate_roles import Blank, blank

from shithubd_worker.errors import EXIT_OK, EXIT_RIGHTS

__all__ = ["blank"]  # a fixture
NOBODY = "nobody"  # a user that every system has


PROGRAM = "from shithubd_worker.cli import main, needs; needs.ADMIN = {!r}; main()"


def run(url, *words, admin="no-user-of-this-host"):
    """The program with a URL, on a host where `admin` looks after the tables. Returns its exit code and its message."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(admin), *words],
        env={**os.environ, "SHITHUBD_WORKER_DATABASE_URL": url},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == EXIT_OK or done.stdout == ""
    return done.returncode, done.stderr


@pytest.fixture
def stranger(blank: Blank):
    """The URL of a login that may only connect."""
    name = f"s{blank.name}"
    blank.query(f"CREATE ROLE {name} LOGIN")
    yield psycopg.conninfo.make_conninfo(blank.url, user=name)
    blank.query(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


@pytest.mark.parametrize("roles", [False, True])
@pytest.mark.parametrize("role", ["", "shithub_operator"])
def test_a_refusal_at_a_queue_never_suggests_the_right_to_create(blank: Blank, stranger, roles, role):
    blank.migrate(by=blank.url if roles else None, roles=roles)
    if role and roles:
        blank.query(f"GRANT {role} TO s{blank.name}")
    code, said = run(stranger, "migrate")
    assert code == EXIT_RIGHTS
    assert "GRANT" not in said
    assert "CREATE" not in said
    assert ("shithub_migrate's members may" if roles else f"its owner '{blank.login}' may") in said


@pytest.mark.parametrize("schema", ["public", "the queue"])
def test_the_suggested_statement_is_enough_if_there_is_no_queue_yet(blank: Blank, stranger, schema):
    code, said = run(stranger, "migrate", "--schema", schema)
    assert code == EXIT_RIGHTS
    statement = re.search(r"as a superuser: (.*)\n", said)
    assert statement
    blank.query(statement[1])
    assert run(stranger, "migrate", "--schema", schema)[0] == EXIT_OK


@pytest.mark.parametrize("words", [("migrate",), ("history", "drop")])
def test_the_refusal_names_the_hosts_user_for_it_if_there_is_one(blank: Blank, stranger, words):
    blank.migrate(by=blank.url, roles=True)
    blank.query(f"GRANT shithub_operator TO s{blank.name}")
    instead = f"on this host: runuser -u {NOBODY} -- shithubd-worker {' '.join(words)}\n"
    code, said = run(stranger, *words, admin=NOBODY)
    assert code == EXIT_RIGHTS
    assert said.endswith(instead)
    for admin in (pwd.getpwuid(os.geteuid()).pw_name, "no-user-of-this-host"):
        assert "on this host" not in run(stranger, *words, admin=admin)[1]


def test_a_refusal_to_make_roles_never_names_a_user_who_may_not_either(blank: Blank):
    blank.query(f"ALTER ROLE {blank.login} NOCREATEROLE")
    code, said = run(blank.as_login, "migrate", "--roles", admin=NOBODY)
    assert code == EXIT_RIGHTS
    assert "on this host" not in said
