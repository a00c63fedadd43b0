"""The checker can fail: for each promise there is a small log that breaks it, and beside it one that only seems to."""

from __future__ import annotations

import pytest

from torture import test_checker_recovery
from torture.evidence import FAILED_BY_HAND, Evidence
from torture.report import report
from torture.story import Story, a_good_day
from torture.verdict import PROMISES

STACKS = "Current thread 0x1 (most recent call first):"


def long_ago(story: Story, error: str = "the lease expired: its owner died") -> Story:
    """Job 9 returned at 20.1, and was lost at 30.0 although nobody killed or stopped a process."""
    return story.asked("k9").ran(9, 20.0, 20.1).ended(9, 30.0, "crashed", error=error)


def again(story: Story, at: float = 31.0) -> Story:
    """Job 9 runs once more, and is ok."""
    return story.ran(9, at, at + 0.1, slot=1, token="t2").ended(9, at + 0.2, slot=1, token="t2")


def cut_off(story: Story, at: float = 20.0, kind: str = "torture.external") -> Story:
    """Worker 2 is killed while it runs job 9, and its lease is returned."""
    story.worker(2).asked("k9", kind).ran(9, at, None, slot=2, kind=kind).signal(2, at + 0.5, "SIGKILL")
    return story.exit(2, at + 0.51, -9).ended(9, at + 1, "crashed", slot=2, kind=kind, error="its worker died")


def brought_back(story: Story) -> Story:
    """Job 9 is completed at 20, brought back at 25, and runs at 31."""
    story.asked("k9").ended_by_hand(9, 20, "completed").changed(9, 25, "undo", back=True)
    return story.ran(9, 31, 31.1).ended(9, 31.2)


def started_anew() -> Story:
    """Worker 2 is killed at 20.5 with a lease of 3 s, the other one at 21. The next one starts at 24."""
    story = Story().worker(0).asked("k1").ran(1, 3.0, 3.1).ended(1, 3.11).signal(0, 21, "SIGKILL").exit(0, 21.01, -9)
    return cut_off(story.worker(1, 24).signal(1, 200, "SIGTERM").exit(1, 201, 0), kind="torture.slow")


