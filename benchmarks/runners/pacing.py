"""Enqueues by a plan, and prints what came of it as one line of JSON. The same for every contender.

A plan is one of
  {"mode": "single", "first": 1, "seconds": 3}                   one job after the other, each committed
  {"mode": "bulk", "first": 1, "seconds": 3, "size": 10000}      many jobs a call
  {"mode": "paced", "first": 1, "count": 300, "rate": 30, "clients": 1}    at a rate, with the moment of each commit
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

One = Callable[[int], Awaitable[object]]
Many = Callable[[Sequence[int]], Awaitable[object]]


async def enqueue(plan: dict[str, Any], clients: Sequence[One], many: Many) -> None:
    """Carry out a plan: `clients` are functions that enqueue one job, each with a connection of its own."""
    if plan["mode"] == "paced":
        told: dict[str, Any] = {"committed": await _paced(plan, clients)}
    elif plan["mode"] == "single":
        told = await _for_a_time(plan, 1, lambda numbers: clients[0](numbers[0]))
    else:
        told = await _for_a_time(plan, plan["size"], many)
    print(json.dumps(told))


async def _for_a_time(plan: dict[str, Any], size: int, call: Many) -> dict[str, Any]:
    number = plan["first"]
    await call(range(number, number + size))  # the first one prepares its statements
    number += size
    began = time.perf_counter()
    ends = began + plan["seconds"]
    enqueued = 0
    while time.perf_counter() < ends:
        await call(range(number, number + size))
        number += size
        enqueued += size
    return {"enqueued": enqueued, "seconds": time.perf_counter() - began, "last": number - 1}


async def _paced(plan: dict[str, Any], clients: Sequence[One]) -> list[tuple[int, float]]:
    """Open loop: a job's time to be enqueued doesn't depend on how long the ones before it took."""
    rng = random.Random(plan["first"])
    due, schedule = 0.0, []
    for number in range(plan["first"], plan["first"] + plan["count"]):
        schedule.append((due, number))
        due += rng.uniform(0.5, 1.5) / plan["rate"]
    committed: list[tuple[int, float]] = []
    began = time.perf_counter() + 0.05

    async def client(index: int) -> None:
        for due, number in schedule[index :: len(clients)]:
            await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
            await clients[index](number)
            committed.append((number, time.time()))

    await asyncio.gather(*(client(index) for index in range(len(clients))))
    return committed
