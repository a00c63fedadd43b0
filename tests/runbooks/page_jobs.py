"""The kinds that the runbooks name, as they behave in an incident. The tests copy this module to the booted host."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

from shithubd_worker import Permanent, Registry

registry = Registry()
STATE = Path("/var/lib/shithub")


@registry.handler("search.reindex", backoff=3600)
def reindex(job, until=None, crash=False, hang=False, seconds=0):
    """Takes some seconds; ends when a file appears, if one is named; or crashes its worker; or hangs in C, although it
    may run for 1 s."""
    time.sleep(seconds)
    if hang:
        job.extend(1)
        wait_for_oneself(ctypes.CDLL(None))
    while crash:
        os.kill(os.getpid(), signal.SIGSEGV)
    while until is not None and not (STATE / until).exists():
        time.sleep(0.01)


def wait_for_oneself(libc):
    """Hang in C, where no signal ends it."""
    mutex = ctypes.create_string_buffer(64)
    for _ in range(2):
        libc.pthread_mutex_lock(mutex)


@registry.handler("repo.maintenance", lease_timeout=2)
def maintain(job):
    """Hang for ever, and hold the interpreter."""
    wait_for_oneself(ctypes.PyDLL(None))


@registry.handler("webhook.deliver", wait_objective=1)
def deliver(job):
    """Fails for good until the receiver is back."""
    if not (STATE / "receiver").exists():
        raise Permanent("the receiver says 410 Gone")
