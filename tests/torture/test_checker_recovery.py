"""The checker can fail: small logs of sweeps and ramps that break a promise, and beside them some that only seem to."""

from __future__ import annotations

import pytest

from torture.story import Story, a_good_day

STACKS = "Current thread 0x1 (most recent call first):"
LONG = "torture.long"


def swept(story: Story, at: float = 32.0, seconds: int = 11, says: tuple[float, ...] = (), **facts: bool) -> Story:
    """Worker 2 begins job 9 at 20. A sweep takes the job, because the worker was silent, and it runs again 1 s later.
    `says`: when the first handler says that it runs."""
    story.worker(2).asked("k9", LONG).ran(9, 20, None, slot=2, kind=LONG, says=says)
    story.ended(9, at, "crashed", slot=2, kind=LONG, error=f"its worker h:102 was silent for {seconds} s")
    if facts:
        story.changed(9, at, "sweep", **facts)
    return story.ran(9, at + 1, at + 5, slot=1, kind=LONG, token="t2").ended(9, at + 5.1, slot=1, kind=LONG, token="t2")


def stopped(story: Story, since: float, until: float) -> Story:
    """Worker 2 stands still. The dead man ends it afterwards."""
    story.signal(2, since, "SIGSTOP").signal(2, until, "SIGCONT")
    return story.exit(2, until + 0.3, -26, STACKS)


def killed(story: Story) -> Story:
    return story.signal(2, 20.5, "SIGKILL").exit(2, 20.51, -9)


def left(story: Story) -> Story:
    """Worker 2 stops when all others do."""
    return story.signal(2, 200, "SIGTERM").exit(2, 201, 0)


def cut(story: Story, since: float, until: float) -> Story:
    return story.told(since, "cut", how="silence all", seconds=until - since, slot=2)


def jobs(story: Story, *times: float, took: float = 0.05, slot: int = 0, first: int = 10, again: bool = False) -> Story:
    """A job starts at each of these times, and is ok."""
    for number, at in enumerate(times, first):
        story.asked(f"k{number}").ran(number, at, at + took, slot=slot, again=again)
        story.ended(number, at + took + 0.01, slot=slot)
    return story


def failed_once(story: Story) -> Story:
    """Job 9 fails at 20.2, and is ok after the ramp."""
    story.asked("k9").ran(9, 20.1, 20.2, how="Planned").ended(9, 20.2, "retry")
    return story.ran(9, 31, 31.1, token="t2").ended(9, 31.2, token="t2")


BROKEN = {
    "a handler went on when a sweep had given its job to another worker": (
        "at once",
        lambda: left(cut(swept(a_good_day(), says=(30.0, 36.0)), 20.5, 40)),
    ),
    "a handler went on long after its process had stood still": (
        "at once",
        lambda: stopped(swept(a_good_day(), says=(37.0,)), 20.5, 33.5),
    ),
    "a sweep took a job sooner than its worker had promised": (
        "swept",
        lambda: stopped(swept(a_good_day(), seconds=9), 20.5, 40),
    ),
    "a sweep took a job that had just been leased": ("swept", lambda: stopped(swept(a_good_day(), at=29), 20.5, 40)),
    "a sweep took the job of a worker that nothing had troubled": ("swept", lambda: left(swept(a_good_day()))),
    "a sweep took the job of a worker whose line was cut only long before": (
        "swept",
        lambda: left(cut(swept(a_good_day(), at=50), 20.5, 34)),
    ),
    "the job of a dead worker was swept late": ("stuck", lambda: killed(swept(a_good_day(), at=60, seconds=39))),
    "the job of a worker that stood still was swept late": (
        "stuck",
        lambda: stopped(swept(a_good_day(), at=60, seconds=39), 20.5, 70),
    ),
    "the job of a worker that was cut off was swept late": (
        "stuck",
        lambda: left(cut(swept(a_good_day(), at=60, seconds=39), 20.5, 70)),
    ),
    "two jobs of a canary of one at once": (
        "ramp",
        lambda: jobs(a_good_day().ramp(20, 30, canary=1), 20.1, 20.2, took=1),
    ),
    "a job was leased after the canary had failed": (
        "ramp",
        lambda: jobs(failed_once(a_good_day().ramp(20, 30, canary=1)), 23),
    ),
    "more starts than the rate allows": (
        "ramp",
        lambda: jobs(a_good_day().ramp(20, 30, rate=2.0), 20.1, 20.2, 20.3, 20.4),
    ),
    "more starts at once than the rate allows, after a while without any": (
        "ramp",
        lambda: jobs(a_good_day().ramp(20, 30, rate=1.0), 27, 27.1, 27.2),
    ),
    "more starts than the rate allows, during the steps": (
        "ramp",
        lambda: jobs(a_good_day().ramp(20, 30, rate=2.0, steps=[100], every=5.0), 20.1, 20.2, 20.3, 20.4),
    ),
    "more workers at once than the step allows": (
        "ramp",
        lambda: jobs(jobs(a_good_day().ramp(20, 30, steps=[50], every=5.0), 20.1, took=2), 21, slot=1, first=20),
    ),
    "a ramp stopped, and nothing had failed": ("ramp", lambda: a_good_day().ramp(20, 30, canary=1).ramp_stopped(22)),
    "a start after a ramp had stopped": (
        "ramp",
        lambda: jobs(failed_once(a_good_day().ramp(20, 30, steps=[50], every=9.0)).ramp_stopped(20.3), 21.5),
    ),
}

