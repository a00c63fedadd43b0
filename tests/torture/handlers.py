"""What the workers of the run execute. Each run first writes that it starts, and last that it ends, and how.

Effects that must happen once are rows of torture_effects, written through job.transaction(). External effects are the
lines of the log: they may be repeated, but only where the history says why.
"""

from __future__ import annotations

import functools
import hashlib
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from shithubd_worker import Permanent, Registry, RetryAfter
from torture.records import Log, die_with_parent

registry = Registry()
# A worker that this run did not start (check-config, a test that reads the registry) writes nothing.
_log = Log(Path(os.environ["TORTURE_LOGS"]), "handlers") if "TORTURE_LOGS" in os.environ else None
if _log is not None:
    die_with_parent()
    _log("born", pid=os.getpid(), slot=os.environ["TORTURE_SLOT"], host=socket.gethostname())

# Only handlers that fail use up attempts, and they do so seldom. What the faults cost is counted elsewhere.
MANY = 1000


class Planned(Exception):
    """A failure that the payload requests."""


def told(kind: str, **limits: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a handler whose runs are logged."""

    def wrap(function: Callable[..., None]) -> Callable[..., None]:
        @registry.handler(kind, max_attempts=MANY, **limits)
        @functools.wraps(function)  # the payload is compared with the signature of the function itself
        def run(job: Any, key: str, **members: Any) -> None:
            assert _log is not None
            began, lease = time.monotonic(), job._running.lease
            token = lease.token  # names this lease: the history has it in the row that ended the lease
            age = round(began - lease.sent_at, 4)
            same = {"job": job.id, "token": token, "key": key, "kind": kind, "attempt": job.attempt}
            _log("start", began, **same, age=age, again=lease.batch.again)
            try:
                function(job, key, **members)
            except BaseException as error:
                _log("end", job=job.id, token=token, how=type(error).__name__, said=str(error)[:200])
                raise
            _log("end", job=job.id, token=token, how="ok")

        return run

    return wrap


def effect(connection: Any, job: Any, key: str) -> None:
    """Write the effect that must happen exactly once."""
    connection.execute(
        "INSERT INTO torture_effects (key, job, token) VALUES (%s, %s, %s)", (key, job.id, job._running.lease.token)
    )


@told("torture.quick.a", lease_timeout=6)
def quick_a(job, key):
    """Workers lease hundreds of these at once."""


@told("torture.quick.b", lease_timeout=4)
def quick_b(job, key):
    """The same, of another kind."""


@told("torture.uneven", lease_timeout=5)
def uneven(job, key, seconds=0.0):
    """Mostly quick, so that many are leased at once. Those behind a slow one start when their lease is old."""
    time.sleep(seconds)


@told("torture.external", lease_timeout=5)
def external(job, key):
    time.sleep(0.005)


@told("torture.effect", lease_timeout=4)
def transactional(job, key, seconds=0.0):
    with job.transaction() as connection:
        effect(connection, job, key)
        time.sleep(seconds)


@told("torture.untold", lease_timeout=4, retention="none")
def untold(job, key):
    """A kind that keeps no history."""
    with job.transaction() as connection:
        effect(connection, job, key)


@told("torture.works_on", lease_timeout=4)
def works_on(job, key, seconds=0.1):
    with job.transaction() as connection:
        effect(connection, job, key)
    time.sleep(seconds)  # it is settled already


@told("torture.slow", lease_timeout=3, max_runtime=120)
def slow(job, key, seconds=5.0):
    """Longer than its lease, which must be renewed meanwhile."""
    time.sleep(seconds)


@told("torture.slow.effect", lease_timeout=3, max_runtime=120)
def slow_effect(job, key, seconds=4.0):
    time.sleep(seconds)
    with job.transaction() as connection:
        effect(connection, job, key)


def at_work(job, seconds):
    """Work, and say each tenth of a second that this process executes the handler."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.1)
        _log("alive", job=job.id, token=job._running.lease.token)


@told("torture.long", lease_timeout=300, max_runtime=120)
def long(job, key, seconds=5.0):
    """Its lease does not expire during the run: only a sweep can take it from a worker that is silent."""
    at_work(job, seconds)


@told("torture.long.effect", lease_timeout=300, max_runtime=120)
def long_effect(job, key, seconds=5.0):
    at_work(job, seconds)
    with job.transaction() as connection:
        effect(connection, job, key)


@told("torture.asks", lease_timeout=4)
def asks(job, key):
    """Uses its own connection, outside of any transaction."""
    job.connection.execute("SELECT pg_sleep(0.02)")


@told("torture.flaky", lease_timeout=4, backoff=0.3)
def flaky(job, key, times=2):
    if job.attempt <= times:
        raise Planned(f"attempt {job.attempt} of {times} that fail")


@told("torture.later", lease_timeout=4)
def later(job, key, times=1):
    if job.attempt <= times:
        raise RetryAfter(0.4, "planned: later")


@told("torture.permanent", lease_timeout=4)
def permanent(job, key):
    raise Permanent("planned: never")


@told("torture.big", lease_timeout=5)
def big(job, key, text, digest):
    if hashlib.md5(text.encode()).hexdigest() != digest:
        raise ValueError(f"the payload of {key} is not what was enqueued")


@told("torture.cleans_up", lease_timeout=4, max_runtime=60)
def cleans_up(job, key, seconds=3.0):
    """Takes its time when it is interrupted."""
    try:
        time.sleep(seconds)
    finally:
        time.sleep(0.4)


@told("torture.signals", lease_timeout=4)
def signals(job, key):
    """As a library that sets handlers of its own, and removes them."""
    for number in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: None)
        signal.signal(number, signal.SIG_DFL)


@told("torture.session", lease_timeout=4)
def session(job, key):
    """Leaves the connection with other settings."""
    job.connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    job.connection.read_only = True
    job.connection.execute("SELECT 1")


@told("torture.forks", lease_timeout=4)
def forks(job, key):
    """Its child raises, and so returns into the frames of the worker."""
    job.connection.execute("SELECT 1")
    child = os.fork()
    if child == 0:
        raise Planned("in the child")
    os.waitpid(child, 0)
    with job.transaction() as connection:
        effect(connection, job, key)


@told("torture.child", lease_timeout=5)
def child(job, key):
    job.popen(["sleep", "2"])  # left running: it ends with the job
    job.popen(["sleep", "0.05"]).wait()
