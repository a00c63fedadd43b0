"""What the operator decided: one frozen Config, from flags and SHITHUBD_WORKER_* variables, checked whole."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shithubd_worker.errors import ConfigError

DEFAULT_METRICS = "127.0.0.1:8081"
# Two days; what is longer was meant to be another unit.
LONGEST_SECONDS = 172_800.0
# A schema's name is part of the NOTIFY channel's, which PostgreSQL limits to 63 bytes.
LONGEST_SCHEMA = 48


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration of one worker process; durations in seconds, paths absolute."""

    handlers: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    exclude_kinds: tuple[str, ...] = ()
    poll_interval: float = 1.0
    poll_only: bool = False
    grace: float = 25.0
    database_wait: float = 60.0
    until_empty: bool = False
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = 8081  # None: off
    metrics_chosen: bool = False  # an operator's choice must be had, the default may give way
    repo_root: Path | None = None
    secrets_dir: Path | None = None
    webhook_allow_private: bool = False


def check_schema(name: str) -> str:
    """The name of a schema, or a ConfigError."""
    if not name or len(name.encode()) > LONGEST_SCHEMA or not name.isprintable():
        raise ConfigError(f"schema {name!r}: 1 to {LONGEST_SCHEMA} bytes, all printable")
    return name


def make_config(raw: Mapping[str, object]) -> Config:
    """Build the Config from what the command line and the environment gave, by the names of Config's fields.

    Raises ConfigError that lists every fault, one a line, each with its flag and its variable.
    """
    faults: list[str] = []

    def number(name: str, default: float, least: float) -> float:
        given = raw.get(name)
        if given is None or given == "":
            return default
        try:
            value = float(str(given))
        except ValueError:
            value = math.nan
        if not least <= value <= LONGEST_SECONDS:
            faults.append(f"{_spelled(name)}: {given!r} is not a number of seconds from {least:g} to {LONGEST_SECONDS:g}")
        return value

    def directory(name: str) -> Path | None:
        given = raw.get(name)
        if not given:
            return None
        path = Path(str(given)).expanduser()
        if not path.is_dir():
            faults.append(f"{_spelled(name)}: {str(given)!r} is no directory")
            return None
        return path.resolve()

    def names(name: str) -> tuple[str, ...]:
        given = raw.get(name) or ()
        return tuple(str(item) for item in given) if isinstance(given, (tuple, list)) else (str(given),)

    kinds, exclude_kinds = names("kinds"), names("exclude_kinds")
    if both := sorted(set(kinds) & set(exclude_kinds)):
        faults.append(f"--kind and --exclude-kind: {', '.join(both)} is in both")
    host, port = _metrics(str(raw.get("metrics") or DEFAULT_METRICS), faults)
    config = Config(
        handlers=names("handlers"),
        kinds=kinds,
        exclude_kinds=exclude_kinds,
        poll_interval=number("poll_interval", 1.0, 0.01),
        poll_only=bool(raw.get("poll_only")),
        grace=number("grace", 25.0, 0.0),
        database_wait=number("database_wait", 60.0, 0.0),
        until_empty=bool(raw.get("until_empty")),
        metrics_host=host,
        metrics_port=port,
        metrics_chosen=bool(raw.get("metrics")),
        repo_root=directory("repo_root"),
        secrets_dir=directory("secrets_dir"),
        webhook_allow_private=bool(raw.get("webhook_allow_private")),
    )
    if faults:
        raise ConfigError("\n".join(faults))
    return config


def _spelled(name: str) -> str:
    return f"--{name.replace('_', '-')} (SHITHUBD_WORKER_{name.upper()})"


def _metrics(given: str, faults: list[str]) -> tuple[str, int | None]:
    if given == "off":
        return "127.0.0.1", None
    match = re.fullmatch(r"(?P<host>[^:\s]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})", given)
    if not match or not 0 <= int(match["port"]) <= 65535:  # noqa: PLR2004
        faults.append(f"{_spelled('metrics')}: {given!r} is not HOST:PORT, for example {DEFAULT_METRICS}, or off")
        return "127.0.0.1", None
    return match["host"].strip("[]"), int(match["port"])
