"""Handlers for what the database or the machine refuses."""

from __future__ import annotations

import errno
import os

import psycopg
from sample_jobs import wait_at

from shithubd_worker import NotNow, Registry

registry = Registry()
_somebody: list[psycopg.Connection] = []


@registry.handler("refused.ends", lease_timeout=60, max_attempts=5, backoff=1000)
def ends(job, how="ok", door=None, text=""):
    """Ends as told, as soon as the door is open."""
    wait_at(door)
    if how == "transaction":
        with job.transaction():
            pass
    elif how == "retry":
        raise RuntimeError(text or "no")
    elif how == "not now":
        raise NotNow(1000, "somebody has it")
    elif how == "no space":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@registry.handler("refused.asks", lease_timeout=60)
def asks(job, door=None):
    """Needs a connection of its own."""
    wait_at(door)
    job.connection.execute("SELECT 1")


@registry.handler("refused.renewed", lease_timeout=5, max_runtime=600)
def renewed(job, door=None, lock=False):
    """Needs its lease renewed. Or locks every second one of the jobs that are leased with it."""
    wait_at(door)
    if lock:
        url = os.environ["SHITHUBD_WORKER_DATABASE_URL"]
        _somebody.append(psycopg.connect(url, application_name="somebody"))
        _somebody[0].execute("SELECT FROM jobs WHERE state = 'processing' AND payload = '{}' AND id % 2 = 0 FOR UPDATE")


@registry.handler("refused.short", lease_timeout=2)
def short(job, lock=False):
    """Has a short lease. Or locks the first of the other jobs that are leased with it."""
    if lock:
        url = os.environ["SHITHUBD_WORKER_DATABASE_URL"]
        _somebody.append(psycopg.connect(url, application_name="somebody"))
        _somebody[0].execute(
            "SELECT FROM jobs WHERE id = (SELECT min(id) FROM jobs WHERE state = 'processing' AND id > %s) FOR UPDATE",
            (job.id,),
        )


@registry.handler("refused.breaks", lease_timeout=60, max_attempts=5, backoff=1000)
def breaks(job, door):
    """Its own connection breaks."""
    wait_at(door)
    job.connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")


@registry.handler("refused.patient", lease_timeout=10, max_runtime=600)
def patient(job, door):
    """Renewals of its lease are requested several times before it ends."""
    wait_at(door)
