"""What is not a job's fault costs it no attempt: too few connections, memory or disk, and a handler's own NotNow."""

from __future__ import annotations

import errno
import math
import os
import socket
import subprocess
import time
from datetime import timedelta
from types import SimpleNamespace

import psycopg
import pytest

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.errors import NotNow, Permanent, RetryAfter
from shithubd_worker.model import Batch, How, Lease
from shithubd_worker.registry import Registry
from shithubd_worker.settings.config import Config
from shithubd_worker.timing import SHORT_SECONDS


class Refusing:
    """A handlers' database that refuses a connection."""

    schema, broken = "public", False

    def lend(self, answer_by):
        raise psycopg.OperationalError('connection failed: FATAL:  too many connections for role "forge"')


def outcome_of(handler, database=None):
    """The outcome of the job's last attempt, and the reason for the loop to pause, if it should."""
    registry = Registry()
    registry.handler("k", max_attempts=1)(handler)
    lease = Lease(1, "k", "{}", 1, None, 0, 0, 0.0, Batch("token", time.monotonic(), 0.0))
    attempt = Attempt(
        registry["k"],
        lease,
        config=Config(),
        database=database or SimpleNamespace(schema="public", broken=False),
        stop=SimpleNamespace(release_at=math.inf),
        alarm=lambda _seconds: None,
    )
    result = attempt.prepare() or attempt.run()
    return result.outcome, result.short


def raising(error, cause=None):
    def handler(job):
        raise error from cause

    return handler


def wrapping(error):
    def handler(job):
        try:
            raise error
        except Exception:
            raise RuntimeError("a library's own") from error

    return handler


SHORT = [
    OSError(number, os.strerror(number))
    for number in (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
]
SHORT += [psycopg.errors.lookup(code)("no") for code in ("53000", "53100", "53200", "53300", "53400", "57P03", "58030")]


@pytest.mark.parametrize("error", SHORT, ids=repr)
@pytest.mark.parametrize("way", [raising, wrapping])
def test_a_shortage_releases_the_job_for_a_while_and_pauses_the_loop(error, way):
    outcome, short = outcome_of(way(error))
    assert outcome.how is How.RELEASED
    assert 0.8 * SHORT_SECONDS <= outcome.delay_seconds <= 1.2 * SHORT_SECONDS
    assert short
    assert outcome.error == f"not now: {short}"


def test_a_connection_that_cannot_be_opened_is_no_fault_of_the_job():
    outcome, short = outcome_of(lambda job: job.connection, Refusing())
    assert outcome.how is How.RELEASED
    assert "too many connections" in short

    def transaction(job):
        with job.transaction():
            pass

    assert outcome_of(transaction, Refusing())[0].how is How.RELEASED


def test_a_fork_that_is_refused_is_no_fault_of_the_job(monkeypatch):
    def refused(*_args):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(subprocess, "_fork_exec", refused)
    outcome, short = outcome_of(lambda job: job.popen(["true"]))
    assert outcome.how is How.RELEASED
    assert short


def nothing_to_read(job):
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        left.recv(1)


OWN = [
    MemoryError(),  # an absurd size raises this at once; a real shortage of memory is the kernel's matter
    OSError(errno.ENOENT, "x"),
    OSError(errno.EACCES, "x"),
    ConnectionRefusedError(errno.ECONNREFUSED, "x"),
    psycopg.errors.UniqueViolation("x"),
    psycopg.errors.QueryCanceled("x"),
    psycopg.errors.DeadlockDetected("x"),
    psycopg.errors.ProgramLimitExceeded("x"),
    psycopg.OperationalError("another database of the handler's own"),
    RuntimeError("x"),
]


@pytest.mark.parametrize("error", OWN, ids=repr)
def test_an_error_that_may_be_the_jobs_own_fault_is_a_failed_attempt(error):
    outcome, short = outcome_of(raising(error))
    assert (outcome.how, short) == (How.FAILED, None)


def test_an_empty_socket_is_no_shortage_of_processes():
    assert outcome_of(nothing_to_read)[0].how is How.FAILED


def test_the_exception_that_a_handler_chooses_counts_with_any_cause():
    full = OSError(errno.ENOSPC, "full")
    assert outcome_of(raising(Permanent("no"), full))[0].how is How.FAILED
    assert outcome_of(raising(RetryAfter(5), full))[0].how is How.FAILED  # the last attempt of the job
    outcome, short = outcome_of(raising(NotNow(5, "busy"), full))
    assert (outcome.how, outcome.delay_seconds, short) == (How.RELEASED, 5, None)
    assert outcome.error.startswith("busy\ncaused by OSError: ")


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(0, 1), (-5, 1), (90, 90), (timedelta(minutes=2), 120), (math.inf, 365 * 86400), (math.nan, 1)],
)
def test_the_delay_of_not_now_has_a_lower_and_an_upper_limit(given, seconds):
    assert NotNow(given, "busy").seconds == seconds
