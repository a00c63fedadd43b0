"""A process that adds jobs in every possible way, and records what it sent and what was answered.

    python -m torture.enqueuers URL LOGS SEED NUMBER LIMIT [meddle]

It goes on until SIGTERM. It slows down while more than LIMIT jobs wait, so that a slow machine gets fewer jobs. With
`meddle` there are also jobs whose handlers change their own process.
"""

from __future__ import annotations

import hashlib
import json
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg

from shithubd_worker import enqueue
from torture.records import AWAY, Log, die_with_parent

# How often each kind is drawn among the jobs that are enqueued one by one.
WEIGHTS = {
    "torture.quick.a": 6,
    "torture.external": 10,
    "torture.effect": 12,
    "torture.untold": 6,
    "torture.works_on": 4,
    "torture.slow": 0.4,
    "torture.slow.effect": 0.25,
    "torture.asks": 5,
    "torture.flaky": 4,
    "torture.later": 3,
    "torture.permanent": 2,
    "torture.big": 4,
    "torture.child": 3,
}
# The kinds of handlers that change their own process.
MEDDLING = {"torture.cleans_up": 1.5, "torture.signals": 1, "torture.session": 3, "torture.forks": 2}
BULKS = (
    "torture.quick.a",
    "torture.quick.b",
    "torture.effect",
    "torture.untold",
    "torture.external",
    "torture.flaky",
)
UNEVEN = "torture.uneven"
PAUSE_SECONDS = 0.03
# So many of these wait or run all the time: each silence finds one, and they do not keep all workers busy.
LONG = ("torture.long", "torture.long", "torture.long.effect")
MOST_LONG = 4
LONGEST_WORK = 16.0  # longer than a silence, after which its job runs again elsewhere


