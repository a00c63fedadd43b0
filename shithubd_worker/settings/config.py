"""What the operator decided: one frozen Config, from flags and SHITHUBD_WORKER_* variables, checked whole."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shithubd_worker.errors import ConfigError

DEFAULT_METRICS = "127.0.0.1:8081"
# Two days; what is longer was meant to be another unit.
LONGEST_SECONDS = 172_800.0
# A schema's name is part of the NOTIFY channel's, which PostgreSQL limits to 63 bytes.
LONGEST_SCHEMA = 48
HIGHEST_PORT = 65_535


# What a running worker can take over; the rest of Config is for its start.
LIVE = ("poll_interval", "prefetch", "grace", "repo_root", "secrets_dir", "webhook_allow_private")


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration of one worker process; durations in seconds, paths absolute."""

    handlers: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    exclude_kinds: tuple[str, ...] = ()
    poll_interval: float = 1.0
    poll_only: bool = False
    prefetch: float = 0.1
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
    """The name of a schema, or a ConfigError. Without %, which stands for a parameter in a query of psycopg's, and $,
    which ends the text of a function."""
    if not name or not name.isprintable() or len(name.encode()) > LONGEST_SCHEMA or set("%$") & set(name):
        raise ConfigError(f"schema {name!r}: 1 to {LONGEST_SCHEMA} bytes, all printable, none of them % or $")
    return name


class _Reader:
    """Reads single values, and collects what is wrong with them."""

    def __init__(self, raw: Mapping[str, object]) -> None:
        self._raw = raw
        self.faults: list[str] = []

    def number(self, name: str, default: float, least: float) -> float:
        """A number of seconds."""
        given = self._raw.get(name)
        if given is None or given == "":
            return default
        try:
            value = float(str(given))
        except ValueError:
            value = math.nan
        if not least <= value <= LONGEST_SECONDS:
            self.faults.append(
                f"{_spelled(name)}: {given!r} is not a number of seconds from {least:g} to {LONGEST_SECONDS:g}"
            )
        return value

    def directory(self, name: str) -> Path | None:
        """An existing directory, absolute; None if none was given."""
        given = self._raw.get(name)
        if not given:
            return None
        with suppress(RuntimeError, OSError, ValueError):  # ~ of nobody, a name too long, a NUL
            path = Path(str(given)).expanduser()
            if path.is_dir():
                return path.resolve()
        self.faults.append(f"{_spelled(name)}: {str(given)!r} is no directory")
        return None

    def names(self, name: str) -> tuple[str, ...]:
        """Names, from an option that can be repeated."""
        given = self._raw.get(name) or ()
        return tuple(str(item) for item in given) if isinstance(given, (tuple, list)) else (str(given),)

    def flag(self, name: str) -> bool:
        """Was it given?"""
        return bool(self._raw.get(name))

    def address(self, name: str) -> tuple[str, int | None]:
        """HOST:PORT, or off: port None."""
        given = str(self._raw.get(name) or DEFAULT_METRICS)
        if given == "off":
            return "", None
        match = re.fullmatch(r"(?P<host>[^:\s]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})", given)
        if not match or int(match["port"]) > HIGHEST_PORT:
            self.faults.append(f"{_spelled(name)}: {given!r} is not HOST:PORT, for example {DEFAULT_METRICS}, or off")
            return "", None
        return match["host"].strip("[]"), int(match["port"])


def make_config(raw: Mapping[str, object]) -> Config:
    """Build the Config from what the command line and the environment gave, by the names of Config's fields.

    Raises ConfigError that lists every fault, one a line, each with its flag and its variable.
    """
    read = _Reader(raw)
    kinds, exclude_kinds = read.names("kinds"), read.names("exclude_kinds")
    if both := sorted(set(kinds) & set(exclude_kinds)):
        read.faults.append(f"--kind and --exclude-kind: {', '.join(both)} is in both")
    host, port = read.address("metrics")
    config = Config(
        handlers=read.names("handlers"),
        kinds=kinds,
        exclude_kinds=exclude_kinds,
        poll_interval=read.number("poll_interval", 1.0, 0.01),
        poll_only=read.flag("poll_only"),
        prefetch=read.number("prefetch", 0.1, 0.0),
        grace=read.number("grace", 25.0, 0.0),
        database_wait=read.number("database_wait", 60.0, 0.0),
        until_empty=read.flag("until_empty"),
        metrics_host=host,
        metrics_port=port,
        metrics_chosen=read.flag("metrics"),
        repo_root=read.directory("repo_root"),
        secrets_dir=read.directory("secrets_dir"),
        webhook_allow_private=read.flag("webhook_allow_private"),
    )
    if read.faults:
        raise ConfigError(*read.faults)
    return config


def _spelled(name: str) -> str:
    return f"--{name.replace('_', '-')} (SHITHUBD_WORKER_{name.upper()})"
