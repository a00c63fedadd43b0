"""A PostgreSQL server of the benchmark's own, thrown away at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.processes import BenchmarkError, Command, end, start, tree_cpu_seconds, wait_until

# PostgreSQL's defaults, which keep every commit safe (fsync and synchronous_commit on), but for two: more
# shared memory than the 128 MB meant for the smallest machines, and connections for a fleet of 100 workers.
SETTINGS = {"shared_buffers": "512MB", "max_connections": "600"}
FIRST_WITH_STRATEGY = 150000


class Cluster:
    """One server; databases are made, copied and dropped in it."""

    def __init__(self, directory: Path, process: subprocess.Popen[bytes], port: int) -> None:
        self.directory = directory
        self.process = process
        self.port = port
        self._made = 0
        self._templates: dict[str, str] = {}

    def url(self, database: str = "postgres") -> str:
        """A URL of a database, over the loopback."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def connect(self, url: str | None = None) -> psycopg.Connection[Any]:
        """A connection in autocommit mode."""
        return psycopg.connect(url or self.url(), autocommit=True, connect_timeout=10)

    def create(self, template: str = "template1") -> str:
        """A new database, as a copy of another one; returns its name. A checkpoint goes first, so that nobody's run
        pays for the writes of the one before."""
        self._made += 1
        name = f"bench{self._made}"
        with self.connect() as connection:
            connection.execute("CHECKPOINT")
            # Copied as files: writing a large copy to the log would leave a checkpoint to the run that follows.
            strategy = "STRATEGY file_copy" if connection.info.server_version >= FIRST_WITH_STRATEGY else ""
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} {strategy}")
            connection.execute("CHECKPOINT")
        return name

    def drop(self, name: str) -> None:
        """Take a database away, and end the sessions in it."""
        with suppress(psycopg.Error), self.connect() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def template(self, key: str) -> str | None:
        """The database remembered by this key, if there is one."""
        return self._templates.get(key)

    def remember(self, key: str, name: str) -> None:
        """Remember a database to make copies of."""
        self._templates[key] = name

    def forget_templates(self) -> None:
        """Drop the databases that were remembered."""
        while self._templates:
            self.drop(self._templates.popitem()[1])

    @contextmanager
    def without_autovacuum(self) -> Iterator[None]:
        """While the block runs, autovacuum is off."""
        self._configure("SET autovacuum = off")
        try:
            yield
        finally:
            self._configure("RESET autovacuum")

    def _configure(self, change: str) -> None:
        with self.connect() as connection:
            connection.execute(f"ALTER SYSTEM {change}")
            connection.execute("SELECT pg_reload_conf()")

    def cpu_seconds(self) -> float:
        """CPU time of the whole server so far."""
        return tree_cpu_seconds(self.process.pid)

    def version(self) -> str:
        """As the server tells it."""
        with self.connect() as connection:
            return str(connection.info.parameter_status("server_version"))


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A server that runs while the block does."""
    bindir = _bindir()
    directory = Path(tempfile.mkdtemp(prefix="shithubd-bench-pg-"))
    process: subprocess.Popen[bytes] | None = None
    try:
        account = _account()
        if account:
            os.chown(directory, account["user"], account["group"])
        data, port, log = directory / "data", _free_port(), directory / "log"
        _initdb(bindir, data, account)
        settings = SETTINGS | {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(directory),
        }
        arguments = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        process = start(Command([bindir / "postgres", "-D", data, *arguments]), log, **account)
        cluster = Cluster(directory, process, port)
        wait_until(lambda: _accepts(cluster, log), 60, "PostgreSQL to accept connections")
        yield cluster
    finally:
        if process is not None:
            end(process, signal.SIGINT)  # a fast shutdown
        shutil.rmtree(directory, ignore_errors=True)


def _accepts(cluster: Cluster, log: Path) -> bool:
    if cluster.process.poll() is not None:
        raise BenchmarkError(f"PostgreSQL ended at once: {log.read_text(errors='replace').strip()[-300:]}")
    try:
        cluster.connect().close()
    except psycopg.OperationalError:
        return False
    return True


def _initdb(bindir: Path, data: Path, account: dict[str, Any]) -> None:
    done = subprocess.run(
        [bindir / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"],
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
        **account,
    )
    if done.returncode:
        raise BenchmarkError(f"initdb failed: {done.stderr.strip()}")


def _bindir() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    raise BenchmarkError("PostgreSQL's server is not installed: `sudo apt-get install postgresql`, or `make setup`")


def pgbench() -> Path:
    """The load generator that comes with the server."""
    return _bindir() / "pgbench"


def _account() -> dict[str, Any]:
    """Who runs the server in place of root, who may not; empty for anybody else."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise BenchmarkError("run as root, the benchmark needs a user postgres or nobody for the database")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
