"""Two hosts on one network, with one database on the first of them.

They are clones of one machine, with the same machine id, as virtual machines often are.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from nspawn import Host, eventually
from worker_host import (
    UNIT,
    bring_handlers,
    ended,
    enqueue,
    in_flight,
    install,
    job,
    open_door,
    outcomes,
    postgresql,
    reset,
    runs,
    state,
    status_text,
    tell_units,
)

pytestmark = pytest.mark.timeout(900)  # the first test boots the hosts and installs everything
FIRST, SECOND = "10.77.0.1", "10.77.0.2"
# The shortest threshold for a beat each second, and a look for silent workers each second.
THRESHOLD = "SHITHUBD_WORKER_SWEEP_THRESHOLD=20 SHITHUBD_WORKER_HEARTBEAT_INTERVAL=1"
OFTEN = "SHITHUBD_WORKER_SWEEP_INTERVAL=1"


@pytest.fixture(scope="module")
def neighbour(booted: Host, wheels: Path) -> Iterator[Host]:
    """A second host with the worker installed, on a network with the first host, whose database accepts it."""
    with Host("shw-second", bind_ro={wheels: "/mnt/wheels"}) as second:
        booted.cable(FIRST, second, SECOND)
        booted.psql("postgres", f"ALTER SYSTEM SET listen_addresses = 'localhost, {FIRST}'")
        rules = booted.psql("postgres", "SHOW hba_file").strip()
        booted.run("sh", "-c", f"echo 'host shithub shithub,oncall {SECOND}/32 scram-sha-256' >> {rules}")
        booted.run("systemctl", "restart", postgresql(booted))
        install(second, wheels.with_suffix(".tar"))
        bring_handlers(second)
        yield second
    booted.psql("postgres", "ALTER SYSTEM RESET listen_addresses")
    booted.run("sed", "-i", "$d", rules)
    booted.run("systemctl", "restart", postgresql(booted))


def wire(first: Host, second: Host) -> None:
    """Lay the cable between the hosts, if it is gone: a host that has lost its power comes back without it."""
    if "lan" not in second.run("ls", "/sys/class/net").split():
        first.cable(FIRST, second, SECOND)


@pytest.fixture
def second(host: Host, neighbour: Host) -> Iterator[Host]:
    """The same host for one test. It comes and goes together with the first one."""
    if neighbour.is_up:
        wire(host, neighbour)
    tell_units(neighbour, FIRST)
    yield neighbour
    if neighbour.is_up:
        print(neighbour.journal("shithubd-worker*"))  # shown for a failed test
        reset(neighbour)


def owner(host: Host, number: int) -> str | None:
    """The host whose worker has leased a job."""
    row = job(host, number)
    return row and row["leased_by"] and row["leased_by"].partition(":")[0]


def test_a_worker_on_a_clone_leaves_the_other_hosts_jobs_alone_and_each_lease_names_its_host(
    host: Host, second: Host
) -> None:
    machine_id = host.run("cat", "/etc/machine-id")
    assert machine_id == second.run("cat", "/etc/machine-id")
    host.run("systemctl", "start", UNIT)
    one = in_flight(host, "test.waits", door="door")
    second.run("systemctl", "start", UNIT)
    two = in_flight(host, "test.waits", door="door")
    assert (owner(host, one), owner(host, two)) == ("shw-host", "shw-second")
    open_door(second)
    eventually(lambda: outcomes(host, two) == ["ok"], "the second one's is done")
    assert state(host, one) == "processing"
    open_door(host)
    eventually(lambda: outcomes(host, one) == ["ok"], "the first one's is done, in one run")


@pytest.mark.long
def test_a_host_is_evacuated_while_the_other_goes_on(host: Host, second: Host) -> None:
    """runbooks/tasks/evacuate-host.md, on the host without the database."""
    second.run("systemctl", "start", UNIT)
    leaving = in_flight(host, "test.waits", door="door")
    drain = 'shithubd-worker drain --host "$(hostname)" --wait --timeout 5m --reason "disk replacement"'
    with second.popen("sh", "-c", drain) as draining:
        eventually(lambda: host.sql("shithub", "SELECT FROM holds"), "it is held")
        host.run("systemctl", "start", UNIT)
        number = enqueue(host, "test.touch", name="meanwhile")
        eventually(lambda: outcomes(host, number) == ["ok"], "the other one works")
        assert draining.poll() is None
        open_door(second)
        assert draining.wait(120) == 0
    assert outcomes(host, leaving) == ["ok"]
    eventually(lambda: second.show(UNIT, "StatusText")["StatusText"].startswith("held: "), "its status says so")

    second.run("systemctl", "restart", UNIT)
    number = in_flight(host, "test.waits", door="door")
    waiting = enqueue(host, "test.waits", door="door")
    assert owner(host, number) == "shw-host"
    second.run("systemctl", "disable", "--now", "--quiet", UNIT)
    listed = second.run("shithubd-worker", "workers")
    assert "shw-host" in listed
    assert "shw-second" not in listed

    second.run("systemctl", "enable", "--now", "--quiet", UNIT)
    assert state(host, waiting) == "queued"
    second.run("sh", "-c", 'shithubd-worker resume --host "$(hostname)"')
    eventually(lambda: outcomes(host, waiting) == ["ok"], "it works again")
    [row] = host.sql("shithub", f"SELECT leased_by FROM job_history WHERE id = {waiting}")
    assert row["leased_by"].startswith("shw-second:")


def test_a_kind_that_is_paused_on_one_host_is_paused_on_the_other(host: Host, second: Host) -> None:
    host.run("systemctl", "start", UNIT)
    second.run("shithubd-worker", "pause-kind", "test.touch", "--reason", "a try")
    paused = enqueue(host, "test.touch", name="paused")
    other = enqueue(host, "test.waits", door="door")
    open_door(host)
    eventually(lambda: outcomes(host, other) == ["ok"], "the other kind is done")
    assert state(host, paused) == "queued"
    second.run("shithubd-worker", "resume-kind", "test.touch")
    eventually(lambda: outcomes(host, paused) == ["ok"], "the paused one is done")


def silent_for(host: Host, of: str) -> float:
    """For how many seconds the last worker of a host has been silent. 0: it has no worker."""
    seconds = "SELECT extract(epoch FROM clock_timestamp() - b.beat_at)::float AS s"
    rows = host.sql("shithub", f"{seconds} FROM beats b JOIN workers w ON w.id = b.worker_id WHERE w.host = '{of}'")
    return max((row["s"] for row in rows), default=0.0)


@pytest.fixture
def kept_down(second: Host) -> Iterator[Host]:
    """The second host. Its worker does not start when the host boots."""
    second.run("systemctl", "disable", "--quiet", UNIT)
    yield second
    second.run("systemctl", "enable", "--quiet", UNIT)


@pytest.mark.long
def test_a_burnt_host_is_unlocked_once_it_is_silent_and_comes_back_clean(host: Host, kept_down: Host) -> None:
    """runbooks/tasks/dead-host.md. The worker on the host with the database is started last, so that only the
    command takes the job back."""
    second = kept_down
    second.run("systemctl", "start", UNIT)
    number = in_flight(host, "test.waits", door="door")
    assert owner(host, number) == "shw-second"
    unlock = ("shithubd-worker", "workers", "unlock", "--host", "shw-second", "--reason", "it burnt down")
    refused = host.popen(*unlock, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said = refused.communicate(timeout=60)[1]
    assert refused.returncode == 5
    assert "a worker lives: shw-second:" in said

    second.lose_power()  # it boots again at once, but nothing of it reaches the database
    eventually(lambda: silent_for(host, "shw-second") > 30, "the host has been silent for 30 s")
    host.run("systemctl", "start", UNIT)
    waits = "it starts nothing of the other host's, which has not given up yet"
    eventually(lambda: status_text(host).startswith("idle"), waits)
    assert owner(host, number) == "shw-second"
    said = host.run(*unlock)
    assert f"job {number} (test.waits) queued again" in said
    assert f"may go on with job {number} (test.waits) for " in " ".join(said.split())

    eventually(lambda: runs(host, number), "the other host runs it")
    assert owner(host, number) == "shw-host"
    wire(host, second)
    second.run("systemctl", "start", UNIT)
    eventually(lambda: status_text(second).startswith("idle"), "the burnt host is back, and has no job")
    assert owner(host, number) == "shw-host"
    open_door(host)
    eventually(lambda: outcomes(host, number) == ["crashed", "ok"], "the job is done, in one more run")
    [row] = host.sql("shithub", "SELECT action, reason, job_ids FROM audit")
    assert row == {"action": "unlock", "reason": "it burnt down", "job_ids": [number]}


@pytest.mark.long
def test_a_burnt_hosts_job_comes_back_without_a_command_once_it_has_given_up(host: Host, kept_down: Host) -> None:
    for each in (host, kept_down):
        each.write(f"/etc/systemd/system/{UNIT}.d/sweep.conf", f"[Service]\nEnvironment={THRESHOLD} {OFTEN}\n")
        each.run("systemctl", "daemon-reload")
    kept_down.run("systemctl", "start", UNIT)
    number = in_flight(host, "test.waits", door="door")
    host.run("systemctl", "start", UNIT)
    eventually(lambda: status_text(host).startswith("idle"), "the other worker is there")
    kept_down.lose_power()
    back = ended(host, number)
    assert back["outcome"] == "crashed"
    silence = re.fullmatch(r"its worker shw-second:\d+ was silent for (\d+) s", back["error"])
    assert silence
    assert int(silence[1]) >= 20
    eventually(lambda: runs(host, number), "the other one runs it")
    assert owner(host, number) == "shw-host"
    wire(host, kept_down)
    open_door(host)
    eventually(lambda: outcomes(host, number) == ["crashed", "ok"], "the job is done")


def test_the_job_of_a_host_without_power_runs_on_the_other_after_its_lease(host: Host, second: Host) -> None:
    """This is the last test of the file: the second host does not come back."""
    second.run("systemctl", "start", UNIT)
    number = in_flight(host, "test.waits.briefly-leased", door="door")
    host.run("systemctl", "start", UNIT)
    [row] = host.sql("shithub", "SELECT extract(epoch FROM clock_timestamp())::float AS now")
    second.pull_the_plug()
    back = ended(host, number)
    assert back["outcome"] == "crashed"
    print(f"the lease was back {back['at'] - row['now']:.1f} s after the host was gone, of a lease of 5 s")
    eventually(lambda: runs(host, number), "the other one runs it")
    assert owner(host, number) == "shw-host"
    open_door(host)
    eventually(lambda: outcomes(host, number) == ["crashed", "ok"], "the job is done")
