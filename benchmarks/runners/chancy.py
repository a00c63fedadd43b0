"""Chancy. Called as: -m benchmarks.runners.chancy migrate|load|work|enqueue URL [JSON]"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import psycopg
import uvloop
from chancy import Chancy, Job, QueueSession, Worker

from benchmarks.runners.pacing import enqueue
from benchmarks.runners.recorder import make_recorder

LOAD_SIZE = 50_000
FUNCTION = "benchmarks.runners.chancy.noop"  # it finds its handlers by name, importing this module once more
# What its push inserts, without the round trip for each row: a million of those would take five minutes.
BULK = """INSERT INTO chancy_jobs (id, queue, func, kwargs, limits, meta, priority, max_attempts, scheduled_at)
    SELECT gen_random_uuid(), 'default', %s, json_build_object('n', n), '[]', '{}', 0, 1, now()
      FROM generate_series(%s::bigint, %s::bigint) n"""

ran = make_recorder() if __name__ != "__main__" else None


async def noop(*, n: int) -> None:
    """The handler."""
    ran(n)  # type: ignore[misc]


def quiet() -> logging.Logger:
    """Its default logger tells much on the terminal."""
    log = logging.getLogger("chancy")
    log.setLevel(logging.WARNING)
    return log


async def work(url: str, given: dict[str, Any]) -> None:
    """A worker, until SIGTERM."""
    async with Chancy(url, log=quiet()) as chancy:
        await chancy.declare(QueueSession("default", executor=Chancy.Executor.Async, **given["queue"]), upsert=True)
        worker = Worker(chancy)
        worker.send_outgoing_interval = given["send_outgoing_interval"]
        async with worker:
            await worker.wait_for_shutdown()


async def add(url: str, plan: dict[str, Any]) -> None:
    """Enqueue by a plan."""

    async def many(numbers: Any) -> None:
        async for _ in chancy.push_many([job(n) for n in numbers]):
            pass

    def job(n: int) -> Job:
        return Job(func=FUNCTION, kwargs={"n": n})

    async with Chancy(url, log=quiet()) as chancy:
        await enqueue(plan, [lambda n: chancy.push(job(n))] * plan.get("clients", 1), many)


async def load(url: str, given: dict[str, Any]) -> None:
    """A backlog."""
    end = given["first"] + given["count"]
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for first in range(given["first"], end, LOAD_SIZE):
            await connection.execute(BULK, (FUNCTION, first, min(first + LOAD_SIZE, end) - 1))


async def migrate(url: str, _given: dict[str, Any]) -> None:
    """Its schema."""
    async with Chancy(url, log=quiet()) as chancy:
        await chancy.migrate()


ROLES = {"migrate": migrate, "load": load, "work": work, "enqueue": add}

if __name__ == "__main__":
    uvloop.run(ROLES[sys.argv[1]](sys.argv[2], json.loads((sys.argv[3:] or ["{}"])[0])))
