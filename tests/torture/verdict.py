"""The words of a verdict."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

PROMISES = {
    "nothing": "signs that the run tested nothing",
    "lost": "jobs lost",
    "rolled back": "jobs that were rolled back, or never asked for, and exist or ran",
    "effects": "effects of job.transaction() missing or there twice",
    "second runs": "second runs that nothing explains",
    "at once": "jobs that ran twice at once without a cause",
    "operators": "ends by operators that the audit record does not explain, or of running jobs",
    "barrier": "starts behind a barrier",
    "ramp": "starts that a ramp did not let through, or ramps that stopped without a cause",
    "swept": "jobs that a sweep took from a worker that was not silent long enough",
    "stuck": "stuck beyond the lease or the silence, and some seconds",
    "exit codes": "exit codes that are not as documented",
    "end": "jobs that did not come to an end that something explains",
}


class Violation(NamedTuple):
    """A promise (a key of PROMISES) that was broken, and the cause."""

    promise: str
    what: str


class Verdict(NamedTuple):
    """The findings. `explained` counts, by cause, what happened although it was not wanted."""

    violations: list[Violation]
    explained: Counter[str]
