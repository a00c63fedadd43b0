"""The one table of settings: each field of Config is a row of it, with its flag, its bounds and its help.

To add a setting, add a field here, and run `make settings`. From the field come the flag of `run` and `check-config`
and its variable, the check of its value, what a reload makes of it, the help, docs/settings.md and debian/worker.env.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shithubd_worker.errors import ConfigError
from shithubd_worker.settings.table import Address, Setting, address, choice, directory, seconds, switch, words

# A schema's name is part of the NOTIFY channel's, which PostgreSQL limits to 63 bytes.
LONGEST_SCHEMA = 48


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration of one worker process; durations in seconds, paths absolute."""

    handlers: tuple[str, ...] = words(
        "--handlers",
        "A registry to load; repeatable. The current directory is first on sys.path.",
        metavar="MODULE:REGISTRY",
        example="myforge.jobs:registry",
    )
    kinds: tuple[str, ...] = words(
        "--kind", "Lease only this kind; repeatable.", metavar="KIND", example="search.reindex repo.maintenance"
    )
    exclude_kinds: tuple[str, ...] = words(
        "--exclude-kind", "Don't lease this kind; repeatable.", metavar="KIND", example="webhook.deliver"
    )
    poll_interval: float = seconds(
        "--poll-interval",
        "How often an idle worker looks, whether woken or not.",
        default=1.0,
        least=0.01,
        live=True,
    )
    poll_only: bool = switch("--poll-only", "No LISTEN and no prepared statements: for PgBouncer in transaction mode.")
    prefetch: float = seconds(
        "--prefetch",
        "Lease jobs of fast kinds ahead, for so long a time of work; 0: one job at a time.",
        default=0.1,
        least=0.0,
        live=True,
    )
    grace: float = seconds(
        "--grace", "How long a job may go on after SIGTERM before it is released.", default=25.0, least=0.0, live=True
    )
    database_wait: float = seconds(
        "--database-wait", "How long to wait for the database at the start.", default=60.0, least=0.0
    )
    until_empty: bool = switch("--until-empty", "Exit 0 when no job can run, instead of waiting for more.")
    metrics: Address = address("--metrics", "Where to serve /metrics, /healthz, /readyz.", default="127.0.0.1:8081")
    repo_root: Path | None = directory(
        "--repo-root",
        "The directory that repositories of jobs must lie in.",
        example="/var/lib/shithub/repos",
        live=True,
    )
    secrets_dir: Path | None = directory(
        "--secrets-dir",
        "Where secret_ref names a file.",
        unset="the unit's credentials",
        example="/etc/shithub/secrets",
        live=True,
    )
    webhook_allow_private: bool = switch(
        "--webhook-allow-private", "Let webhooks go to private addresses and plain HTTP.", live=True
    )
    log_format: str = choice("--log-format", "How log lines look on stderr.", "text", "json", default="text")
    log_level: str = choice(
        "--log-level",
        "The least important line to log.",
        "debug",
        "info",
        "warning",
        "error",
        default="info",
        live=True,
    )

    @property
    def pooled(self) -> bool:
        """Is there a transaction pooler between this worker and its server? Nothing outlives a transaction then."""
        return self.poll_only


# The rows by the names of their fields.
SETTINGS: dict[str, Setting] = {field.name: field.metadata["row"] for field in dataclasses.fields(Config)}
# What a running worker can take over; the rest of Config is for its start.
LIVE = tuple(name for name, row in SETTINGS.items() if row.live)

# Which queue: not of a worker alone, each command has these.
DATABASE_URL = Setting(
    "--database-url",
    "libpq's URL or key=value string.",
    metavar="URL",
    unset="PGHOST, PGDATABASE, PGSERVICE, ... as psql",
    example="postgresql://db.example/shithub",
)
SCHEMA = Setting("--schema", "The schema that the queue lives in.", metavar="NAME", default="public")


def check_schema(name: str) -> str:
    """The name of a schema, or a ConfigError. Without %, which stands for a parameter in a query of psycopg's, and $,
    which ends the text of a function."""
    if not name or not name.isprintable() or len(name.encode()) > LONGEST_SCHEMA or set("%$") & set(name):
        raise ConfigError(f"schema {name!r}: 1 to {LONGEST_SCHEMA} bytes, all printable, none of them % or $")
    return name


def make_config(raw: Mapping[str, object]) -> Config:
    """Build the Config from what the command line and the environment gave, by the names of Config's fields.

    Raises ConfigError that lists every fault, one a line, each with its flag and its variable.
    """
    config, faults = {}, []
    for name, row in SETTINGS.items():
        try:
            config[name] = row.read(raw.get(name))
        except ValueError as error:
            faults.append(f"{row.spelled}: {error}")
    if both := sorted({*config["kinds"]} & {*config["exclude_kinds"]}):
        faults.append(f"--kind and --exclude-kind: {', '.join(both)} is in both")
    if faults:
        raise ConfigError(*faults)
    return Config(**config)
