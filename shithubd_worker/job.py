"""What a handler gets: its job."""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from shithubd_worker.model import Lease, Past, moment

if TYPE_CHECKING:
    import psycopg

    from shithubd_worker.settings.config import Config

log = logging.getLogger("shithubd_worker.job")


class Running(Protocol):
    """The attempt of a job: the part of it that the job uses."""

    lease: Lease
    config: Config

    @property
    def schema(self) -> str:
        """See Job.schema."""

    @property
    def max_attempts(self) -> int:
        """See Job.max_attempts."""

    def past(self) -> Past:
        """See Job.created_at and Job.last_error."""

    def extend(self, seconds: float | timedelta | None) -> None:
        """See Job.extend."""

    def connection(self) -> psycopg.Connection:
        """See Job.connection."""

    def transaction(self) -> AbstractContextManager[psycopg.Connection]:
        """See Job.transaction."""

    def popen(self, command: Sequence[str], *, env: Mapping[str, str] | None, **options: Any) -> subprocess.Popen[Any]:
        """See Job.popen."""


class Job:
    """One job, as its handler sees it. The worker makes one for each attempt, and nothing in it can be set.

    In a child that the handler forked, each method raises NotTheWorker, and each member that asks the database, too. An
    example:

        @registry.handler("stars.add", max_attempts=5)
        def add_stars(job: Job, repo: str, stars: int = 1) -> None:
            if job.is_last_attempt:
                job.log.warning("the last of %d attempts: %s", job.max_attempts, job.last_error)
            with job.transaction() as connection:
                connection.execute("INSERT INTO stars (repo, stars) VALUES (%s, %s)", (repo, stars))
    """

    # Nothing is read from the lease before a handler asks for it. The worker makes 40,000 jobs a second.
    __slots__ = ("_log", "_past", "_running")

    def __init__(self, running: Running) -> None:
        self._running = running
        self._log: logging.LoggerAdapter[logging.Logger] | None = None
        self._past: Past | None = None

    def __repr__(self) -> str:
        return f"<Job {self.id} of kind {self.kind!r}, attempt {self.attempt} of {self.max_attempts}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Job can't be copied or sent to another process: pass job.id and job.payload")

    @property
    def id(self) -> int:
        """int: the id of the row in `jobs`."""
        return self._running.lease.id

    @property
    def kind(self) -> str:
        """str: the name of the kind."""
        return self._running.lease.kind

    @property
    def payload(self) -> dict[str, Any]:
        """dict[str, Any]: the payload, as it is stored. Each read makes a new copy, so keep it in a variable. The
        handler's arguments are another copy."""
        members: dict[str, Any] = json.loads(self._running.lease.payload or "")
        return members

    @property
    def attempt(self) -> int:
        """int: the number of this attempt, from 1. Attempts that were released or crashed are not counted."""
        return self._running.lease.attempt

    @property
    def max_attempts(self) -> int:
        """int: how many attempts the job has. That is its own number, or else that of its kind."""
        return self._running.max_attempts

    @property
    def is_last_attempt(self) -> bool:
        """bool: does the job become `failed` if this attempt fails?"""
        return self.attempt >= self.max_attempts

    @property
    def priority(self) -> int:
        """int: the priority. Within a kind, a lower number runs first."""
        return self._running.lease.priority

    @property
    def run_at(self) -> datetime:
        """datetime: when this attempt became due, in UTC. A retry has a time of its own."""
        return moment(self._running.lease.run_at)

    @property
    def created_at(self) -> datetime:
        """datetime: when the job was added, in UTC.

        The first read of `created_at` or `last_error` asks the database, on `connection`. It raises what psycopg
        raises. It raises LeaseLost if another worker has the job by then, and RuntimeError after `transaction()`.
        """
        return self._asked().created_at

    @property
    def last_error(self) -> str | None:
        """str | None: the error of the last run, if there was one. A read may ask the database: see `created_at`."""
        return self._asked().last_error

    @property
    def config(self) -> Config:
        """Config: the worker's configuration."""
        return self._running.config

    @property
    def schema(self) -> str:
        """str: the name of the queue's schema."""
        return self._running.schema

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """logging.LoggerAdapter[logging.Logger]: a logger. Each of its lines carries the job's id, kind and attempt."""
        if self._log is None:
            self._log = logging.LoggerAdapter(log, {"job_id": self.id, "kind": self.kind, "attempt": self.attempt})
        return self._log

    def extend(self, seconds: float | timedelta | None = None) -> None:
        """Ask for more time: the handler may run for `seconds` (a number or a timedelta) from now. None means its
        kind's `max_runtime` again."""
        self._running.extend(seconds)

    @property
    def connection(self) -> psycopg.Connection:
        """psycopg.Connection: a database connection for handlers, in autocommit mode. It is not the worker's own. The
        first use opens it. Raises psycopg.OperationalError if it can't be opened; a job that fails with that error is
        released."""
        return self._running.connection()

    def transaction(self) -> AbstractContextManager[psycopg.Connection]:
        """A transaction on `connection` that ends the job: the block's writes and the outcome `ok` are committed
        together.

        Effects that are written here happen exactly once. An error inside the block rolls everything back. After the
        block the job is done: any error that the handler raises then is a line in the log, and changes nothing else.
        That includes Permanent, RetryAfter and NotNow.

        Raises LeaseLost at the end of the block if another worker has the job by then. Raises RuntimeError at its
        beginning if the job has already used it, or inside another transaction of `connection`.
        """
        return self._running.transaction()

    def popen(
        self, command: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """subprocess.Popen for handlers. The child gets a session of its own, and an environment without the worker's
        secrets.

        When the handler ends, the worker kills each child that still runs, and the children of that child. `env` is
        added to the environment.
        """
        return self._running.popen(command, env=env, **options)

    def _asked(self) -> Past:
        if self._past is None:
            self._past = self._running.past()
        return self._past
