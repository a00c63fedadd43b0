"""The commands as an operator meets them: processes, exit codes, one clear line, and what stands in the database."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import click
import psycopg
import pytest
from conftest import PATIENCE, Database, eventually, new_database

from shithubd_worker import __version__, enqueue
from shithubd_worker.cli import cli as root
from shithubd_worker.database import schema
from shithubd_worker.database.connection import connector

HOST = socket.gethostname()
HERE = Path(__file__).parents[1]
WITHIN = 5.0  # how soon a command must say that there is no database


@pytest.fixture(scope="module")
def one_database(server):
    """One database for all of these tests; each finds its tables empty."""
    yield from new_database(server)


@pytest.fixture
def database(one_database):
    """In place of a database a test, which would take longer than the tests."""
    with one_database.connect() as connection:
        for table in ("jobs", "job_history", "holds", "audit", "workers"):
            connection.execute(f"DELETE FROM {table}")
    return one_database


# Most of a short command's time is spent on importing. So one process imports, and forks for each command: what runs
# is a process of its own, with its own descriptors, environment and directory.
NURSERY = """
import json, os, socket, sys
import psycopg.types.json, rich.console, rich.markup, rich.table
from shithubd_worker import registry
from shithubd_worker.database import operations, schema
from shithubd_worker.cli import main
operations.LOGINUID = operations.Path("/dev/null")  # of whoever runs the tests
orders = socket.socket(fileno=int(sys.argv[1]))
while order := orders.recv(1 << 20):
    order = json.loads(order)
    child = os.fork()
    if child == 0:
        for number, (path, flags) in enumerate(zip(order["files"], (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY))):
            os.dup2(os.open(path, flags), number)
        os.environ.clear()
        os.environ.update(order["env"])
        os.chdir(order["cwd"])
        sys.path[:0] = order["env"]["PYTHONPATH"].split(":")
        sys.argv = ["shithubd-worker", *order["arguments"]]
        main()
    orders.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())
"""


@pytest.fixture(scope="module")
def nursery():
    """Where commands are forked: a socket that takes orders, one at a time, and gives back the exit code."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(PATIENCE)
    with ours, theirs:
        process = subprocess.Popen([sys.executable, "-c", NURSERY, str(theirs.fileno())], pass_fds=[theirs.fileno()])
        theirs.close()
        yield ours
        ours.shutdown(socket.SHUT_RDWR)
        assert process.wait(PATIENCE) == 0


class Command:
    """Runs `shithubd-worker ARGS`. Whatever it is: no traceback, and no escape codes where there is no terminal."""

    def __init__(self, database: Database, nursery: socket.socket, directory: Path) -> None:
        self.database = database
        self.nursery = nursery
        self.files = [directory / name for name in ("stdin", "stdout", "stderr")]

    def __call__(self, *arguments, code=0, input=None, env=None, cwd=HERE, without_url=False):
        environment = self.database.environment() | (env or {})
        if without_url:
            del environment["SHITHUBD_WORKER_DATABASE_URL"]
        for file, text in zip(self.files, (input or "", "", ""), strict=True):
            file.write_text(text)
        order = {"arguments": list(map(str, arguments)), "env": environment, "cwd": str(cwd)}
        self.nursery.send(json.dumps({**order, "files": list(map(str, self.files))}).encode())
        exited = int(self.nursery.recv(100))
        out, err = (file.read_text(errors="surrogateescape") for file in self.files[1:])
        done = subprocess.CompletedProcess(arguments, exited, out, err)
        assert "Traceback" not in done.stderr + done.stdout, done.stderr
        assert "\x1b" not in done.stderr + done.stdout
        assert done.returncode == code, f"{arguments} exited {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def json(self, *arguments, **settings):
        """With --json: all of stdout is one value."""
        return json.loads(self(*arguments, "--json", **settings).stdout)

    def refused(self, *arguments, code, **settings):
        """It says no in one line on stderr (after click's usage lines, if any) and nothing on stdout: that line."""
        done = self(*arguments, code=code, **settings)
        assert done.stdout == ""
        lines = [line for line in done.stderr.splitlines() if not re.match(r"(Usage:|Try '|$)", line)]
        assert len(lines) == 1, done.stderr
        return lines[0]


@pytest.fixture
def command(database, nursery, tmp_path_factory):
    return Command(database, nursery, tmp_path_factory.mktemp("command"))


def add_worker(database, host="web1", pid=1, *, unit=None, kinds=("k",), silent=False):
    worker = uuid4()
    database.query(
        "WITH w AS (INSERT INTO workers (id, host, pid, machine_id, boot_id, pid_namespace, start_ticks, version,"
        " schema_version, kinds, unit) VALUES (%s, %s, %s, 'm', 'b', 0, 0, '0', 1, %s, %s) RETURNING id)"
        " INSERT INTO beats (worker_id, beat_at) SELECT id, now() - %s::interval FROM w",
        worker,
        host,
        pid,
        list(kinds),
        unit,
        "5 minutes" if silent else "1 second",
    )
    return worker


def add_job(database, kind="k", state="queued", *, worker=None, leased_by="web1:1", **columns):
    """A row as it would stand there; a processing one was leased a minute ago."""
    values = {"kind": kind, "state": state, **columns}
    if state == "processing":
        minute_ago = datetime.now(UTC) - timedelta(minutes=1)
        values |= {"leased_by": leased_by, "leased_at": minute_ago, "lease_token": uuid4(), "worker_id": worker}
        values |= {"attempts": 1, "lease_expires_at": minute_ago + timedelta(hours=1)}
    names = ", ".join(values)
    marks = ", ".join(["%s"] * len(values))
    return database.value(f"INSERT INTO jobs ({names}) VALUES ({marks}) RETURNING id", *values.values())


def state(database, job):
    rows = database.query("SELECT state, attempts FROM jobs WHERE id = %s", job)
    return rows[0] if rows else None


def audit(database):
    return database.query("SELECT action, target, reason, actor, job_ids FROM audit ORDER BY id")


def holds(database):
    return database.query("SELECT scope, target, reason FROM holds ORDER BY id")


# Help, usage, versions.


def all_commands(group=root, path=()):
    for name, one in group.commands.items():
        yield (*path, name)
        if isinstance(one, click.Group):
            yield from all_commands(one, (*path, name))


COMMANDS = list(all_commands())


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_shows_how_it_is_used(database, command, path):
    told = command(*path, "--help").stdout
    assert told.startswith(f"Usage: shithubd-worker {' '.join(path)} ")
    assert max(map(len, told.splitlines())) <= 80
    if path != ("jobs",):
        example = told.partition("Example")[2]
        assert f"shithubd-worker {' '.join(path)}" in example
    if path not in {("jobs",), ("units",), ("history",), ("run",)}:
        assert "--json" in told


