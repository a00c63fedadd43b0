"""Some torture on Debian's PostgreSQL, and twenty minutes on each server in `make test-long`. By hand: python -m
torture."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import dice, eventually

from torture.records import read
from torture.schedule import LANES, SORTS, draw
from torture.session import torture
from torture.stage import Plan

pytestmark = pytest.mark.torture


def clean(seconds: float, postgres: str) -> None:
    outcome = torture(Plan(seconds, dice(1).randrange(1_000_000), postgres), print)
    print(outcome.text)
    assert not outcome.verdict.violations, f"\n{outcome.text}"


@pytest.mark.timeout(900)
def test_most_of_a_minute_of_torture_breaks_no_promise():
    clean(40, "debian")


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("postgres", ["debian", "embedded"])
def test_twenty_minutes_of_torture_break_no_promise(postgres):
    clean(1200, postgres)


def test_an_interrupted_run_ends_all_that_it_started():
    run = subprocess.Popen(
        [sys.executable, "-m", "torture", "--seconds", "600", "--seed", "1"],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert run.stdout is not None
        line = run.stdout.readline()  # all is set up, and the faults begin
        logs = Path(line.rpartition("logs in ")[2].strip())
        (records,) = read(logs, "stage")
        server = Path(records[0]["server"])
        assert server.exists()
        started = descendants(run.pid)
        assert len(started) > 5  # the workers, the proxies, the enqueuers
        run.terminate()
        assert run.wait() == 130
        eventually(lambda: not [pid for pid in started if is_alive(pid)], "all that was started is gone")
        assert not server.exists()
        shutil.rmtree(logs)
    finally:
        run.kill()
        run.communicate()


def descendants(pid: int) -> list[tuple[int, str]]:
    """The processes below this one, each with its start time, because pids are reused."""
    found = []
    for child in Path(f"/proc/{pid}/task").glob("*/children"):
        for each in child.read_text().split():
            found += [(int(each), start_time(int(each))), *descendants(int(each))]
    return found


def start_time(pid: int) -> str:
    """Field 22 of proc(5), or empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def is_alive(process: tuple[int, str]) -> bool:
    """Is it still the same process?"""
    pid, started = process
    return start_time(pid) == started != ""


def test_a_seed_always_draws_the_same_faults_and_another_seed_others():
    for lane in LANES:
        first, again, other = (
            [fault for fault, _ in zip(draw(seed, lane, SORTS, 5), range(50), strict=False)] for seed in (1, 1, 2)
        )
        assert first == again
        assert first != other


def test_only_the_chosen_faults_are_drawn():
    drawn = {fault.sort for fault, _ in zip(draw(1, "processes", ["kill", "cut"], 5), range(50), strict=False)}
    assert drawn == {"kill"}
    assert not list(draw(1, "database", ["kill", "cut"], 5))
