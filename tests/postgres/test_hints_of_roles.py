"""A refused command names the role that the login lacks, and names no role if none would help."""

from __future__ import annotations

import pytest
from test_migrate_roles import Blank, blank

from shithubd_worker.errors import EXIT_RIGHTS

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


def test_a_login_without_the_role_is_told_its_name(command, login):
    for role in ("", "shithub_enqueue", "shithub_migrate"):
        assert refused(command, login(role), "jobs", "list").endswith(f": {HINT} shithub_operator")
    assert refused(command, login("shithub_operator"), "history", "drop").endswith(f": {HINT} shithub_migrate")


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
