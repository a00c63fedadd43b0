"""Procrastinate. Called as: -m benchmarks.runners.procrastinate migrate|load|work|enqueue URL [JSON]"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import procrastinate
import psycopg
import uvloop

from benchmarks.runners.pacing import enqueue
from benchmarks.runners.recorder import make_recorder

LOAD_SIZE = 20_000
# Its own function for many jobs at once, which batch_defer calls as well.
BULK = """SELECT procrastinate_defer_jobs_v1(ARRAY(
    SELECT ROW('default', 'noop', 0, NULL, NULL, jsonb_build_object('n', n), NULL)::procrastinate_job_to_defer_v1
      FROM generate_series(%s::bigint, %s::bigint) n))"""


def make_app(url: str, **pool: int) -> procrastinate.App:
    """The application with its one task."""
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url, **pool))
    ran = make_recorder()

    @app.task(name="noop")
    async def noop(n: int) -> None:
        ran(n)

    return app


async def work(url: str, given: dict[str, Any]) -> None:
    """A worker, until SIGTERM."""
    logging.getLogger("procrastinate").setLevel(logging.WARNING)
    app = make_app(url, min_size=4, max_size=given.pop("pool"))
    async with app.open_async():
        await app.run_worker_async(**given)


async def add(url: str, plan: dict[str, Any]) -> None:
    """Enqueue by a plan."""
    app = make_app(url, min_size=4, max_size=8)
    async with app.open_async():
        task = app.tasks["noop"]
        await enqueue(
            plan,
            [lambda n: task.defer_async(n=n)] * plan.get("clients", 1),
            lambda numbers: task.batch_defer_async(*({"n": n} for n in numbers)),
        )


async def load(url: str, given: dict[str, Any]) -> None:
    """A backlog."""
    end = given["first"] + given["count"]
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for first in range(given["first"], end, LOAD_SIZE):
            await connection.execute(BULK, (first, min(first + LOAD_SIZE, end) - 1))


async def migrate(url: str, _given: dict[str, Any]) -> None:
    """Its schema."""
    app = make_app(url)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


ROLES = {"migrate": migrate, "load": load, "work": work, "enqueue": add}

if __name__ == "__main__":
    uvloop.run(ROLES[sys.argv[1]](sys.argv[2], json.loads((sys.argv[3:] or ["{}"])[0])))
