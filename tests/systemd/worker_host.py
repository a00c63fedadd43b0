"""The worker on a booted host: installed as a user would, against Debian's PostgreSQL under its own unit.

One host is booted for all tests that want one; each gets it with its workers stopped and its queue empty.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import nspawn
import pytest
from nspawn import Host, eventually

REPOSITORY = Path(__file__).parents[2]
UNITS = REPOSITORY / "units"
PYTHON = "/usr/bin/python3"  # the service's user can't read a Python in somebody's home
PROGRAM = "/opt/shithubd-worker/bin/shithubd-worker"
UNIT = "shithubd-worker.service"
PASSWORD = "correct horse: battery"
# Who logs in to the database, and what as: the least. root is let in by his name, and is on call, too.
LOGINS = {
    "shithub": "shithub_worker",
    "shithub-admin": "shithub_migrate",
    "oncall": "shithub_operator",
    "root": "shithub_operator",
}
DOOR = "/var/lib/shithub/door"  # at which jobs of the tests wait, so that they take as long as the test does
WORKER_ENV = """
PGHOST={database}
PGUSER=shithub
PGDATABASE=shithub
PYTHONPATH=/srv/forge
SHITHUBD_WORKER_HANDLERS={handlers} forge
"""


def _why_not() -> str | None:
    if reason := nspawn.why_not():
        return reason
    if shutil.which("pg_lsclusters") is None:
        return "pg_lsclusters is missing (Debian: postgresql)"
    clusters = [line.split() for line in _output("pg_lsclusters", "-h").splitlines()]
    if not clusters:
        return "there is no PostgreSQL cluster on this machine (pg_createcluster 15 main)"
    if any(cluster[3] != "down" for cluster in clusters):
        return "a PostgreSQL cluster runs on this machine: its files can't be shared with a second server"
    if subprocess.run([PYTHON, "-c", "import venv, ensurepip"], check=False, capture_output=True).returncode:
        return f"{PYTHON} has no venv module (Debian: python3-venv)"
    return None


def _output(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory, testrun_uid: str) -> Path:
    """A directory with our wheel and those that it depends on, for the host's Python: built by the first of the
    processes that share the tests, while the others wait."""
    if reason := _why_not():
        assert os.environ.get("CI") != "true", reason
        pytest.skip(reason)
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"wheels-{testrun_uid}"
    with one_at_a_time(shared):
        if not shared.exists():
            building = tmp_path_factory.mktemp("building")
            build_wheels(building)
            building.rename(shared)
    return shared


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Only one of the processes that share the tests makes what stands at the path."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build_wheels(directory: Path) -> None:
    """Our wheel and those that it depends on, for the host's Python."""
    _output(REPOSITORY / "scripts/wheels", directory)


@pytest.fixture(scope="session")
def two_phase(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, str]:
    """A setting of PostgreSQL for applications that use two-phase commit, and its place. PostgreSQL reads it when the
    host boots."""
    setting = tmp_path_factory.mktemp("setting") / "two_phase.conf"
    setting.write_text("max_prepared_transactions = 5\n")
    version, name, *_ = _output("pg_lsclusters", "-h").split()
    return {setting: f"/etc/postgresql/{version}/{name}/conf.d/{setting.name}"}


@pytest.fixture(scope="session")
def booted(wheels: Path, two_phase: dict[Path, str]) -> Iterator[Host]:
    """The booted host with the worker installed, its database made and migrated."""
    with Host("shw-host", bind_ro={wheels: "/mnt/wheels"} | two_phase) as host:
        install(host, wheels.with_suffix(".tar"))
        make_database(host)
        yield host


@pytest.fixture
def host(booted: Host) -> Iterator[Host]:
    """The same for one test: configured as at first; afterwards no worker runs and no job is left."""
    began = time.time()
    configure(booted)
    yield booted
    print(booted.journal("shithubd-worker*", began))  # shown for a test that failed
    reset(booted)
    empty(booted)


def empty(host: Host) -> None:
    """Its database has no job, no history, no worker and no hold."""
    host.psql(
        "shithub",
        "TRUNCATE jobs, job_history, workers, beats, holds, ramps, ramp_ends, kind_stats, audit, audit_chunks",
    )


