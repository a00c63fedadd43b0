"""What a worker does that a page's scene starts (documents.py): every kind that JOBS names does the same."""

from __future__ import annotations

import os

from sample_jobs import wait_at

from shithubd_worker import Permanent, Registry

registry = Registry()


def _job(job, **members):
    if os.environ["JOBS_END"] == "failed":
        raise Permanent("the receiver says 410 Gone")
    wait_at(os.environ["JOBS_DOOR"] if os.environ["JOBS_END"] == "at the door" else None)


for _kind in os.environ["JOBS"].split():
    registry.handler(_kind, max_runtime=3600)(_job)
