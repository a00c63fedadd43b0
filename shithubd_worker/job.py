"""What a handler gets: its job."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import psycopg

    from shithubd_worker.model import Lease
    from shithubd_worker.settings.config import Config

log = logging.getLogger("shithubd_worker.job")


class _JobLog(logging.LoggerAdapter[logging.Logger]):
    """Adds the job to each record. A name of `extra=` that is the job's becomes `extra_...`."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """See logging.LoggerAdapter, which would drop the caller's `extra=`."""
        job, given = dict(self.extra or {}), kwargs.get("extra") or {}
        kept = {f"extra_{name}" if name in job else name: value for name, value in given.items()}
        return msg, {**kwargs, "extra": {**kept, **job}}


class Running(Protocol):
    """The attempt of a job: the part of it that the job uses."""

    lease: Lease

    def extend(self, seconds: float | timedelta | None) -> None:
        """See Job.extend."""

    def connection(self) -> psycopg.Connection[Any]:
        """See Job.connection."""

    def transaction(self) -> Any:
        """See Job.transaction."""

    def popen(self, command: Sequence[str], *, env: Mapping[str, str] | None, **options: Any) -> subprocess.Popen[Any]:
        """See Job.popen."""


class Job:
    """One job, as its handler sees it.

    `id`, `kind` and `attempt` (from 1) are those of the row. `config` is the worker's configuration. `schema` is the
    name of the queue's schema. In a child that the handler forked, every method raises NotTheWorker.
    """

    def __init__(self, running: Running, config: Config, schema: str) -> None:
        self._running = running
        self.config = config
        self.schema = schema
        self.id, self.kind, self.attempt = running.lease.id, running.lease.kind, running.lease.attempt

    @cached_property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger. Each of its lines carries the job's id, kind and attempt, and keeps what `extra=` gives."""
        return _JobLog(log, {"job_id": self.id, "kind": self.kind, "attempt": self.attempt})

    def extend(self, seconds: float | timedelta | None = None) -> None:
        """Ask for more time: the handler may run for `seconds` (a number or a timedelta) from now. None means its
        kind's `max_runtime` again."""
        self._running.extend(seconds)

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """A database connection for handlers, in autocommit mode. It is not the worker's own. The first use opens it.
        Raises psycopg.OperationalError if it can't be opened; a job that fails with that error is released."""
        return self._running.connection()

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Any]]:
        """A transaction on `connection` that ends the job: the block's writes and the outcome `ok` are committed
        together.

        Effects that are written here happen exactly once. An error inside the block rolls everything back. An error
        after the block is only logged. Raises LeaseLost at the end of the block if another worker has the job by then.
        Raises RuntimeError at its beginning if the job has already used it, or inside another transaction of
        `connection`.
        """
        with self._running.transaction() as connection:
            yield connection

    def popen(
        self, command: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """subprocess.Popen for handlers. The child gets a session of its own, and an environment without the worker's
        secrets.

        When the handler ends, the worker kills each child that still runs, and the children of that child. `env` is
        added to the environment.
        """
        return self._running.popen(command, env=env, **options)
