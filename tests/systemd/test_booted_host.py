"""The worker on a real systemd host: installed as a user would, against Debian's PostgreSQL under its own unit.

One host is booted for the module. Each test leaves the workers stopped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nspawn
import pytest
from nspawn import Host, eventually

REPOSITORY = Path(__file__).parents[2]
UNITS = REPOSITORY / "units"
PYTHON = "/usr/bin/python3"  # the service's user can't read a Python in somebody's home
pytestmark = pytest.mark.timeout(900)  # the first one boots the host and installs everything
UNIT = "shithubd-worker.service"
SECOND = "shithubd-worker@second.service"
TARGET = "shithubd-worker.target"
PASSWORD = "correct horse: battery"
DOOR = "/var/lib/shithub/door"  # at which jobs of the tests wait, so that they take as long as the test does
WORKER_ENV = """
PGHOST=127.0.0.1
PGUSER=shithub
PGDATABASE=shithub
PYTHONPATH=/srv/forge
SHITHUBD_WORKER_HANDLERS=host_jobs:registry
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


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with our wheel and those that it depends on, for the host's Python."""
    if reason := _why_not():
        assert os.environ.get("CI") != "true", reason
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("wheels")
    tool = tmp_path_factory.mktemp("pip")
    _output(PYTHON, "-m", "venv", tool)
    _output(tool / "bin/pip", "wheel", "--quiet", "--wheel-dir", directory, REPOSITORY)
    shutil.rmtree(tool)
    return directory


@pytest.fixture(scope="module")
def host(wheels: Path) -> Iterator[Host]:
    """The booted host with the worker installed, its configuration written and its database migrated."""
    with Host("shw-host", bind_ro={wheels: "/mnt/wheels"}) as host:
        _install(host)
        _configure(host)
        yield host


def _install(host: Host) -> None:
    host.run(PYTHON, "-m", "venv", "/opt/shithubd-worker")
    pip = "/opt/shithubd-worker/bin/pip install --quiet --no-index --find-links=/mnt/wheels"
    host.run(*pip.split(), "shithubd-worker")
    host.run("ln", "-s", "/opt/shithubd-worker/bin/shithubd-worker", "/usr/bin/shithubd-worker")
    for unit in UNITS.iterdir():
        if unit.suffix in (".service", ".target", ".slice"):
            host.write(f"/usr/lib/systemd/system/{unit.name}", unit.read_text())
    host.write("/usr/lib/sysusers.d/shithubd-worker.conf", (UNITS / "shithubd-worker.sysusers.conf").read_text())
    host.write("/usr/lib/tmpfiles.d/shithubd-worker.conf", (UNITS / "shithubd-worker.tmpfiles.conf").read_text())
    preset = "80-shithubd-worker.preset"
    host.write(f"/usr/lib/systemd/system-preset/{preset}", (UNITS / preset).read_text())
    host.run("systemd-sysusers", "shithubd-worker.conf")
    host.run("systemd-tmpfiles", "--create", "shithubd-worker.conf")
    # Enabled, it stays loaded after a stop, so that systemd remembers how it ended.
    host.run("systemctl", "enable", "--quiet", UNIT)


def _configure(host: Host) -> None:
    cluster = host.run("pg_lsclusters", "-h").split()
    host.run("systemctl", "start", f"postgresql@{cluster[0]}-{cluster[1]}.service")
    host.psql("postgres", f"CREATE ROLE shithub LOGIN PASSWORD '{PASSWORD}'", "CREATE DATABASE shithub OWNER shithub")
    host.write("/srv/forge/host_jobs.py", Path(__file__).with_name("host_jobs.py").read_text())
    host.write("/etc/shithub/worker.env", WORKER_ENV, "0640")
    host.run("chgrp", "shithub", "/etc/shithub/worker.env")
    host.write("/etc/shithub/pgpass", f"127.0.0.1:*:shithub:shithub:{PASSWORD.replace(':', chr(92) + ':')}\n", "0600")
    cli(host, "migrate")