ALLOWED = {
    "the job of a dead worker was swept": lambda: killed(swept(a_good_day())),
    "the job of a dead worker was swept late, because the database was away": lambda: (
        killed(swept(a_good_day(), at=70, seconds=49)).told(25, "down", how="kill").told(40, "up", how="kill")
    ),
    "the job of a dead worker was swept late, because somebody had locked it": lambda: killed(
        swept(a_good_day(), at=60, seconds=39)
    ).told(50, "locked", how="rows", jobs=[9], since=25),
    "a handler said that it ran for a moment, after its process had stood still": lambda: stopped(
        swept(a_good_day(), says=(40.05,)), 20.5, 40
    ),
    "a handler was given up in time": lambda: left(cut(swept(a_good_day(), says=(28.0,)), 20.5, 40)),
    "an operator accepted a second run": lambda: left(
        swept(a_good_day(), at=24, seconds=3, says=(36.0,), accepted=True)
    ),
    "a canary was ok, and many jobs followed": lambda: jobs(
        a_good_day().ramp(20, 30, canary=1), 20.1, 20.3, 20.3, 20.3, 20.4
    ),
    "a rate was kept": lambda: jobs(a_good_day().ramp(20, 30, rate=2.0), 20.1, 20.6, 21.1, 23, 23.1, 23.6),
    "a rate did not count after the steps": lambda: jobs(
        a_good_day().ramp(20, 30, rate=2.0, steps=[100], every=5.0), 26, 26, 26, 26, 26
    ),
    "more starts than the rate allows, of jobs that had been leased before": lambda: jobs(
        a_good_day().ramp(20, 30, rate=2.0), 20.1, 20.2, 20.3, 20.4, again=True
    ),
    "more workers in the last step": lambda: jobs(
        jobs(a_good_day().ramp(20, 30, steps=[50, 100], every=2.0), 20.1, took=4), 23, slot=1, first=20
    ),
    "a ramp stopped": lambda: failed_once(a_good_day().ramp(20, 30, canary=1)).ramp_stopped(20.3),
    "a start beside a ramp of another kind": lambda: jobs(
        a_good_day().ramp(20, 30, LONG, rate=0.5), 20.1, 20.2, 20.3, 20.4
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_of_a_sweep_or_a_ramp_is_reported(name, tmp_path):
    promise, story = BROKEN[name]
    found = story().verdict(tmp_path).violations
    assert {violation.promise for violation in found} == {promise}


@pytest.mark.parametrize("name", ALLOWED)
def test_a_log_of_a_sweep_or_a_ramp_that_only_seems_to_break_a_promise_is_clean(name, tmp_path):
    assert ALLOWED[name]().verdict(tmp_path).violations == []
