"""Incidents of the database. The operator follows the pages: see incidents.py."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from incidents import LOAD, OTHER, ends_of, in_flight, incident, start, start_load
from nspawn import Host, eventually
from scenes import SESSION, begin
from stepped import SteppedClock
from worker_host import UNIT, open_door, postgresql, start_postgresql

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
DATA = "/var/lib/postgresql"
HOG = """import psycopg, time
open_ones = []
while True:
    try: open_ones.append(psycopg.connect("host=/run/postgresql dbname=shithub"))
    except psycopg.OperationalError: time.sleep(0.1)"""
GREEDY = """while :
do psql -XAtqd shithub -c "INSERT INTO greedy SELECT repeat('x', 1000) FROM generate_series(1, 10000)"
sleep 0.1; done"""
PYTHON = "/opt/shithubd-worker/bin/python"


@pytest.fixture
def cluster(host: Host) -> Iterator[str]:
    """The unit of PostgreSQL. It runs again after the test."""
    yield postgresql(host)
    start_postgresql(host)


def test_the_database_is_down(host: Host, cluster: str) -> None:
    """At the alert's own speed. The worker is inside a job all the time."""
    with incident("database down", host) as it:
        number = in_flight(host, "forge.mirror", '{"door": "door"}')
        it.begins("PostgreSQL is stopped, while the worker runs a job")
        host.run("systemctl", "stop", cluster)
        page = it.alert("PostgresUnreachable", "own")
        it.follow(page, "Is it real?", "Find the cause")
        it.says(page, "Connection refused")
        assert it.types("curl -sS -o /dev/null -w '%{http_code}' http://127.0.0.1:8081/readyz")[1] == "503"
        it.follow(page, "Mend it", "Is it over?")
        it.ends("PostgreSQL is started")
        open_door(host)
        it.works_again()
        eventually(lambda: ends_of(host, number) == ["ok"], "the job is done, in one run")
        assert host.show(UNIT, "NRestarts") == {"NRestarts": "0"}


def test_the_database_is_locked(host: Host) -> None:
    with incident("database locked", host) as it:
        before = host.show(UNIT, "MainPID", "NRestarts")
        it.begins("somebody's session locks the table jobs (ACCESS EXCLUSIVE) and idles in its transaction")
        begin(host, "BEGIN; LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE;")
        page = it.alert("LeasingStalled")
        [told] = it.follow(page, "Is it real?", values={"pid": "..."})
        found = re.search(r"pid (\d+) \(.*\) holds a lock on jobs", told)
        assert found
        it.follow(page, "Find the cause", values={"pid": found[1]})
        it.says(page, "idle in transaction")
        it.follow(page, "Mend it", values={"pid": found[1]})
        it.ends("the session is ended")
        it.works_again()
        it.follow(page, "Is it over?")
        assert host.show(UNIT, "MainPID", "NRestarts") == before
        host.run("systemctl", "stop", SESSION, check=False)
        assert "database away" not in it.shown(), "it was there all the time, and so was the way to it"


def test_the_databases_disk_is_full(host: Host, cluster: str) -> None:
    with small_disk(host, cluster), incident("database's disk full", host) as it:
        host.psql("shithub", "CREATE TABLE greedy (text text)")
        it.begins("a program fills the disk of the database")
        start(host, "greedy.service", "--uid=postgres", "bash", "-c", GREEDY)
        page = it.alert_of("PostgresUnreachable", "LeasingStalled", "QueueNotDraining")
        page = it.link(page, "tasks/disk-full.md", "isk")
        [told] = it.follow(page, "Is it this disk, and does PostgreSQL run?", like=False)
        assert "100% /var/lib/postgresql" in " ".join(told.split())
        it.types("systemctl stop greedy.service  # the program")
        it.types(f"mount -o remount,size=2G {DATA}  # a larger disk")
        it.types("systemctl start postgresql")
        it.ends("the disk is larger, and PostgreSQL is started")
        it.works_again()
        it.follow(page, "Stop the growth", like=False)
        [status, _] = it.follow(page, "Afterwards", like=False)[0].partition("\n")[::2]
        assert "failed 0)" in status
        host.psql("shithub", "DROP TABLE greedy")
        assert host.show(UNIT, "NRestarts") == {"NRestarts": "0"}