@pytest.fixture(autouse=True)
def stopped(host: Host) -> Iterator[None]:
    """Afterwards no worker runs, no job is left, and nothing of a test's own configuration."""
    began = time.time()
    yield
    print(host.journal("shithubd-worker*", began))  # shown for a test that failed
    host.run("systemctl", "stop", "shithubd-worker*", check=False)
    host.run("systemctl", "reset-failed", check=False)
    host.run("sh", "-c", "rm -rf /etc/systemd/system/shithubd-worker*.d")
    host.run("systemctl", "daemon-reload")
    host.psql("shithub", "TRUNCATE jobs, job_history, workers, holds")
    host.run("rm", "-f", DOOR)


def cli(host: Host, *arguments: str) -> str:
    """A command of the operator's, as the forge's user over the unix socket: no password."""
    as_the_forge = "runuser -u shithub -- env PGHOST=/run/postgresql PGDATABASE=shithub"
    return host.run(*as_the_forge.split(), "/usr/bin/shithubd-worker", *arguments)


def enqueue(host: Host, kind: str, **payload: object) -> int:
    return int(cli(host, "enqueue", kind, json.dumps(payload)))


def job(host: Host, number: int) -> dict[str, Any] | None:
    return next(iter(host.sql("shithub", f"SELECT * FROM jobs WHERE id = {number}")), None)


def state(host: Host, number: int) -> str | None:
    row = job(host, number)
    return row and row["state"]


def outcomes(host: Host, number: int) -> list[str]:
    rows = host.sql("shithub", f"SELECT outcome FROM job_history WHERE id = {number} ORDER BY finished_at")
    return [row["outcome"] for row in rows]


def in_flight(host: Host, kind: str, **payload: object) -> int:
    """The id of a new job, once it runs."""
    number = enqueue(host, kind, **payload)
    eventually(f"job {number} runs", lambda: state(host, number) == "processing")
    return number


def open_door(host: Host) -> None:
    """Let the jobs that wait finish, and those that come."""
    host.run("touch", DOOR)


@contextmanager
def stopping(host: Host, unit: str) -> Iterator[None]:
    """`systemctl stop`, under way in the block, and over without a fault after it."""
    with host.popen("systemctl", "stop", unit) as stop:
        eventually("the stop is heard", lambda: host.show(unit, "ActiveState")["ActiveState"] == "deactivating")
        yield
        assert stop.wait(nspawn.PATIENCE) == 0


def status_text(host: Host) -> str:
    """What the worker told systemd last."""
    return host.show(UNIT, "StatusText")["StatusText"]


def drop_in(host: Host, unit: str, text: str) -> None:
    host.write(f"/etc/systemd/system/{unit}.d/test.conf", text)
    host.run("systemctl", "daemon-reload")


def test_start_returns_when_the_worker_can_lease(host: Host) -> None:
    host.run("systemctl", "start", UNIT)
    shown = host.show(UNIT, "ActiveState", "SubState", "StatusText", "Type", "WatchdogUSec", "NRestarts", "Slice")
    assert shown == {
        "ActiveState": "active",
        "SubState": "running",
        "StatusText": "idle",
        "Type": "notify",
        "WatchdogUSec": "30s",
        "NRestarts": "0",
        "Slice": "shithubd-worker.slice",
    }
    [worker] = host.sql("shithub", "SELECT unit, invocation_id, pid FROM workers")
    known = host.show(UNIT, "InvocationID", "MainPID")
    assert worker["unit"] == UNIT
    assert worker["invocation_id"] == known["InvocationID"]

    number = enqueue(host, "test.touch", name="touched")
    eventually("the job is done", lambda: outcomes(host, number) == ["ok"])
    assert host.run("stat", "--format=%U %a", "/var/lib/shithub/touched").split() == ["shithub", "640"]

    number = in_flight(host, "test.waits", door="door")
    says = f"running test.waits {number} for "
    eventually("the status names the job", lambda: status_text(host).startswith(says))
    open_door(host)
    eventually("the status is idle again", lambda: status_text(host) == "idle")


