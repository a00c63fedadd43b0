"""The table of all outcomes of an attempt: every case is here, and nothing else decides an outcome."""

from __future__ import annotations

import errno
import os
import subprocess
from types import SimpleNamespace

import psycopg
import pytest

from shithubd_worker.attempt.outcome import OK, Ended, Interrupt, Result, Settle, decide, unfit
from shithubd_worker.errors import Interrupted, LeaseLost, NotNow, Permanent, RetryAfter
from shithubd_worker.model import Batch, How, Lease, Outcome
from shithubd_worker.registry import Registry

MIDDLE = 0.5  # the jitter: none
BACKOFF = 100.0
LONG_AGO, JUST_NOW = 6.1, 5.9  # on both sides of a tenth of the lease's timeout
NO = ValueError("no")
INTERRUPTED = Interrupted("it is over")


def kind(backoff=lambda n: BACKOFF * n):
    registry = Registry()
    registry.handler("k", lease_timeout=60, max_runtime=40, max_attempts=3, backoff=backoff)(lambda job: None)
    return registry["k"]


KIND, ODD_KIND = kind(), kind(lambda n: 1 / 0)


def ended(
    raised=None, settle=Settle.DUE, *, why=None, attempt=1, most=None, of=KIND, refused=False, broke=False, **knew
):
    """A run that ended in this way; it is the first of three attempts, unless the arguments say otherwise."""
    known = {"lost": False, "unreachable": False, "silent": False, "waited": 0.0, "ran": 41.0, "extended": False}
    return Ended(
        of,
        Lease(7, "k", "{}", attempt, most, 0, 0, 0.0, Batch("token", 0.0, 0.0)),
        raised,
        settle,
        Interrupt(why, **(known | knew)) if why else None,
        raised if refused else None,
        broke,
    )


def retry(text, seconds=BACKOFF, settle=Settle.DUE):
    return Result(Outcome(How.RETRY, text, seconds), settle)


def failed(text):
    return Result(Outcome(How.FAILED, text))


def released(text, seconds=0.0, settle=Settle.DUE):
    return Result(Outcome(How.RELEASED, text, seconds), settle)


def short(text):
    return Result(Outcome(How.RELEASED, f"not now: {text}", 15.0), short=text)


def or_away(result):
    """The same case, and its outcome if the database went away."""
    away = Outcome(How.RELEASED, f"released: the database went away during the run: {result.outcome.error}")
    return result._replace(if_away=away)


def behind(error, cause, *, clean_up=False):
    """An error with its cause; with `clean_up` it was raised while the cause was handled."""
    if clean_up:
        error.__context__ = cause
    else:
        error.__cause__ = cause
    return error


def of_a_fork():
    """EAGAIN, as the kernel refuses one more process."""
    before = subprocess._fork_exec

    def refuse(*_):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    subprocess._fork_exec = refuse
    try:
        subprocess.Popen(["true"])
    except OSError as error:
        return error
    finally:
        subprocess._fork_exec = before
    raise AssertionError


def state(code):
    return psycopg.errors.lookup(code)("no")


class NoDay(Exception):
    """What PostgreSQL answers to a settle while the history has no partition for today."""

    sqlstate = "23514"
    diag = SimpleNamespace(sqlstate=sqlstate, constraint_name=None, table_name="job_history_7d")


FULL = OSError(errno.ENOSPC, "full")
AWAY = psycopg.OperationalError("no answer")
LOST_TEXT = "given up: the lease could not be renewed, because the database"
HELD = "interrupted: it held Python's interpreter (the GIL) until its lease was nearly over"
HELD_IN_SILENCE = "interrupted: it held Python's interpreter (the GIL) until its worker was nearly taken for gone"

