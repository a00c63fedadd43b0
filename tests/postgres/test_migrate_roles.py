"""`migrate --roles`: who can make the roles and their rights, what it takes over, and what a later migration keeps."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator

import psycopg
import pytest
from bare import BareWorker
from conftest import Database, administrator, drop
from rows import add_worker
from servers import Server

from shithubd_worker import cli as program
from shithubd_worker.database import granting, rights, schema
from shithubd_worker.database.connection import connector
from shithubd_worker.errors import EXIT_OK, EXIT_RIGHTS, Refused, RightsMissing
from shithubd_worker.host import shipped

PUBLIC = "public"


class Blank(Database):
    """An empty database of a login without any right of a superuser."""

    def __init__(self, server: Server, name: str, login: str) -> None:
        super().__init__(server, name)
        self.login = login
        self.as_login = psycopg.conninfo.make_conninfo(self.url, user=login)

    def migrate(
        self, *, by: str | None = None, name: str = PUBLIC, roles: bool = False, dry: bool = False
    ) -> list[str]:
        with connector(by or self.as_login, "test")() as connection:
            return schema.migrate(connection, name, roles=roles, dry_run=dry)


@pytest.fixture(params=["debian", "embedded"])
def blank(request: pytest.FixtureRequest) -> Iterator[Blank]:
    server = request.getfixturevalue("server" if request.param == "debian" else "embedded_server")
    name = f"m{time.monotonic_ns()}"
    administrator(server).query(f"CREATE ROLE {name} LOGIN CREATEROLE")
    administrator(server).query(f"CREATE DATABASE {name} OWNER {name}")
    made = Blank(server, name, name)
    yield made
    drop(made)
    administrator(server).query(f"DROP ROLE {name}")


def owner(database: Database) -> str:
    return str(database.value("SELECT relowner::regrole FROM pg_class WHERE relname = 'jobs'"))


def become(database: Blank, role: str) -> None:
    """Make the database's login a member of a role, as a superuser does."""
    database.query(f"GRANT {role} TO {database.login}")


def test_a_member_of_shithub_migrate_makes_everything_and_the_second_time_nothing(blank: Blank) -> None:
    become(blank, "shithub_migrate")
    applied = blank.migrate(roles=True)
    assert applied[-1].startswith("rights: ")
    assert (owner(blank), blank.migrate(roles=True), blank.migrate()) == ("shithub_owner", [], [])
    blank.query("INSERT INTO jobs (kind) VALUES ('k')")
    assert blank.value("SELECT has_schema_privilege('public', 'public', 'CREATE')") is False


def test_createrole_is_enough_to_make_the_roles_of_the_file(blank: Blank) -> None:
    text = (shipped.SQL / "roles.sql").read_text().replace("shithub_", f"{blank.login}_")
    names = [role.replace("shithub", blank.login) for role in rights.ROLES]
    with connector(blank.as_login, "test")() as connection:
        for _ in range(2):
            connection.execute(text.encode())
    assert blank.query("SELECT rolname FROM pg_roles WHERE rolname = ANY (%s) AND NOT rolcanlogin", names) != []
    assert blank.value("SELECT count(*) FROM pg_roles WHERE rolname = ANY (%s)", names) == len(names)
    assert blank.value("SELECT pg_has_role(%s, %s, 'MEMBER')", names[1], names[0])
    assert blank.value("SELECT pg_has_role(%s, %s, 'USAGE')", names[1], names[0]) is False
    blank.query(f"DROP ROLE {', '.join(names)}")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_login_that_may_not_make_roles_is_told_what_a_superuser_must_run(
    blank: Blank, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], as_json: bool
) -> None:
    blank.query(f"ALTER ROLE {blank.login} NOCREATEROLE")
    monkeypatch.setattr(granting, "ROLES", (*rights.ROLES, "shithub_of_tomorrow"))
    monkeypatch.setenv("SHITHUBD_WORKER_DATABASE_URL", blank.as_login)
    monkeypatch.setattr(sys, "argv", ["shithubd-worker", "migrate", "--roles", *(["--json"] if as_json else [])])
    assert program._main() == EXIT_RIGHTS
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[0].endswith(
        f"role '{blank.login}' may not create roles (shithub_of_tomorrow). As a superuser, or with CREATEROLE:"
    )
    assert f"roles.sql -c 'GRANT shithub_migrate TO \"{blank.login}\"'" in err
    assert blank.value("SELECT to_regclass('jobs') IS NULL")


