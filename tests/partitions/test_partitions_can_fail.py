"""The cuts of test_partitions.py find a second run where there is one, and leave nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import eventually

from partitions.network import why_not
from partitions.session import fleet
from partitions.trial import Trial, Trials, runs
from partitions.verdict import broken, overlaps


@pytest.fixture(autouse=True)
def needs_namespaces() -> None:
    if reason := why_not():
        pytest.skip(reason)


def test_a_worker_that_goes_on_longer_than_it_promised_runs_beside_the_next_one(tmp_path: Path) -> None:
    with fleet(tmp_path, 3, "partitions.broken:registry") as made:
        [trial] = Trials(made, 1).run([Trial("sleeps", "both", 17.0)], 1)
        assert [f"job {trial.job} (sleeps) began on" in line for line in overlaps(made)] != []
        assert broken(made, [trial])


def test_an_operator_who_accepts_a_second_run_gets_one(tmp_path: Path) -> None:
    with fleet(tmp_path, 3) as made:
        job = made.enqueue("sleeps")
        [first] = eventually(lambda: runs(made, job), "it begins")
        host = int(first["worker"].removeprefix("web"))
        made.network.cut(host, "both")
        sweep = "SELECT jsonb_array_length(returned) FROM sweep_leases_v1('a test', 'a test', p_stale_after => 3{})"
        accepted = sweep.format(", p_accept_second_run => true")
        # Without the word it is refused, also once the worker was silent for three seconds.
        eventually(lambda: made.query(sweep.format("")) == [(0,)] and made.query(accepted) == [(1,)], "it is back")
        eventually(lambda: overlaps(made), "the next run stands beside the first", within=60)


def test_cuts_that_are_killed_leave_no_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "partitions", "--cuts", "2", "--stops", "0", "--workers", "2", "--at-once", "2"]
    here = Path(__file__).parents[1]
    with (tmp_path / "log").open("wb") as log:
        killed = subprocess.Popen([*command, "--evidence", str(tmp_path / "e")], cwd=here, stdout=log, stderr=log)
    try:
        eventually(lambda: list(tmp_path.glob("e/cuts/*.runs")), "the first job runs", within=120)
        started = descendants(killed.pid)
        assert len(started) > 10
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    eventually(lambda: not [pid for pid in started if alive(pid)], "all that it started is gone", within=60)


def descendants(pid: int) -> list[int]:
    found = [int(word) for file in Path(f"/proc/{pid}/task").glob("*/children") for word in file.read_text().split()]
    return [*found, *(each for child in found for each in descendants(child))]


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