def test_stop_lets_the_job_finish(host: Host) -> None:
    host.run("systemctl", "start", UNIT)
    # A program under the job, because KillMode= decides whether the stop kills it.
    number = in_flight(host, "test.child", door="door")
    waiting = enqueue(host, "test.touch", name="never")
    with stopping(host, UNIT):
        assert outcomes(host, number) == []
        open_door(host)
    shown = host.show(UNIT, "ActiveState", "Result", "ExecMainCode", "ExecMainStatus")
    assert shown == {"ActiveState": "inactive", "Result": "success", "ExecMainCode": "1", "ExecMainStatus": "0"}
    assert outcomes(host, number) == ["ok"]
    assert state(host, waiting) == "queued"
    assert host.sql("shithub", "SELECT id FROM jobs WHERE state = 'processing'") == []
    assert host.sql("shithub", "SELECT id FROM workers") == []


def test_stop_releases_a_job_that_takes_longer_than_the_grace(host: Host) -> None:
    drop_in(host, UNIT, "[Service]\nEnvironment=SHITHUBD_WORKER_GRACE=1\n")
    host.run("systemctl", "start", UNIT)
    number = in_flight(host, "test.waits", door="never opened")
    host.run("systemctl", "stop", UNIT)
    assert host.show(UNIT, "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}
    row = job(host, number)
    assert row
    assert (row["state"], row["attempts"], row["crashes"]) == ("queued", 0, 0)
    assert outcomes(host, number) == ["released"]


def test_a_long_drain_outlasts_the_stop_timeout(host: Host) -> None:
    """drop-ins/long-drain.conf, with a TimeoutStopSec= that the test can wait for."""
    drop_in(host, UNIT, (UNITS / "drop-ins/long-drain.conf").read_text() + "TimeoutStopSec=2\n")
    host.run("systemctl", "start", UNIT)
    number = in_flight(host, "test.child", door="door")
    with stopping(host, UNIT):
        time.sleep(3)  # longer than TimeoutStopSec=, at least
        open_door(host)
    assert host.show(UNIT, "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}
    assert outcomes(host, number) == ["ok"]


def test_a_killed_worker_gives_its_job_back_at_once(host: Host) -> None:
    host.run("systemctl", "start", UNIT)
    number = in_flight(host, "test.waits", door="door")
    dead = host.show(UNIT, "MainPID", "InvocationID")
    host.run("kill", "-KILL", dead["MainPID"])
    crashed = f"SELECT attempts, error FROM job_history WHERE id = {number} AND outcome = 'crashed'"
    [row] = eventually("the lease is returned", lambda: host.sql("shithub", crashed))
    assert row["attempts"] == 1
    assert "systemd says signal" in row["error"]  # so ExecStopPost= did it, and not the worker that came next

    eventually("the job runs again", lambda: state(host, number) == "processing")
    alive = host.show(UNIT, "MainPID", "InvocationID", "NRestarts")
    assert alive["NRestarts"] == "1"
    assert alive["InvocationID"] != dead["InvocationID"]
    open_door(host)
    eventually("the job is done", lambda: outcomes(host, number) == ["crashed", "ok"])


def test_a_wrong_configuration_fails_once(host: Host) -> None:
    drop_in(host, UNIT, "[Service]\nEnvironment=SHITHUBD_WORKER_GRACE=soon\n")
    with pytest.raises(nspawn.NspawnError):
        host.run("systemctl", "start", UNIT)
    shown = host.show(UNIT, "ActiveState", "ExecMainStatus", "NRestarts")
    assert shown == {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0"}
    eventually("the journal says why", lambda: "SHITHUBD_WORKER_GRACE" in host.journal(UNIT))


def test_a_host_without_a_secret(host: Host) -> None:
    """Peer authentication by unix socket, with no network at all: drop-ins/offline.conf, and no pgpass."""
    host.run("mv", "/etc/shithub/pgpass", "/etc/shithub/pgpass.away")
    host.write("/etc/shithub/shithubd-worker.env", "PGHOST=/run/postgresql\n")
    drop_in(host, UNIT, (UNITS / "drop-ins/offline.conf").read_text())
    try:
        host.run("systemctl", "start", UNIT)
        number = in_flight(host, "test.waits", door="door")
        host.run("systemctl", "kill", "--signal=KILL", UNIT)
        open_door(host)
        eventually("the job is done", lambda: outcomes(host, number) == ["crashed", "ok"])
    finally:
        host.run("mv", "/etc/shithub/pgpass.away", "/etc/shithub/pgpass")
        host.run("rm", "/etc/shithub/shithubd-worker.env")


def test_stopping_the_target_returns_when_all_workers_are_down(host: Host) -> None:
    drop_in(host, SECOND, "[Service]\nEnvironment=SHITHUBD_WORKER_METRICS=127.0.0.1:8082\n")
    host.run("systemctl", "enable", "--quiet", SECOND)
    try:
        host.run("systemctl", "start", TARGET)
        eventually("both are up", lambda: len(host.sql("shithub", "SELECT id FROM workers WHERE idle")) == 2)
        numbers = [in_flight(host, "test.waits", door="door"), in_flight(host, "test.waits", door="door")]
        assert len({row["leased_by"] for row in host.sql("shithub", "SELECT leased_by FROM jobs")}) == 2
        with host.popen("systemctl", "stop", TARGET) as stop:
            for unit in (UNIT, SECOND):
                eventually(f"{unit} stops", lambda u=unit: host.show(u, "ActiveState")["ActiveState"] == "deactivating")
            open_door(host)
            assert stop.wait(nspawn.PATIENCE) == 0
        for unit in (UNIT, SECOND):
            assert host.show(unit, "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
        assert [outcomes(host, number) for number in numbers] == [["ok"], ["ok"]]
    finally:
        host.run("systemctl", "disable", "--quiet", SECOND)


def test_the_instance_for_webhooks(host: Host) -> None:
    unit = "shithubd-worker@webhooks.service"
    drop_in(host, unit, (UNITS / "drop-ins/webhooks.conf").read_text())
    host.run("systemctl", "start", unit)
    assert host.sql("shithub", "SELECT unit, kinds FROM workers") == [{"unit": unit, "kinds": ["webhook.deliver"]}]


def probed(host: Host) -> dict[str, Any]:
    """What a job found out about the unit that it runs in."""
    number = enqueue(host, "test.probe")
    eventually("the probe is done", lambda: outcomes(host, number) == ["ok"])
    return dict(json.loads(host.run("cat", "/var/lib/shithub/probe.json")))


def test_what_a_job_can_do_inside_the_unit(host: Host) -> None:
    """The hardening is in force, and git works all the same."""
    host.run("systemctl", "start", UNIT)
    found = probed(host)
    assert (found["git init"], found["git gc"]) == (0, 0)
    assert found["git init --shared"] != 0
    assert found["writable"] == {
        "/etc/probe": "OSError",
        "/opt/probe": "OSError",
        "/home/probe": "PermissionError",
        "/root/probe": "PermissionError",
        "/tmp/probe": True,
    }
    assert host.run("sh", "-c", "ls /tmp").split().count("probe") == 0
    assert (found["no_new_privs"], found["capabilities"], found["seccomp"]) == ("1", 0, "2")
    for private in ("PGPASSFILE", "NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "INVOCATION_ID", "SHITHUBD_WORKER_"):
        assert private not in found["environment"]
    # The password is nowhere that others can read.
    told = host.run("systemctl", "show", UNIT) + host.journal(UNIT)
    assert "battery" not in told
    assert host.run("stat", "--format=%U %a", "/run/shithubd-worker/pgpass").split() == ["shithub", "600"]


def test_shared_repositories_take_a_drop_in(host: Host) -> None:
    drop_in(host, UNIT, (UNITS / "drop-ins/shared-repos.conf").read_text())
    host.run("systemctl", "start", UNIT)
    assert probed(host)["git init --shared"] == 0
