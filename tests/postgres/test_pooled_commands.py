"""Every command works through PgBouncer in transaction mode. It leaves nothing to the pool's other clients, and takes
nothing from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from command_tree import leaves
from conftest import Database
from psycopg import sql
from test_plans import in_chunks_of
from test_settings_of_others import SETTINGS

from shithubd_worker.cli import cli
from shithubd_worker.database.connection import connector
from shithubd_worker.database.failures import explained
from shithubd_worker.database.operations import Operations
from shithubd_worker.errors import EXIT_CONFIG, ConfigError, DatabaseUnavailable, ShithubdError

# A command leaves its connection to the end of its process, and here to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]

# Each command with its arguments for one database. Those that need a session of their own come below.
GIVEN = {
    "plans": ([],),
    "apply": (["1-abcdef"],),
    "jobs release": (["2", "--accept-second-run", "--reason", "a test"],),
    "jobs discard": (["1", "--reason", "a test"], ["--kind", "test.ok", "--limit", "9", "--plan"]),
    "audit list": (["--since", "1h"],),
    "audit timeline": ([], ["--since", "1h", "--json"]),
    "audit undo": (["3", "--dry-run"], ["3"]),
    "audit show": (["3"],),
    "release-dead": (["--invocation-id", "none"],),
    "migrate": ([], ["--roles"]),
    "enqueue": (["test.ok"],),
    "search find": (["word"],),
    "search forget": (["ada/engine.git"],),
    "status": ([], ["--drained"]),
    "doctor": (["history-days", "clock-skew", "schema-version", "function-drift", "missing-rights"],),
    "stats": ([], ["k", "--window", "all"]),
    "kinds list": ([],),
    "queues list": ([],),
    "workers list": ([],),
    "workers unlock": (["x:1"], ["x:1", "--dry-run"], ["--host", "x"]),
    "workers sweep": ([], ["--stale-after", "5m", "--dry-run"], ["--stale-after", "5m"]),
    "cleanup": (["GC_TASK_IDENTIFIERS", "--dry-run"], ["DELETE_PERMAFAILED_JOBS", "--dry-run"]),
    "jobs list": ([],),
    "jobs show": (["1"],),
    "jobs explain": (["1"], ["5", "--json"]),
    "pause-kind": (["test.ok", "--wait"],),
    "resume-kind": (["test.ok", "--canary", "1", "--ramp", "10,100", "--rate", "5/s"], ["test.ok"]),
    "drain": (["--wait"],),
    "resume": ([],),
    "jobs retry": (["--kind", "test.fails", "--yes"],),
    "jobs reschedule": (
        ["--kind", "test.ok", "--priority", "3", "--yes"],
        ["--kind", "test.fails", "--delay", "1", "--dry-run"],
    ),
    "jobs complete": (["3"],),
    "jobs fail": (["4", "--message", "a test"],),
}
NO_DATABASE = {
    "check-config",
    "init",
    "runbook",
    "units diff",
    "units install",
    "units targets",
    "units uninstall",
}
NO_TERMINAL = {"top"}
A_SESSION = {"history drop", "run"}  # run: with --poll-only, in test_pooled_workers
# Left out, each for a reason: the pooler itself keeps client_encoding for each client. A session that ends would no
# longer be a stranger's. Without room for a temporary file the check below fails. The dearest plans would make all of
# this slow.
NOT_LEFT = {"client_encoding", "idle_session_timeout", "temp_file_limit", "enable_indexscan", "enable_nestloop"}
# All that a session has and a transaction may leave in it, as the next client finds it.
LOOK = """
SELECT 'setting ' || name, setting FROM pg_settings
UNION ALL SELECT 'channel', pg_listening_channels()
UNION ALL SELECT 'prepared ' || name, statement FROM pg_prepared_statements
UNION ALL SELECT 'cursor ' || name, statement FROM pg_cursors WHERE is_holdable
UNION ALL SELECT 'lock ' || objid, mode FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
UNION ALL SELECT 'temporary ' || relname, '' FROM pg_class WHERE relnamespace = pg_my_temp_schema()
UNION ALL SELECT 'as', current_user::text
UNION ALL SELECT 'logged in', session_user::text
UNION ALL SELECT 'process', pg_backend_pid()::text
"""
WRITABLE = {"setting default_transaction_read_only", "setting transaction_read_only"}


@contextmanager
def stranger(behind: Database) -> Iterator[psycopg.Connection[Any]]:
    """Another client of the pool."""
    with psycopg.connect(behind.url, autocommit=True, prepare_threshold=None, application_name="stranger") as client:
        client.execute("DO $$ BEGIN PERFORM 1; END $$")  # otherwise PL/pgSQL's settings appear with its first use
        yield client


def leave_settings(behind: Database) -> None:
    """A stranger changes the session of the pool, and leaves the changes there."""
    with stranger(behind) as client:
        for name, value in SETTINGS.items():
            if name not in NOT_LEFT:
                client.execute(sql.SQL("SET {} TO {}").format(sql.Identifier(*name.split(".")), sql.Literal(value)))
        client.execute("SET default_transaction_read_only TO on; SET SESSION AUTHORIZATION shithub_metrics")


def look(behind: Database) -> dict[str, str]:
    with stranger(behind) as client:
        return dict(client.execute(LOOK).fetchall())


def do(behind: Database, command: str, arguments: list[str]) -> None:
    """A command in this process."""
    words = [*command.split(), "--database-url", behind.url, *arguments]
    assert cli.main(words, prog_name="shithubd-worker", standalone_mode=False) == 0, (command, arguments)


def fill(database: Database, jobs: int) -> None:
    database.query("INSERT INTO jobs (kind) SELECT 'test.ok' FROM generate_series(1, %s)", jobs)
    database.query("INSERT INTO jobs (kind, state) SELECT 'test.fails', 'failed' FROM generate_series(1, 20)")
    database.query("UPDATE jobs SET state = 'processing', leased_by = 'x:1', leased_at = now() WHERE id = 2")
    database.query("""SELECT plan_jobs_v1('reschedule', '{11,12,13,14,15,16,17}', p_with => '{"priority": 1}')""")
    database.query("UPDATE job_plans SET digest = 'abcdef'")
    in_chunks_of(database, "1-abcdef", 1)


def test_every_command_that_needs_a_database_is_tried_here() -> None:
    assert {each.name for each in leaves()} == {*GIVEN, *NO_DATABASE, *NO_TERMINAL, *A_SESSION}


def test_every_command_works_and_leaves_the_session_of_the_pool_as_it_was(
    any_database: Database, pooler: Callable[..., Database]
) -> None:
    fill(any_database, 30_100)  # seven batches, because psycopg prepares a statement when it is sent for the sixth time
    behind = pooler(any_database)
    before = look(behind)
    for command, lines in GIVEN.items():
        for arguments in lines:
            do(behind, command, arguments)
            assert look(behind) == before, (command, arguments)
    states = any_database.query("SELECT kind, state, count(*) FROM jobs GROUP BY kind, state ORDER BY kind, state")
    assert states == [("test.fails", "queued", 20), ("test.ok", "failed", 1), ("test.ok", "queued", 30099)]


def test_a_command_ignores_and_keeps_what_a_stranger_left_in_the_session(
    any_database: Database, pooler: Callable[..., Database]
) -> None:
    fill(any_database, 300)
    behind = pooler(any_database)
    leave_settings(behind)
    before = look(behind)
    for command, lines in GIVEN.items():
        for arguments in lines:
            do(behind, command, arguments)
    assert {name: was for name, was in look(behind).items() if name not in WRITABLE} == {
        name: was for name, was in before.items() if name not in WRITABLE
    }
    assert any_database.query("SELECT DISTINCT login FROM audit") == [("postgres",)]
    assert any_database.value("SELECT count(*) FROM jobs WHERE state = 'queued'") == 319


def test_a_read_only_database_stays_read_only_through_a_pooler(
    any_database: Database, pooler: Callable[..., Database]
) -> None:
    any_database.query(f'ALTER DATABASE "{any_database.name}" SET default_transaction_read_only = on')
    behind = pooler(any_database)
    do(behind, "status", [])
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        do(behind, "enqueue", ["test.ok"])


def test_a_login_with_a_default_role_has_it_in_each_transaction(
    database: Database, login: Callable[[str], str]
) -> None:
    url = login("shithub_operator")
    user = psycopg.conninfo.conninfo_to_dict(url)["user"]
    database.query(f"ALTER ROLE {user} NOINHERIT; ALTER ROLE {user} SET role = shithub_operator")
    with connector(url, "test", pooled=True)() as connection:
        for _ in range(2):
            with connection.transaction():
                seen = connection.execute("SELECT current_user::text, session_user::text").fetchone()
            assert seen == ("shithub_operator", user)
    assert cli.main(["drain", "--database-url", url], standalone_mode=False) == 0


def test_a_failed_call_leaves_the_session_of_the_pool_free(
    any_database: Database, pooler: Callable[..., Database]
) -> None:
    behind = pooler(any_database)
    operations = Operations(connector(behind.url, "test", pooled=True), "public")
    for _ in range(8):  # more often than it takes until psycopg prepares a statement
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            operations.rows("drain_v1", "nowhere", "", None, None, "test")
        assert operations.value("statement_time_v1").tzname() == "UTC"
        assert look(behind)["as"] == "postgres"  # the call has the only session of the pool


def refused(arguments: list[str]) -> ShithubdError:
    """The exit code and the message of the command line for this error."""
    with pytest.raises((psycopg.Error, ShithubdError)) as caught:
        cli.main(arguments, prog_name="shithubd-worker", standalone_mode=False)
    error = caught.value
    return explained(error) if isinstance(error, psycopg.Error) else error


def test_history_drop_refuses_a_shared_session_and_leaves_nothing_in_it(
    any_database: Database, pooler: Callable[..., Database]
) -> None:
    behind = pooler(any_database)
    before = look(behind)
    error = refused(["history", "drop", "--database-url", behind.url])
    assert error.exit_code == EXIT_CONFIG
    assert "a database session of its own" in str(error)
    assert "connect to the server directly" in str(error)
    assert look(behind) == before


def test_history_drop_works_through_a_pooler_in_session_mode(
    any_database: Database, pooler: Callable[..., Database]
) -> None:
    behind = pooler(any_database, mode="session", pool=5)
    before = look(behind)
    do(behind, "history drop", [])
    after = look(behind)
    assert {name for name in after if after[name] != before.get(name)} <= {"process"}
    assert any_database.value("SELECT count(*) FROM history_drops") == 1


@pytest.mark.parametrize("command", ["status", "enqueue x", "pause-kind x --force --reason y", "migrate"])
def test_a_pooler_in_statement_mode_is_refused_in_plain_words(
    database: Database, pooler: Callable[..., Database], command: str
) -> None:
    error = refused([*command.split(), "--database-url", pooler(database, mode="statement").url])
    assert isinstance(error, ConfigError)
    assert "the queue needs pool_mode = transaction or session" in str(error)


def test_a_pool_without_a_free_session_is_named(database: Database, pooler: Callable[..., Database]) -> None:
    behind = pooler(database, settings=["query_wait_timeout = 1"])
    with stranger(behind) as client, client.transaction():
        client.execute("SELECT")
        error = refused(["status", "--database-url", behind.url])
    assert isinstance(error, DatabaseUnavailable)
    assert "default_pool_size" in str(error)