BROKEN = {
    "no job was enqueued": ("nothing", lambda: Story().worker(0).signal(0, 9, "SIGTERM").exit(0, 10, 0)),
    "a job is nowhere": ("lost", lambda: a_good_day().asked("k9")),
    "a job without a history was cut off and is nowhere": (
        "lost",
        lambda: a_good_day().asked("k9", "torture.untold").ran(9, 20, None, kind="torture.untold"),
    ),
    "a job ran that was rolled back": (
        "rolled back",
        lambda: a_good_day().asked("k9", way="rollback", answered=False).ran(9, 20, 20.1).ended(9, 20.2),
    ),
    "a job waits that was rolled back": (
        "rolled back",
        lambda: (
            a_good_day()
            .asked("k9", "torture.permanent", "rollback", answered=False)
            .lives(9, "failed", kind="torture.permanent")
        ),
    ),
    "a job ran that nobody asked for": ("rolled back", lambda: a_good_day().ran(9, 20, 20.1).ended(9, 20.2)),
    "an effect is there twice": ("effects", lambda: a_good_day().effect(2)),
    "a job is ok without its effect": (
        "effects",
        lambda: a_good_day().asked("k9", "torture.effect").ended(9, 20.2, kind="torture.effect"),
    ),
    "a job without a history returned without its effect": (
        "effects",
        lambda: a_good_day().asked("k9", "torture.untold").ran(9, 20, 20.1, kind="torture.untold"),
    ),
    "an effect is there and its job failed": (
        "effects",
        lambda: a_good_day().asked("k9", "torture.permanent").lives(9, "failed", kind="torture.permanent").effect(9),
    ),
    "an effect is there and its job was discarded": (
        "effects",
        lambda: a_good_day().asked("k9", "torture.effect").ended_by_hand(9, 20, kind="torture.effect").effect(9),
    ),
    "a job returned, was lost ten seconds later, and ran again": ("second runs", lambda: again(long_ago(a_good_day()))),
    "a job returned, was lost ten seconds later, and the row of another job was locked": (
        "second runs",
        lambda: again(long_ago(a_good_day().told(29.9, "locked", how="rows", jobs=[7], since=20.05))),
    ),
    "a job was ok, and ran again": (
        "second runs",
        lambda: a_good_day().ran(1, 20, 20.1, token="t2").ended(1, 20.2, "crashed", token="t2"),
    ),
    "a job was ok twice": (
        "second runs",
        lambda: a_good_day().ended(1, 3.12, token="t2"),
    ),
    "a job ran after it was discarded": (
        "second runs",
        lambda: a_good_day().asked("k9").ended_by_hand(9, 20).ran(9, 21, 21.1),
    ),
    "a job ran after it was completed, before an undo": (
        "second runs",
        lambda: brought_back(a_good_day()).ran(9, 21, 21.1, token="t0").ended(9, 21.2, "retry", token="t0"),
    ),
    "a job was discarded, and lives on": (
        "second runs",
        lambda: (
            a_good_day()
            .asked("k9")
            .ran(9, 19, 19.1)
            .ended(9, 19.2, "retry")
            .ended_by_hand(9, 20)
            .lives(9, "failed", kind="torture.permanent")
        ),
    ),
    "a job was completed, and the audit record does not know it": (
        "operators",
        lambda: a_good_day().asked("k9").ended(9, 20, "completed", token=""),
    ),
    "the audit record says that a job was discarded, and the history does not": (
        "operators",
        lambda: a_good_day().changed(1, 20, "discard", gone=True),
    ),
    "a job was completed while it ran": (
        "operators",
        lambda: a_good_day().asked("k9").ran(9, 20, 25).ended_by_hand(9, 22, "completed"),
    ),
    "a job was brought back, and is nowhere": (
        "operators",
        lambda: a_good_day().asked("k9").ended_by_hand(9, 20).changed(9, 25, "undo", back=True),
    ),
    "a job failed with the operator's words, and the audit record does not know it": (
        "end",
        lambda: a_good_day().asked("k9").lives(9, "failed", error=FAILED_BY_HAND),
    ),
    "a job ran again, and the history doesn't know the first time": (
        "second runs",
        lambda: again(a_good_day().asked("k9").ran(9, 20, 20.1)),
    ),
    "a failed job ran again, and nobody retried it": (
        "second runs",
        lambda: again(a_good_day().asked("k9").ran(9, 20, 20.1, how="Permanent").ended(9, 20.2, "failed")),
    ),
    "a job went on while it ran again": (
        "at once",
        lambda: again(a_good_day().asked("k9").ran(9, 20, 40, how="Planned").ended(9, 30, "retry")),
    ),
    "a start behind the barrier of the fleet": ("barrier", lambda: a_good_day().barrier(4.9, 5.05)),
    "a start behind the barrier of a kind": (
        "barrier",
        lambda: a_good_day().barrier(3.9, 4.5, "kind", "torture.effect"),
    ),
    "a start behind the barrier of a host": ("barrier", lambda: a_good_day().barrier(4.9, 5.05, "host", "h")),
    "a start behind the barrier of a unit": ("barrier", lambda: a_good_day().barrier(4.9, 5.05, "unit", "u@1")),
    "a start behind the barrier of a worker": (
        "barrier",
        lambda: a_good_day().barrier(4.9, 5.05, "worker", "some uuid", pid=101),
    ),
    "a start behind a barrier after a stop that was shorter than the reserve": (
        "barrier",
        lambda: a_good_day().signal(1, 4.6, "SIGSTOP").signal(1, 4.98, "SIGCONT").barrier(4.9, 5.05),
    ),
    "a job still ran when nothing was said to run": (
        "barrier",
        lambda: (
            a_good_day().asked("k9").ran(9, 20, 25).ended(9, 25.1).barrier(21, 24).told(23, "idle", hold="fleet 21")
        ),
    ),
    "the lease of a dead worker was returned late": (
        "stuck",
        lambda: again(cut_off(a_good_day()).ended(9, 36.0, "crashed", slot=2, kind="torture.slow", token="t0"), 40),
    ),
    "the lease of a dead worker was returned later than by the first sweep of those that were started anew": (
        "stuck",
        lambda: again(started_anew().ended(9, 36.5, "crashed", slot=2, kind="torture.slow", token="t0"), 40),
    ),
    "a dead man ended a worker while the line to the database stood still": (
        "exit codes",
        lambda: a_good_day().worker(1, 202).told(210, "cut", how="stall", seconds=6.0).exit(1, 214, -26, STACKS),
    ),
    "a lease was seen long after its end": ("stuck", lambda: a_good_day().sample(90, expired=[[77, 11.5]])),
    "a job could run and a worker was idle": (
        "stuck",
        lambda: a_good_day().sample(90, due=[77]).sample(95, due=[77]).sample(101, due=[77]),
    ),
    "a worker ended with 1": ("exit codes", lambda: a_good_day().worker(2).exit(2, 30, 1, "Traceback")),
    "a worker ended with 1 after SIGTERM": (
        "exit codes",
        lambda: a_good_day().worker(2).signal(2, 29, "SIGTERM").exit(2, 30, 1),
    ),
    "a worker was ended by the signal that asked it to stop": (
        "exit codes",
        lambda: a_good_day().worker(2).signal(2, 29, "SIGTERM").exit(2, 30, -15),
    ),
    "a worker took long to stop": (
        "exit codes",
        lambda: a_good_day().worker(2).signal(2, 29, "SIGTERM").exit(2, 41, 0),
    ),
    "a worker took long to stop after a second SIGTERM": (
        "exit codes",
        lambda: a_good_day().worker(2).signal(2, 29, "SIGTERM").signal(2, 29.5, "SIGTERM").exit(2, 37.5, 0),
    ),
    "a worker was killed by nobody": ("exit codes", lambda: a_good_day().worker(2).exit(2, 30, -9)),
    "a worker left unasked": ("exit codes", lambda: a_good_day().worker(2).exit(2, 30, 0)),
    "a worker never ended": ("exit codes", lambda: a_good_day().worker(2)),
    "a worker left for want of the database, which was there": (
        "exit codes",
        lambda: a_good_day().worker(2).exit(2, 90, 75),
    ),
    "a worker left at its start, before it had waited for the database": (
        "exit codes",
        lambda: a_good_day().told(0.5, "down", how="kill").told(29.5, "up", how="kill").worker(2).exit(2, 30, 75),
    ),
    "a command ended with 1": (
        "exit codes",
        lambda: a_good_day().told(30, "command", command="drain", code=1, said=""),
    ),
    "a job is left in the queue": ("end", lambda: a_good_day().asked("k9").lives(9, "queued")),
    "a job is left processing": ("end", lambda: a_good_day().asked("k9").lives(9, "processing")),
    "a job failed without a cause": (
        "end",
        lambda: a_good_day().asked("k9").lives(9, "failed").ended(9, 20, "failed", error="attempts used up"),
    ),
    "a job is poison after two crashes": (
        "end",
        lambda: cut_off(a_good_day()).lives(9, "failed").ended(9, 30, "poison", token="t2"),
    ),
}

