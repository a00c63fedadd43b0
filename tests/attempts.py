"""One attempt and its surroundings, all moved by the test: its clock, its database, its alarm."""

from __future__ import annotations

import math
from contextlib import contextmanager
from types import SimpleNamespace
from uuid import uuid4

from psycopg.pq import TransactionStatus

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.model import Batch, Lease
from shithubd_worker.registry import Registry
from shithubd_worker.settings.config import Config

NOW = 5000.0
A_YEAR = 365 * 86400


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


class HandlersDatabase:
    """What an attempt needs of the database: whether the lease stands, and what was written at its commit."""

    def __init__(self):
        self.schema = "public"
        self.info = SimpleNamespace(transaction_status=TransactionStatus.IDLE)
        self.broken = False
        self.leased = True
        self.commit_fails = None
        self.log = []

    @contextmanager
    def transaction(self):
        self.log.append("begin")
        try:
            yield
        except BaseException:
            self.log.append("rollback")
            raise
        if self.commit_fails:
            raise self.commit_fails
        self.log.append("commit")

    def lend(self, answer_by):
        self.answer_by = answer_by
        return self

    def settle(self, lease, outcome, retention):
        self.log.append(f"settle {lease.id} {outcome.how} {retention}")
        return self.leased


class Scene:
    """One attempt and its surroundings."""

    def __init__(self, handler=lambda job: None, payload="{}", *, attempt=1, max_attempts=None, crashes=0, **limits):
        registry = Registry()
        registry.handler("some.kind", **limits)(handler)
        self.clock = Clock()
        self.database = HandlersDatabase()
        self.stop = SimpleNamespace(release_at=math.inf)
        self.alarms = []
        kind = registry["some.kind"]
        lease = Lease(
            id=7,
            kind="some.kind",
            payload=payload,
            attempt=attempt,
            max_attempts=max_attempts,
            crashes=crashes,
            priority=0,
            run_at=0.0,
            batch=Batch(str(uuid4()), NOW, 0.0),
        )
        self.attempt = Attempt(
            kind,
            lease,
            config=Config(),
            database=self.database,
            stop=self.stop,
            alarm=lambda at: self.alarms.append(round(at - self.clock.now, 6)),
            clock=self.clock,
        )

    def run(self):
        """Prepare and run. Returns the outcome, without the other parts of `result`."""
        self.result = self.attempt.prepare() or self.attempt.run()
        return self.result.outcome


def raising(error):
    def handler(job):
        raise error

    return handler
