"""The one table of settings: each field of Config is a row of it, with its flag, its bounds and its help.

To add a setting, add a field here, and run `make pages`. From the field come the flag of `run` and `check-config`
and its variable, the check of its value, what a reload makes of it, the help, docs/settings.md and debian/worker.env.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shithubd_worker.errors import ConfigError
from shithubd_worker.settings.table import Address, Setting, address, choice, days, directory, seconds, switch, words
from shithubd_worker.timing import BEAT_SECONDS, silence_fits

# A schema's name is part of the NOTIFY channel's, which PostgreSQL limits to 63 bytes.
LONGEST_SCHEMA = 48


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration of one worker process; durations in seconds, paths absolute."""

    handlers: tuple[str, ...] = words(
        "--handlers",
        "Load these handlers, and no others. Name a Python module and its registry; or name installed handlers:"
        " `forge` has those that come along. The current directory is first on sys.path. A module's handler of a kind"
        " replaces an installed one.",
        metavar="MODULE:REGISTRY",
        unset="the handlers of all installed packages",
        example="myforge.jobs:registry",
    )
    kinds: tuple[str, ...] = words(
        "--kind",
        "Lease only jobs of this kind. A kind without a handler is a fault.",
        metavar="KIND",
        unset="every kind that has a handler",
        example="search.reindex repo.maintenance",
    )
    exclude_kinds: tuple[str, ...] = words(
        "--exclude-kind",
        "Never lease jobs of this kind. A kind without a handler is a fault.",
        metavar="KIND",
        unset="none",
        example="webhook.deliver",
    )
    poll_interval: float = seconds(
        "--poll-interval",
        "The longest time that an idle worker waits before it looks for jobs again. An enqueue wakes it sooner.",
        default=1.0,
        least=0.01,
        example="5",
        live=True,
    )
    poll_only: bool = switch(
        "--poll-only",
        "Use no LISTEN and no prepared statements. Behind PgBouncer in transaction mode, a worker needs it.",
    )
    prefetch: float = seconds(
        "--prefetch",
        "How far ahead to lease jobs of fast kinds. An urgent job may have to wait for this time. 0: lease one job at a"
        " time.",
        default=0.1,
        least=0.0,
        example="0",
        live=True,
    )
    grace: float = seconds(
        "--grace",
        "How long the running job may go on after SIGTERM. Then the worker interrupts the job and releases it.",
        default=25.0,
        least=0.0,
        example="90",
        live=True,
    )
    database_wait: float = seconds(
        "--database-wait",
        "How long a worker that starts waits for the database. Then it exits with 75.",
        default=60.0,
        least=0.0,
        example="300",
    )
    until_empty: bool = switch(
        "--until-empty", "Exit with 0 as soon as no job can run. Without this the worker waits for more jobs."
    )
    heartbeat_interval: float = seconds(
        "--heartbeat-interval",
        "How often the worker says in the database that it lives. A worker counts as silent after 30 s.",
        default=BEAT_SECONDS,
        least=1.0,
        most=8.0,
        example="2",
    )
    sweep_threshold: float = seconds(
        "--sweep-threshold",
        "After so long without a word of the database the worker gives up its job, because others may have it then. It"
        " gives it up sooner if the lease ends sooner. The worker itself takes the jobs of others that were silent for"
        " this time and for their own threshold. 0 turns both off.",
        default=300.0,
        least=10.0,
        example="60",
        or_zero=True,
    )
    sweep_interval: float = seconds(
        "--sweep-interval",
        "How often one worker of the fleet looks for silent workers.",
        default=10.0,
        least=1.0,
        example="60",
    )
    recovery_delay: float = seconds(
        "--recovery-delay",
        "How long a job that a sweep took back waits before it may run again.",
        default=0.0,
        least=0.0,
        example="30",
    )
    metrics: Address = address(
        "--metrics",
        "Where to serve /metrics, /healthz and /readyz over HTTP. Without PORT, the unit's name gives it: 8081 for"
        " shithubd-worker, 8081 + N for shithubd-worker@N. If the port is taken, the worker works without its metrics,"
        " logs that, and tries again.",
        default="127.0.0.1",
        example="web1.example.org:9200",
    )
    repo_root: Path | None = directory(
        "--repo-root",
        "The directory that holds the repositories. A job can name no repository outside of it. Without it, jobs that"
        " need a repository are released, and tried again later.",
        unset="none",
        example="/var/lib/shithub/repos",
        live=True,
    )
    secrets_dir: Path | None = directory(
        "--secrets-dir",
        "The directory of the files that secret_ref names in the payload of webhook.deliver.",
        unset="the unit's credentials",
        example="/etc/shithub/secrets",
        live=True,
    )
    webhook_allow_private: bool = switch(
        "--webhook-allow-private", "Let webhook.deliver use private addresses and plain HTTP.", live=True
    )
    log_format: str = choice("--log-format", "The format of log lines on stderr.", "text", "json", default="text")
    log_level: str = choice(
        "--log-level",
        "Log lines of this level and above.",
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
    "The database: a URL or a key=value string, as psql takes it. Keep the password in a passfile.",
    metavar="URL",
    unset="PGHOST, PGDATABASE, PGSERVICE and the like, as for psql",
    example="postgresql://db.example/shithub",
)
SCHEMA = Setting(
    "--schema", "The schema of the queue's tables, at most 48 bytes.", metavar="NAME", default="public", example="queue"
)

