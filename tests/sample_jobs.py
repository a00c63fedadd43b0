"""Handlers that behave well, and handlers that misbehave on purpose."""

from __future__ import annotations

import collections
import ctypes
import itertools
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import psycopg.rows

from shithubd_worker import Permanent, Registry, RetryAfter

registry = Registry()


def wait_at(door):
    """Wait until the test opens the door (the fixture `door`), without a limit. Without a door there is no wait."""
    while door and not Path(door).exists():
        time.sleep(0.01)


@registry.handler("test.ok")
def ok(job, **members):
    job.log.info("ran with %s", members)


@registry.handler("test.effect")
def effect(job, door=None):
    """One row for each run that came to its end, written outside of the settle, as an external effect."""
    wait_at(door)
    job.connection.execute(
        "INSERT INTO effects (job, pid, attempt) VALUES (%s, %s, %s)", (job.id, os.getpid(), job.attempt)
    )


@registry.handler("test.transaction")
def transaction(job, door=None, then=""):
    with job.transaction() as connection:
        connection.execute(
            "INSERT INTO effects (job, pid, attempt) VALUES (%s, %s, %s)", (job.id, os.getpid(), job.attempt)
        )
        wait_at(door)
        if then == "raise inside":
            raise ValueError("inside")
    if then == "raise after":
        raise ValueError("after")


@registry.handler("test.nested", max_attempts=1)
def nested(job):
    with job.connection.transaction(), job.transaction():
        pass


@registry.handler("test.listens", max_attempts=1)
def listens(job):
    job.connection.execute("LISTEN nothing")
    list(job.connection.notifies(timeout=0.01))


@registry.handler("test.fails_in_cleanup")
def fails_in_cleanup(job):
    try:
        time.sleep(3600)
    finally:
        raise RuntimeError("cleanup failed")


@registry.handler("test.kills_its_backend", max_attempts=3, backoff=1000)
def kills_its_backend(job):
    job.connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")


@registry.handler("test.leaves_a_thread")
def leaves_a_thread(job):
    threading.Thread(target=time.sleep, args=(3600,)).start()


@registry.handler("test.dict_rows")
def dict_rows(job):
    with job.transaction() as connection:
        assert connection.execute("SELECT 1 AS one").fetchone() == (1,)
        connection.row_factory = psycopg.rows.dict_row
        assert connection.execute("SELECT 1 AS one").fetchone() == {"one": 1}


@registry.handler("test.works_on", lease_timeout=3, max_runtime=60)
def works_on(job, seconds):
    with job.transaction():
        pass
    time.sleep(seconds)
    job.log.info("worked on")


@registry.handler("test.sleep", lease_timeout=300)
def sleep(job, seconds=3600):
    time.sleep(seconds)


@registry.handler("test.waits", lease_timeout=300)
def waits(job, door):
    wait_at(door)


@registry.handler("test.short_lease", lease_timeout=2, max_runtime=60, max_attempts=5)
def short_lease(job, seconds=3600):
    time.sleep(seconds)


@registry.handler("test.five_seconds", lease_timeout=5, max_runtime=600)
def five_seconds(job, door):
    wait_at(door)


@registry.handler("test.nine_seconds", lease_timeout=9, max_runtime=600)
def nine_seconds(job, door):
    wait_at(door)


@registry.handler("test.fails", max_attempts=2, backoff=1000, wait_objective=3600)
def fails(job, text="no", how="error"):
    if how == "permanent":
        raise Permanent(text)
    if how == "after":
        raise RetryAfter(5000, text)
    if how == "exit":
        raise SystemExit(text)
    raise RuntimeError(text * 1_000_000 if how == "megabytes" else text)


@registry.handler("test.runtime", max_runtime=3, max_attempts=2, backoff=1000)
def runtime(job, extend=0):
    if extend:
        job.extend(extend)
        time.sleep(3.5)
    else:
        time.sleep(3600)


@registry.handler("test.stubborn", max_attempts=2, backoff=1000)
def stubborn(job, runtime=None):
    try:
        if runtime:
            job.extend(runtime)  # here and not above, because an interrupt before the `try` would end it
        time.sleep(3600)
    except KeyboardInterrupt:
        # From here on no interrupt reaches it: one that fell outside of a `try` would end it after all.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGURG})
        job.log.info("interrupted, and going on")
        time.sleep(3600)


@registry.handler("test.gil", lease_timeout=10, max_runtime=60)
def gil(job, how="regex"):
    if how == "regex":
        re.match(r"(a+)+$", "a" * 64 + "b")  # checks for signals from time to time, and lets no other thread run
    elif how == "spin":
        collections.deque(itertools.repeat(0), maxlen=0)  # a loop in C that checks nothing
    elif how == "deadlock":
        mutex = ctypes.create_string_buffer(64)  # PyDLL keeps the GIL, and no signal ends the second lock
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)


@registry.handler("test.segfault")
def segfault(job):
    ctypes.string_at(0)


@registry.handler("test.exit_now")
def exit_now(job):
    os._exit(9)


@registry.handler("test.children")
def children(job, seconds=3600):
    job.popen(["sh", "-c", f"sleep {seconds} & sleep {seconds}"], stdout=subprocess.DEVNULL)
    last = job.popen(["sleep", str(seconds)])
    job.log.info("children started")  # both have left our session by now
    last.wait()


@registry.handler("test.marks", lease_timeout=60)
def marks(job):
    """Record when this run began. The database of the tests has the same clock."""
    began = time.time()
    job.connection.execute(
        "INSERT INTO starts (job, kind, at) VALUES (%s, %s, to_timestamp(%s))", (job.id, job.kind, began)
    )


@registry.handler("test.other", lease_timeout=60)
def other(job):
    marks(job)


@registry.handler("test.looks")
def looks(job):
    """Are there transactions of this worker while a handler runs? The handler looks. The server must end what the
    worker has sent ahead while the handler goes on."""
    deadline = time.monotonic() + 10
    while True:
        rows = job.connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'shithubd-worker'"
            " AND datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"
        ).fetchone()
        if rows == (0,) or time.monotonic() > deadline:
            break
    job.connection.execute("INSERT INTO effects (job, pid, attempt) VALUES (%s, %s, 0)", (job.id, rows[0]))


@registry.handler("test.notes", lease_timeout=60)
def notes(job, path, door=None, then=None, pad=""):
    """Write into a file that it began: an external effect that is cheap enough for leases of hundreds. Then do as
    told."""
    with open(path, "a") as file:
        file.write(f"{job.id} {len(pad)}\n")
    wait_at(door)
    if then == "segfault":
        ctypes.string_at(0)
    if then == "look":
        looks(job)


registry.handler("test.notes_for_hours", lease_timeout=10_000)(notes)
