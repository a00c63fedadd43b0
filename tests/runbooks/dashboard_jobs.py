"""What the workers of dashboard_picture.py run: three kinds of a forge, as they behave on a bad day."""

from __future__ import annotations

import time
from pathlib import Path

from shithubd_worker import Permanent, Registry

registry = Registry()


@registry.handler("search.reindex", wait_objective=30)
def reindex(job):
    time.sleep(0.02)


@registry.handler("webhook.deliver", backoff=20)
def deliver(job, broken):
    """Fails while that file is there."""
    time.sleep(0.01)
    if Path(broken).exists():
        if job.id % 20 == 0:
            raise Permanent("the receiver says 410 Gone")
        raise ConnectionError("the receiver doesn't answer")


@registry.handler("repo.maintenance")
def maintain(job):
    time.sleep(2)
