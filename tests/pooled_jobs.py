"""Handlers for workers behind a pooler."""

from __future__ import annotations

import time
from pathlib import Path

from shithubd_worker import Registry

registry = Registry()


@registry.handler("pooled.ok")
def ok(job):
    pass


@registry.handler("pooled.fails_once", backoff=0.01)
def fails_once(job):
    if job.attempt == 1:
        raise ValueError("once")


@registry.handler("pooled.writes")
def writes(job):
    assert job.connection.execute("SELECT 1").fetchone() == (1,)
    with job.transaction() as connection:
        settings = "SELECT current_user, current_setting('search_path'), current_setting('transaction_isolation')"
        connection.execute(f"INSERT INTO public.effects SELECT %s, row FROM ({settings}) row", (job.id,))


@registry.handler("pooled.keeps", lease_timeout=3, max_runtime=600)
def keeps(job, door):
    with job.transaction() as connection:
        connection.execute("INSERT INTO effects VALUES (%s)", (job.id,))
        while not Path(door).exists():
            time.sleep(0.01)


@registry.handler("pooled.waits", lease_timeout=3, max_runtime=600)
def waits(job, door):
    with Path(f"{door}.started").open("a") as started:
        started.write("x")
    while not Path(door).exists():
        time.sleep(0.01)