def test_a_login_that_is_not_a_member_is_told_the_missing_grant(blank: Blank) -> None:
    blank.query(f"ALTER ROLE {blank.login} NOCREATEROLE")
    with pytest.raises(RightsMissing, match=f'GRANT shithub_migrate TO "{blank.login}"'):
        blank.migrate(roles=True)


def test_migrate_takes_over_a_queue_of_another_owner_and_its_workers_go_on(blank: Blank) -> None:
    blank.migrate()
    blank.query("CREATE TABLE mine (id int); INSERT INTO jobs (kind) VALUES ('k')")
    assert owner(blank) == blank.login
    worker = add_worker(blank, "here", invocation="abc")
    bare = BareWorker(blank.as_login, PUBLIC, worker)
    bare.queue.value("enqueues_notify_v1")
    applied = blank.migrate(by=blank.url, roles=True)
    assert applied[:2] == [
        f"owner shithub_owner in place of {blank.login}",
        f"roles shithub_worker, shithub_enqueue, shithub_operator given to {blank.login}, but not shithub_migrate,"
        " which `migrate` and `history drop` need",
    ]
    others = "SELECT relname FROM pg_class WHERE relowner <> 'shithub_owner'::regrole"
    assert blank.query(f"{others} AND relnamespace = 'public'::regnamespace") == [("mine",)]
    assert bare.queue.value("enqueues_notify_v1") is True
    bare.close()
    with connector(blank.as_login, "test")() as connection:
        rights.check(connection, PUBLIC, "shithub_worker")
        rights.check(connection, PUBLIC, "shithub_operator")
    assert blank.migrate(by=blank.url) == []