ALLOWED = {
    "a job was completed, brought back, and ran": lambda: brought_back(a_good_day()),
    "a job was brought back, and discarded again": lambda: (
        a_good_day().asked("k9").ended_by_hand(9, 20).changed(9, 25, "undo", back=True).ended_by_hand(9, 30)
    ),
    "an operator failed a job": lambda: (
        a_good_day().asked("k9").changed(9, 20, "fail").lives(9, "failed", error=FAILED_BY_HAND)
    ),
    "a failed job was rescheduled": lambda: again(
        a_good_day().asked("k9").ran(9, 20, 20.1, how="Permanent").ended(9, 20.2, "failed").changed(9, 25, "reschedule")
    ),
    "a job was completed after its lease had expired beside its run": lambda: (
        a_good_day().asked("k9").ran(9, 20, 25).ended(9, 21, "crashed").ended_by_hand(9, 22, "completed")
    ),
    "a good day": a_good_day,
    "a job without a history was cut off behind its transaction": lambda: (
        a_good_day().asked("k9", "torture.untold").ran(9, 20, None, kind="torture.untold").effect(9)
    ),
    "a command found that its job had come to an end": lambda: a_good_day().told(
        30, "command", command="jobs", code=1, said="shithubd-worker: no job 9: not here and not there"
    ),
    "no answer to the COMMIT, and the job is nowhere": lambda: a_good_day().asked("k9", way="hang up", answered=False),
    "no answer to the COMMIT, and the job is there": lambda: (
        a_good_day().asked("k9", way="hang up", answered=False).ran(9, 20, 20.1).ended(9, 20.2)
    ),
    "a job that was cut off runs again": lambda: again(cut_off(a_good_day())),
    "a job returned just before its worker was killed": lambda: again(
        a_good_day()
        .worker(2)
        .asked("k9")
        .ran(9, 20, 20.4, slot=2)
        .signal(2, 20.45, "SIGKILL")
        .exit(2, 20.46, -9)
        .ended(9, 24, "crashed", slot=2)
    ),
    "a job returned, and its process was stopped for ten seconds": lambda: again(
        long_ago(a_good_day().signal(0, 20.11, "SIGSTOP").signal(0, 30.5, "SIGCONT"))
    ),
    "a job returned, and its row was locked for ten seconds": lambda: again(
        long_ago(a_good_day().told(29.9, "locked", how="rows", jobs=[7, 9], since=20.05))
    ),
    "a job returned, and the database was away for ten seconds": lambda: again(
        long_ago(a_good_day().told(20.12, "down", how="kill").told(29, "up", how="kill"))
    ),
    "the database forgot a lease": lambda: again(
        a_good_day().asked("k9").ran(9, 20, 26).told(20.3, "down", how="kill").told(22, "up", how="kill")
    ),
    "a failed job was retried": lambda: again(
        a_good_day()
        .asked("k9")
        .ran(9, 20, 20.1, how="Permanent")
        .ended(9, 20.2, "failed")
        .told(25, "order", order="retry", job=9)
    ),
    "a start of another scope": lambda: (
        a_good_day()
        .barrier(4.9, 5.05, "kind", "torture.effect")
        .barrier(4.9, 5.05, "host", "other")
        .barrier(4.9, 5.05, "unit", "u@0")
        .barrier(4.9, 5.05, "worker", "some uuid", pid=100)
    ),
    "a start before the barrier, and one after the resume": lambda: a_good_day().barrier(4.01, 4.99),
    "a start behind a barrier of a process that was stopped for long": lambda: (
        a_good_day().signal(1, 4.5, "SIGSTOP").signal(1, 4.98, "SIGCONT").barrier(4.9, 5.05)
    ),
    "a job that settled itself still ran when nothing was said to run": lambda: (
        a_good_day().asked("k9").ran(9, 20, 25).ended(9, 20.5).barrier(21, 24).told(23, "idle", hold="fleet 21")
    ),
    "a lease that waits for the workers to come back after a restart of the database": lambda: (
        a_good_day().told(80, "down", how="fast").told(82, "up", how="fast").sample(95, expired=[[77, 15]])
    ),
    "a job waits, and each worker is busy now and then": lambda: (
        a_good_day().sample(90, due=[77]).sample(96, due=[77], idle=0).sample(101, due=[77]).sample(103, due=[77])
    ),
    "three crashes": lambda: (
        cut_off(a_good_day()).ended(9, 30, "crashed", token="t2").ended(9, 40, "poison", token="t3").lives(9, "failed")
    ),
    "a planned failure": lambda: (
        a_good_day().asked("k9", "torture.permanent").lives(9, "failed", kind="torture.permanent")
    ),
    "those who could return the lease of a dead worker had all just been started": lambda: again(
        started_anew().ended(9, 35.9, "crashed", slot=2, kind="torture.slow", token="t0"), 40
    ),
    "a dead man ended a worker that had no processor": lambda: (
        a_good_day().worker(2).told(20, "burn").told(26, "burnt").exit(2, 24, -26, STACKS)
    ),
    "a stop that outlasted the lease": lambda: (
        a_good_day().worker(2).signal(2, 20, "SIGSTOP").signal(2, 25, "SIGCONT").exit(2, 25.1, -26, STACKS)
    ),
    "a start that waited for the database for a minute": lambda: (
        a_good_day().told(19, "down", how="kill").worker(2, 20).exit(2, 81, 75).told(82, "up", how="kill")
    ),
    "a dead man read a torn frame": lambda: (
        a_good_day().worker(2).signal(2, 20, "SIGSTOP").signal(2, 25, "SIGCONT").exit(2, 25.1, -11, STACKS)
    ),
    "a stop while somebody has locked the row of a job that ended": lambda: again(
        a_good_day()
        .worker(2)
        .asked("k9")
        .ran(9, 20, 20.1, slot=2)
        .told(26, "locked", how="rows", jobs=[9], since=20.05)
        .signal(2, 21, "SIGTERM")
        .exit(2, 24, 75)
        .ended(9, 30, "crashed", slot=2)
    ),
    "a stop while the database is away": lambda: (
        a_good_day()
        .worker(2)
        .told(20, "down", how="kill")
        .signal(2, 21, "SIGTERM")
        .exit(2, 24, 75)
        .told(26, "up", how="kill")
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_reported(name, tmp_path):
    promise, story = BROKEN[name]
    found = story().verdict(tmp_path).violations
    assert {violation.promise for violation in found} == {promise}


@pytest.mark.parametrize("name", ALLOWED)
def test_a_log_that_only_seems_to_break_a_promise_is_clean(name, tmp_path):
    assert ALLOWED[name]().verdict(tmp_path).violations == []


def test_every_promise_has_a_log_that_breaks_it():
    stories = [*BROKEN.values(), *test_checker_recovery.BROKEN.values()]
    assert {promise for promise, _ in stories} == set(PROMISES)


def test_a_torn_last_line_does_not_count(tmp_path):
    a_good_day().verdict(tmp_path)
    log = next(tmp_path.glob("handlers-100-*"))
    log.write_text(log.read_text() + '{"at": 9, "what": "sta')
    assert a_good_day().verdict(tmp_path).violations == []


def test_the_report_names_each_broken_promise_and_how_often(tmp_path):
    verdict = a_good_day().effect(2).asked("k9").verdict(tmp_path)
    text = report(Evidence(facts={"seed": 7, "seconds": 60, "postgres": "15.0"}), verdict)
    assert "seed 7" in text
    assert "1 jobs lost" in text
    assert "k2 has 2 effects" in text
    assert "verdict: 2 violations" in text
