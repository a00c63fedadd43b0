"""What `run` is told: its options, their variables, and whether all of it together can work."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from shithubd_worker.cli import as_whom
from shithubd_worker.cli.common import Shared, database_options
from shithubd_worker.errors import ConfigError

if TYPE_CHECKING:
    from shithubd_worker.registry import Kind
    from shithubd_worker.settings.config import Config

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


DEFAULT_LEVEL = "info"
PREFIX = "SHITHUBD_WORKER_"


def variable(flag: str) -> str:
    """The variable that stands for a flag: --poll-interval is SHITHUBD_WORKER_POLL_INTERVAL."""
    return f"{PREFIX}{flag.strip('-').replace('-', '_').upper()}"


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
    _option(
        "--log-format",
        "log_format",
        "How log lines look on stderr.",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
    ),
    _option(
        "--log-level",
        "log_level",
        "The least important line to log.",
        type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
        default=DEFAULT_LEVEL,
        show_default=True,
    ),
)


def config_options(function: F) -> F:
    """The options of `run`, which check-config has too."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


# Every variable with our prefix that means something: the last two name the unit, in its own words, and the user that
# a command of root's becomes, which the commands take from the host's files.
VARIABLES = {
    *(str(option.envvar) for option in database_options(config_options(lambda: None)).__click_params__),  # type: ignore[attr-defined]
    variable("unit"),
    as_whom.RUN_AS,
}


def meant(name: str) -> str | None:
    """The variable of ours that a name is, or is most like; None for one that has nothing to do with us."""
    name = name.upper()
    if name in VARIABLES:
        return name
    if name.startswith(PREFIX):  # which all have in common, so it tells nothing
        near = get_close_matches(name.removeprefix(PREFIX), [known.removeprefix(PREFIX) for known in VARIABLES], n=1)
        return f"{PREFIX}{near[0]}" if near else None
    return next(iter(get_close_matches(name, VARIABLES, n=1, cutoff=0.9)), None)


def misnamed(names: Iterable[str]) -> list[str]:
    """A fault for each name that was meant for us, and is none of ours: what it says would go unheard."""
    return [
        f"{name} is not a setting: "
        + (f"did you mean {near}?" if (near := meant(name)) else f"a variable of yours can't begin with {PREFIX}")
        for name in sorted(names)
        if name not in VARIABLES and (name.startswith(PREFIX) or meant(name))
    ]


def refuse_misnamed(flags: Iterable[str]) -> None:
    """Raise ConfigError for a misspelt variable that was meant to say which queue a command acts on, and no flag says.

    What else is misspelt is no command's business but of `run` and `check-config`: in an incident the others work.
    """
    unsaid = {variable(flag) for flag in {"--database-url", "--schema"}.difference(flags)}
    if faults := misnamed(name for name in os.environ if meant(name) in unsaid):
        raise ConfigError(*faults)


def load(shared: Shared, raw: dict[str, object]) -> tuple[Config, list[Kind]]:
    """The configuration and the kinds to lease. Raises ConfigError with all faults of both, and of the database's."""
    faults = misnamed(os.environ)
    config = _values(shared, raw, faults)  # from here on root may be another user: see as_whom
    if (here := str(Path.cwd())) not in sys.path[:1]:
        sys.path.insert(0, here)
    from shithubd_worker import registry

    loaded = _told(lambda: registry.load(raw.get("handlers") or ()), faults)  # type: ignore[arg-type]
    kinds = _chosen(raw, loaded, faults) if loaded is not None else []
    if faults or config is None:
        raise ConfigError(*dict.fromkeys(faults))
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
    from shithubd_worker.settings.config import make_config

    _told(lambda: shared.connect("check"), faults)
    _told(lambda: shared.schema_name, faults)
    return _told(lambda: make_config(raw), faults)


def _told(step: Callable[[], T], faults: list[str]) -> T | None:
    try:
        return step()
    except ConfigError as error:
        faults += error.args
        return None


def _chosen(raw: Mapping[str, Any], loaded: Mapping[str, Kind], faults: list[str]) -> list[Kind]:
    """The kinds to lease, of those that have handlers."""
    only, never = raw.get("kinds") or (), raw.get("exclude_kinds") or ()
    there_are = ", ".join(sorted(loaded)) or "none"
    known = True
    for name, given in (("kind", only), ("exclude-kind", never)):
        for kind in (kind for kind in given if kind not in loaded):
            known = False
            several = "several are separated by spaces" if "," in kind else f"there are {there_are}"
            faults.append(f"--{name} ({variable(name)}): no handler for kind {kind!r}; {several}")
    kinds = [kind for name, kind in loaded.items() if (not only or name in only) and name not in never]
    if not kinds and known:
        faults.append("no kind to work on: --handlers, --kind and --exclude-kind leave none")
    return kinds