def reset(host: Host) -> None:
    """No worker runs on it, and its units are as shipped."""
    open_door(host)
    host.run("systemctl", "stop", "shithubd-worker*", check=False)
    host.run("systemctl", "reset-failed", check=False)
    host.run("sh", "-c", "rm -rf /etc/systemd/system/shithubd-worker*.d /etc/shithub/shithubd-worker*.env")
    host.run("systemctl", "daemon-reload")
    host.run("rm", "-f", DOOR)


def install(host: Host, archive: Path | None = None) -> None:
    """The worker, from its wheel, as on a user's machine. The first host that is given the archive writes it. The
    others unpack it, because pip takes all processors for seconds."""
    if archive is None:
        install_environment(host)
    else:
        with one_at_a_time(archive):
            if archive.exists():
                with archive.open("rb") as file:
                    _tar(host, "-x", stdin=file)
            else:
                install_environment(host)
                with archive.open("wb") as file:
                    _tar(host, "-c", "shithubd-worker", stdout=file)
    host.run("ln", "-s", PROGRAM, "/usr/bin/shithubd-worker")
    host.run("shithubd-worker", "units", "install")
    # Enabled, it stays loaded after a stop, so that systemd remembers how it ended.
    host.run("systemctl", "enable", "--quiet", UNIT)


def install_environment(host: Host) -> None:
    """A virtual environment with the worker."""
    host.run(PYTHON, "-m", "venv", "/opt/shithubd-worker")
    pip = "/opt/shithubd-worker/bin/pip install --quiet --no-index --find-links=/mnt/wheels"
    host.run(*pip.split(), "shithubd-worker")


def _tar(host: Host, *arguments: str, **streams: Any) -> None:
    assert host.popen("tar", "-C", "/opt", *arguments, **streams).wait() == 0


def postgresql(host: Host) -> str:
    """The unit of Debian's cluster."""
    version, name, *_ = host.run("pg_lsclusters", "-h").split()
    return f"postgresql@{version}-{name}.service"


def start_postgresql(host: Host) -> None:
    """And wait until it answers, as the unit does."""
    host.run("systemctl", "start", postgresql(host))


def make_database(host: Host) -> None:
    """PostgreSQL, the role, the database and its schema; and the tests' own handlers."""
    start_postgresql(host)
    host.psql("postgres", "CREATE DATABASE shithub")
    as_superuser = "runuser -u postgres -- env PGHOST=/run/postgresql PGDATABASE=shithub"
    host.run(*as_superuser.split(), "/usr/bin/shithubd-worker", "migrate", "--roles")
    host.psql(
        "shithub",
        *(f'CREATE ROLE "{name}" LOGIN IN ROLE {role}' for name, role in LOGINS.items()),
        "GRANT pg_monitor TO shithub_operator",
    )
    bring_handlers(host)


def bring_handlers(host: Host) -> None:
    """The modules that the tests' workers load."""
    for module in (Path(__file__).with_name("host_jobs.py"), REPOSITORY / "tests/runbooks/page_jobs.py"):
        host.write(f"/srv/forge/{module.name}", module.read_text())


def configure(host: Host, handlers: str = "host_jobs:registry") -> None:
    """A host with the database on it: the role's password, and what the units read.

    The tables' owner is known by his name, as day-one leaves it: so root may not do what only the owner may.
    """
    host.psql("postgres", *(f"ALTER ROLE \"{name}\" PASSWORD '{PASSWORD}'" for name in LOGINS))
    tell_units(host, "127.0.0.1", handlers)
    host.write("/etc/shithub/owner.env", "PGHOST=/run/postgresql\nPGUSER=\n")


def tell_units(host: Host, database: str, handlers: str = "host_jobs:registry") -> None:
    """What the units of a host read: the environment, with the address of the database, and the password."""
    host.write("/etc/shithub/worker.env", WORKER_ENV.format(database=database, handlers=handlers), "0640")
    host.run("chgrp", "shithub", "/etc/shithub/worker.env")
    host.write("/etc/shithub/operator.env", "PGUSER=oncall\n")
    host.write("/etc/shithub/owner.env", "PGUSER=shithub-admin\n")
    for file, name in (("pgpass", "shithub"), ("operator.pgpass", "oncall"), ("owner.pgpass", "shithub-admin")):
        line = f"{database}:*:shithub:{name}:{PASSWORD.replace(':', chr(92) + ':')}\n"
        host.write(f"/etc/shithub/{file}", line, "0600")
    host.run("chown", "shithub-admin", "/etc/shithub/owner.pgpass")