@contextmanager
def small_disk(host: Host, cluster: str) -> Iterator[None]:
    """The cluster's files on a file system of their own, with 200 MB to spare."""
    host.run("systemctl", "stop", cluster)
    try:
        host.run("cp", "-a", DATA, "/root/cluster")
        size = int(host.run("du", "-sm", "/root/cluster").split()[0]) + 200
        host.run("mount", "-t", "tmpfs", "-o", f"size={size}M", "tmpfs", DATA)
        host.run("sh", "-c", f"cp -a /root/cluster/. {DATA} && chown postgres: {DATA}")
        start_postgresql(host)
        yield
    finally:
        host.run("systemctl", "stop", "shithubd-worker*", cluster, "greedy.service", check=False)
        host.run("umount", DATA, check=False)
        host.run("rm", "-rf", "/root/cluster")
        start_postgresql(host)


def test_the_database_is_out_of_connections(host: Host) -> None:
    with incident("out of connections", host) as it:
        it.begins("a program opens all connections that the database gives, and keeps them")
        start(host, "hog.service", PYTHON, "-c", HOG)
        eventually(lambda: it.types("shithubd-worker status", None, quiet=True)[0] == 75, "there are none left")
        it.types("shithubd-worker status", 75)
        it.over = it.began
        it.works_again()
        it.aside("A worker that has its connections works on. Then its unit is restarted, for a release:")
        host.run("systemctl", "restart", "--no-block", UNIT)
        page = it.alert("PostgresUnreachable")
        [told] = it.follow(page, "Is it real?")
        words = "remaining connection slots are reserved"
        assert words in told
        said = it.says(page, words)
        [who] = re.findall(r"`(runuser[^`]*)`", said)
        assert "root" in it.types(" ".join(who.split()))[1]
        it.types("systemctl stop hog.service  # the program")
        it.ends("the program is stopped")
        it.works_again()
        it.follow(page, "Is it over?")


class OnHost:
    """The host's database, as stepped.py asks it."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def query(self, text: str, *arguments: object) -> list[tuple[object, ...]]:
        """Run one statement; its rows."""
        if text.startswith("SELECT"):
            return [tuple(row.values()) for row in self._host.sql("shithub", text)]
        self._host.psql("shithub", text.replace("%s", "{}").format(*arguments) if arguments else text)
        return []


@pytest.fixture
def clock(host: Host) -> Iterator[SteppedClock]:
    """The clock of a database that is replaced after the test by the one of before."""
    host.psql("postgres", "CREATE DATABASE before TEMPLATE shithub")
    yield SteppedClock(OnHost(host))  # type: ignore[arg-type]
    host.run("systemctl", "stop", "shithubd-worker*")
    host.psql("postgres", "DROP DATABASE shithub WITH (FORCE)", "ALTER DATABASE before RENAME TO shithub")


def test_the_clock_is_set_ahead_and_back(host: Host, clock: SteppedClock) -> None:
    """One worker is inside a job all the time. The other one would take that job away if it trusted the clock."""
    with incident("a clock step", host, second="") as it:
        long = in_flight(host, "forge.import", '{"door": "door"}')
        it.begins("the database's clock goes an hour ahead; after a minute it is set right")
        clock.step(3600)
        page = it.alert("DatabaseClockStepped")
        it.follow(page, "Is it real?", like=False)
        time.sleep(60)
        host.run("systemctl", "stop", LOAD)  # what it enqueues from here on is in order again
        it.deed("sets the clock of the database's host right")
        late = "INSERT INTO jobs (kind) SELECT 'search.reindex' FROM generate_series(1, 3)"
        host.psql(
            "shithub", f"{late}; UPDATE clock_offset SET seconds = 0"
        )  # in one transaction: nobody can lease them before
        it.ends("the clock is right")
        start_load(host)
        it.works_again()
        it.follow(page, "Is it real?", "Find the cause", "Mend it", "Is it over?")
        left = "SELECT FROM jobs WHERE kind = 'search.reindex'"
        eventually(lambda: not host.sql("shithub", left), "what was enqueued meanwhile is done")
        open_door(host)
        eventually(lambda: ends_of(host, long) == ["ok"], "the long one is done, in one run")
        eventually(lambda: not it.monitoring.firing("DatabaseClockStepped"), "the alert is over")
        host.run("systemctl", "stop", OTHER)
