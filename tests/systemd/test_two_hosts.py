"""Two hosts on one network, with one database on the first of them.

They are clones of one machine, with the same machine id, as virtual machines often are.
"""

from __future__ import annotations

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
    tell_units,
)

pytestmark = pytest.mark.timeout(900)  # the first test boots the hosts and installs everything
FIRST, SECOND = "10.77.0.1", "10.77.0.2"


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


@pytest.fixture
def second(host: Host, neighbour: Host) -> Iterator[Host]:
    """The same host for one test. It comes and goes together with the first one."""
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
