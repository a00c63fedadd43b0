"""Start and stop, by their effect on a real systemd host."""

from __future__ import annotations

import time

import pytest
from nspawn import Host, eventually
from worker_host import (
    UNIT,
    UNITS,
    drop_in,
    enqueue,
    in_flight,
    job,
    open_door,
    outcomes,
    processes,
    state,
    status_text,
    stopping,
)

pytestmark = pytest.mark.timeout(900)  # the first test boots the host and installs everything


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
    eventually(lambda: outcomes(host, number) == ["ok"], "the job is done")
    assert host.run("stat", "--format=%U %a", "/var/lib/shithub/touched").split() == ["shithub", "640"]

    number = in_flight(host, "test.waits", door="door")
    says = f"running test.waits {number} for "
    eventually(lambda: status_text(host).startswith(says), "the status names the job")
    open_door(host)
    eventually(lambda: status_text(host) == "idle", "the status is idle again")


def test_stop_lets_the_job_finish(host: Host) -> None:
    host.run("systemctl", "start", UNIT)
    # The job runs a program, because KillMode= decides whether the stop kills it.
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
    """drop-ins/long-drain.conf, with a TimeoutStopSec= that is short enough for the test."""
    drop_in(host, UNIT, (UNITS / "drop-ins/long-drain.conf").read_text() + "TimeoutStopSec=2\n")
    host.run("systemctl", "start", UNIT)
    number = in_flight(host, "test.child", door="door")
    with stopping(host, UNIT):
        time.sleep(3)  # longer than TimeoutStopSec=
        open_door(host)
    assert host.show(UNIT, "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}
    assert outcomes(host, number) == ["ok"]


def test_a_long_drain_has_an_end(host: Host) -> None:
    """The same up to its limit: systemd waits for longer than TimeoutStopSec=, but not for ever."""
    drop_in(host, UNIT, "[Service]\nEnvironment=SHITHUBD_WORKER_GRACE=4\nTimeoutStopSec=2\n")
    host.run("systemctl", "start", UNIT)
    number = in_flight(host, "test.waits", door="never opened")
    host.run("systemctl", "stop", UNIT)
    assert host.show(UNIT, "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}
    assert outcomes(host, number) == ["released"]


def test_a_stop_ends_a_job_that_hears_no_signal_and_gives_it_back(host: Host) -> None:
    drop_in(host, UNIT, "[Service]\nEnvironment=SHITHUBD_WORKER_GRACE=0\n")
    host.run("systemctl", "start", UNIT)
    number = in_flight(host, "test.deaf", may_run=3600)
    host.run("systemctl", "stop", UNIT)
    assert host.show(UNIT, "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}
    assert outcomes(host, number) == ["released"]


@pytest.mark.long
def test_a_stop_leaves_no_process_even_if_one_left_the_session(host: Host) -> None:
    host.run("systemctl", "start", UNIT)
    number = in_flight(host, "test.litters", door="door")
    open_door(host)
    eventually(lambda: outcomes(host, number) == ["ok"], "the job is done")
    pid = host.show(UNIT, "MainPID")["MainPID"]
    eventually(lambda: len(processes(host)) == 2, "one of its children remains")
    assert pid in processes(host)
    host.run("systemctl", "stop", UNIT)
    assert processes(host) == []
    assert host.show(UNIT, "Result") == {"Result": "success"}
