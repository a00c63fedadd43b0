"""What `run` is told: its options, their variables, and whether all of it together can work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from shithubd_worker.cli.common import Shared
from shithubd_worker.errors import ConfigError

if TYPE_CHECKING:
    from shithubd_worker.config import Config
    from shithubd_worker.registry import Kind

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


DEFAULT_LEVEL = "info"


def variable(flag: str) -> str:
    """The variable that stands for a flag: --poll-interval is SHITHUBD_WORKER_POLL_INTERVAL."""
    return f"SHITHUBD_WORKER_{flag.strip('-').replace('-', '_').upper()}"


def _option(flag: str, name: str, text: str, **settings: Any) -> Callable[[F], F]:
    return click.option(flag, name, envvar=variable(flag), show_envvar=True, help=text, **settings)


# All values are taken as text here and checked together by make_config, so that all faults are told at once.
_OPTIONS = (
    _option(
        "--handlers",
        "handlers",
        "A registry to load; repeatable. The current directory is first on sys.path.",
        multiple=True,
        metavar="MODULE:REGISTRY",
    ),
    _option("--kind", "kinds", "Lease only this kind; repeatable.", multiple=True, metavar="KIND"),
    _option("--exclude-kind", "exclude_kinds", "Don't lease this kind; repeatable.", multiple=True, metavar="KIND"),
    _option(
        "--poll-interval",
        "poll_interval",
        "How often an idle worker looks, whether woken or not.  [default: 1]",
        metavar="SECONDS",
    ),
    _option(
        "--poll-only",
        "poll_only",
        "No LISTEN and no prepared statements: for PgBouncer in transaction mode.",
        is_flag=True,
    ),
    _option(
        "--prefetch",
        "prefetch",
        "Lease jobs of fast kinds ahead, for so long a time of work; 0: one job at a time.  [default: 0.1]",
        metavar="SECONDS",
    ),
    _option(
        "--grace",
        "grace",
        "How long a job may go on after SIGTERM before it is released.  [default: 25]",
        metavar="SECONDS",
    ),
    _option(
        "--database-wait",
        "database_wait",
        "How long to wait for the database at the start.  [default: 60]",
        metavar="SECONDS",
    ),
    _option(
        "--until-empty",
        "until_empty",
        "Exit 0 when no job can run, instead of waiting for more.",
        is_flag=True,
    ),
    _option(
        "--metrics",
        "metrics",
        "Where to serve /metrics, /healthz, /readyz.  [default: 127.0.0.1:8081]",
        metavar="HOST:PORT|off",
    ),
    _option("--repo-root", "repo_root", "The directory that repositories of jobs must lie in.", metavar="DIR"),
    _option(
        "--secrets-dir",
        "secrets_dir",
        "Where secret_ref names a file.  [default: the unit's credentials]",
        metavar="DIR",
    ),
    _option(
        "--webhook-allow-private",
        "webhook_allow_private",
        "Let webhooks go to private addresses and plain HTTP.",
        is_flag=True,
    ),
)


def config_options(function: F) -> F:
    """The options of `run`, which check-config has too."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def load(shared: Shared, raw: dict[str, object]) -> tuple[Config, list[Kind]]:
    """The configuration and the kinds to lease. Raises ConfigError with all faults of both, and of the database's."""
    from shithubd_worker import registry

    if (here := str(Path.cwd())) not in sys.path[:1]:
        sys.path.insert(0, here)
    faults: list[str] = []
    config = _values(shared, raw, faults)
    loaded = _told(lambda: registry.load(raw.get("handlers") or ()), faults)  # type: ignore[arg-type]
    kinds = _chosen(config, loaded, faults) if config is not None and loaded is not None else []
    if faults or config is None:
        raise ConfigError(*faults)
    return config, kinds


def values(shared: Shared, raw: dict[str, object], found: Iterable[str] = ()) -> Config:
    """The configuration, without a look at any handler. Raises ConfigError with all faults, those that were `found`
    before, and of the database's."""
    faults = list(found)
    config = _values(shared, raw, faults)
    if faults or config is None:
        raise ConfigError(*faults)
    return config


def _values(shared: Shared, raw: dict[str, object], faults: list[str]) -> Config | None:
    from shithubd_worker.config import make_config

    _told(lambda: shared.connect("check"), faults)
    _told(lambda: shared.schema_name, faults)
    return _told(lambda: make_config(raw), faults)


def _told(step: Callable[[], T], faults: list[str]) -> T | None:
    try:
        return step()
    except ConfigError as error:
        faults += error.args
        return None


def _chosen(config: Config, loaded: Mapping[str, Kind], faults: list[str]) -> list[Kind]:
    """The kinds to lease, of those that have handlers."""
    unknown = [kind for kind in (*config.kinds, *config.exclude_kinds) if kind not in loaded]
    there_are = ", ".join(sorted(loaded)) or "none"
    faults += [f"no handler for kind {kind!r}; there are {there_are}" for kind in unknown]
    kinds = [
        kind
        for name, kind in loaded.items()
        if (not config.kinds or name in config.kinds) and name not in config.exclude_kinds
    ]
    if not kinds and not unknown:
        faults.append("no kind to work on: --handlers, --kind and --exclude-kind leave none")
    return kinds
