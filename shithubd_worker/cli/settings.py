"""The settings of `run`: its options, and whether all of them together can work."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from shithubd_worker.errors import ConfigError
from shithubd_worker.settings.config import SETTINGS, Config, make_config
from shithubd_worker.settings.names import UNIT, misnamed

if TYPE_CHECKING:
    from shithubd_worker.cli.common import Shared
    from shithubd_worker.registry import Kind
    from shithubd_worker.settings.table import Setting

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def option(name: str, row: Setting, **more: Any) -> Callable[[F], F]:
    """A row of the table as an option of a command."""
    help_ = f"{row.help} You can repeat it." if row.repeatable else row.help
    if row.switch:
        more["is_flag"] = True
    elif row.choices:
        more |= {"type": click.Choice(row.choices, case_sensitive=False), "default": row.default, "show_default": True}
    else:
        more |= {"metavar": row.metavar, "multiple": row.repeatable}
        bounds = f"; {row.bounds}" if row.metavar == "SECONDS" else ""
        help_ += f"  [default: {row.default or row.unset}{bounds}]"
    return click.option(row.flag, name, envvar=row.variable, show_envvar=True, help=help_, **more)


def config_options(function: F) -> F:
    """The options of `run`. check-config has them too."""
    for name, row in reversed(SETTINGS.items()):
        function = option(name, row)(function)
    return function


def load(shared: Shared, raw: dict[str, object]) -> tuple[Config, list[Kind]]:
    """The configuration, and the kinds to lease. Raises ConfigError with all faults of both and of the database's
    settings."""
    faults = misnamed(os.environ)
    config = _values(shared, raw, faults)  # after this, root may be another user: see as_whom
    with suppress(OSError):  # the directory was removed
        if (here := str(Path.cwd())) not in sys.path[:1]:
            sys.path.insert(0, here)
    from shithubd_worker.cli import loading

    loaded = _unless_faulty(lambda: loading.load(raw.get("handlers") or ()), faults)  # type: ignore[arg-type]
    kinds = _chosen(raw, loaded, faults) if loaded is not None else []
    if faults or config is None:
        raise ConfigError(*dict.fromkeys(faults))
    return config, kinds


def values(shared: Shared, raw: dict[str, object], found: Iterable[str] = ()) -> Config:
    """The configuration, without looking at handlers. Raises ConfigError with all faults: those of `found`, its own,
    and those of the database's settings."""
    faults = list(found)
    config = _values(shared, raw, faults)
    if faults or config is None:
        raise ConfigError(*faults)
    return config


def _values(shared: Shared, raw: dict[str, object], faults: list[str]) -> Config | None:
    _unless_faulty(lambda: shared.connect("check"), faults)
    _unless_faulty(lambda: shared.schema_name, faults)
    return _unless_faulty(lambda: make_config(raw, os.environ.get(UNIT, "")), faults)


def _unless_faulty(step: Callable[[], T], faults: list[str]) -> T | None:
    """The result of a step. None if the step found faults, which are added to the others."""
    try:
        return step()
    except ConfigError as error:
        faults += error.args
        return None


def _chosen(raw: Mapping[str, Any], loaded: Mapping[str, Kind], faults: list[str]) -> list[Kind]:
    """The kinds to lease, out of those with handlers."""
    only, never = raw.get("kinds") or (), raw.get("exclude_kinds") or ()
    there_are = ", ".join(sorted(loaded)) or "none"
    known = True
    for name, given in (("kinds", only), ("exclude_kinds", never)):
        for kind in (kind for kind in given if kind not in loaded):
            known = False
            faults.append(f"{SETTINGS[name].spelled}: no handler for kind {kind!r}; {_advice(kind, there_are)}")
    kinds = [kind for name, kind in loaded.items() if (not only or name in only) and name not in never]
    if not kinds and known:
        faults.append("no kind to work on: --handlers, --kind and --exclude-kind leave none")
    return kinds


def _advice(kind: str, there_are: str) -> str:
    from shithubd_worker.cli import loading

    if "," in kind:
        return "several are separated by spaces"
    installed = loading.installed_with(kind)
    return f"--handlers {installed} adds it" if installed else f"there are {there_are}"
