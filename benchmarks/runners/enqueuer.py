"""A client that enqueues into our table: INSERTs over psycopg, by a plan (see pacing.py).

Called as: -m benchmarks.runners.enqueuer load|enqueue URL JSON. The plan may name another `table` and another `kind`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any

import psycopg

from benchmarks.runners.pacing import enqueue

LOAD_SIZE = 100_000


async def add(url: str, plan: dict[str, Any]) -> None:
    """Enqueue by a plan. What an application does: one INSERT of one row, or one of many."""
    table, kind = plan.get("table", "jobs"), plan.get("kind", "bench.noop")
    one_row = f"INSERT INTO {table} (kind, payload) VALUES (%s, %s)"
    many_rows = f"INSERT INTO {table} (kind, payload) SELECT %s, unnest(%s::jsonb[])"
    count = plan.get("clients", 1)
    connections = [await psycopg.AsyncConnection.connect(url, autocommit=True) for _ in range(count)]

    def client(connection: psycopg.AsyncConnection[Any]) -> Any:
        return lambda n: connection.execute(one_row, (kind, json.dumps({"n": n})))

    async def many(numbers: Sequence[int]) -> None:
        await connections[0].execute(many_rows, (kind, [json.dumps({"n": n}) for n in numbers]))

    await enqueue(plan, [client(connection) for connection in connections], many)


async def load(url: str, given: dict[str, Any]) -> None:
    """A backlog."""
    end = given["first"] + given["count"]
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for first in range(given["first"], end, LOAD_SIZE):
            await connection.execute(
                "INSERT INTO jobs (kind, payload)"
                " SELECT 'bench.noop', jsonb_build_object('n', n) FROM generate_series(%s::bigint, %s::bigint) n",
                (first, min(first + LOAD_SIZE, end) - 1),
            )


if __name__ == "__main__":
    asyncio.run({"load": load, "enqueue": add}[sys.argv[1]](sys.argv[2], json.loads(sys.argv[3])))
