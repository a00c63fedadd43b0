"""Handlers for what the database, or the machine, refuses."""

from __future__ import annotations

import errno
import os

from sample_jobs import wait_at

from shithubd_worker import NotNow, Registry

registry = Registry()


@registry.handler("refused.ends", lease_timeout=60, max_attempts=5, backoff=1000)
def ends(job, how="ok", door=None, text=""):
    """As told, and as soon as the door is open."""
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
def asks(job):
    """Needs a connection of its own."""
    job.connection.execute("SELECT 1")


@registry.handler("refused.renewed", lease_timeout=5, max_runtime=600)
def renewed(job, door):
    """Needs its lease renewed."""
    wait_at(door)
