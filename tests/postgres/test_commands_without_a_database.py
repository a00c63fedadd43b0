"""Commands whose database is away, refuses them, or is not ours."""

from __future__ import annotations

import json
import socket
import time
from contextlib import contextmanager

import psycopg
import pytest
from commands import emptied_database, exact_command, last_line, one_database  # noqa: F401 (fixtures)
from conftest import eventually
from rows import add_job, holds

from shithubd_worker.database import schema

WITHIN = 5.0  # the time within which a command must say that there is no database


EVERY_COMMAND = [
    ("status",),
    ("workers",),
    ("migrate",),
    ("enqueue", "k"),
    ("drain",),
    ("resume",),
    ("pause-kind", "k"),
    ("resume-kind", "k"),
    ("jobs", "list"),
    ("jobs", "show", "1"),
    ("jobs", "explain", "1"),
    ("jobs", "retry", "1"),
    ("history", "drop"),
    ("search", "text"),
    ("release-dead", "--invocation-id", "x"),
    ("run", "--database-wait", "0", "--metrics", "off"),
]


@contextmanager
def blackhole():
    """A port that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield listener.getsockname()[1]


def timed(run):
    began = time.monotonic()
    result = run()
    return time.monotonic() - began, result


@pytest.mark.parametrize("arguments", EVERY_COMMAND, ids=lambda words: words[0])
def test_every_command_reports_a_missing_database(command, arguments):
    done = command(*arguments, code=75, env={"SHITHUBD_WORKER_DATABASE_URL": "postgresql://127.0.0.1:1/x"})
    assert last_line(done).startswith("shithubd-worker: ")
    assert "Connection refused" in last_line(done)


@pytest.mark.parametrize("where", ["refused", "blackhole", "no such name"])
def test_without_a_database_a_command_gives_up_within_five_seconds(command, where):
    with blackhole() as port:
        url = {
            "refused": "postgresql://localhost:1/x",
            "blackhole": f"postgresql://localhost:{port}/x",
            "no such name": "postgresql://database.invalid/x",
        }[where]
        usual, _ = timed(lambda: command("status"))  # the time that a command takes on this machine now
        for _ in range(3):  # the machine may stand still during one of them
            took, told = timed(lambda: command.refused("status", code=75, env={"SHITHUBD_WORKER_DATABASE_URL": url}))
            if took < WITHIN + 10 * usual:
                break
    assert took < WITHIN + 10 * usual
    assert told.startswith("shithubd-worker: the database can't be reached")


def test_an_invalid_database_url_is_a_fault_of_the_configuration(command):
    assert "--database-url" in command.refused("status", "--database-url", "postgresql://[", code=78)


@pytest.fixture
def locked_role(database):
    """A role that needs a password, on a server that trusts all others."""
    hba = database.server.directory / "data" / "pg_hba.conf"
    before = hba.read_text()
    database.query("CREATE ROLE locked LOGIN PASSWORD 'right'")
    hba.write_text(f"host all locked 127.0.0.1/32 scram-sha-256\n{before}")
    database.query("SELECT pg_reload_conf()")
    url = database.url.replace("postgres@", "locked@")

    def refused():
        try:
            psycopg.connect(url, password="wrong").close()
        except psycopg.OperationalError:
            return True
        return False

    eventually(refused, "the reload of pg_hba.conf")
    yield url
    hba.write_text(before)
    database.query("SELECT pg_reload_conf()")
    database.query("DROP OWNED BY locked")
    database.query("DROP ROLE locked")


def test_a_refused_login_is_reported_and_a_passfile_admits_it(database, command, locked_role, tmp_path):
    env = {"SHITHUBD_WORKER_DATABASE_URL": locked_role}
    assert "password" in command.refused("status", code=77, env=env)
    assert "password" in command.refused("status", code=77, env={**env, "PGPASSWORD": "wrong"})
    # A database that refuses a password is not away: run does not wait for it.
    done = command("run", "--metrics", "off", code=77, env={**env, "PGPASSWORD": "wrong"})
    assert "password" in last_line(done)
    passfile = tmp_path / "pgpass"
    passfile.write_text("127.0.0.1:*:*:locked:right\n")
    passfile.chmod(0o600)
    opened = {**env, "PGPASSFILE": str(passfile)}
    # Logged in, but without rights to the queue.
    for arguments in (("status",), ("enqueue", "k"), ("drain",)):
        assert "permission denied" in command.refused(*arguments, code=77, env=opened)
    told = command.refused("migrate", "--schema", "newer", code=77, env=opened)
    assert 'CREATE SCHEMA "newer" AUTHORIZATION "locked"' in told
    database.query("GRANT shithub_operator TO locked")
    assert command("status", env=opened).stdout.startswith("running 0, held 0")
    assert command.json("status", env={**env, "PGPASSWORD": "right"})["states"]["queued"] == 0


def test_an_unknown_role_is_reported(database, command):
    env = {"SHITHUBD_WORKER_DATABASE_URL": database.url.replace("postgres@", "nobody_here@")}
    assert 'role "nobody_here"' in command.refused("status", code=77, env=env)


@contextmanager
def version(database, number):
    database.query("UPDATE worker_schema SET version = %s", number)
    try:
        yield
    finally:
        database.query("UPDATE worker_schema SET version = %s", schema.newest_version())


@pytest.mark.parametrize("number", [0, 99])
def test_another_version_of_the_schema_is_refused_by_every_command(database, command, number):
    with version(database, number):
        for arguments in (("status",), ("enqueue", "k"), ("drain",)):
            told = command.refused(*arguments, code=76)
            assert ("migrate" in told) if number == 0 else ("version 99" in told)
        assert last_line(command("run", "--metrics", "off", code=76))
        if number == 99:
            assert "version 99" in command.refused("migrate", code=76)
    assert holds(database) == []


def test_a_command_says_how_to_make_the_queue_in_a_database_without_one(command):
    for arguments in (("status",), ("enqueue", "k"), ("jobs", "list")):
        assert "shithubd-worker migrate" in command.refused(*arguments, "--schema", "nowhere", code=76)
    assert "shithubd-worker migrate" in last_line(command("run", "--metrics", "off", "--schema", "nowhere", code=76))


def test_libpq_finds_the_database_by_its_variables(database, command, tmp_path):
    job = add_job(database)
    port = str(database.server.port)
    by_variables = {"PGHOST": "127.0.0.1", "PGPORT": port, "PGUSER": "postgres", "PGDATABASE": database.name}
    services = tmp_path / "services"
    services.write_text(f"[queue]\nhost=127.0.0.1\nport={port}\nuser=postgres\ndbname={database.name}\n")
    by_service = {"PGSERVICE": "queue", "PGSERVICEFILE": str(services)}
    for env in (by_variables, by_service):
        assert [row["id"] for row in command.json("jobs", "list", env=env, without_url=True)] == [job]
    for url in (f"host=127.0.0.1 port={port} user=postgres dbname={database.name}", database.url):
        told = command.json("jobs", "list", "--database-url", url, without_url=True)
        assert [row["id"] for row in told] == [job]
        before = command("--database-url", url, "jobs", "list", "--json", without_url=True)
        assert [row["id"] for row in json.loads(before.stdout)] == [job]
    wrong = {"SHITHUBD_WORKER_DATABASE_URL": "postgresql://127.0.0.1:1/x"}
    assert command.json("jobs", "list", "--database-url", database.url, env=wrong)  # the flag wins