def cli(host: Host, *arguments: str) -> str:
    """A command of the operator's, as root over the unix socket: no password."""
    return host.run("env", "PGHOST=/run/postgresql", "PGDATABASE=shithub", "/usr/bin/shithubd-worker", *arguments)


def enqueue(host: Host, kind: str, **payload: object) -> int:
    """The id of a new job, which comes by plain INSERT, as from any program."""
    text = json.dumps(payload).replace("'", "''")
    return int(host.psql("shithub", f"INSERT INTO jobs (kind, payload) VALUES ('{kind}', '{text}') RETURNING id"))


def job(host: Host, number: int) -> dict[str, Any] | None:
    return next(iter(host.sql("shithub", f"SELECT * FROM jobs WHERE id = {number}")), None)


def state(host: Host, number: int) -> str | None:
    row = job(host, number)
    return row and row["state"]


def runs(host: Host, number: int) -> bool:
    """Does its handler run? A job that is leased but hasn't started yet is given back by a stop."""
    return bool(host.sql("shithub", f"SELECT 1 FROM beats WHERE job_id = {number}"))


def outcomes(host: Host, number: int) -> list[str]:
    rows = host.sql("shithub", f"SELECT outcome FROM job_history WHERE id = {number} ORDER BY finished_at")
    return [row["outcome"] for row in rows]


def in_flight(host: Host, kind: str, **payload: object) -> int:
    """The id of a new job, once it runs."""
    number = enqueue(host, kind, **payload)
    eventually(lambda: runs(host, number), f"job {number} runs")
    return number


class Death(NamedTuple):
    """How a worker ended, in systemd's words, and when, in seconds of the host's clock."""

    result: str
    code: str
    status: str
    at: float


def death(host: Host, invocation: str) -> Death:
    """What the journal says of the end of a unit's invocation, once it has said all; of exit code 0 nothing."""
    exited, failed = "98e322203f7a4ed290d09fe03c09fe15", "d9b373ed55a64feb8242e02dbe79a49c"  # of systemd's own catalog

    def told(message: str, *more: str) -> dict[str, str]:
        command = ("journalctl", "--output=json", "--no-pager", f"INVOCATION_ID={invocation}", f"MESSAGE_ID={message}")
        return next((json.loads(line) for line in host.run(*command, *more).splitlines() if line.startswith("{")), {})

    end = eventually(lambda: told(exited, "COMMAND=ExecStart"), "its end is told")
    at = int(end["_SOURCE_REALTIME_TIMESTAMP"]) / 1e6
    result = eventually(lambda: told(failed), "the result is told")["UNIT_RESULT"]
    return Death(result, end["EXIT_CODE"], end["EXIT_STATUS"], at)


def ended(host: Host, number: int, times: int = 1) -> dict[str, Any]:
    """How the first, second, … lease of a job ended, once it has; `at`: when, in seconds of the database's clock."""
    query = (
        "SELECT outcome, attempts, error, extract(epoch FROM finished_at)::float AS at FROM job_history"
        f" WHERE id = {number} ORDER BY finished_at"
    )

    def rows() -> list[dict[str, Any]] | None:
        found = host.sql("shithub", query)
        return found if len(found) >= times else None

    return eventually(rows, f"lease {times} of job {number} is over")[times - 1]


def processes(host: Host) -> list[str]:
    """The pids of everything that runs as the forge's user."""
    return host.run("pgrep", "--euid", "shithub", check=False).split()


def open_door(host: Host) -> None:
    """Let the jobs that wait finish, and those that come."""
    host.run("sh", "-c", f"mkdir -p {Path(DOOR).parent} && touch {DOOR}")


@contextmanager
def stopping(host: Host, unit: str) -> Iterator[None]:
    """`systemctl stop`, under way in the block, and over without a fault after it."""
    with host.popen("systemctl", "stop", unit) as stop:
        eventually(lambda: host.show(unit, "ActiveState")["ActiveState"] == "deactivating", "the stop is heard")
        yield
        assert stop.wait(nspawn.PATIENCE) == 0


def status_text(host: Host) -> str:
    """What the worker told systemd last."""
    return host.show(UNIT, "StatusText")["StatusText"]


def drop_in(host: Host, unit: str, text: str) -> None:
    host.write(f"/etc/systemd/system/{unit}.d/test.conf", text)
    host.run("systemctl", "daemon-reload")