def test_migrate_takes_over_a_function_of_an_earlier_release_before_a_migration_drops_it(
    blank: Blank, monkeypatch: pytest.MonkeyPatch
) -> None:
    blank.migrate()
    blank.query("CREATE FUNCTION earlier_v1() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    blank.query(f"ALTER FUNCTION earlier_v1 OWNER TO {blank.login}")
    later = schema.Migration(schema.newest_version() + 1, "later", False, "DROP FUNCTION IF EXISTS earlier_v1();")
    known = (*schema.migrations(), later)
    monkeypatch.setattr(schema, "migrations", lambda: known)
    assert "later" in blank.migrate(by=blank.url, roles=True)
    assert blank.value("SELECT to_regproc('earlier_v1')") is None


def test_an_owner_without_createrole_migrates_after_the_grants_that_it_is_told(blank: Blank) -> None:
    blank.migrate()
    blank.query(f"ALTER ROLE {blank.login} NOCREATEROLE")
    with pytest.raises(RightsMissing) as refused:
        blank.migrate(roles=True)
    told = re.search(r"GRANT [^']*", refused.value.args[0])
    assert told
    blank.query(told[0])
    assert blank.migrate(roles=True)[0] == f"owner shithub_owner in place of {blank.login}"
    with connector(blank.as_login, "test")() as connection:
        rights.check(connection, PUBLIC, "shithub_worker")


@pytest.mark.parametrize("roles", [False, True])
def test_a_schema_in_which_everybody_may_create_is_refused_and_no_right_is_changed(blank: Blank, roles: bool) -> None:
    blank.query("GRANT CREATE ON SCHEMA public TO PUBLIC")
    with pytest.raises(Refused, match="REVOKE CREATE ON SCHEMA"):
        blank.migrate(by=blank.url, roles=roles)
    assert blank.value("SELECT has_schema_privilege('public', 'public', 'CREATE')") is True


def test_a_dry_run_does_not_wait_for_a_lock_for_long(blank: Blank) -> None:
    blank.migrate(by=blank.url, roles=True)
    blank.query("UPDATE worker_schema SET functions = 'others'")
    with psycopg.connect(blank.url) as holder:
        holder.execute("LOCK TABLE worker_schema")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            blank.migrate(by=blank.url, dry=True)


def test_a_migration_gives_up_behind_an_open_transaction_and_blocks_nobody(blank: Blank) -> None:
    blank.migrate(by=blank.url, roles=True)
    blank.query("UPDATE worker_schema SET functions = 'others'")
    with psycopg.connect(blank.url) as enqueuer:
        enqueuer.execute("INSERT INTO jobs (kind) VALUES ('k')")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            blank.migrate(by=blank.url)
    assert blank.query("SELECT functions FROM worker_schema") == [("others",)]
    assert "functions" in blank.migrate(by=blank.url)[0]


def test_a_worker_can_end_only_the_drain_of_a_worker_that_is_gone(blank: Blank) -> None:
    blank.migrate(by=blank.url, roles=True)
    living = add_worker(blank, "here", invocation="abc")
    blank.query(f"SELECT drain_v1(); SELECT drain_v1('worker', '{living}')")
    blank.query("SELECT drain_v1('worker', '00000000-0000-0000-0000-000000000000')")
    with connector(blank.url, "test")() as connection:
        connection.execute("SET ROLE shithub_worker")
        connection.execute("SELECT forget_drains_v1()")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM holds")
    assert blank.query("SELECT scope, target FROM holds ORDER BY scope") == [("fleet", ""), ("worker", str(living))]
    ended = ("expire", "worker 00000000-0000-0000-0000-000000000000")
    assert blank.query("SELECT action, target FROM audit ORDER BY id DESC LIMIT 1") == [ended]


def test_each_migration_brings_the_rights_up_to_date_and_leaves_those_of_others(blank: Blank) -> None:
    blank.migrate(by=blank.url, roles=True)
    blank.query(
        f"REVOKE SELECT ON jobs FROM shithub_worker; GRANT SELECT ON audit TO shithub_metrics, {blank.login};"
        " GRANT EXECUTE ON FUNCTION lease_v1 TO PUBLIC"
    )
    assert blank.migrate(by=blank.url) == ["rights: 1 given, 1 taken"]
    assert blank.query(
        "SELECT has_table_privilege('shithub_worker', 'jobs', 'SELECT'),"
        " has_table_privilege('shithub_metrics', 'audit', 'SELECT'), has_table_privilege(%s, 'audit', 'SELECT'),"
        " has_function_privilege('public', 'lease_v1'::regproc, 'EXECUTE')",
        blank.login,
    ) == [(True, False, True, False)]


def test_without_roles_only_the_owner_may_call_a_function(blank: Blank) -> None:
    blank.migrate()
    assert (
        blank.query(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
            " AND has_function_privilege('public', oid, 'EXECUTE')"
        )
        == []
    )
    assert blank.value("SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace") >= 60


def test_a_dry_run_says_the_same_and_changes_nothing(blank: Blank) -> None:
    said = blank.migrate(by=blank.url, roles=True, dry=True)
    assert blank.value("SELECT to_regclass('jobs') IS NULL")
    assert blank.migrate(by=blank.url, roles=True) == said


def test_migrate_makes_a_schema_for_the_owner_and_opens_it_to_the_roles(blank: Blank) -> None:
    become(blank, "shithub_migrate")
    assert blank.migrate(name="the queue", roles=True)
    assert blank.migrate(name="the queue", roles=True) == []
    with connector(blank.url, "test")() as connection:
        connection.execute("SET ROLE shithub_enqueue")
        connection.execute("INSERT INTO \"the queue\".jobs (kind) VALUES ('k')")
        connection.execute("RESET ROLE; SET ROLE shithub_operator")
        connection.execute('SELECT "the queue".drain_v1()')
    assert (
        blank.value("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'the queue'") == "shithub_owner"
    )


def test_the_command_says_what_it_did(
    blank: Blank, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHITHUBD_WORKER_DATABASE_URL", blank.url)
    for words, expected in ((["--dry-run"], "would apply rights: "), ([], "applied rights: ")):
        monkeypatch.setattr(sys, "argv", ["shithubd-worker", "migrate", "--roles", *words])
        assert program._main() == EXIT_OK
        assert expected in capfd.readouterr().out
