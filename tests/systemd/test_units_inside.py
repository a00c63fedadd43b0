"""What a job can do inside the unit, and what it cannot."""

from __future__ import annotations

import json
from typing import Any

import pytest
from nspawn import Host, eventually
from worker_host import UNIT, UNITS, drop_in, enqueue, in_flight, open_door, outcomes, processes

pytestmark = pytest.mark.timeout(900)  # the first test boots the host and installs everything


def probed(host: Host) -> dict[str, Any]:
    """What a job found about the unit in which it runs."""
    number = enqueue(host, "test.probe")
    eventually(lambda: outcomes(host, number) == ["ok"], "the probe is done")
    return dict(json.loads(host.run("cat", "/var/lib/shithub/probe.json")))


def test_a_job_inside_the_unit_can_do_its_work_and_no_more(host: Host) -> None:
    """The hardening works, and git works, too."""
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
    assert [what for what, came in found["forbidden"].items() if came is True] == []


def test_without_the_hardening_a_job_can_do_what_it_forbids(host: Host) -> None:
    """This proves that the test above sees the unit's settings."""
    soft = ["RestrictNamespaces", "LockPersonality", "RestrictSUIDSGID", "MemoryDenyWriteExecute", "RestrictRealtime"]
    lines = [f"{setting}=no" for setting in soft]
    lines += ["RestrictAddressFamilies=", "SystemCallFilter=", "ProtectProc=default"]
    drop_in(host, UNIT, "\n".join(["[Service]", *lines]))
    host.run("systemctl", "start", UNIT)
    assert {what: came for what, came in probed(host)["forbidden"].items() if came is not True} == {}


def test_no_other_user_can_read_the_password(host: Host) -> None:
    host.run("systemctl", "start", UNIT)
    in_flight(host, "test.child", door="door")
    eventually(lambda: len(processes(host)) > 1, "the child runs")
    # Some processes have ended by now: the child starts short-lived children.
    environments = [host.run("cat", f"/proc/{pid}/environ", check=False) for pid in processes(host)]
    told = "".join([host.run("systemctl", "show", UNIT), host.journal(UNIT), *environments])
    assert "SHITHUBD_WORKER_UNIT" in told
    assert "battery" not in told
    assert sum("SHITHUBD_WORKER_UNIT" in environment for environment in environments) == 1, "the worker's own"
    assert host.run("stat", "--format=%U %a", "/run/shithubd-worker/pgpass").split() == ["shithub", "600"]


def test_shared_repositories_need_a_drop_in(host: Host) -> None:
    drop_in(host, UNIT, (UNITS / "drop-ins/shared-repos.conf").read_text())
    host.run("systemctl", "start", UNIT)
    assert probed(host)["git init --shared"] == 0


def test_a_worker_works_on_a_host_without_a_secret(host: Host) -> None:
    """Peer authentication by unix socket, without any network: drop-ins/offline.conf, and no pgpass."""
    host.run("mv", "/etc/shithub/pgpass", "/etc/shithub/pgpass.away")
    host.write("/etc/shithub/shithubd-worker.env", "PGHOST=/run/postgresql\n")
    drop_in(host, UNIT, (UNITS / "drop-ins/offline.conf").read_text())
    try:
        host.run("systemctl", "start", UNIT)
        number = in_flight(host, "test.waits", door="door")
        host.run("systemctl", "kill", "--signal=KILL", UNIT)
        open_door(host)
        eventually(lambda: outcomes(host, number) == ["crashed", "ok"], "the job is done")
    finally:
        host.run("mv", "/etc/shithub/pgpass.away", "/etc/shithub/pgpass")
        host.run("rm", "/etc/shithub/shithubd-worker.env")
