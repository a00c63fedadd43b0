"""Every way to die, on a real systemd host: what systemd says, that the lease returns at once, and that nothing
remains."""

from __future__ import annotations

import pytest
from nspawn import Host, eventually
from worker_host import (
    UNIT,
    death,
    drop_in,
    ended,
    enqueue,
    in_flight,
    job,
    open_door,
    outcomes,
    processes,
    runs,
    state,
)

pytestmark = pytest.mark.timeout(900)  # the first test boots the host and installs everything


class Running:
    """A worker and its job. The job still runs if it waits at a door, else it may be over already."""

    def __init__(self, host: Host, kind: str, **payload: object) -> None:
        host.run("systemctl", "start", UNIT)
        self._host = host
        known = host.show(UNIT, "MainPID", "InvocationID")
        self.pid, self.invocation = known["MainPID"], known["InvocationID"]
        self.number = in_flight(host, kind, **payload) if "door" in payload else enqueue(host, kind, **payload)

    def died(self, results: set[str], code: set[str], status: str) -> None:
        """systemd describes its death as it was, and ExecStopPost= has returned its job, not the worker that came
        next."""
        found = death(self._host, self.invocation)
        assert found.result in results
        assert (found.code in code, found.status) == (True, status)
        row = ended(self._host, self.number)
        assert (row["outcome"], row["attempts"]) == ("crashed", 1)
        assert f"systemd says {found.result}, " in row["error"]
        print(f"{found.result}, {found.code} {found.status}: the lease was back {row['at'] - found.at:.3f} s later")
        restarted(self._host, self.invocation)

    def job(self) -> tuple[str, int, int]:
        """Its state, its attempts and its crashes."""
        row = job(self._host, self.number)
        assert row
        return row["state"], row["attempts"], row["crashes"]


def restarted(host: Host, dead: str) -> None:
    """Another worker is up in its place, and no process of the dead one remains in any session."""

    def alone() -> bool:
        known = host.show(UNIT, "ActiveState", "InvocationID", "MainPID")
        up = known["ActiveState"] == "active" and known["InvocationID"] != dead
        return up and processes(host) == [known["MainPID"]]

    eventually(alone, "another worker is up, alone")


def forced(host: Host, kind: str) -> int:
    """How many processes were ended because a handler of this kind did not stop."""
    return int(
        host.sql("shithub", f"SELECT coalesce(max(forced), 0) AS n FROM leases_returned WHERE kind = '{kind}'")[0]["n"]
    )


def test_a_killed_worker_gives_its_job_back_at_once(host: Host) -> None:
    worker = Running(host, "test.waits", door="door")
    host.run("kill", "-KILL", worker.pid)
    worker.died({"signal"}, {"killed"}, "9")
    eventually(lambda: runs(host, worker.number), "the job runs again")
    assert host.show(UNIT, "NRestarts") == {"NRestarts": "1"}
    open_door(host)
    eventually(lambda: outcomes(host, worker.number) == ["crashed", "ok"], "the job is done")


def test_a_job_that_segfaults_crashes_three_times_and_is_poison(host: Host) -> None:
    worker = Running(host, "test.dies", how="by a segfault", door="door")
    open_door(host)
    worker.died({"signal", "core-dump"}, {"killed", "dumped"}, "11")
    ended(host, worker.number, times=2)
    assert worker.job() == ("queued", 0, 2)
    host.psql("shithub", "UPDATE jobs SET run_at = now()")  # half a minute early
    last = ended(host, worker.number, times=3)
    assert worker.job() == ("failed", 0, 3)
    assert outcomes(host, worker.number) == ["crashed", "crashed", "poison"]
    assert "systemd says" in last["error"]
    other = enqueue(host, "test.touch", name="after the poison")
    eventually(lambda: outcomes(host, other) == ["ok"], "the next worker works")


@pytest.mark.long
def test_a_job_that_ends_the_process_is_a_crash(host: Host) -> None:
    worker = Running(host, "test.dies", how="by os._exit(3)", door="door")
    open_door(host)
    worker.died({"exit-code"}, {"exited"}, "3")


@pytest.mark.long
def test_a_job_that_ends_the_process_with_exit_code_0_is_also_a_crash(host: Host) -> None:
    worker = Running(host, "test.dies", how="by os._exit(0)", door="door")
    open_door(host)
    row = ended(host, worker.number)
    assert (row["outcome"], row["attempts"]) == ("crashed", 1)
    assert "systemd says success, status 0" in row["error"]
    restarted(host, worker.invocation)


@pytest.mark.long
def test_a_job_that_takes_too_much_memory_is_a_crash(host: Host) -> None:
    drop_in(host, UNIT, "[Service]\nMemoryMax=150M\nMemorySwapMax=0\n")
    worker = Running(host, "test.hoards", door="door")
    with host.memory_limit(worker.pid, 150_000_000):
        open_door(host)
        # oom-kill, if systemd can read the cgroup that had too little memory.
        worker.died({"signal", "oom-kill"}, {"killed"}, "9")


def test_a_worker_that_stands_still_is_killed_by_the_watchdog(host: Host) -> None:
    drop_in(host, UNIT, "[Service]\nWatchdogSec=5\n")
    worker = Running(host, "test.waits", door="door")
    host.run("kill", "-STOP", worker.pid)
    worker.died({"watchdog"}, {"killed", "dumped"}, "6")  # systemd wakes it so that it gets the SIGABRT
    eventually(lambda: "Fatal Python error: Aborted" in host.journal(UNIT), "the journal shows where")


@pytest.mark.long
def test_a_job_that_holds_the_interpreter_ends_before_its_lease_and_its_stack_is_logged(host: Host) -> None:
    worker = Running(host, "test.hangs")
    worker.died({"signal"}, {"killed"}, "26")
    eventually(lambda: "host_jobs.py" in host.journal(UNIT), "the journal shows where")
    assert "in hangs" in host.journal(UNIT)
    told = f"job {worker.number} (test.hangs) held the interpreter"
    eventually(lambda: told in host.run("journalctl", "-q", f"SHITHUB_JOB_ID={worker.number}"), "release-dead says it")
    row = ended(host, worker.number)
    assert row["error"].startswith("its worker was ended, because a handler held the interpreter: systemd says signal")
    assert forced(host, "test.hangs") >= 1


@pytest.mark.long
def test_a_job_that_hears_no_signal_ends_with_its_worker_and_its_attempt_counts(host: Host) -> None:
    worker = Running(host, "test.deaf", may_run=1)
    found = death(host, worker.invocation)
    assert (found.result, found.code, found.status) == ("exit-code", "exited", "70")
    row = ended(host, worker.number)
    assert (row["outcome"], "longer than it had asked for" in row["error"]) == ("failed", True)
    restarted(host, worker.invocation)
    assert state(host, worker.number) == "failed"
    assert forced(host, "test.deaf") == 1
