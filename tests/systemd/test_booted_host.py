"""The worker's units by their effect, on a real systemd host."""

from __future__ import annotations

import json
import time
from typing import Any

import nspawn
import pytest
from nspawn import Host, eventually
from worker_host import (
    PROGRAM,
    UNIT,
    UNITS,
    drop_in,
    enqueue,
    in_flight,
    job,
    open_door,
    outcomes,
    runs,
    state,
    status_text,
    stopping,
)

pytestmark = pytest.mark.timeout(900)  # the first one boots the host and installs everything
SECOND = "shithubd-worker@second.service"
TARGET = "shithubd-worker.target"


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

    eventually("the job runs again", lambda: runs(host, number))
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


def test_the_journal_can_be_asked_for_a_job_and_says_where_its_runbook_is(host: Host) -> None:
    host.run("systemctl", "start", UNIT)
    number = enqueue(host, "test.fails")

    def entries(*what: str) -> list[dict[str, Any]]:
        lines = host.run("journalctl", "--output=json", "--no-pager", f"SHITHUB_JOB_ID={number}", *what).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    [entry] = eventually("the journal tells of the job", entries)
    assert "it can't work:\nthere is a reason" in entry["MESSAGE"]
    assert "in fails" in entry["MESSAGE"], "the stack is in the same entry"
    assert (entry["SHITHUB_KIND"], entry["SHITHUB_OUTCOME"], entry["PRIORITY"]) == ("test.fails", "failed", "4")
    assert (entry["_SYSTEMD_UNIT"], entry["SYSLOG_IDENTIFIER"]) == (UNIT, "shithubd-worker")
    assert entries("SHITHUB_KIND=test.fails") == [entry]
    assert entries("SHITHUB_KIND=test.touch") == []
    told = host.run("journalctl", "--catalog", "--no-pager", f"SHITHUB_JOB_ID={number}")
    assert f"shithubd-worker jobs show {number}" in told
    assert "shithubd-worker runbook failed-jobs" in told


def test_the_journal_tells_that_a_job_came_back_from_a_dead_worker(host: Host) -> None:
    host.run("systemctl", "start", UNIT)
    number = in_flight(host, "test.waits", door="door")
    host.run("systemctl", "kill", "--signal=KILL", UNIT)

    def story() -> str:
        return host.run("journalctl", "--output=cat", "--no-pager", f"SHITHUB_JOB_ID={number}", check=False)

    eventually("the crash is told", lambda: "returned: crashed" in story())
    open_door(host)
    eventually("and then the end", lambda: " ok after " in story())


def test_the_units_are_as_shipped_until_somebody_changes_them_and_go_only_while_nothing_runs(host: Host) -> None:
    assert host.run("shithubd-worker", "units", "diff") == ""
    assert "unchanged" in host.run("shithubd-worker", "units", "install")
    assert f"ExecStart={PROGRAM} run" in host.run("systemctl", "cat", UNIT)
    host.run("systemctl", "start", UNIT)
    with pytest.raises(nspawn.NspawnError, match="exit code 5") as refused:
        host.run("shithubd-worker", "units", "uninstall")
    assert f"still active: {UNIT}. First: systemctl stop" in str(refused.value)
    host.run("systemctl", "stop", UNIT)
    try:
        assert "systemctl disable" in host.run("shithubd-worker", "units", "uninstall")
        assert host.show(UNIT, "LoadState") == {"LoadState": "not-found"}
        assert host.run("find", "/etc/systemd/system", "-name", "shithubd-worker*", "-type", "l") == ""
        assert host.run("ls", "/etc/shithub") != ""
    finally:
        host.run("shithubd-worker", "units", "install")
        host.run("systemctl", "enable", "--quiet", UNIT)
