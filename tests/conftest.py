"""What all tests share: real databases, and workers as real processes."""

from __future__ import annotations

import gc
import os
import random
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import nursery
import psycopg
import pytest
from helpers_handlers import Bench
from hypothesis import HealthCheck, settings
from poolers import PROGRAM, PgBouncer
from psycopg.pq import ExecStatus
from servers import Server, debian_bindir, embedded_bindir
from waiting import PATIENCE, eventually
from worker_host import booted, host, two_phase, wheels  # noqa: F401 (fixtures)

from shithubd_worker.database import schema
from shithubd_worker.database.connection import connector
from shithubd_worker.settings.config import Config

# The same examples in every run: so a run turns red because of the change, not because of the dice. Only `make
# test-long` draws others, by a seed that it prints. Drawing has no deadline, because the machine may be slow.
SEED = os.environ.get("SEED")
settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("seeded", settings.get_profile("steady"), derandomize=False, print_blob=True)
settings.load_profile("seeded" if SEED else "steady")

# A shell that starts the tests in the background has them ignore Ctrl-C, nohup has them ignore SIGHUP, and so would
# every process of theirs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Each process that shares the tests collects all of them. Python's collector would look at them again and again,
    and take a third of that time. Afterwards it looks only at what the tests make."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


# The files that take more than half a minute, the longest first.
LONGEST = (
    "runbooks/test_executed.py",
    "postgres/test_worker_process.py",
    "torture/test_torture.py",
    "systemd/test_deb.py",
    "systemd/test_units_database.py",
    "systemd/test_units_death.py",
    "postgres/test_worker_handlers.py",
    "postgres/test_locked_rows.py",
    "runbooks/test_closed_loops.py",
    "postgres/test_workers_behind_locks.py",
    "postgres/test_documents_executed.py",
    "postgres/test_prefetch_process.py",
    "systemd/test_units_fleet.py",
    "partitions/test_partitions.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Several processes share the tests, a file each (Makefile). A long file that begins late is what all wait for in
    the end, so the long ones come first, and those of tests/unit last, which take seconds."""
    place = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With CI=true a skipped test is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def dice(number: int) -> random.Random:
    """A test's own dice."""
    return random.Random(f"{SEED} {number}" if SEED else number)


class Database:
    """One fresh database with the schema migrated."""

    def __init__(self, server: Server, name: str, url: str = "") -> None:
        self.server = server
        self.name = name
        self.url = url or server.url(name)
        self.schema = "public"
        self._kept: list[psycopg.Connection[Any]] = []
        # Not `__del__`: of a ring of garbage Python may end the connections first, and each warns that it is open.
        weakref.finalize(self, _close_all, self._kept)

    def connect(self) -> psycopg.Connection[Any]:
        """A connection in autocommit mode, as the worker makes it."""
        return connector(self.url, "test")()

    def query(self, text: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Run one statement in a session without any state; its rows, or []."""
        with self._session() as connection:
            cursor = connection.execute(text, arguments or None)  # type: ignore[call-overload]
            # Not by its columns: SELECT FROM has none, and rows all the same.
            found = cursor.pgresult is not None and cursor.pgresult.status == ExecStatus.TUPLES_OK
            return cursor.fetchall() if found else []

    @contextmanager
    def _session(self) -> Iterator[psycopg.Connection[Any]]:
        """A kept connection that no other thread uses, or a new one. A run makes 25,000 queries, and a connection for
        each took a quarter of its time."""
        while self._kept:
            connection = self._kept.pop()
            if not select.select([connection.fileno()], [], [], 0)[0]:  # else the server has said that it ended it
                break
            connection.close()
        else:
            connection = self.connect()
            connection.prepare_threshold = None  # DISCARD ALL takes prepared statements away
        try:
            yield connection
            connection.execute("DISCARD ALL")
        except BaseException:
            connection.close()
            raise
        self._kept.append(connection)

    def close(self) -> None:
        """Close the kept connections, because another session needs the database for itself or a test counts them."""
        _close_all(self._kept)

    def value(self, text: str, *arguments: object) -> Any:
        """The first column of the first row."""
        return self.query(text, *arguments)[0][0]

    def at_rest(self) -> int:
        """How many workers of this database are at rest, and want to be woken by the next enqueue."""
        return int(
            self.value(
                "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database"
                " WHERE d.datname = current_database() AND locktype = 'advisory' AND classid = 7304"
                " AND mode = 'ShareLock' AND granted"
            )
        )

    def environment(self) -> dict[str, str]:
        """An environment in which libpq finds this database, and nothing else of ours is set."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "SHITHUBD_WORKER_"))}
        return {**clean, "SHITHUBD_WORKER_DATABASE_URL": self.url, "PYTHONPATH": str(Path(__file__).parent)}


def _close_all(connections: list[psycopg.Connection[Any]]) -> None:
    while connections:
        connections.pop().close()


class WorkerProcess:
    """`shithubd-worker run` as a real process, its stderr in a file."""

    def __init__(self, database: Database, directory: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.log_path = directory / f"worker-{time.monotonic_ns()}.log"
        with self.log_path.open("wb") as log, open(os.devnull, "rb") as nothing:
            self.process = nursery.Process(
                ["run", *arguments],
                env={**database.environment(), **(env or {})},
                files=(nothing, log, log),
                session=True,
            )
        self.pid = self.process.pid

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self.log_path.read_text(errors="replace")

    def wait_for(self, text: str) -> None:
        """Wait until the log has this text."""
        eventually(lambda: text in self.log or self.process.poll() is not None, f"{text!r} in the log")
        if text not in self.log:
            pytest.fail(f"the worker exited {self.process.returncode} without logging {text!r}:\n{self.log}")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self, within: float = PATIENCE) -> int:
        """Wait for its end; its exit code."""
        try:
            return self.process.wait(timeout=within)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the worker didn't end within {within:g} s; its log:\n{self.log}")

    def terminate(self) -> int:
        """SIGTERM, and its exit code."""
        self.send(signal.SIGTERM)
        return self.wait()

    @property
    def metrics_url(self) -> str:
        """Where its metrics are, from its log."""
        self.wait_for("metrics on http://")
        found = re.search(r"metrics on (http://\S+)", self.log)
        assert found
        return found[1]

    def metrics(self) -> str:
        """One scrape."""
        with urllib.request.urlopen(f"{self.metrics_url}/metrics") as answer:
            return str(answer.read().decode())

    def metric(self, sample: str) -> float | None:
        """One sample by its full name with labels, or None if it isn't there."""
        for line in self.metrics().splitlines():
            if line.startswith(f"{sample} "):
                return float(line.rpartition(" ")[2])
        return None

    def end(self) -> None:
        """Kill it, unless it has ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def _server(bindir: Path) -> Iterator[Server]:
    server = Server(bindir)
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE template_worker")
    with psycopg.connect(server.url("template_worker"), autocommit=True) as connection:
        schema.migrate(connection, "public", roles=True)
    yield server
    administrator(server).close()
    server.remove()


@pytest.fixture(scope="session", autouse=True)
def nobody_is_left() -> Iterator[None]:
    """The nursery ends with the tests, and not with their process: so its coverage counts, too."""
    yield
    nursery.end()


@pytest.fixture(scope="session")
def embedded_server() -> Iterator[Server]:
    """The embedded PostgreSQL 18."""
    workspace = Path(tempfile.mkdtemp(prefix="shw-embedded-"))
    workspace.chmod(0o755)
    yield from _server(embedded_bindir(workspace))
    shutil.rmtree(workspace)


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Debian's PostgreSQL; without one on the machine, the embedded server."""
    bindir = debian_bindir()
    if bindir is None:
        yield request.getfixturevalue("embedded_server")
    else:
        yield from _server(bindir)


def pytest_report_header() -> str:
    """Say which server the tests run on."""
    bindir = debian_bindir()
    return f"PostgreSQL: {bindir or 'the embedded one alone (no server of Debian here; make test as root installs it)'}"


@cache
def administrator(server: Server) -> Database:
    """Makes and drops databases. A new connection for each would take a third of that time."""
    return Database(server, "postgres")


def new_database(server: Server, template: str = "template_worker") -> Iterator[Database]:
    """A fresh database for as long as the generator is held open: a migrated one, or a copy of `template`."""
    name = f"t{time.monotonic_ns()}"
    # As files: the other way, through the log of changes, takes a third more of the processor.
    administrator(server).query(f'CREATE DATABASE "{name}" TEMPLATE {template} STRATEGY file_copy')
    made = Database(server, name)
    yield made
    drop(made)


def drop(database: Database) -> None:
    """Drop a database, and end its sessions before that: DROP DATABASE rests for 0.1 s if it finds one."""
    database.close()
    left = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
    eventually(lambda: not administrator(database.server).query(left, database.name), f"nobody is in {database.name}")
    # By force: a worker that the test has not ended may have come back meanwhile.
    administrator(database.server).query(f'DROP DATABASE IF EXISTS "{database.name}" WITH (FORCE)')


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    """A fresh, migrated database."""
    yield from new_database(server)


@pytest.fixture
def hire(database: Database) -> Iterator[Callable[..., Any]]:
    """Workers without a process, whose turns are driven by hand."""
    from drivers import Driver  # which needs what is here

    hired: list[Any] = []

    def make(*kinds: str, **options: Any) -> Any:
        hired.append(Driver(database, *kinds, **options))
        return hired[-1]

    yield make
    for driver in hired:
        driver.queue.close()


@pytest.fixture
def parts(database: Database) -> Iterator[Any]:
    """What the duties of a control thread are made of, without the thread."""
    from duties import Parts  # which needs what is here

    made = Parts(database.url)
    yield made
    made.close()


@pytest.fixture(params=["debian", "embedded"])
def any_database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A fresh, migrated database on each of the servers: for the contract of the schema."""
    yield from new_database(request.getfixturevalue("server" if request.param == "debian" else "embedded_server"))


@pytest.fixture
def pooler() -> Iterator[Callable[..., Database]]:
    """Put a PgBouncer in front of a database: that database, by another URL. All are gone after the test."""
    if not PROGRAM.exists():
        pytest.skip(f"no {PROGRAM} here: make test as root installs it")
    started: list[PgBouncer] = []

    def start(database: Database, **how: Any) -> Database:
        started.append(made := PgBouncer(database.server, **how))
        return Database(database.server, database.name, made.url(database.name))

    yield start
    for made in started:
        made.stop()


@pytest.fixture
def collected() -> Iterator[None]:
    """Collect what commands in this process left open: after the test, and not during another one."""
    yield
    gc.collect()


class Door:
    """What a job of tests/sample_jobs.py waits at, given the path: so it takes as long as the test does."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def open(self) -> None:
        """Let through all jobs that wait, and all that come later."""
        Path(self.path).touch()


@pytest.fixture
def door(tmp_path: Path) -> Door:
    """A closed door."""
    return Door(tmp_path / "door")


@pytest.fixture
def start_worker(database: Database, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Start workers with the handlers of tests/sample_jobs.py; all are gone after the test."""
    started: list[WorkerProcess] = []

    def start(
        *arguments: str,
        ready: bool = True,
        handlers: str = "sample_jobs:registry",
        env: dict[str, str] | None = None,
    ) -> WorkerProcess:
        given = arguments if any(a.startswith("--metrics") for a in arguments) else ("--metrics", "off", *arguments)
        worker = WorkerProcess(database, tmp_path, "--handlers", handlers, *given, env=env)
        started.append(worker)
        if ready:
            worker.wait_for(" ready\n")
        return worker

    yield start
    for worker in started:
        worker.end()


@pytest.fixture
def login(database: Database) -> Iterator[Callable[[str], str]]:
    """Make a login that is a member of a role, or of none (''); its URL. All are gone after the test."""
    names: list[str] = []

    def make(role: str) -> str:
        names.append(name := f"{role or 'nobody'}_{len(names)}_{database.name}")
        database.query(f"CREATE ROLE {name} LOGIN{f' IN ROLE {role}' if role else ''}")
        return psycopg.conninfo.make_conninfo(database.url, user=name)

    yield make
    for name in names:
        database.query(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
            " WHERE usename = %s AND datname = current_database()",
            name,
        )
        database.query(f"DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.fixture
def command(database: Database) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `shithubd-worker ARGS` against the database, as a process."""

    def run(
        *arguments: str,
        input: str | None = None,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        environment = {**database.environment(), **(env or {})}
        return nursery.run(arguments, env=environment, input=input or "", timeout=PATIENCE)

    return run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory of a forge's repositories."""
    path = tmp_path / "repositories"
    path.mkdir()
    return path


@pytest.fixture
def bench(database: Database, root: Path) -> Iterator[Bench]:
    """Runs a forge's handlers, one job at a time, on the repositories below `root`."""
    bench = Bench(database.url, database.schema, Config(repo_root=root))
    yield bench
    bench.close()
