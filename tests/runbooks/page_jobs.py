"""The kinds that the runbooks speak of, as they behave in an incident; copied to the booted host as a module."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from shithubd_worker import Permanent, Registry

registry = Registry()
STATE = Path("/var/lib/shithub")


@registry.handler("search.reindex")
def reindex(job, until=None, crash=False):
    """Until a file appears, if one is named; or the end of its worker."""
    while crash:
        os.kill(os.getpid(), signal.SIGSEGV)
    while until is not None and not (STATE / until).exists():
        time.sleep(0.01)


@registry.handler("webhook.deliver")
def deliver(job):
    """Fails for good until the receiver is back."""
    if not (STATE / "receiver").exists():
        raise Permanent("the receiver says 410 Gone")
