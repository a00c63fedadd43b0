"""Runs a handler through the real machinery: enqueue, lease, attempt, settle."""

from __future__ import annotations

import json
import math
import subprocess
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from bare import BareWorker

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.attempt.outcome import Settle
from shithubd_worker.client import enqueue
from shithubd_worker.database.connection import connector
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.database.handler_session import HandlerSession
from shithubd_worker.handlers import registry
from shithubd_worker.host.identity import identify
from shithubd_worker.model import Batch, Lease, Outcome, Registration
from shithubd_worker.registry import Kind, Registry
from shithubd_worker.settings.config import Config


class Unhurried:
    """Nobody asks for a stop."""

    release_at = math.inf


class NoDatabase:
    """For handlers that need no database."""

    schema = "public"
    broken = False

    def lend(self, answer_by: object) -> psycopg.Connection[Any]:
        raise AssertionError("this handler was not to ask for the database")

    def settle(self, lease: Lease, outcome: Outcome, retention: str) -> bool:
        raise AssertionError("this handler was not to settle")


class Bench:
    """A registered worker in this process, which runs one job at a time when asked to."""

    def __init__(self, url: str, schema: str, config: Config, kinds: Registry = registry) -> None:
        self._config = config
        self._kinds = kinds
        self.schema = schema
        self.connection = connector(url, "bench")()
        me = identify()
        with_connection = connector(url, "bench")
        self._worker = BareWorker(url, schema, me.id)
        self._ledger = HandlerSession(with_connection, schema)
        self._beat = ControlSession(with_connection, schema)
        self._beat.register(Registration(me, list(kinds)))

    def run(self, kind: str, **members: object) -> Outcome:
        """Enqueue a job, lease it, run it, and settle it unless its handler did."""
        return self.finish(self.lease(kind, **members))

    def finish(self, attempt: Attempt) -> Outcome:
        """Run a leased job, and settle it unless its handler did."""
        result = attempt.prepare() or attempt.run()
        assert result is not None
        if result.settle is not Settle.DONE:
            assert self._worker.settle(attempt.lease, result.outcome, attempt.kind.retention)
        self._ledger.tidy()
        return result.outcome

    def lease(self, kind: str, **members: object) -> Attempt:
        """Enqueue a job and lease it: an Attempt that is ready to be prepared and run."""
        job = enqueue(self.connection, kind, schema=self.schema, **members)
        attempt = self.next(kind)
        assert attempt.lease.id == job
        return attempt

    def next(self, kind: str) -> Attempt:
        """Lease a job that waits."""
        lease = self._worker.lease([self._kinds[kind]])
        assert lease is not None
        return _attempt(self._kinds[kind], lease, self._config, self._ledger)

    def close(self) -> None:
        """Close the connections."""
        self.connection.close()
        for session in (self._worker, self._ledger, self._beat):
            session.close()


def outcome_without_database(kind: str, config: Config, *, job: int = 1, **members: object) -> Outcome:
    """The outcome of a handler that needs no database."""
    now = time.monotonic()
    lease = Lease(job, kind, json.dumps(members), 1, None, 0, 0, 0.0, Batch(str(uuid4()), now, 0.0))
    attempt = _attempt(registry[kind], lease, config, NoDatabase())
    result = attempt.prepare() or attempt.run()
    assert result is not None
    return result.outcome


def _attempt(kind: Kind, lease: Lease, config: Config, database: Any) -> Attempt:
    lease = lease._replace(batch=lease.batch._replace(sent_at=math.inf))  # so it may start at any time
    return Attempt(kind, lease, config=config, database=database, stop=Unhurried(), alarm=lambda seconds: None)


def git(directory: Path, *arguments: str, stdin: bytes | None = None) -> str:
    """Run git as a developer would, without any configuration of a user."""
    done = subprocess.run(
        ["git", "-C", str(directory), "-c", "protocol.file.allow=always", *arguments],
        env={
            "PATH": "/usr/bin:/bin:/usr/local/bin",
            "HOME": "/nonexistent",
            "GIT_CONFIG_NOSYSTEM": "1",
            **{f"GIT_{who}_{what}": "dev@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        },
        input=stdin,
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().strip()


class Repository:
    """A bare repository under a root, and a working copy that pushes to it."""

    def __init__(self, root: Path, name: str, scratch: Path) -> None:
        self.name = name
        self.bare = root / name
        self.work = scratch / f"work-{name.replace('/', '-')}"
        for path, options in ((self.bare, ["--bare"]), (self.work, [])):
            path.mkdir(parents=True)
            git(path, "init", "--quiet", "--initial-branch=main", *options)

    def commit(self, files: dict[str, bytes | None] | None = None, *, push: bool = True) -> None:
        """Write files (None: remove the file), commit all and push."""
        for name, content in (files or {}).items():
            path = self.work / name
            if content is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        git(self.work, "add", "--all")
        git(self.work, "commit", "--quiet", "--allow-empty", "--message=work")
        if push:
            git(self.work, "push", "--quiet", "--force", str(self.bare), "HEAD:main")