TABLE = {
    # The handler returned.
    "it returned": (ended(), Result(OK)),
    "it returned, settled": (ended(settle=Settle.DONE), Result(OK, Settle.DONE)),
    "it returned in spite of a COMMIT without an answer": (ended(settle=Settle.IN_DOUBT), Result(OK, Settle.IN_DOUBT)),
    # Once settled, a job keeps its outcome.
    "it raised, settled": (ended(NO, Settle.DONE), Result(OK, Settle.DONE)),
    "Permanent, settled": (ended(Permanent("no"), Settle.DONE, broke=True), Result(OK, Settle.DONE)),
    "a shortage, settled": (ended(FULL, Settle.DONE), Result(OK, Settle.DONE)),
    "interrupted, settled": (ended(INTERRUPTED, Settle.DONE, why="stop"), Result(OK, Settle.DONE)),
    # It raised any exception.
    "it raised": (ended(NO), retry("ValueError: no")),
    "it raised, second attempt": (ended(NO, attempt=2), retry("ValueError: no", 200.0)),
    "it raised, last attempt of the kind": (ended(NO, attempt=3), failed("ValueError: no")),
    "it raised, last attempt of the job": (ended(NO, most=1), failed("ValueError: no")),
    "it raised, the job has more than the kind": (ended(NO, attempt=3, most=4), retry("ValueError: no", 300.0)),
    "it raised, the job has none at all": (ended(NO, most=0), failed("ValueError: no")),
    "SystemExit": (ended(SystemExit(3)), retry("SystemExit: 3")),
    "an interrupt of its own": (ended(INTERRUPTED), retry("Interrupted: it is over")),
    "the backoff raised": (
        ended(NO, of=ODD_KIND),
        failed("ValueError: no\nand the kind's backoff raised ZeroDivisionError: division by zero"),
    ),
    "the backoff was not needed": (ended(NO, of=ODD_KIND, attempt=3), failed("ValueError: no")),
    "it raised, in doubt": (ended(NO, Settle.IN_DOUBT), retry("ValueError: no", settle=Settle.IN_DOUBT)),
    # It chose the outcome.
    "Permanent": (ended(Permanent("no")), failed("no")),
    "Permanent for want of something": (
        ended(behind(Permanent("no"), FULL)),
        failed("no\ncaused by OSError: [Errno 28] full"),
    ),
    "RetryAfter": (ended(RetryAfter(7, "no")), retry("no", 7.0)),
    "RetryAfter, by the backoff": (ended(RetryAfter(None, "no")), retry("no")),
    "RetryAfter, never": (ended(RetryAfter(1e300, "no")), retry("no", 365 * 86400.0)),
    "RetryAfter, last attempt": (ended(RetryAfter(7, "no"), attempt=3), failed("no")),
    "NotNow": (ended(NotNow(9, "no")), released("no", 9.0)),
    "NotNow, last attempt": (ended(NotNow(9, "no"), attempt=3), released("no", 9.0)),
    "LeaseLost": (ended(LeaseLost("no")), released("LeaseLost: no")),
    "LeaseLost, last attempt": (ended(LeaseLost("no"), attempt=3), released("LeaseLost: no")),
    # It was refused connections, memory or disk.
    "no space": (ended(FULL), short("OSError: [Errno 28] full")),
    "no space, last attempt": (ended(FULL, attempt=3), short("OSError: [Errno 28] full")),
    "no space, behind another": (
        ended(behind(RuntimeError("no"), FULL)),
        short("RuntimeError: no\ncaused by OSError: [Errno 28] full"),
    ),
    "another error of the system": (ended(OSError(errno.EACCES, "no")), retry("PermissionError: [Errno 13] no")),
    "a socket without data": (ended(BlockingIOError(errno.EAGAIN, "no")), retry("BlockingIOError: [Errno 11] no")),
    "too many connections": (ended(state("53300")), short("TooManyConnections: no")),
    "a server that starts": (ended(state("57P03")), short("CannotConnectNow: no")),
    "a constraint": (ended(state("23505")), retry("UniqueViolation: no")),
    "another database of its own": (ended(AWAY), retry("OperationalError: no answer")),
    "a connection of ours": (ended(AWAY, refused=True), short("OperationalError: no answer")),
    "a settle of ours that may pass": (ended(state("55P03"), refused=True), short("LockNotAvailable: no")),
    "a settle of ours without a day": (ended(NoDay("no"), refused=True), short("NoDay: no")),
    "a day that its own statement wants": (ended(NoDay("no")), retry("NoDay: no")),
    "a settle of ours that may not": (ended(state("23505"), refused=True), retry("UniqueViolation: no")),
    # Its connection broke. The worker asks whether the database went away.
    "broke": (ended(NO, broke=True), or_away(retry("ValueError: no"))),
    "broke, last attempt": (ended(NO, broke=True, attempt=3), or_away(failed("ValueError: no"))),
    "broke, Permanent": (ended(Permanent("no"), broke=True), or_away(failed("no"))),
    "broke, RetryAfter": (ended(RetryAfter(7, "no"), broke=True), or_away(retry("no", 7.0))),
    "broke, NotNow": (ended(NotNow(9, "no"), broke=True), or_away(released("no", 9.0))),
    "broke, a shortage": (ended(state("53300"), broke=True), or_away(retry("TooManyConnections: no"))),
    "broke, a connection of ours": (
        ended(AWAY, broke=True, refused=True),
        or_away(retry("OperationalError: no answer")),
    ),
    "broke in its COMMIT": (
        ended(AWAY, Settle.IN_DOUBT, broke=True),
        or_away(retry("OperationalError: no answer", settle=Settle.IN_DOUBT)),
    ),
    "broke, LeaseLost": (ended(LeaseLost("no"), broke=True), released("LeaseLost: no")),
    "broke, and returned": (ended(broke=True), Result(OK)),
    # It was interrupted.
    "a stop": (ended(INTERRUPTED, why="stop"), released("released: the worker stops")),
    "a stop, last attempt": (ended(INTERRUPTED, why="stop", attempt=3), released("released: the worker stops")),
    "a stop in a COMMIT": (
        ended(INTERRUPTED, Settle.IN_DOUBT, why="stop", broke=True),
        released("released: the worker stops", settle=Settle.IN_DOUBT),
    ),
    "a renewal that was refused": (
        ended(INTERRUPTED, why="lost", lost=True, unreachable=True, waited=LONG_AGO),
        released("given up: the lease was lost"),
    ),
    "no database to renew": (
        ended(INTERRUPTED, why="lost", unreachable=True, attempt=3),
        released(f"{LOST_TEXT} is away"),
    ),
    "no renewal in time": (
        ended(INTERRUPTED, why="lost", waited=LONG_AGO, attempt=3),
        released(f"{LOST_TEXT} did not renew it in time"),
    ),
    "no database to beat": (
        ended(INTERRUPTED, why="lost", silent=True, unreachable=True, waited=260.0, attempt=3),
        released("given up: no word from the database for 260 s"),
    ),
    "no beat was recorded": (
        ended(INTERRUPTED, why="lost", silent=True, waited=LONG_AGO, attempt=3),
        released(f"given up: the database recorded no beat for {LONG_AGO:.0f} s"),
    ),
    "no turn to beat": (ended(INTERRUPTED, why="lost", silent=True, waited=JUST_NOW), retry(HELD_IN_SILENCE)),
    "no turn to renew": (ended(INTERRUPTED, why="lost", waited=JUST_NOW), retry(HELD)),
    "no turn to renew, last attempt": (ended(INTERRUPTED, why="lost", attempt=3), failed(HELD)),
    "max_runtime": (
        ended(INTERRUPTED, why="runtime"),
        retry("interrupted after 41.0 s: longer than max_runtime (40 s)"),
    ),
    "max_runtime, last attempt": (
        ended(INTERRUPTED, why="runtime", attempt=3),
        failed("interrupted after 41.0 s: longer than max_runtime (40 s)"),
    ),
    "longer than it asked for": (
        ended(INTERRUPTED, why="runtime", extended=True),
        retry("interrupted after 41.0 s: longer than it had asked for with job.extend()"),
    ),
    "interrupted, and the backoff raised": (
        ended(INTERRUPTED, why="runtime", of=ODD_KIND),
        failed(
            "interrupted after 41.0 s: longer than max_runtime (40 s)\n"
            "and the kind's backoff raised ZeroDivisionError: division by zero"
        ),
    ),
    "interrupted, and its connection broke": (
        ended(INTERRUPTED, why="stop", broke=True),
        released("released: the worker stops"),
    ),
    "interrupted, and its clean-up raised": (
        ended(behind(Permanent("no"), INTERRUPTED, clean_up=True), why="stop"),
        released("released: the worker stops"),
    ),
    "interrupted, swallowed, and returned": (ended(why="runtime"), Result(OK)),
    "interrupted, swallowed, and raised": (ended(NO, why="runtime"), retry("ValueError: no")),
    "interrupted, swallowed, and Permanent": (ended(Permanent("no"), why="lost", lost=True), failed("no")),
}


