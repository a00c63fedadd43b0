"""The products that the static layer compares pages with, as facts: ours, and that of upstream/ to test the layer."""

from __future__ import annotations

import builtins
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import click
from bare import BareWorker
from conftest import Database
from test_alert_rules import ALERTS, OF_OTHERS, samples

from shithubd_worker import errors, handlers
from shithubd_worker.cli import cli
from shithubd_worker.host import shipped
from shithubd_worker.model import How, Outcome
from shithubd_worker.registry import Registry
from shithubd_worker.settings import host_files
from shithubd_worker.settings.config import AUDIT_WEBHOOK, OF_COMMANDS, make_config
from shithubd_worker.settings.names import RUN_AS

UPSTREAM = Path(__file__).with_name("upstream")


class Worker(Protocol):
    """A worker without a process, which shows what the database does with its leases."""

    def lease(self, seconds: float) -> Any:
        """Lease a job of a kind with this lease timeout. None if there is none."""

    def finish(self, lease: Any) -> bool:
        """Settle the job. Did the database accept it?"""

    def close(self) -> None:
        """Drop its connections."""


@dataclass(frozen=True)
class Product:
    """What a page may name."""

    program: click.Group | None  # its command line, if a page may use one
    units: frozenset[str]
    service: str  # the text of the worker's unit
    files: str  # the text of all that it ships for a host
    kinds: frozenset[str]
    words: frozenset[str]  # of its handlers' registry and of its jobs' ends
    metrics: frozenset[str]
    alerts: frozenset[str]  # that a Prometheus with its rules knows
    variables: frozenset[str]
    exit_codes: Mapping[int, str]  # a pattern for the meaning: where a page names the code, a word matches it
    figures: Mapping[str, str]  # seconds, by the names that a claim gives them
    hire: Callable[[Database], Worker]  # and for the jobs that a worker by hand leases:
    empty: str  # takes all of them away, and what holds them
    age: str  # makes their leases {0} seconds older

    @property
    def directives(self) -> dict[str, list[str]]:
        """What the worker's unit says, by name."""
        found: dict[str, list[str]] = {}
        for name, value in re.findall(r"^(\w+)=(.*)$", self.service, re.MULTILINE):
            found.setdefault(name, []).append(value)
        return found


class OurWorker:
    """A row in workers, and the queue as the process uses it."""

    def __init__(self, database: Database) -> None:
        worker = uuid4()
        database.query(
            "SELECT register_v1(%s, 'web1', 4711, 'm', 'b', 1, 1, NULL, NULL, '0', 1, '{search.reindex}')", worker
        )
        self._bare = BareWorker(database.url, database.schema, worker)

    def lease(self, seconds: float) -> Any:
        self._bare.queue.sweep()  # as each worker does, between its jobs
        registry = Registry()
        registry.handler("search.reindex", lease_timeout=seconds)(lambda job: None)
        return self._bare.lease(list(registry.values()))

    def finish(self, lease: Any) -> bool:
        return self._bare.settle(lease, Outcome(How.OK))

    def close(self) -> None:
        self._bare.close()


class UpstreamWorker:
    """Its two statements: each lease ends after five minutes, for all kinds; a job is finished by its id alone."""

    LEASE = """
        UPDATE jobs SET locked_by = %s, locked_at = now(), attempts = attempts + 1
         WHERE id = (SELECT id FROM jobs
                      WHERE kind = 'search.reindex' AND completed_at IS NULL AND failed_at IS NULL AND run_at <= now()
                        AND (locked_by IS NULL OR locked_at < now() - interval '5 minutes')
                      ORDER BY run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING id
    """
    FINISH = "UPDATE jobs SET completed_at = now(), locked_by = NULL, locked_at = NULL WHERE id = %s RETURNING id"

    def __init__(self, database: Database) -> None:
        self._database = database

    def lease(self, seconds: float) -> Any:
        leased = self._database.query(self.LEASE, f"web1:{id(self)}")
        return leased[0][0] if leased else None

    def finish(self, lease: Any) -> bool:
        return bool(self._database.query(self.FINISH, lease))

    def close(self) -> None:
        pass


def ours() -> Product:
    """The checkout that these tests are in."""
    files = [path for path in shipped.UNITS.rglob("*") if path.is_file()]
    read = {path for login in host_files.LOGINS for paths in host_files.read_by(login) for path in paths}
    limits = inspect.signature(Registry.handler).parameters
    read.add(Path(AUDIT_WEBHOOK.example))
    options = [option for command in cli.commands.values() for option in (*cli.params, *command.params)]
    variables = {str(option.envvar) for option in options if getattr(option, "envvar", None)}
    variables |= {row.variable for row in OF_COMMANDS}
    return Product(
        program=cli,
        units=frozenset(path.name for path in files),
        service=(shipped.UNITS / "shithubd-worker.service").read_text(),
        files="\n".join([*(path.read_text() for path in files), *map(str, read)]),
        kinds=frozenset(handlers.registry),
        words=frozenset(limits) | frozenset(How),
        metrics=frozenset(samples()) | {"up"} | {name for shown in OF_OTHERS.values() for name in shown},
        alerts=frozenset(ALERTS),
        variables=frozenset(variables) | {"_SHITHUBD_WORKER_COMPLETE", RUN_AS},
        exit_codes={
            errors.EXIT_OK: "nothing|drained",
            errors.EXIT_ERROR: "error|fault",
            errors.EXIT_USAGE: "usage",
            errors.EXIT_CHECK_SAYS_NO: "drained|runs|running",
            errors.EXIT_TIMEOUT: "time",
            errors.EXIT_REFUSED: "refuse",
            errors.EXIT_FORCED: "interrupt|handler",
            errors.EXIT_DATABASE: "database",
            errors.EXIT_SCHEMA: "schema",
            errors.EXIT_RIGHTS: "password|login|right",
            errors.EXIT_CONFIG: "configuration|setting|variable",
        },
        figures={"grace": f"{make_config({}).grace:g}", "lease": str(limits["lease_timeout"].default)},
        hire=OurWorker,
        empty="TRUNCATE jobs, job_history, workers, beats, holds, ramps, ramp_ends",
        age="UPDATE jobs SET leased_at = leased_at - interval '{0} s',"
        " lease_expires_at = lease_expires_at - interval '{0} s'",
    )


def upstream() -> Product:
    """The forge's own worker as it was when its pages were written; see upstream/page.md."""
    service = (UPSTREAM / "shithubd-worker.service").read_text()
    return Product(
        program=None,
        units=frozenset({"shithubd-worker.service"}),
        service=service,
        files=service,
        kinds=frozenset({"push:process", "repo:size_recalc", "repo:index_code", "pr:mergeability", "notify:fanout"}),
        words=frozenset({"ok", "retry", "failed", "poison"}),
        metrics=frozenset(
            {
                "shithub_worker_jobs_processed_total",
                "shithub_worker_job_duration_seconds_bucket",
                "shithub_worker_in_flight",
                "up",
            }
        ),
        alerts=frozenset(),  # its file of rules is loaded by no Prometheus
        variables=frozenset(),
        exit_codes={0: "ok|exit"},
        figures={"lease": "300"},
        hire=UpstreamWorker,
        empty="TRUNCATE jobs",
        age="UPDATE jobs SET locked_at = locked_at - interval '{0} s'",
    )


def is_exception(name: str) -> bool:
    """Python's own name of an error, as a log shows it."""
    return isinstance(getattr(builtins, name, None), type)
