"""PgQueuer. Called as: -m benchmarks.runners.pgqueuer migrate|load|work|enqueue URL [JSON]"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from typing import Any

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from benchmarks.runners.pacing import enqueue
from benchmarks.runners.recorder import make_recorder

LOAD_SIZE = 20_000


async def queries(url: str) -> Queries:
    """Its API over asyncpg, the fastest of its drivers."""
    return Queries(AsyncpgDriver(await asyncpg.connect(url)))


async def work(url: str, given: dict[str, Any]) -> None:
    """A process with as many consumers as are wished for; each has a connection, as in its own benchmark."""
    ran = make_recorder()
    consumers = []
    for _ in range(given.pop("consumers")):
        consumer = PgQueuer(AsyncpgDriver(await asyncpg.connect(url)))

        @consumer.entrypoint("noop")
        async def noop(job: Job) -> None:
            ran(int(job.payload or b"0"))

        consumers.append(consumer)

    def stop() -> None:
        for consumer in consumers:
            consumer.shutdown.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    await asyncio.gather(*(consumer.run(**given) for consumer in consumers))


async def add(url: str, plan: dict[str, Any]) -> None:
    """Enqueue by a plan."""
    connections = [await queries(url) for _ in range(plan.get("clients", 1))]

    def client(connection: Queries) -> Any:
        return lambda n: connection.enqueue("noop", b"%d" % n)

    await enqueue(plan, [client(c) for c in connections], lambda numbers: many(connections[0], numbers))


async def many(connection: Queries, numbers: Sequence[int]) -> None:
    """Enqueue in bulk, as its documentation says."""
    await connection.enqueue(["noop"] * len(numbers), [b"%d" % n for n in numbers], [0] * len(numbers))


async def load(url: str, given: dict[str, Any]) -> None:
    """A backlog."""
    connection, end = await queries(url), given["first"] + given["count"]
    for first in range(given["first"], end, LOAD_SIZE):
        await many(connection, range(first, min(first + LOAD_SIZE, end)))


async def migrate(url: str, _given: dict[str, Any]) -> None:
    """Its schema, with all tables logged: durable, as everybody's here."""
    await (await queries(url)).install()


ROLES = {"migrate": migrate, "load": load, "work": work, "enqueue": add}

if __name__ == "__main__":
    uvloop.run(ROLES[sys.argv[1]](sys.argv[2], json.loads((sys.argv[3:] or ["{}"])[0])))