def test_there_is_a_command_for_each_step():
    steps = (
        "run migrate enqueue status drain resume pause-kind resume-kind workers release-dead check-config search"
        " runbook jobs units history"
    )
    jobs = [("jobs", name) for name in ("list", "show", "release", "retry", "discard")]
    host = [("units", name) for name in ("install", "diff", "uninstall")]
    assert set(COMMANDS) == {*((name,) for name in steps.split()), *jobs, *host, ("history", "drop")}


def test_the_help_shows_how_to_start_and_the_exit_codes(command):
    told = command("--help").stdout
    for text in ("shithubd-worker migrate", "shithubd-worker run", "enqueue", "Exit codes", "75", "78"):
        assert text in told


def test_the_version_names_the_schemas_too(command):
    assert command("--version").stdout == f"shithubd-worker {__version__} (schema {schema.newest_version()})\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "--nonsense"),
        ("nonsense",),
        ("enqueue",),
        ("enqueue", "k", "{}", "more"),
        ("enqueue", "k", "--delay", "1", "--run-at", "2030-01-01"),
        ("enqueue", "k", "--delay", "soon"),
        ("enqueue", "k", "--run-at", "tomorrow"),
        ("enqueue", "k", "--run-at", "2h"),
        ("enqueue", "k", "--priority", "40000"),
        ("drain", "--host", "a", "--unit", "b"),
        ("drain", "--timeout", "-1"),
        ("pause-kind",),
        ("pause-kind", "k\n", "--force", "--reason", "r"),
        ("jobs", "show", "x"),
        ("jobs", "release"),
        ("jobs", "retry", "1", "--failed", "k"),
        ("jobs", "discard"),
        ("jobs", "list", "--state", "done"),
        ("release-dead",),
    ],
    ids=" ".join,
)
def test_what_is_not_understood_is_a_usage_error_in_one_line(command, arguments):
    assert command.refused(*arguments, code=2).startswith("Error: ")


# The database that isn't there, doesn't let us in, or isn't ours.

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
    ("jobs", "retry", "1"),
    ("history", "drop"),
    ("search", "text"),
    ("release-dead", "--invocation-id", "x"),
    ("run", "--database-wait", "0", "--metrics", "off"),
]


