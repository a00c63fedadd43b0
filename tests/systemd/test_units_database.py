"""What a worker does if its database goes away, comes late, or refuses it, on a real systemd host."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from nspawn import Host, NspawnError, eventually
from worker_host import (
    UNIT,
    drop_in,
    enqueue,
    in_flight,
    open_door,
    outcomes,
    postgresql,
    start_postgresql,
    status_text,
)

pytestmark = pytest.mark.timeout(900)  # the first test boots the host and installs everything
AWAY = "waiting for the database"


@pytest.fixture
def cluster(host: Host) -> Iterator[str]:
    """The unit of PostgreSQL, which a test may stop. It runs again afterwards."""
    yield postgresql(host)
    start_postgresql(host)


def test_a_job_survives_a_restart_of_postgresql(host: Host, cluster: str) -> None:
    host.run("systemctl", "start", UNIT)
    before = host.show(UNIT, "MainPID", "NRestarts")
    number = in_flight(host, "test.waits", door="door")
    host.run("systemctl", "restart", cluster)
    open_door(host)
    eventually(lambda: outcomes(host, number) == ["ok"], "the job is done, in one run")
    assert host.show(UNIT, "MainPID", "NRestarts") == before


@pytest.mark.parametrize("seconds", [0, pytest.param(61, marks=pytest.mark.long)])
def test_a_worker_waits_for_postgresql_and_settles_the_jobs_done_meanwhile(
    host: Host, cluster: str, seconds: float
) -> None:
    host.run("systemctl", "start", UNIT)
    before = host.show(UNIT, "MainPID", "NRestarts")
    number = in_flight(host, "test.waits", door="door")
    host.run("systemctl", "stop", cluster)
    eventually(lambda: "; database away" in status_text(host), "the status says so")
    open_door(host)
    eventually(lambda: status_text(host) == AWAY, "the job is done, but not settled")
    time.sleep(seconds)
    host.run("systemctl", "start", cluster)
    eventually(lambda: outcomes(host, number) == ["ok"], "the job is settled, in one run")
    eventually(lambda: status_text(host) == "idle", "the worker is idle")
    assert host.show(UNIT, "MainPID", "NRestarts") == before


def test_a_worker_that_starts_before_its_database_waits_and_says_so(host: Host, cluster: str) -> None:
    host.run("systemctl", "stop", cluster)
    with host.popen("systemctl", "start", UNIT) as start:
        eventually(lambda: status_text(host).startswith(AWAY), "the status says so")
        assert host.show(UNIT, "ActiveState") == {"ActiveState": "activating"}
        assert start.poll() is None
        host.run("systemctl", "start", cluster)
        assert start.wait(120) == 0
    assert host.show(UNIT, "ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}


@pytest.mark.long
def test_a_worker_whose_database_takes_too_long_is_started_again_until_it_is_there(host: Host, cluster: str) -> None:
    drop_in(host, UNIT, "[Service]\nEnvironment=SHITHUBD_WORKER_DATABASE_WAIT=0.1\n")
    host.run("systemctl", "stop", cluster)
    host.run("systemctl", "start", "--no-block", UNIT)
    eventually(lambda: int(host.show(UNIT, "NRestarts")["NRestarts"]) >= 2, "a second restart")
    assert "status=75" in host.journal(UNIT)
    host.run("systemctl", "start", cluster)
    eventually(lambda: host.show(UNIT, "ActiveState") == {"ActiveState": "active"}, "it is up")


def test_a_worker_works_after_a_boot_whose_database_comes_late(host: Host, cluster: str) -> None:
    """As close to a boot as a running host allows: all but the basics is stopped, then everything enabled is
    started."""
    number = enqueue(host, "test.touch", name="after the boot")
    basics = "/run/systemd/system/basics.target"
    host.write(basics, "[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n")
    host.run("systemctl", "mask", "--runtime", "postgresql.service")  # which starts the cluster
    try:
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "isolate", "basics.target")
        host.run("systemctl", "isolate", "--no-block", "multi-user.target")
        eventually(lambda: status_text(host).startswith(AWAY), "the worker waits")
        host.run("systemctl", "start", cluster)
        eventually(lambda: outcomes(host, number) == ["ok"], "the worker works")
        assert host.show(UNIT, "ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}
        eventually(lambda: host.run("systemctl", "list-jobs", "--no-legend") == "", "the boot is over")
    finally:
        host.run("systemctl", "unmask", "--runtime", "postgresql.service")
        host.run("rm", basics)
        host.run("systemctl", "daemon-reload")


def test_a_wrong_password_fails_the_unit_once_and_the_journal_says_why(host: Host) -> None:
    host.psql("postgres", "ALTER ROLE shithub PASSWORD 'another one'")
    with pytest.raises(NspawnError):
        host.run("systemctl", "start", UNIT)
    shown = host.show(UNIT, "ActiveState", "Result", "ExecMainStatus", "NRestarts")
    assert shown == {"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "77", "NRestarts": "0"}
    said = "the database refuses this login: "
    eventually(lambda: said in host.journal(UNIT), "the journal says why")
    told = host.journal(UNIT)
    assert "password authentication failed" in told
    assert "battery" not in told
