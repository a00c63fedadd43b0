"""Incidents that jobs and processes cause. The operator follows the pages: see incidents.py."""

from __future__ import annotations

import re
import time

import pytest
from incidents import OTHER, Incident, ends_of, in_flight, incident, owner, put, start
from nspawn import Host, eventually
from worker_host import UNIT, job, open_door, runs

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
LOOPING = "alerts/WorkerCrashLooping.md"
STOOD_STILL_SECONDS = 180
FLOOD = """while :; do psql -XAtqd shithub -c "INSERT INTO jobs (kind) SELECT 'forge.mail' FROM generate_series(1, 100)"
sleep 0.2; done"""


def last_end(it: Incident) -> str:
    """The last end of the worker, as systemd says it: `status=…`. The page says where; the newest comes first."""
    said = it.follow(LOOPING, "Is it real?", like=False)
    ends = [line for line in said[0].splitlines() if "Main process exited" in line]
    return ends[0].partition("status=")[2].strip()


def takes_its_worker_along(it: Incident, kind: str, numbers: list[int], code: str, where: str) -> None:
    """From the alert to the pause of the kind, to its cause, and to the mended kind."""
    host = it.host
    page = it.alert("KindEndsItsProcess", "own")
    assert last_end(it).startswith(code)
    assert it.link(LOOPING, page, f"status={code}") == page
    [told] = it.follow(page, "Is it real?", like=False)
    found = re.search(rf"job (\d+) \({kind}\)", told)
    assert found, told
    it.follow(page, "Stop the damage", values={"kind": kind})
    eventually(lambda: not any(runs(host, number) for number in numbers), "none of it runs")
    it.ends("the kind is paused")
    it.works_again()
    shown = it.follow(page, "Find the cause", values={"kind": kind, "job-id": found[1]}, like=False)
    assert where in "".join(shown)
    it.types("touch /var/lib/shithub/mended  # the mended library")
    it.types(f"shithubd-worker resume-kind {kind}")
    it.types(f'shithubd-worker jobs retry --kind {kind} --reason "mended" --yes')


def test_a_hang_in_c(host: Host) -> None:
    with incident("a hang in C", host) as it:
        it.begins("4 jobs come that stand in a deadlock of a C library: no signal ends it")
        numbers = put(host, "forge.sign", count=4)
        takes_its_worker_along(it, "forge.sign", numbers, "70", "in hangs_in_c")
        assert set(ends_of(host, *numbers)) <= {"retry", "ok"}, "each attempt counts"


def test_a_hang_in_the_network(host: Host) -> None:
    with incident("a hang in the network", host) as it:
        start(host, "silent.service", "python3", "-c", SILENT)
        it.begins("20 jobs come that ask a service which takes the connection and doesn't answer")
        numbers = put(host, "forge.notify", count=20)
        page = it.alert("KindOnlyFails")
        assert "interrupted after" in it.follow(page, "Is it real?", values={"kind": "forge.notify"}, like=False)[0]
        it.says(page, "interrupted after")
        it.types('shithubd-worker pause-kind forge.notify --reason "all attempts fail"')
        it.ends("the kind is paused")
        it.works_again()
        eventually(lambda: not it.monitoring.firing("KindOnlyFails"), "the alert is over")
        assert set(ends_of(host, *numbers)) == {"retry"}
        host.run("systemctl", "stop", "silent.service")
        start(host, "silent.service", "python3", "-c", ANSWERS)
        it.types("shithubd-worker resume-kind forge.notify  # the service answers again")
        eventually(lambda: ends_of(host, *numbers).count("ok") == len(numbers), "they are done")
    host.run("systemctl", "stop", "silent.service")


SILENT = """import socket
server, clients = socket.create_server(("127.0.0.1", 4004)), []
while True: clients.append(server.accept())"""
ANSWERS = SILENT.replace("clients.append(server.accept())", "server.accept()[0].sendall(b'.')")


def test_a_job_that_holds_the_gil(host: Host) -> None:
    with incident("holding the GIL", host) as it:
        it.begins("4 jobs come that keep the interpreter: no thread of the worker gets a turn, and no scrape an answer")
        numbers = put(host, "forge.render", count=4)
        takes_its_worker_along(it, "forge.render", numbers, "26/VTALRM", "in holds_the_gil")
        assert set(ends_of(host, *numbers)) <= {"crashed", "poison", "ok"}