@pytest.mark.parametrize("case", TABLE)
def test_each_case_has_its_outcome(case):
    ended, result = TABLE[case]
    assert decide(ended, MIDDLE) == result


def test_a_fork_that_was_refused_is_a_shortage():
    result = decide(ended(of_a_fork()), MIDDLE)
    assert result.short.startswith("BlockingIOError: [Errno 11]")
    assert result == short(result.short)


def test_a_payload_that_does_not_fit_is_poison():
    text = "the payload doesn't fit the handler: TypeError: no"
    assert unfit(TypeError("no")) == Result(Outcome(How.POISON, text))


@pytest.mark.parametrize(("chance", "times"), [(0.0, 0.8), (1.0, 1.2)])
def test_jobs_that_fail_or_are_refused_together_do_not_come_back_together(chance, times):
    assert decide(ended(NO), chance).outcome.delay_seconds == pytest.approx(BACKOFF * times)
    assert decide(ended(FULL), chance).outcome.delay_seconds == pytest.approx(15.0 * times)
    assert decide(ended(RetryAfter(7, "no")), chance).outcome.delay_seconds == 7.0


def test_an_interrupt_shows_where_the_handler_stood():
    def handler():
        raise Interrupted("it is over")

    try:
        handler()
    except Interrupted as error:
        text = decide(ended(error, why="runtime"), MIDDLE).outcome.error
    first, place, _ = text.splitlines()
    assert first == "interrupted after 41.0 s: longer than max_runtime (40 s)"
    assert place.endswith("in handler")