class Enqueuer:
    """One connection, which is opened again each time it breaks."""

    def __init__(self, url: str, log: Log, seed: int, number: int, limit: int, weights: dict[str, float]) -> None:
        self._url = url
        self._log = log
        self._dice = random.Random(f"{seed} enqueuer {number}")
        self._number = number
        self._limit = limit
        self._weights = weights
        self._count = 0
        self._connection: psycopg.Connection[Any] | None = None
        self.wanted = True

    def run(self) -> None:
        """Enqueue until `wanted` is cleared."""
        ways: list[Callable[[], None]] = [
            self._call,
            self._insert,
            self._bulk,
            self._long,
            self._roll_back,
            self._hang_up,
        ]
        while self.wanted:
            try:
                if self._waiting() < self._limit:
                    self._dice.choices(ways, (30, 20, 6, 20, 4, 3))[0]()
                    time.sleep(self._dice.uniform(0, 2 * PAUSE_SECONDS))
                else:
                    time.sleep(0.2)
            except AWAY:
                # The log marks an enqueue without an answer: the job may exist or not.
                self._close()
                time.sleep(0.1)
        self._close()

    @property
    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=5)
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(*AWAY):
                self._connection.close()
            self._connection = None

    def _waiting(self) -> int:
        query = "SELECT count(*) FROM (SELECT FROM jobs WHERE state <> 'failed' LIMIT %s) waiting"
        row = self._open.execute(query, (self._limit,)).fetchone()
        return int(row[0]) if row else 0

    def _key(self) -> str:
        self._count += 1
        return f"{self._number}-{self._count}"

    def _draw(self) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """A kind, the members of its payload, and the arguments of the enqueue."""
        dice = self._dice
        kind = dice.choices(list(self._weights), list(self._weights.values()))[0]
        members: dict[str, Any] = {}
        if kind in ("torture.slow", "torture.slow.effect"):
            members["seconds"] = round(dice.uniform(3.5, 6), 2)
        elif kind == "torture.cleans_up":
            members["seconds"] = round(dice.uniform(1, 4), 2)
        elif kind == "torture.effect":
            members["seconds"] = dice.choice([0, 0, 0.01, 0.2])
        elif kind in ("torture.flaky", "torture.later"):
            members["times"] = dice.randint(1, 3)
        elif kind == "torture.big":
            members["text"] = "".join(dice.choices('abcdefgh\n"é', k=64)) * dice.randint(100, 8000)
            members["digest"] = hashlib.md5(members["text"].encode()).hexdigest()
        how: dict[str, Any] = {}
        if dice.random() < 0.3:
            how["delay"] = round(dice.uniform(0.1, 4), 2)
        if dice.random() < 0.3:
            how["priority"] = dice.randint(-3, 3)
        return kind, members, how

    def _asked(self, way: str, kind: str, *keys: str) -> None:
        self._log("asked", way=way, kind=kind, keys=keys)

    def _call(self) -> None:
        """enqueue(): the transaction is the statement."""
        kind, members, how = self._draw()
        connection, key = self._open, self._key()
        self._asked("call", kind, key)
        self._log("committed", keys=[key], jobs=[enqueue(connection, kind, **how, key=key, **members)])

    def _insert(self) -> None:
        """A plain INSERT, as any program can do it."""
        kind, members, _ = self._draw()
        connection, key = self._open, self._key()
        self._asked("insert", kind, key)
        payload = json.dumps({"key": key, **members})
        row = connection.execute(
            "INSERT INTO jobs (kind, payload) VALUES (%s, %s) RETURNING id", (kind, payload)
        ).fetchone()
        self._log("committed", keys=[key], jobs=row)

    def _bulk(self) -> None:
        """Hundreds of jobs by one statement."""
        kind, connection = self._dice.choice([*BULKS, UNEVEN, UNEVEN]), self._open
        keys = [self._key() for _ in range(self._dice.randint(20, 200))]
        members = [{"key": key} | self._unevenly(kind) for key in keys]
        self._asked("bulk", kind, *keys)
        rows = connection.execute(
            "INSERT INTO jobs (kind, payload) SELECT %s, payload::jsonb FROM unnest(%s::text[]) payload RETURNING id",
            (kind, [json.dumps(each) for each in members]),
        ).fetchall()
        self._log("committed", keys=keys, jobs=[job for (job,) in rows])

    def _long(self) -> None:
        """A job that works for long."""
        connection, dice = self._open, self._dice
        row = connection.execute(
            "SELECT count(*) FROM jobs WHERE kind = ANY (%s) AND state <> 'failed'", (list(LONG),)
        ).fetchone()
        if row and row[0] < MOST_LONG:
            kind, key = dice.choice(LONG), self._key()
            seconds = LONGEST_WORK if dice.random() < 0.7 else round(dice.uniform(1, 5), 2)
            self._asked("call", kind, key)
            self._log("committed", keys=[key], jobs=[enqueue(connection, kind, key=key, seconds=seconds)])

    def _unevenly(self, kind: str) -> dict[str, Any]:
        if kind != UNEVEN or self._dice.random() < 0.95:
            return {}
        return {"seconds": round(self._dice.uniform(0.05, 0.6), 3)}

    def _roll_back(self) -> None:
        """A transaction that is rolled back: these jobs must never run."""
        kind, members, how = self._draw()
        connection, keys = self._open, [self._key() for _ in range(3)]
        self._asked("rollback", kind, *keys)
        with connection.transaction(force_rollback=True):
            for key in keys:
                enqueue(connection, kind, **how, key=key, **members)

    def _hang_up(self) -> None:
        """Sends COMMIT and does not wait for the answer: the jobs may exist or not."""
        kind, members, how = self._draw()
        connection, keys = self._open, [self._key() for _ in range(2)]
        self._asked("hang up", kind, *keys)
        connection.execute("BEGIN")
        for key in keys:
            enqueue(connection, kind, **how, key=key, **members)
        connection.pgconn.send_query(b"COMMIT")
        connection.pgconn.flush()
        connection.pgconn.finish()


def main(url: str, logs: str, seed: str, number: str, limit: str, meddle: str = "") -> None:
    """Enqueue until SIGTERM."""
    die_with_parent()
    weights = WEIGHTS | (MEDDLING if meddle else {})
    enqueuer = Enqueuer(url, Log(Path(logs), "enqueuer"), int(seed), int(number), int(limit), weights)

    def stop(_number: int, _frame: object) -> None:
        enqueuer.wanted = False

    signal.signal(signal.SIGTERM, stop)
    enqueuer.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