def test_a_long_job_and_a_drain(host: Host) -> None:
    with incident("a long job and a drain", host) as it:
        number = in_flight(host, "forge.import", '{"door": "door"}')
        it.begins("a drain is wanted at once, while a job runs that takes a quarter of an hour")
        page = "tasks/stuck-job.md"
        [said, _] = it.follow(page, "It runs, and you wait for it", like=False)
        assert "timeout: still running: 1" in said
        assert f"forge.import {number}" in " ".join(said.split())
        # The page shows the undo next; here the operator goes on with the drain.
        it.types('shithubd-worker drain --reason "kernel update"')
        it.says(page, "It beats")
        it.types("systemctl restart shithubd-worker")
        it.follow("tasks/drain-workers.md", "One host: stop its workers", like=False)
        assert ends_of(host, number) == ["released"]
        row = job(host, number)
        assert row
        assert (row["state"], row["attempts"]) == ("queued", 0)
        open_door(host)
        it.types("shithubd-worker resume")
        it.ends("resumed")
        it.works_again()
        eventually(lambda: ends_of(host, number) == ["released", "ok"], "it is done")


def test_a_flood(host: Host) -> None:
    with incident("a flood", host) as it:
        it.begins("a program enqueues 6,000 jobs at once, and 400 a second more; each takes 30 ms")
        put(host, "forge.mail", count=6000)
        start(host, "flood.service", "bash", "-c", FLOOD)
        page = it.alert("JobBacklogGrowing")
        [told] = it.follow(page, "Is it real?", like=False)
        assert "forge.mail" in told
        it.follow(page, "Find the cause", "Mend it", "Is it over?", values={"kind": "forge.mail"})
        it.says(page, "far more come than usual")
        it.types("systemctl stop flood.service  # the program that enqueues")
        it.types("touch /var/lib/shithub/mended  # what they wait for is fast again")
        it.ends("the program is stopped, and the jobs are quick")
        it.works_again()
        eventually(lambda: not host.sql("shithub", "SELECT FROM jobs WHERE kind = 'forge.mail'"), "the flood is gone")
        it.aside(f"The backlog was gone {time.time() - it.over:.1f} s after that.")
        eventually(lambda: not it.monitoring.firing("JobBacklogGrowing"), "the alert is over")
        it.types("systemctl stop shithubd-worker@2")


def test_kill_9(host: Host) -> None:
    with incident("kill -9", host) as it:
        number = in_flight(host, "forge.import", '{"door": "door"}')
        it.begins("kill -9 of a worker inside a job")
        host.run("systemctl", "kill", "--signal=KILL", UNIT)
        it.ends("at once")
        it.index(LOOPING)
        assert last_end(it) == "9/KILL"
        it.says(LOOPING, "status=9/KILL")
        eventually(lambda: runs(host, number), "the job runs again")
        it.follow("tasks/stuck-job.md", "What became of it?", values={"job-id": str(number)}, like=False)
        open_door(host)
        it.works_again()
        assert ends_of(host, number) == ["crashed", "ok"]


def test_sigstop_of_3_minutes(host: Host) -> None:
    """Two workers: systemd's watchdog watches the first. The second is like a worker on a host that stands still."""
    with incident("SIGSTOP of 3 minutes", host, second="[Service]\nWatchdogSec=0\n") as it:
        jobs = [in_flight(host, "forge.import", '{"door": "door"}') for _ in range(2)]
        watched, other = sorted(jobs, key=lambda number: owner(host, number) == OTHER)
        it.begins("SIGSTOP of both workers, each inside a job; the second is without a watchdog, as a frozen host is")
        host.run("systemctl", "kill", "--signal=STOP", UNIT, OTHER)
        stopped = time.monotonic()
        open_door(host)
        page = it.alert("WorkerDown")
        it.follow(page, "Is it real?", like=False)
        it.says(page, "and no answer")
        eventually(lambda: ends_of(host, watched) == ["crashed", "ok"], "the watched one's job is done")
        it.over = it.began
        it.works_again()
        it.aside(f"The usual work went on {it.recovered} after the fault: by the watchdog, and by systemd.")
        eventually(lambda: ends_of(host, other)[:2] == ["crashed", "ok"], "the other one's job is done")
        it.aside(f"The job of the worker without a watchdog was done after {time.time() - it.began:.1f} s.")
        time.sleep(max(0.0, STOOD_STILL_SECONDS - (time.monotonic() - stopped)))
        it.deed("lets the second one go on")
        host.run("systemctl", "kill", "--signal=CONT", OTHER)
        it.ends("SIGCONT")
        # Its timer ran meanwhile, so the timer ends the process before it writes anything.
        eventually(lambda: host.show(OTHER, "NRestarts") == {"NRestarts": "1"}, "systemd starts it again")
        eventually(lambda: "the process or its host stood still until now" in it.shown(), "it is told")
        assert "status=26/VTALRM" in it.shown()
        page = it.index("alerts/WorkerCrashLooping.md")
        page = it.link(page, "alerts/KindEndsItsProcess.md", "status=26/VTALRM")
        it.says(page, "after the host stood still")
        it.works_again()
        assert ends_of(host, other) == ["crashed", "ok"], "it wrote nothing, so nothing had to be refused"
        host.run("systemctl", "stop", OTHER)