# Of people's commands, and of the timer's.
AUDIT_WEBHOOK = Setting(
    "--audit-webhook-file",
    "A file with the URL of a chat webhook (Slack's JSON). A command that changes something posts a line there. The URL"
    " is a secret, so it stands in the file alone.",
    metavar="FILE",
    unset="nothing is posted",
    example="/etc/shithub/audit-webhook",
)
AUDIT_DAYS = days(
    "--audit-days", "`history drop` drops rows of the audit record that are older.", default=400, example="1000"
)
UNDO_DAYS = days(
    "--undo-days",
    "`history drop` drops how the jobs were before a change that is older. Such a change can't be undone any more.",
    default=90,
    example="30",
)
OF_COMMANDS = (AUDIT_WEBHOOK, AUDIT_DAYS, UNDO_DAYS)


def schema_fault(name: str) -> str | None:
    """Why this can't be the name of the queue's schema, and what to do; else None.

    It has no %, which stands for a parameter in a query of psycopg's, and no $, which ends the text of a function.
    """
    if name.strip("\"'") == "$user" or "," in name:
        wrong = "this is a search_path, not a schema: give the name of one schema"
    elif name != name.strip() or name[:1] + name[-1:] in ('""', "''"):
        wrong = "give the name without quotes and spaces around it"
    elif name.startswith("pg_") or name == "information_schema":
        wrong = "PostgreSQL keeps this name for itself: choose another one"
    elif not name or not name.isprintable() or len(name.encode()) > LONGEST_SCHEMA or set("%$") & set(name):
        wrong = f"1 to {LONGEST_SCHEMA} bytes, all printable, none of them % or $"
    else:
        return None
    return f"schema {name!r}: {wrong}"


def check_schema(name: str) -> str:
    """The name of a schema, or a ConfigError."""
    if fault := schema_fault(name):
        raise ConfigError(fault)
    return name


def make_config(raw: Mapping[str, object], unit: str = "") -> Config:
    """Build the Config from what the command line and the environment gave, by the names of Config's fields, for a
    worker of this unit.

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
    if not silence_fits(config.get("heartbeat_interval", 1.0), config.get("sweep_threshold", 0.0)):
        faults.append(
            "--sweep-threshold and --heartbeat-interval: three heartbeats and 5 s must fit into the threshold, so that"
            " no worker is swept that lives; raise the threshold, or lower the interval"
        )
    if faults:
        raise ConfigError(*faults)
    config["metrics"] = config["metrics"].in_unit(unit)
    return Config(**config)
