"""Every way to die, on a real systemd host."""

from __future__ import annotations

import pytest
from nspawn import Host, eventually
from worker_host import UNIT, in_flight, open_door, outcomes, runs

pytestmark = pytest.mark.timeout(900)  # the first one boots the host and installs everything


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
