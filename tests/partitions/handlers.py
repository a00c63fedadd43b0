"""Jobs of several sorts. Each run holds a lock on a file of its job for its lifetime, and writes down when it began."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shithubd_worker import Job, Registry

registry = Registry()
EVIDENCE = Path(os.environ.get("PARTITIONS_EVIDENCE", "/nonexistent"))
HOUR = 3600
LONG = {"lease_timeout": HOUR, "max_runtime": HOUR, "backoff": 1.0}


def note(job: Job, event: str) -> None:
    """Append a line in one write: to a file, because the database may be out of reach."""
    line = {"event": event, "at": time.monotonic(), "job": job.id, "kind": job.kind, "worker": socket.gethostname()}
    file = os.open(EVIDENCE / f"{job.id}.runs", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, json.dumps({**line, "pid": os.getpid(), "attempt": job.attempt}).encode() + b"\n")
    os.close(file)


@contextmanager
def alone(job: Job) -> Iterator[int]:
    """Hold the job's lock. If another run has it, say so: this is what must never happen."""
    lock = os.open(EVIDENCE / f"{job.id}.lock", os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note(job, "overlap")
            raise
        note(job, "begin")
        try:
            yield lock
        finally:
            note(job, "end")
    finally:
        os.close(lock)


def open_(job: Job) -> bool:
    """May the job end?"""
    return (EVIDENCE / f"{job.id}.door").exists()


def cut(job: Job) -> bool:
    """Is this host cut off? Only now the handlers below take the processor, because many workers share it."""
    return (EVIDENCE / f"{job.id}.cut.{socket.gethostname()}").exists()


@registry.handler("sleeps", **LONG)
def sleeps(job):
    with alone(job):
        while not open_(job):
            time.sleep(0.02)


@registry.handler("computes", **LONG)
def computes(job):
    with alone(job):
        while not open_(job):
            sum(number * number for number in range(20_000)) if cut(job) else time.sleep(0.02)


@registry.handler("swallows", **LONG)
def swallows(job):
    """Ignores each interrupt."""
    with alone(job):
        while not open_(job):
            try:
                time.sleep(0.05)
            except BaseException:
                note(job, "swallowed")


@registry.handler("holds", **LONG)
def holds(job):
    """Holds the interpreter in a call of C, for longer than any cut."""
    with alone(job):
        while not open_(job):
            sum(itertools.repeat(1, 10**10 if cut(job) else 10**6))
            time.sleep(0.05)


@registry.handler("forks", **LONG)
def forks(job):
    """Its child has the lock, too: so the child must be gone as well."""
    with alone(job) as lock:
        job.popen(["sleep", "3600"], pass_fds=[lock])
        while not open_(job):
            time.sleep(0.02)


@registry.handler("commits", **LONG)
def commits(job):
    """Its effect must happen exactly once. Its row is locked meanwhile."""
    with alone(job), job.transaction() as connection:
        connection.execute("UPDATE ledger SET effects = effects + 1 WHERE job = %s", (job.id,))
        note(job, "locked")
        while not open_(job):
            time.sleep(0.02)


@registry.handler("asks", **LONG)
def asks(job):
    """Waits for the database nearly all the time."""
    with alone(job):
        while not open_(job):
            job.connection.execute("SELECT pg_sleep(0.5)")


@registry.handler("quick", **LONG)
def quick(job):
    """A worker leases several of these at once."""
    with alone(job):
        time.sleep(random.uniform(0, 0.1))


@registry.handler("steps", **LONG)
def steps(job):
    """Without a lock, because a stopped process keeps it: each step is written down instead."""
    note(job, "begin")
    try:
        while not open_(job):
            note(job, "step")
            time.sleep(0.02)
    finally:
        note(job, "end")
