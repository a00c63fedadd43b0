"""What the journal of a real systemd host shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from nspawn import Host, eventually
from worker_host import UNIT, drop_in, enqueue, in_flight, open_door, outcomes, state

pytestmark = pytest.mark.timeout(900)  # the first test boots the host and installs everything


def test_the_journal_finds_a_job_and_says_where_its_runbook_is(host: Host) -> None:
    host.run("systemctl", "start", UNIT)
    number = enqueue(host, "test.fails")

    def entries(*what: str) -> list[dict[str, Any]]:
        lines = host.run("journalctl", "--output=json", "--no-pager", f"SHITHUB_JOB_ID={number}", *what).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    [entry] = eventually(entries, "the journal has the job")
    assert "it can't work:\n  | there is a reason" in entry["MESSAGE"]
    assert "in fails" in entry["MESSAGE"], "the stack is in the same entry"
    assert (entry["SHITHUB_KIND"], entry["SHITHUB_OUTCOME"], entry["PRIORITY"]) == ("test.fails", "failed", "4")
    assert (entry["_SYSTEMD_UNIT"], entry["SYSLOG_IDENTIFIER"]) == (UNIT, "shithubd-worker")
    assert entries("SHITHUB_KIND=test.fails") == [entry]
    assert entries("SHITHUB_KIND=test.touch") == []
    told = host.run("journalctl", "--catalog", "--no-pager", f"SHITHUB_JOB_ID={number}")
    assert f"shithubd-worker jobs show {number}" in told
    assert "shithubd-worker runbook failed-jobs" in told


def test_the_journal_says_that_a_job_came_back_from_a_dead_worker(host: Host) -> None:
    host.run("systemctl", "start", UNIT)
    number = in_flight(host, "test.waits", door="door")
    host.run("systemctl", "kill", "--signal=KILL", UNIT)

    def story() -> str:
        return host.run("journalctl", "--output=cat", "--no-pager", f"SHITHUB_JOB_ID={number}", check=False)

    eventually(lambda: "returned: crashed" in story(), "the journal has the crash")
    open_door(host)
    eventually(lambda: " ok after " in story(), "and then the end")


def test_a_journal_that_stands_still_does_not_stop_jobs(host: Host) -> None:
    host.run("systemctl", "start", UNIT)
    before = host.show(UNIT, "MainPID", "NRestarts")
    with stopped(host, "systemd-journald.service"):
        host.psql(
            "shithub",
            "INSERT INTO jobs (kind, payload) SELECT 'test.says', '{\"lines\": 100}' FROM generate_series(1, 100)",
        )
        eventually(lambda: host.sql("shithub", "SELECT FROM jobs") == [], "all jobs ran")
        assert lines_lost(host) > 0
    assert host.show(UNIT, "MainPID", "NRestarts") == before
    assert host.sql("shithub", "SELECT DISTINCT outcome FROM job_history") == [{"outcome": "ok"}]
    later: list[int] = []

    def flows_again() -> bool:
        """The journal may still be full of earlier lines. Then the lines of one more job are lost."""
        later.append(enqueue(host, "test.says", lines=1))
        eventually(lambda: outcomes(host, later[-1]) == ["ok"], "it ran")
        told = host.journal(UNIT)
        return "log lines were lost here" in told and any(f"job {number} test.says ok" in told for number in later)

    eventually(flows_again, "the journal says what was lost, and has what follows")


BROKEN = """[Service]
KillMode=process
TimeoutStopSec=5
WatchdogSec=0
Restart=no
ExecStopPost=
Environment=TOKEN=canary-in-the-unit
Environment="BAD NAME=canary-in-a-bad-assignment"
"""


def test_the_doctor_finds_what_a_drop_in_breaks_and_its_bundle_has_no_secret(host: Host) -> None:
    assert examined(host)["findings"] == []
    drop_in(host, UNIT, BROKEN)
    host.write(
        "/etc/shithub/shithubd-worker.env",
        "MY_TOKEN=canary-in-a-file\n1BAD=canary-in-a-bad-line\nSHITHUBD_WORKER_PREFETCH=0\n",
    )
    host.run("systemctl", "start", UNIT)
    number = enqueue(host, "test.fails", token="canary-in-a-payload")
    eventually(lambda: state(host, number) == "failed", "the job has failed")
    told = examined(host, "--bundle", "/root/report.tar.gz")
    broken = {each["said"].partition("=")[0] for each in told["findings"]}
    assert broken == {"KillMode", "TimeoutStopSec", "WatchdogSec", "Restart", "ExecStopPost"}
    places = {each["evidence"]["set_at"].partition(": ")[0] for each in told["findings"]}
    assert {place.rpartition(":")[0] for place in places} == {f"/etc/systemd/system/{UNIT}.d/test.conf"}
    assert (told["unchecked"], told["bundle"]) == ([], "/root/report.tar.gz")
    assert host.run("stat", "--format=%a %U", "/root/report.tar.gz").strip() == "600 root"
    assert "canary-in-a-bad-line" in host.journal(UNIT), "systemd quotes it"
    bundle = host.run("tar", "--extract", "--gzip", "--to-stdout", "--file=/root/report.tar.gz")
    host.run("rm", "/root/report.tar.gz")
    for secret in ("canary", "there is a reason", "TOKEN", "correct horse"):
        assert secret not in bundle, secret
    for shown in (
        '"job %d %s %s after',
        f'"job_id": {number}',
        '"value": "process"',
        '"SHITHUBD_WORKER_PREFETCH": 0.0',
    ):
        assert shown in bundle, shown
    assert "Started " in bundle, "what systemd says"


def examined(host: Host, *arguments: str) -> dict[str, Any]:
    """What the doctor says of the units."""
    words = ("shithubd-worker", "doctor", "unit-drift", "--json", *arguments)
    told: dict[str, Any] = json.loads(host.run(*words, check=False))
    return told


@contextmanager
def stopped(host: Host, unit: str) -> Iterator[None]:
    """SIGSTOP to a unit, and SIGCONT afterwards, even if the test fails."""
    host.run("systemctl", "kill", "--signal=STOP", unit)
    try:
        yield
    finally:
        host.run("systemctl", "kill", "--signal=CONT", unit)


def lines_lost(host: Host) -> float:
    """The lost lines that the worker's metrics show."""
    told = host.run("curl", "--silent", "--fail", "http://127.0.0.1:8081/metrics")
    [line] = [line for line in told.splitlines() if line.startswith("shithub_worker_log_lines_lost_total ")]
    return float(line.split()[1])
