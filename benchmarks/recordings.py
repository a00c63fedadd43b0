"""What the handlers remembered, and what follows from it: rates, delays, and that each job ran exactly once."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.processes import BenchmarkError


@dataclass(frozen=True)
class Recording:
    """One process: the jobs it ran in the order of their starts, and the moments of these."""

    numbers: array[int]
    moments: array[float]


def read(directory: Path, processes: int) -> list[Recording]:
    """The recordings of all processes that ran a job. Raises BenchmarkError if one didn't write its own."""
    found = []
    for progress in sorted(directory.glob("*.progress")):
        record = progress.with_suffix(".record")
        if not record.exists():
            raise BenchmarkError(f"a worker ended without its record: {progress.name}")
        data = record.read_bytes()
        half = len(data) // 2
        numbers, moments = array("q"), array("d")
        numbers.frombytes(data[:half])
        moments.frombytes(data[half:])
        found.append(Recording(numbers, moments))
    if len(found) != processes:
        raise BenchmarkError(f"{processes} workers were started, but {len(found)} wrote a record")
    return found


def progress(directory: Path) -> int:
    """How many jobs began to run so far, all processes together; a hundredth of a second old at most."""
    total = 0
    for file in directory.glob("*.progress"):
        with suppress(OSError, ValueError):
            total += int(file.read_bytes())
    return total


def starts(recordings: Iterable[Recording]) -> list[float]:
    """All moments, in order."""
    return sorted(moment for recording in recordings for moment in recording.moments)


def check_once(recordings: Iterable[Recording], expected: int, left: int = 0, *, may_forget: bool = False) -> str:
    """Each of the jobs 1…expected ran exactly once, but for `left` of them that are not settled. Raises BenchmarkError.

    `may_forget`: a peer may have jobs among those that are left which did run. Stopped in the middle of a backlog,
    Graphile Worker with its defaults does: it doesn't wait for its last settle. They would run again.
    """
    ran = [number for recording in recordings for number in recording.numbers if number > 0]
    distinct = set(ran)
    if len(distinct) != len(ran):
        raise BenchmarkError(f"{len(ran) - len(distinct)} job(s) ran more than once")
    if distinct and max(distinct) > expected:
        raise BenchmarkError(f"job {max(distinct)} ran, which nobody enqueued")
    unsettled = len(ran) + left - expected
    if unsettled < 0 or (unsettled and not may_forget):
        raise BenchmarkError(f"of {expected} jobs {len(ran)} ran and {left} are left")
    text = f"each of {len(ran)} ran once" + (f", {left - unsettled} left" if left else "")
    return text + (f", but {unsettled} of them not settled at the stop: they would run again" if unsettled else "")


def rate_between(moments: Sequence[float], begin: float, end: float) -> float:
    """Starts a second in a span of time; `moments` in order."""
    return (bisect_left(moments, end) - bisect_left(moments, begin)) / (end - begin)


def rates_over_time(moments: Sequence[float], points: int = 30) -> list[tuple[float, float]]:
    """Seconds since the first start, and starts a second around then."""
    span = moments[-1] - moments[0]
    if span <= 0:
        return []
    width = span / points
    edges = [moments[0] + width * index for index in range(points + 1)]
    return [
        (round((index + 0.5) * width, 3), round(rate_between(moments, begin, end), 1))
        for index, (begin, end) in enumerate(pairwise(edges))
    ]


def delays(recordings: Sequence[Recording], committed: Iterable[tuple[int, float]]) -> list[float]:
    """Seconds from the answer to a job's COMMIT to its start, in the order of the commits.

    Below zero is possible: a worker may see the job before the client reads its answer. For a job that didn't start
    before the workers were stopped it is the time until the last start of all: less than the truth.
    """
    started = {
        number: moment
        for recording in recordings
        for number, moment in zip(recording.numbers, recording.moments, strict=True)
    }
    last = max(started.values())
    return [started.get(number, last) - moment for number, moment in sorted(committed, key=lambda pair: pair[1])]
