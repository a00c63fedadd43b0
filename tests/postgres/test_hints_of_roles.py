"""A refused command names the role that the login lacks, and names no role if none would help."""

from __future__ import annotations

import re

import psycopg
import pytest
from psycopg import sql
from test_migrate_roles import Blank, blank

from shithubd_worker.database import rights, schema
from shithubd_worker.errors import EXIT_RIGHTS, RightsMissing

__all__ = ["blank"]  # a fixture

HINT = "this needs the role"
TRIGGER = """
    CREATE TABLE secrets (id bigint);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
        BEGIN INSERT INTO secrets VALUES (NEW.id); RETURN NEW; END $$;
    CREATE TRIGGER noting AFTER INSERT OR UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION note()
"""


def refused(command, url, *arguments):
    """The one line of a command that the login may not run."""
    done = command(*arguments, env={"SHITHUBD_WORKER_DATABASE_URL": url})
    assert (done.returncode, done.stdout) == (EXIT_RIGHTS, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("shithubd-worker: the database role lacks a right: ")
    return line


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        (("jobs", "list"), "shithub_operator"),
        (("enqueue", "k"), "shithub_enqueue"),
        (("status",), "shithub_metrics"),
        (("history", "drop"), "shithub_migrate"),
    ],
)
def test_a_login_without_the_role_is_told_the_grant_that_helps(database, command, login, words, needed):
    url = login("")
    user = psycopg.conninfo.conninfo_to_dict(url)["user"]
    said = refused(command, url, *words)
    assert said.endswith(f': {HINT} {needed}: GRANT {needed} TO "{user}"')
    database.query(said.rpartition(": ")[2])
    assert command(*words, env={"SHITHUBD_WORKER_DATABASE_URL": url}).returncode == 0


def test_a_member_of_another_role_is_told_of_the_one_that_it_lacks(command, login):
    for role in ("shithub_enqueue", "shithub_migrate"):
        assert f": {HINT} shithub_operator: GRANT shithub_operator TO " in refused(command, login(role), "jobs", "list")
    said = refused(command, login("shithub_operator"), "history", "drop")
    assert f": {HINT} shithub_migrate: GRANT shithub_migrate TO " in said


def test_without_the_roles_a_login_is_told_the_rights_that_it_needs_to_enqueue(blank: Blank, command):
    """The statements that the message shows are enough."""
    blank.migrate(name="queue")
    stranger = f"stranger_{blank.login}"
    blank.query(f"CREATE ROLE {stranger} LOGIN")
    try:
        env = {"SHITHUBD_WORKER_SCHEMA": "queue"}
        env["SHITHUBD_WORKER_DATABASE_URL"] = psycopg.conninfo.make_conninfo(blank.url, user=stranger)
        said = command("enqueue", "k", env=env).stderr
        assert f"its owner '{blank.login}' can give it: GRANT USAGE ON SCHEMA \"queue\" TO" in said
        assert "SELECT (id) ON" in said
        blank.query(said.partition("can give it: ")[2])
        assert command("enqueue", "k", env=env).returncode == 0
        said = command("jobs", "list", env=env).stderr
        grant = f'GRANT shithub_operator TO "{stranger}"'
        assert f"its owner '{blank.login}' can give it: `shithubd-worker migrate --roles`, then {grant}" in said
        assert f"its owner '{blank.login}' may" in command("history", "drop", env=env).stderr
    finally:
        blank.query(f"DROP OWNED BY {stranger}; DROP ROLE {stranger}")


@pytest.mark.parametrize("role", ["shithub_enqueue", "shithub_operator"])
def test_a_refusal_inside_a_trigger_of_the_application_names_no_role(database, command, login, role):
    database.query(TRIGGER)
    said = refused(command, login(role), "enqueue", "k")
    assert "permission denied for table secrets" in said
    assert HINT not in said


def test_a_member_whose_role_lost_a_right_is_told_of_no_role(database, command, login):
    database.query("REVOKE SELECT ON worker_schema FROM shithub_operator")
    assert HINT not in refused(command, login("shithub_operator"), "jobs", "list")


def test_an_owner_whose_own_right_was_revoked_is_told_of_no_role(database, command, login):
    url = login("shithub_owner")
    database.query("REVOKE SELECT ON worker_schema FROM shithub_owner")
    assert HINT not in refused(command, url, "jobs", "list")


@pytest.mark.parametrize("words", [("jobs", "list"), ("run", "--metrics", "off", "--handlers", "sample_jobs:registry")])
def test_no_role_is_named_if_the_roles_have_no_rights(blank: Blank, command, words):
    blank.migrate()
    blank.query(f"REVOKE SELECT ON worker_schema FROM {blank.login}")
    done = command(*words, env={"SHITHUBD_WORKER_DATABASE_URL": blank.as_login})
    assert done.returncode == EXIT_RIGHTS, done.stderr
    assert "permission denied for table worker_schema" in done.stderr
    assert "shithub_" not in done.stderr


@pytest.mark.parametrize("member", [True, False])
def test_a_worker_is_told_of_the_role_only_if_it_is_not_a_member(database, command, login, member):
    url = login("shithub_worker" if member else "shithub_metrics")
    if member:
        database.query("REVOKE UPDATE ON gate FROM shithub_worker")
    words = ("run", "--metrics", "off", "--handlers", "sample_jobs:registry")
    done = command(*words, env={"SHITHUBD_WORKER_DATABASE_URL": url})
    assert done.returncode == EXIT_RIGHTS, done.stderr
    assert ("GRANT shithub_worker TO" in done.stderr) is not member
    assert ("UPDATE on gate; shithub_worker has it after `shithubd-worker migrate`" in done.stderr) is member
    assert HINT not in done.stderr


ODD = """o'd"d $role"""


@pytest.fixture
def odd_role(database):
    """A login with a name that must be quoted."""
    role = sql.Identifier(f"{ODD}_{database.name}")
    with database.connect() as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN IN ROLE shithub_metrics").format(role))
        yield role
        connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(role))


def test_a_statement_that_is_shown_quotes_a_name_that_needs_it(database, odd_role):
    """Each hint is executed without a change."""
    url = psycopg.conninfo.make_conninfo(database.url, user=f"{ODD}_{database.name}")
    with psycopg.connect(url, autocommit=True) as connection, database.connect() as admin:
        with pytest.raises(RightsMissing) as caught:
            rights.check(connection, "public", "shithub_worker")
        [grant] = re.findall(r": (GRANT shithub_worker TO .*)$", str(caught.value))
        with pytest.raises(RightsMissing) as caught:
            schema.migrate(connection, "public", roles=True)
        [given] = re.findall(r"As a superuser: (GRANT .*)$", str(caught.value))
        for statement in (grant, given):
            admin.execute(statement)
        rights.check(connection, "public", "shithub_worker")
        schema.migrate(connection, "public", roles=True)