@contextmanager
def blackhole():
    """A port that accepts connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield listener.getsockname()[1]


def timed(run):
    began = time.monotonic()
    result = run()
    return time.monotonic() - began, result


def last_line(done):
    assert done.stdout == ""
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("arguments", EVERY_COMMAND, ids=lambda words: words[0])
def test_without_a_database_every_command_says_so(command, arguments):
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
        usual, _ = timed(lambda: command("status"))  # what a command takes here and now
        took, told = timed(lambda: command.refused("status", code=75, env={"SHITHUBD_WORKER_DATABASE_URL": url}))
    assert took < WITHIN + 10 * usual
    assert told.startswith("shithubd-worker: the database can't be reached")


def test_a_database_url_that_is_none_is_a_fault_of_the_configuration(command):
    assert "--database-url" in command.refused("status", "--database-url", "postgresql://[", code=78)


@pytest.fixture
def locked_role(database):
    """A role that needs a password, on a server that trusts everybody else."""
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


def test_who_may_not_come_in_is_told_so_and_the_passfile_opens(database, command, locked_role, tmp_path):
    env = {"SHITHUBD_WORKER_DATABASE_URL": locked_role}
    assert "password" in command.refused("status", code=77, env=env)
    assert "password" in command.refused("status", code=77, env={**env, "PGPASSWORD": "wrong"})
    # A wrong password is not a database that may come back: run doesn't wait for it.
    done = command("run", "--metrics", "off", code=77, env={**env, "PGPASSWORD": "wrong"})
    assert "password" in last_line(done)
    passfile = tmp_path / "pgpass"
    passfile.write_text("127.0.0.1:*:*:locked:right\n")
    passfile.chmod(0o600)
    opened = {**env, "PGPASSFILE": str(passfile)}
    # Inside, but without rights to the queue.
    for arguments in (("status",), ("enqueue", "k"), ("drain",)):
        assert "permission denied" in command.refused(*arguments, code=77, env=opened)
    told = command.refused("migrate", "--schema", "newer", code=77, env=opened)
    assert 'CREATE SCHEMA "newer" AUTHORIZATION "locked"' in told
    database.query("GRANT shithub_operator TO locked")
    assert command("status", env=opened).stdout.startswith("running 0, held 0")
    assert command.json("status", env={**env, "PGPASSWORD": "right"})["states"]["queued"] == 0


def test_an_unknown_role_is_told_so(database, command):
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


def test_a_database_without_a_queue_says_how_to_get_one(command):
    for arguments in (("status",), ("enqueue", "k"), ("jobs", "list")):
        assert "shithubd-worker migrate" in command.refused(*arguments, "--schema", "nowhere", code=76)
    assert "shithubd-worker migrate" in last_line(command("run", "--metrics", "off", "--schema", "nowhere", code=76))


def test_libpq_finds_the_database_by_its_own_ways(database, command, tmp_path):
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


# The configuration of `run`.


@pytest.fixture
def module(tmp_path):
    """Write a module of handlers; the environment in which it is found."""

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(f"from shithubd_worker import Registry\nregistry = Registry()\n{text}")
        return {"PYTHONPATH": f"{HERE}:{tmp_path}"}

    return write


@pytest.mark.parametrize("step", ["run", "check-config"])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import no_such_library_at_all", "no_such_library_at_all"),
        ("raise RuntimeError('at import')", "at import"),
        ("raise SystemExit(0)", "SystemExit"),
        ("this is no python", "SyntaxError"),
        ("for _ in range(2): registry.handler('twice')(lambda job: 0)", "'twice' is registered twice"),
        ("registry = 7", "not a Registry"),
        ("@registry.handler('k')\nasync def f(job): ...", "async"),
    ],
    ids=["missing", "raises", "exits", "syntax", "duplicate", "no registry", "async"],
)
def test_handlers_that_cannot_be_loaded_end_the_start(command, module, step, text, says):
    env = module("broken_jobs", text)
    told = command.refused(step, "--handlers", "broken_jobs:registry", code=78, env=env)
    assert "--handlers broken_jobs:registry" in told
    assert says in told


def test_a_kind_in_two_registries_ends_the_start(command):
    told = command.refused("run", "--handlers", "sample_jobs:registry", "--handlers", "sample_jobs:registry", code=78)
    assert "registered twice" in told


FAULTS = ("--grace", "-1", "--poll-interval", "often", "--metrics", "nowhere", "--repo-root", "/no/such/directory")
FAULTS += ("--handlers", "no_such_module:registry", "--schema", "a" * 60, "--database-url", "postgresql://[")


@pytest.mark.parametrize("step", ["run", "check-config"])
def test_all_faults_of_the_configuration_are_told_at_once(command, step):
    done = command(step, *FAULTS, code=78)
    assert done.stdout == ""
    for word in ("grace", "poll-interval", "metrics", "repo-root", "no_such_module", "schema", "database-url"):
        assert sum(word in line for line in done.stderr.splitlines()) == 1, word
    assert len(done.stderr.splitlines()) == 7


def test_a_kind_without_a_handler_cannot_be_chosen(command):
    for flag in ("--kind", "--exclude-kind"):
        told = command.refused("run", flag, "no.such.kind", "--handlers", "sample_jobs:registry", code=78)
        assert "'no.such.kind'" in told


def test_a_good_configuration_needs_no_database(command):
    away = {"SHITHUBD_WORKER_DATABASE_URL": "postgresql://127.0.0.1:1/x"}
    arguments = ("check-config", "--handlers", "sample_jobs:registry", "--kind", "test.ok", "--grace", "3")
    assert "configuration is good: 1 kind" in command(*arguments, env=away).stdout
    told = command.json(*arguments, env=away)
    assert told["kinds"] == [
        {"kind": "test.ok", "lease_timeout": 300.0, "max_runtime": 300.0, "max_attempts": 10, "retention": "7d"}
    ]
    assert told["config"]["grace"] == 3.0
    assert told["schema"] == "public"


def test_the_variables_do_what_the_flags_do(command):
    flags = ("--handlers", "sample_jobs:registry", "--kind", "test.ok", "--grace", "3", "--poll-interval", "0.5")
    flags += ("--poll-only", "--database-wait", "7", "--until-empty", "--metrics", "off", "--repo-root", "/tmp")
    flags += ("--secrets-dir", "/tmp", "--webhook-allow-private", "--schema", "forge")
    names = iter(flags)
    variables = {}
    for flag in names:
        value = "1" if flag in ("--poll-only", "--until-empty", "--webhook-allow-private") else next(names)
        variables[f"SHITHUBD_WORKER_{flag.removeprefix('--').replace('-', '_').upper()}"] = value
    told = command.json("check-config", *flags)
    assert command.json("check-config", env=variables) == told
    assert told != command.json("check-config", "--handlers", "sample_jobs:registry")


def test_a_variable_sets_the_schema_and_the_log_format_too(command):
    env = {"SHITHUBD_WORKER_SCHEMA": "nowhere", "SHITHUBD_WORKER_LOG_FORMAT": "json", "SHITHUBD_WORKER_METRICS": "off"}
    done = command("run", code=76, env=env)
    assert "'nowhere'" in last_line(done)
    for line in done.stderr.splitlines()[:-1]:
        assert json.loads(line)["message"]


def test_the_current_directory_comes_first(command, module, tmp_path):
    module("sample_jobs", "registry.handler('mine')(lambda job: 0)")
    told = command.json("check-config", "--handlers", "sample_jobs:registry", "--kind", "mine", cwd=tmp_path)
    assert [kind["kind"] for kind in told["kinds"]] == ["mine"]


def test_a_busy_metrics_port_ends_the_start_if_it_was_chosen(command):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        assert address in last_line(command("run", "--until-empty", "--metrics", address, code=78))
        env = {"SHITHUBD_WORKER_METRICS": address}
        assert address in last_line(command("run", "--until-empty", code=78, env=env))


def test_a_busy_default_port_gives_way_with_a_warning(command):
    with socket.socket() as busy:
        busy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or a connection that is long closed keeps it

        def told():
            with suppress(OSError):  # we have it; or somebody else does, which is just as good while it lasts
                busy.bind(("127.0.0.1", 8081))
                busy.listen()
            log = command("run", "--until-empty").stderr
            return "8081 is busy" in log and log

        log = eventually(told, "the port is busy")
    assert re.search(r"WARNING .*127\.0\.0\.1:8081 is busy, using port \d+", log)
    assert re.search(r"metrics on http://127\.0\.0\.1:(?!8081\b)\d+", log)


def test_the_log_goes_to_stderr_and_says_ready_and_under_which_holds(database, command):
    database.query("SELECT drain_v1('fleet', '', 'kernel update')")
    database.query("SELECT pause_kind_v1('test.ok', 'schema work')")
    arguments = ("run", "--until-empty", "--metrics", "off", "--handlers", "sample_jobs:registry")
    done = command(*arguments)
    assert done.stdout == ""
    assert "ready" in done.stderr
    assert "kernel update" in done.stderr
    assert "schema work" in done.stderr
    as_json = [json.loads(line) for line in command(*arguments, "--log-format", "json").stderr.splitlines()]
    assert any(line["message"] == "ready" for line in as_json)


# enqueue.


def test_enqueue_prints_the_id_alone(database, command):
    done = command("enqueue", "nobody.knows.this", '{"repo": "a.git", "depth": 2}')
    assert re.fullmatch(r"\d+\n", done.stdout)
    assert done.stderr == ""
    rows = database.query("SELECT id, kind, payload, state, priority, run_at = created_at FROM jobs")
    assert rows == [(int(done.stdout), "nobody.knows.this", {"repo": "a.git", "depth": 2}, "queued", 0, True)]


def test_enqueue_reads_the_payload_from_stdin_and_needs_none(database, command):
    from_stdin = command.json("enqueue", "k", "-", input='{"größe": "🚀"}')
    without = command.json("enqueue", "k")
    assert database.query("SELECT id, payload FROM jobs ORDER BY id") == [
        (from_stdin["id"], {"größe": "🚀"}),
        (without["id"], {}),
    ]


def test_enqueue_can_wait_and_have_a_priority(database, command):
    later = command.json("enqueue", "k", "--delay", "90m", "--priority", "-7")["id"]
    at = [
        command.json("enqueue", "k", "--run-at", text)["id"]
        for text in ("2030-01-01T12:00:00", "2030-01-01T12:00:00Z", "2030-01-01T13:00:00+01:00")
    ]
    assert database.query("SELECT run_at - created_at, priority FROM jobs WHERE id = %s", later) == [
        (timedelta(minutes=90), -7)
    ]
    assert database.query("SELECT DISTINCT run_at FROM jobs WHERE id = ANY (%s)", at) == [
        (datetime(2030, 1, 1, 12, tzinfo=UTC),)
    ]


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        ("[]", "object"),
        ("7", "object"),
        ("null", "object"),
        ('"text"', "object"),
        ("{", "JSON"),
        ("", "JSON"),
        ("{'a': 1}", "JSON"),
        ('{"a": NaN}', "JSON"),
        ('{"a": "\\u0000"}', "NUL"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"a": ' + "[" * 10_000 + "]" * 10_000 + "}", "deep"),
        ('{"a": ' + "9" * 5000 + "}", "digits"),
    ],
    ids=["list", "number", "null", "text", "broken", "empty", "quotes", "nan", "nul", "surrogate", "nested", "digits"],
)
def test_enqueue_refuses_what_is_no_payload(database, command, payload, says):
    for arguments in ((payload,), ("-",)):
        told = command.refused("enqueue", "k", *arguments, code=2, input=payload)
        assert says in told
        assert len(told) < 300
    assert database.value("SELECT count(*) FROM jobs") == 0


@pytest.mark.parametrize("kind", ["", "a" * 201, "a\nb", "\x1b[31m", "a\x85b"])
def test_enqueue_refuses_what_is_no_kind(database, command, kind):
    assert "1 to 200 characters" in command.refused("enqueue", kind, code=2)
    assert database.value("SELECT count(*) FROM jobs") == 0


def test_a_payload_of_50_megabytes_is_accepted_and_run(database, command, module):
    env = module(
        "big_jobs",
        "@registry.handler('big', retention='none')\n"
        "def big(job, text):\n"
        "    job.connection.execute('INSERT INTO weighed VALUES (%s, %s)', (job.id, len(text)))\n",
    )
    database.query("CREATE TABLE weighed (job bigint, size bigint)")
    try:
        job = command.json("enqueue", "big", "-", input=json.dumps({"text": "x" * 50_000_000}))["id"]
        arguments = ("run", "--until-empty", "--metrics", "off", "--kind", "big", "--handlers", "big_jobs:registry")
        command(*arguments, env=env)
        assert database.query("SELECT * FROM weighed") == [(job, 50_000_000)]
    finally:
        database.query("DROP TABLE weighed")
    assert state(database, job) is None


# jobs.

JOB_COLUMNS = {"id", "kind", "payload", "state", "priority", "run_at", "attempts", "max_attempts", "crashes"}
JOB_COLUMNS |= {"leased_by", "leased_at", "lease_expires_at", "lease_token", "last_error", "created_at"}


def moment(text):
    """A time in JSON: ISO 8601, in UTC."""
    when = datetime.fromisoformat(text)
    assert when.utcoffset() == timedelta(0), text
    return when


def test_jobs_are_listed_and_shown_with_their_columns(database, command):
    tokyo = {"PGTZ": "Asia/Tokyo"}
    waiting = add_job(database, "a", payload='{"x": 1}', last_error="it\x1b[31m\nfailed")
    running = add_job(database, "b", "processing", worker=add_worker(database))
    failed = add_job(database, "b", "failed", last_error="no\nstack")
    listed = command.json("jobs", "list", env=tokyo)
    assert [row["id"] for row in listed] == [waiting, running, failed]
    for row in listed:
        assert set(row) >= JOB_COLUMNS
        moment(row["run_at"])
        moment(row["created_at"])
    moment(listed[1]["leased_at"])
    assert (listed[0]["payload"], listed[0]["leased_by"], listed[1]["leased_by"]) == ({"x": 1}, None, "web1:1")
    assert [row["id"] for row in command.json("jobs", "list", "--state", "failed")] == [failed]
    assert [row["id"] for row in command.json("jobs", "list", "--kind", "b", "--limit", "1")] == [running]
    assert command.json("jobs", "list", "--kind", "nobody") == []

    shown = command.json("jobs", "show", running, env=tokyo)
    assert shown.pop("history") == []
    assert shown == listed[1]
    text = command("jobs", "show", waiting).stdout
    assert re.search(r"^last_error +it\\x1b\[31m\n +\| failed$", text, re.MULTILINE)

    text = command("jobs", "list").stdout
    assert len(text.splitlines()) == 3
    assert max(map(len, text.splitlines())) <= 80
    assert command("jobs", "list", "--kind", "nobody").stdout == "no such jobs\n"


def test_a_finished_job_is_shown_from_its_history(database, command):
    job = add_job(database, "test.ok", payload='{"x": 1}')
    command("run", "--until-empty", "--metrics", "off", "--handlers", "sample_jobs:registry")
    shown = command.json("jobs", "show", job)
    assert (shown["id"], shown["kind"], shown["outcome"], shown["payload"]) == (job, "test.ok", "ok", {"x": 1})
    (ended,) = shown["history"]
    assert ended["outcome"] == "ok"
    assert moment(ended["leased_at"]) <= moment(ended["finished_at"])
    assert "ok (attempt 1) by" in command("jobs", "show", job).stdout


@pytest.mark.parametrize("job", ["1", "0", "9223372036854775807"])
def test_a_job_that_is_not_there_is_one_line(database, command, job):
    database.query("DELETE FROM jobs")
    for step in ("show", "release", "retry", "discard"):
        assert f"no job {job}" in command.refused("jobs", step, job, code=1)


def test_a_number_that_no_job_can_have_is_a_usage_error(command):
    for step in ("show", "release", "retry", "discard"):
        assert "not in the range" in command.refused("jobs", step, str(2**63), code=2)


def test_a_job_whose_worker_lives_is_released_only_by_force_and_with_a_reason(database, command):
    job = add_job(database, state="processing", worker=add_worker(database))
    assert "alive: web1:1 beat" in command.refused("jobs", "release", job, code=5)
    assert "--reason" in command.refused("jobs", "release", job, "--force", code=5)
    assert state(database, job) == ("processing", 1)
    assert audit(database) == []
    env = {"SUDO_USER": "alice"}
    done = command("jobs", "release", job, "--force", "--reason", "it hangs", env=env)
    assert done.stdout == f"job {job} released\n"
    assert state(database, job) == ("queued", 0)
    assert audit(database) == [("release", f"job {job}", "it hangs", f"alice@{HOST}", [job])]
    assert "not processing: queued" in command.refused("jobs", "release", job, code=5)


@pytest.mark.parametrize("owner", ["silent", "gone"])
def test_a_job_whose_worker_is_silent_or_gone_is_released(database, command, owner):
    worker = add_worker(database, silent=True) if owner == "silent" else uuid4()
    job = add_job(database, state="processing", worker=worker)
    assert command.json("jobs", "release", job) == [{"id": job, "result": "released"}]
    assert state(database, job) == ("queued", 0)


def test_several_jobs_at_once_and_each_is_told(database, command):
    worker = add_worker(database)
    first, second = (add_job(database, state="processing", worker=uuid4()) for _ in range(2))
    held = add_job(database, state="processing", worker=worker)
    missing = held + 1000
    done = command("jobs", "release", first, second, held, missing, code=5)
    assert done.stdout == f"job {first} released\njob {second} released\n"
    assert f"job {held} is alive" in done.stderr
    assert f"no job {missing}" in done.stderr
    assert [state(database, job)[0] for job in (first, second, held)] == ["queued", "queued", "processing"]


def test_failed_and_postponed_jobs_are_retried(database, command):
    failed = add_job(database, state="failed", attempts=10, crashes=2)
    other = add_job(database, "other", state="failed", attempts=10)
    postponed = add_job(database, attempts=3, run_at=datetime.now(UTC) + timedelta(days=1))
    env = {"SUDO_USER": "alice"}
    assert command("jobs", "retry", postponed, env=env).stdout == f"job {postponed} retried\n"
    command("jobs", "retry", "--failed", "k", "--reason", "receiver is back", env=env)
    rows = "SELECT state, attempts, crashes, run_at <= now() FROM jobs WHERE id = %s"
    assert database.query(rows, failed) == [("queued", 0, 0, True)]
    assert database.query(rows, postponed) == [("queued", 3, 0, True)]
    assert state(database, other) == ("failed", 10)
    assert audit(database) == [
        ("retry", f"job {postponed}", None, f"alice@{HOST}", [postponed]),
        ("retry", f"job {failed}", "receiver is back", f"alice@{HOST}", [failed]),
    ]


def test_jobs_are_discarded_into_the_history(database, command):
    jobs = [add_job(database, state=name, last_error="no") for name in ("failed", "queued", "paused")]
    command("jobs", "discard", *jobs, "--reason", "repository was deleted", env={"SUDO_USER": "alice"})
    assert database.value("SELECT count(*) FROM jobs") == 0
    assert [row[:3] for row in audit(database)] == [("discard", f"job {j}", "repository was deleted") for j in jobs]
    told = command.json("jobs", "show", jobs[0])
    assert (told["outcome"], told["error"], told["retention"]) == ("discarded", "no", "90d")


@pytest.mark.parametrize(("step", "says"), [("retry", "not retried"), ("discard", "not discarded")])
def test_a_running_job_is_neither_retried_nor_discarded(database, command, step, says):
    job = add_job(database, state="processing", worker=uuid4())
    assert f"{says}: processing" in command.refused("jobs", step, job, code=5)
    assert state(database, job) == ("processing", 1)
    assert audit(database) == []


def test_nothing_failed_is_nothing_to_do(command):
    assert command("jobs", "retry", "--failed", "k").stdout == "no such jobs\n"
    assert command.json("jobs", "discard", "--failed", "k") == []


# status and workers.


def test_the_status_of_an_empty_queue_has_all_four_states(command):
    told = command.json("status")
    assert told["states"] == {"queued": 0, "processing": 0, "paused": 0, "failed": 0}
    assert (told["kinds"], told["leases"], told["holds"], told["workers"]) == ([], [], [], [])
    assert command("status").stdout.startswith("running 0, held 0")


def test_the_status_says_what_runs_and_what_is_held(database, command):
    worker = add_worker(database, unit="shithubd-worker@1.service", kinds=["search.reindex", "webhook.deliver"])
    job = add_job(database, "search.reindex", "processing", worker=worker)
    database.query("UPDATE beats SET job_id = %s, job_kind = 'search.reindex', job_since = now()", job)
    database.query("INSERT INTO jobs (kind, state) SELECT 'search.reindex', 'paused' FROM generate_series(1, 499)")
    database.query("INSERT INTO jobs (kind, state) VALUES ('webhook.deliver', 'queued'), ('webhook.deliver', 'failed')")
    database.query("SELECT pause_kind_v1('search.reindex', 'schema work', now() + interval '1 hour', 'alice@web1')")

    text = command("status").stdout
    assert text.splitlines()[0].startswith("running 1, held 499")
    assert max(map(len, text.splitlines())) <= 80
    for word in (
        "search.reindex",
        "webhook.deliver",
        "web1:1",
        "shithubd-worker@1.service",
        "schema work",
        "alice@web1",
    ):
        assert word in text

    told = command.json("status", env={"PGTZ": "Asia/Tokyo"})
    assert told["states"] == {"queued": 1, "processing": 1, "paused": 499, "failed": 1}
    (lease,) = told["leases"]
    assert set(lease) >= {"id", "kind", "leased_by", "leased_at", "started"}
    assert (lease["id"], lease["kind"], lease["leased_by"]) == (job, "search.reindex", "web1:1")
    assert moment(lease["leased_at"]) < moment(lease["started"])
    (hold,) = told["holds"]
    assert (hold["scope"], hold["target"], hold["reason"], hold["actor"]) == (
        "kind",
        "search.reindex",
        "schema work",
        "alice@web1",
    )
    assert moment(hold["created"]) < moment(hold["until"])
    assert {kind["kind"]: kind["held"] for kind in told["kinds"]} == {"search.reindex": 499, "webhook.deliver": 0}
    assert [row["leased_by"] for row in told["workers"]] == ["web1:1"]


def test_what_waits_is_counted_up_to_a_hundred_thousand_and_more_is_said_to_be_more(database, command):
    database.query("INSERT INTO jobs (kind, state) SELECT 'many', 'paused' FROM generate_series(1, 100001)")
    for kind in ("many", "few"):
        add_job(database, kind, "processing", worker=uuid4())
    add_job(database, "few", "failed")
    text = command("status").stdout
    assert text.splitlines()[0] == "running 2, held 100,000+ (queued 0, paused 100,000+, failed 1)"
    assert re.search(r"^many +0 +1 +100,000\+ +0 +100,000\+", text, re.MULTILINE)
    told = command.json("status")
    assert told["states"] == {"queued": 0, "processing": 2, "paused": 100000, "failed": 1}
    assert sorted(told["capped"]) == ["held", "paused"]
    assert {kind["kind"]: kind["capped"] for kind in told["kinds"]} == {"many": ["paused", "held"], "few": []}


def test_queued_jobs_count_as_held_while_a_hold_covers_them(database, command):
    for kind in ("a", "a", "b"):
        add_job(database, kind)
    add_worker(database, kinds=["a"])
    command("pause-kind", "a")
    add_job(database, "a")
    assert command("status").stdout.startswith("running 0, held 3 ")
    command("drain")
    assert command("status").stdout.startswith("running 0, held 4 ")
    command("resume")
    command("resume-kind", "a")
    assert command("status").stdout.startswith("running 0, held 0 ")


def test_drained_is_an_exit_code(database, command):
    assert command("status", "--drained").stdout.startswith("drained")
    assert command.json("status", "--drained") == {"drained": True, "running": []}
    job = add_job(database, state="processing", worker=uuid4())
    assert command("status", "--drained", code=3).stdout.startswith("running 1, held 0")
    told = command.json("status", "--drained", code=3)
    assert (told["drained"], [lease["id"] for lease in told["running"]]) == (False, [job])


def test_a_strange_name_in_the_table_steers_no_terminal(database, command):
    add_job(database, "[red]kind[/red]")
    add_job(database, "a" * 200, "processing", leased_by="\x1b[31mweb")
    database.query("SELECT drain_v1('fleet', '', E'\\x1b[31mreason\\nsecond line', NULL, E'\\x1b[31mme')")
    text = command("status").stdout  # Command looks for escape codes
    assert "[red]kind[/red]" in text
    assert max(map(len, text.splitlines())) <= 80
    command("jobs", "list")


def test_workers_are_listed(database, command):
    kinds = [f"some.kind.number.{n}" for n in range(12)]
    alive = add_worker(database, "web1", 7, unit="shithubd-worker@1.service", kinds=kinds)
    silent = add_worker(database, "web2", 8, silent=True)
    told = command.json("workers", env={"PGTZ": "Asia/Tokyo"})
    assert [(row["id"], row["leased_by"], row["silent"]) for row in told] == [
        (str(alive), "web1:7", False),
        (str(silent), "web2:8", True),
    ]
    assert (told[0]["kinds"], told[0]["unit"]) == (kinds, "shithubd-worker@1.service")
    assert moment(told[0]["started_at"]) >= moment(told[0]["beat_at"]) - timedelta(hours=1)
    text = command("workers").stdout
    assert max(map(len, text.splitlines())) <= 80
    for word in ("web1:7", "web2:8", str(alive), kinds[0], kinds[-1], "silent"):
        assert word in text


# Holds.


@pytest.mark.parametrize(
    ("arguments", "hold"),
    [
        ((), ("fleet", "")),
        (("--host", "web1"), ("host", "web1")),
        (("--unit", "w@1.service"), ("unit", "w@1.service")),
    ],
)
def test_drain_and_resume_of_a_scope_can_be_repeated(database, command, arguments, hold):
    env = {"SUDO_USER": "alice"}
    add_worker(database, unit="w@1.service")
    done = command("drain", *arguments, "--reason", "first", env=env)
    assert "nothing of it starts any more" in done.stdout
    assert "drained" in done.stdout
    assert "undo: shithubd-worker resume" in done.stdout
    command("drain", *arguments, env=env)
    assert holds(database) == [(*hold, "first")]  # the second said nothing new
    resumed = command("resume", *arguments, "--reason", "done", env=env).stdout
    assert f"alice@{HOST}" in resumed
    assert "first" in resumed
    assert "nothing to resume" in command("resume", *arguments, env=env).stdout
    assert holds(database) == []
    target = " ".join(filter(None, hold))
    assert audit(database) == [
        ("drain", target, "first", f"alice@{HOST}", []),
        ("drain", target, None, f"alice@{HOST}", []),
        ("resume", target, "done", f"alice@{HOST}", []),
    ]


def test_resume_without_a_scope_ends_all_drains_and_no_pause(database, command):
    add_worker(database)
    command("drain")
    command("drain", "--host", "web1")
    command("pause-kind", "k")
    told = command.json("resume")
    assert {(hold["scope"], hold["target"]) for hold in told["ended"]} == {("fleet", ""), ("host", "web1")}
    assert holds(database) == [("kind", "k", None)]
    assert command.json("resume") == {"ended": []}


def test_resume_of_a_scope_leaves_the_others(database, command):
    add_worker(database)
    command("drain")
    command("drain", "--host", "web1")
    command("resume", "--host", "web1")
    assert holds(database) == [("fleet", "", None)]


def test_a_worker_is_named_by_its_host_and_pid_or_by_its_uuid(database, command):
    worker, other = add_worker(database, "web1", 7), add_worker(database, "web1", 8)
    told = command.json("drain", "--worker", "web1:7")
    assert (told["hold"]["scope"], told["hold"]["target"]) == ("worker", str(worker))
    command("resume", "--worker", "web1:7")
    command("drain", "--worker", other)
    assert holds(database) == [("worker", str(other), None)]
    for stranger in ("web1:9", "7", str(uuid4())):
        assert f"no worker called '{stranger}'" in command.refused("drain", "--worker", stranger, code=5)


def test_a_pid_that_is_used_again_names_the_living_worker(database, command):
    add_worker(database, "web1", 7, silent=True)
    alive = add_worker(database, "web1", 7)
    assert command.json("drain", "--worker", "web1:7")["hold"]["target"] == str(alive)
    add_worker(database, "web1", 7)
    assert "2 workers" in command.refused("drain", "--worker", "web1:7", code=5)


def test_a_hold_can_end_by_itself(database, command):
    add_worker(database)
    for step, name in ((("drain",), "fleet"), (("pause-kind", "k"), "kind")):
        for until in ("2h", (datetime.now(UTC) + timedelta(hours=2)).isoformat(timespec="seconds")):
            told = command.json(*step, "--until", until, env={"PGTZ": "Asia/Tokyo"})
            left = database.value("SELECT until - clock_timestamp() FROM holds WHERE scope = %s", name)
            assert timedelta(minutes=119) < left <= timedelta(hours=2)
            assert moment(told["hold"]["until"]) > datetime.now(UTC) + timedelta(minutes=119)
    for until in ("2020-01-01", "0"):
        assert "past" in command.refused("drain", "--until", until, code=5)
    for until in ("tomorrow", "999999999d", "99999999999999999999d"):
        command.refused("drain", "--until", until, code=2)


def test_a_timeout_leaves_the_hold_and_says_what_runs(database, command):
    worker = add_worker(database)
    job = add_job(database, state="processing", worker=worker)
    for step in (("drain",), ("pause-kind", "k"), ("drain", "--worker", worker), ("drain", "--host", "web1")):
        done = command(*step, "--wait", "--timeout", "0.2", code=4)
        assert f"k {job} by web1:1" in done.stdout
        assert "undo: shithubd-worker resume" in done.stdout
    assert len(holds(database)) == 4
    told = command.json("drain", "--wait", "--timeout", "0.2", code=4)
    assert (told["drained"], told["barrier"], [lease["id"] for lease in told["running"]]) == (False, True, [job])
    # Without --wait what runs is told, and no failure. Elsewhere nothing runs.
    assert f"k {job} by web1:1" in command("drain").stdout
    assert command.json("drain", "--host", "web2", "--force", "--wait", "--timeout", "5")["drained"] is True


def test_a_lease_query_that_is_stuck_keeps_the_barrier_waiting_until_the_timeout(database, command):
    with database.connect() as stuck, stuck.transaction():
        stuck.execute("LOCK TABLE gate IN ROW SHARE MODE")
        done = command("drain", "--timeout", "0.2", code=4)
        assert "not certain yet" in done.stdout
        assert holds(database) == [("fleet", "", None)]
    assert "nothing of it starts any more" in command("drain", "--timeout", "30").stdout


@contextmanager
def drain_that_waits(database):
    """`drain --wait` as a process; whatever comes of it, it is gone afterwards."""
    waiting = subprocess.Popen(
        [sys.executable, "-m", "shithubd_worker", "drain", "--wait"],
        env=database.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with waiting:
        try:
            yield waiting
        finally:
            waiting.kill()


def test_wait_ends_when_the_last_job_does(database):
    job = add_job(database, state="processing", worker=add_worker(database))
    with drain_that_waits(database) as waiting:
        assert f"k {job} by web1:1" in waiting.stderr.readline()
        database.query("DELETE FROM jobs")
        assert waiting.wait(PATIENCE) == 0
        assert "drained: nothing of it is running" in waiting.stdout.read()


def test_an_interrupted_wait_leaves_the_hold_and_says_how_to_undo_it(database):
    add_job(database, state="processing", worker=add_worker(database))
    with drain_that_waits(database) as waiting:
        waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(PATIENCE) == 130
        assert waiting.stderr.read() == "interrupted; the hold stays: undo with shithubd-worker resume\n"
    assert holds(database) == [("fleet", "", None)]


def test_an_unknown_kind_is_paused_only_by_force_and_with_a_reason(database, command):
    assert "--force" in command.refused("pause-kind", "serach.reindex", code=5)
    assert "--reason" in command.refused("pause-kind", "serach.reindex", "--force", code=5)
    assert holds(database) == []
    command("pause-kind", "serach.reindex", "--force", "--reason", "before it is deployed")
    assert holds(database) == [("kind", "serach.reindex", "before it is deployed")]
    command("pause-kind", "serach.reindex")  # known by now
    assert "other was not paused" in command("resume-kind", "other").stdout


@pytest.mark.parametrize("known_by", ["job", "history", "worker"])
def test_a_kind_that_is_in_a_job_the_history_or_a_worker_is_known(database, command, known_by):
    if known_by == "job":
        add_job(database, "some.kind")
    elif known_by == "worker":
        add_worker(database, kinds=["some.kind"])
    else:
        command("jobs", "discard", add_job(database, "some.kind"))
    command("pause-kind", "some.kind")
    assert holds(database) == [("kind", "some.kind", None)]


def test_pause_and_resume_of_a_kind_can_be_repeated_and_flip_its_jobs(database, command):
    env = {"SUDO_USER": "alice"}
    waiting = [add_job(database) for _ in range(3)]
    scheduled = add_job(database, run_at=datetime.now(UTC) + timedelta(days=1))
    other = add_job(database, "other")
    told = command.json("pause-kind", "k", "--reason", "first", env=env)
    assert (told["paused"], told["drained"]) == (4, True)
    assert command.json("pause-kind", "k", env=env)["paused"] == 0
    by_hand = add_job(database, state="paused")
    later = add_job(database)
    assert (
        command.json("pause-kind", "k", env=env)["paused"] == 0
    )  # held all the same; the mirror is of the first moment
    paused = {*waiting, scheduled, by_hand}
    assert {row["id"] for row in command.json("jobs", "list", "--state", "paused")} == paused
    assert {row["id"] for row in command.json("jobs", "list", "--state", "queued")} == {other, later}
    assert holds(database) == [("kind", "k", "first")]

    told = command.json("resume-kind", "k", "--reason", "done", env={"SUDO_USER": "bob"})
    assert (told["requeued"], told["ended"]["actor"], told["ended"]["reason"]) == (5, f"alice@{HOST}", "first")
    assert command.json("jobs", "list", "--state", "paused") == []
    again = command.json("resume-kind", "k", env={"SUDO_USER": "bob"})
    assert (again["requeued"], again["ended"]) == (0, None)
    assert [row[:4] for row in audit(database)] == [
        ("pause", "kind k", "first", f"alice@{HOST}"),
        ("pause", "kind k", None, f"alice@{HOST}"),
        ("pause", "kind k", None, f"alice@{HOST}"),
        ("resume", "kind k", "done", f"bob@{HOST}"),
    ]


@contextmanager
def said_while_the_jobs_are_locked(database, *arguments):
    """Start a command while no job can be changed: the first line that it prints then. It goes on afterwards."""
    with database.connect() as locker, locker.transaction():
        locker.execute("LOCK TABLE jobs IN SHARE MODE")
        process = subprocess.Popen(
            [sys.executable, "-m", "shithubd_worker", *arguments],
            env=database.environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        yield process.stdout.readline()
    with process:
        assert process.wait(PATIENCE) == 0


def test_a_pause_is_certain_before_any_job_is_marked_and_says_so(database):
    job = add_job(database)
    with said_while_the_jobs_are_locked(database, "pause-kind", "k") as line:
        assert line.startswith("kind k is held: nothing of it starts any more")
        assert state(database, job) == ("queued", 0)
    assert state(database, job) == ("paused", 0)


def test_a_pause_is_over_before_any_job_is_flipped_back_and_says_so(database, command):
    job = add_job(database)
    command("pause-kind", "k")
    with said_while_the_jobs_are_locked(database, "resume-kind", "k") as line:
        assert line == "resumed k\n"
        assert holds(database) == []
        assert state(database, job) == ("paused", 0)
    assert state(database, job) == ("queued", 0)


def test_jobs_that_were_paused_by_hand_alone_are_flipped_too(database, command):
    job = add_job(database, state="paused")
    told = command("resume-kind", "k").stdout
    assert "k was not paused" in told
    assert "1 paused job(s) back in the queue" in told
    assert state(database, job)[0] == "queued"


def test_a_pause_covers_what_is_enqueued_retried_or_released_afterwards(database, command, start_worker):
    worker = start_worker("--kind", "test.ok", "--kind", "test.other")
    database.query("CREATE TABLE starts (job bigint, kind text, at timestamptz)")
    try:
        command("pause-kind", "test.ok")
        later = int(command("enqueue", "test.ok").stdout)
        retried = add_job(database, "test.ok", "failed", attempts=10)
        command("jobs", "retry", retried)
        released = add_job(database, "test.ok", "processing", worker=uuid4())
        command("jobs", "release", released)
        after = [int(command("enqueue", "test.other").stdout) for _ in range(2)]
        gone = "SELECT count(*) FROM job_history WHERE id = ANY (%s) AND outcome = 'ok'"
        eventually(lambda: database.value(gone, after) == 2, "the other kind went on, twice past the held jobs")
        held = [later, retried, released]
        assert {state(database, job)[0] for job in held} == {"queued"}
        assert command("status").stdout.startswith("running 0, held 3 ")
        command("resume-kind", "test.ok")
        eventually(lambda: database.value(gone, held) == 3, "the held jobs ran")
    finally:
        database.query("DROP TABLE starts")
    assert worker.terminate() == 0


def test_a_drained_worker_stays_up_held_and_goes_on_after_resume(database, command, start_worker):
    worker = start_worker("--kind", "test.ok", "--metrics", "127.0.0.1:0")
    told = command.json("drain", "--worker", f"{HOST}:{worker.pid}", "--wait", "--timeout", "30")
    assert told["drained"] is True
    job = int(command("enqueue", "test.ok").stdout)
    eventually(lambda: command.json("workers")[0]["state"] == "held", "held")
    assert "/readyz" in worker.metrics_url + "/readyz"
    assert state(database, job) == ("queued", 0)
    assert worker.process.poll() is None
    command("resume", "--worker", f"{HOST}:{worker.pid}")
    eventually(lambda: state(database, job) is None, "it ran")
    command("drain", "--worker", f"{HOST}:{worker.pid}")
    assert worker.terminate() == 0
    assert holds(database) == []  # a drain of a worker ends with it


# release-dead.


def test_a_dead_worker_is_found_by_its_invocation_and_its_jobs_return(database, command, start_worker):
    invocation, other = uuid4().hex, uuid4().hex
    survivor = start_worker("--kind", "test.ok", env={"INVOCATION_ID": other})
    job = add_job(database, "test.sleep")
    worker = start_worker("--kind", "test.sleep", env={"INVOCATION_ID": invocation})
    eventually(lambda: state(database, job)[0] == "processing", "the job runs")
    worker.send(signal.SIGKILL)
    worker.wait()
    env = {"INVOCATION_ID": invocation, "SERVICE_RESULT": "signal", "EXIT_STATUS": "KILL", "EXIT_CODE": "killed"}
    done = command("release-dead", env=env)
    assert f"job {job} test.sleep: crashed" in done.stdout
    rows = database.query("SELECT state, attempts, crashes, last_error FROM jobs WHERE id = %s", job)
    assert rows == [("queued", 0, 1, "its worker died: systemd says signal, status KILL")]
    assert [row["invocation_id"] for row in command.json("workers")] == [other]
    assert command("release-dead", env=env).stdout == f"0 lease(s) of {invocation} returned\n"
    assert command.json("release-dead", "--invocation-id", uuid4().hex) == []
    assert survivor.terminate() == 0


# Completion.


def completions(command, *words, **settings):
    """What the shell is offered after these words and a space."""
    env = {"_SHITHUBD_WORKER_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(("shithubd-worker", *words, ""))}
    env["COMP_CWORD"] = str(len(words) + 1)
    done = command(env={**env, **settings.pop("env", {})}, **settings)
    assert done.stderr == ""
    return {line.partition(",")[2] for line in done.stdout.splitlines() if line}


def test_the_shell_completes_the_names_that_the_database_knows(database, command):
    job = add_job(database, "search.reindex", "processing", worker=add_worker(database, unit="w@1.service"))
    add_job(database, "webhook.deliver")
    for words, names in (
        (("pause-kind",), {"k", "search.reindex", "webhook.deliver"}),
        (("resume-kind",), {"k", "search.reindex", "webhook.deliver"}),
        (("enqueue",), {"k", "search.reindex", "webhook.deliver"}),
        (("jobs", "list", "--kind"), {"k", "search.reindex", "webhook.deliver"}),
        (("jobs", "release"), {str(job)}),
        (("drain", "--host"), {"web1"}),
        (("drain", "--unit"), {"w@1.service"}),
        (("resume", "--worker"), {"web1:1"}),
    ):
        assert completions(command, *words) == names, words


def test_the_shell_completes_what_was_begun(database, command):
    add_job(database, "search.reindex")
    add_job(database, "webhook.deliver")
    env = {"COMP_WORDS": "shithubd-worker pause-kind sea", "COMP_CWORD": "2"}
    assert completions(command, env=env) == {"search.reindex"}


def test_the_shell_completes_from_the_database_that_was_named_before_the_command(database, command):
    add_job(database, "search.reindex")
    words = ("--database-url", database.url, "pause-kind")
    assert completions(command, *words, without_url=True, env={"PGHOST": "127.0.0.1", "PGPORT": "1"}) == {
        "search.reindex"
    }


def test_a_shell_that_completes_without_a_database_sees_nothing(command):
    away = {"SHITHUBD_WORKER_DATABASE_URL": "postgresql://127.0.0.1:1/x"}
    assert completions(command, "pause-kind", env=away) == set()


# Odd words.


@pytest.mark.parametrize(
    "arguments",
    [
        ("drain", "--reason", os.fsdecode(b"\xff")),
        ("drain", "--host", os.fsdecode(b"\xff")),
        ("resume-kind", os.fsdecode(b"\xff")),
        ("jobs", "list", "--kind", os.fsdecode(b"\xff")),
        ("search", os.fsdecode(b"\xff")),
        ("status", "--schema", os.fsdecode(b"\xff")),
    ],
    ids=lambda words: words[0],
)
def test_bytes_that_are_no_text_are_refused_in_one_line(database, command, arguments):
    assert "'\\udcff' is not UTF-8" in command.refused(*arguments, code=2)
    assert holds(database) == []


def test_a_reader_that_leaves_early_is_no_fault_of_ours(database, command):
    database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 20000)")
    listing = [sys.executable, "-m", "shithubd_worker", "jobs", "list", "--limit", "20000", "--json"]
    with subprocess.Popen(
        listing, env=database.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""


# migrate, and other schemas.


def test_migrate_says_what_it_did_and_the_second_time_nothing(database, command):
    try:
        first = command.json("migrate", "--schema", "second home")
        assert (first["schema"], first["version"]) == ("second home", schema.newest_version())
        assert len(first["applied"]) == schema.newest_version() + 1
        assert command.json("migrate", "--schema", "second home")["applied"] == []
        done = command("migrate", "--schema", "second home")
        assert done.stdout == f"schema second home is at version {schema.newest_version()}\n"
    finally:
        database.query('DROP SCHEMA "second home" CASCADE')


ODD = 'odd "schema"; --'


@pytest.fixture
def beside(database, command):
    """A second queue in the same database, in a schema whose name needs quoting."""
    command("migrate", "--schema", ODD)
    yield ODD
    database.query('DROP SCHEMA "odd ""schema""; --" CASCADE')


def test_a_queue_in_a_schema_of_its_own_works_from_end_to_end(database, command, start_worker, beside):
    mine = add_job(database, "test.ok")
    worker = start_worker("--schema", beside, "--poll-interval", "3600", "--kind", "test.ok")
    eventually(database.at_rest, "idle")
    with database.connect() as connection, connection.transaction():
        theirs = [enqueue(connection, "test.ok", schema=beside, name="x") for _ in range(2)]
    ended = f"SELECT id FROM {QUOTED}.job_history WHERE outcome = 'ok' ORDER BY finished_at"
    eventually(lambda: [job for (job,) in database.query(ended)] == theirs, "woken, both ran")
    env = {"SHITHUBD_WORKER_SCHEMA": beside}
    command("pause-kind", "test.ok", env=env)
    command("enqueue", "test.ok", env=env)
    told = command.json("status", env=env)
    assert (told["schema"]["name"], told["held"], len(told["workers"])) == (beside, 1, 1)
    assert worker.terminate() == 0
    # The queue in public saw nothing of all that.
    assert state(database, mine) == ("queued", 0)
    assert command.json("status")["holds"] == []


QUOTED = '"odd ""schema""; --"'


def test_two_queues_in_one_database_share_neither_wake_ups_nor_locks(database, command, beside):
    with psycopg.connect(database.url, autocommit=True) as ears:
        for name in ("public", QUOTED):
            ears.execute(f"SELECT pg_advisory_lock_shared(7304, {name}.schema_key_v1())")
        ears.execute('LISTEN "shithubd:public"')
        ears.execute('LISTEN "shithubd:odd ""schema""; --"')
        for name, channel in (("public", "shithubd:public"), (QUOTED, f"shithubd:{ODD}")):
            database.query(f"INSERT INTO {name}.jobs (kind) VALUES ('k')")
            heard = [notify.channel for notify in ears.notifies(timeout=PATIENCE, stop_after=1)]
            heard += [notify.channel for notify in ears.notifies(timeout=0)]
            assert heard == [channel]
    with database.connect() as stuck, stuck.transaction():
        stuck.execute(f"LOCK TABLE {QUOTED}.gate IN ROW SHARE MODE")
        assert "nothing of it starts any more" in command("drain", "--timeout", "30").stdout
        assert "not certain yet" in command("drain", "--timeout", "0.2", "--schema", beside, code=4).stdout


def test_a_command_leaves_no_connection_behind(database, command):
    command("status")
    with closing(connector(database.url, "looking")()) as connection:
        left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'shithubd-worker command'"
        eventually(lambda: connection.execute(left).fetchone() == (0,), "no connection of the command")
