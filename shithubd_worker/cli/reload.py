"""A reload: a running worker's settings, read again from the files that its unit reads, and checked whole."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

import click
from click.core import ParameterSource

from shithubd_worker.cli import host_env
from shithubd_worker.cli.common import Shared
from shithubd_worker.cli.settings import DEFAULT_LEVEL, misnamed, values, variable
from shithubd_worker.errors import ConfigError
from shithubd_worker.settings.config import LIVE, Config

log = logging.getLogger(__name__)

_LIVE_VARIABLES = {variable(name) for name in (*LIVE, "log_level")}


class Reload:
    """Made at the start by the command `run`; called for each reload."""

    def __init__(self, ctx: click.Context, unit: str) -> None:
        self._ctx = ctx
        self._unit = unit
        self._options = {str(option.envvar): option for option in ctx.command.params if option.envvar}
        self._by_flag = {
            name
            for name, option in self._options.items()
            if ctx.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        }
        self._now = dict(os.environ)
        # All that the files have ever said. What is wrong with them is told when somebody asks for a reload.
        self._told = host_env.told_to(unit, faults=[])

    def __call__(self) -> Config:
        """The configuration with what the files say now; what of it a running worker can take over is config.LIVE.

        A variable that they don't name any more stays as it is: what the unit itself says of it, only a restart tells.
        Sets the log level, and logs what has changed. Raises ConfigError with the faults; then nothing was changed.
        """
        faults: list[str] = []
        told = host_env.told_to(self._unit, faults)
        raw = self._raw(self._now | told)
        config = self._checked(raw, [*faults, *misnamed(told)])
        changed = {name for name, value in told.items() if self._now.get(name) != value} - self._by_flag
        gone = self._told.keys() - told.keys() - self._by_flag
        live, later = changed & _LIVE_VARIABLES, changed - _LIVE_VARIABLES | gone
        logging.getLogger().setLevel(str(raw.get("log_level", DEFAULT_LEVEL)).upper())
        self._told |= told
        self._now |= {name: told[name] for name in live}
        log.info(
            "reloaded: %s",
            ", ".join(f"{name}={told[name]}" for name in sorted(live)) or "nothing that changes a running worker",
        )
        if later:
            log.warning("only a restart changes %s", ", ".join(sorted(later)))
        return config

    def _raw(self, environment: Mapping[str, str]) -> dict[str, object]:
        """The options by their names, as click gives them to the command: a flag wins over its variable."""
        raw: dict[str, object] = {}
        for name, option in self._options.items():
            text = environment.get(name)
            if name in self._by_flag:
                raw[option.name or ""] = self._ctx.params[option.name or ""]
            elif text:
                try:
                    value = option.type.split_envvar_value(text) if option.multiple else text
                    raw[option.name or ""] = option.type_cast_value(self._ctx, value)
                except click.BadParameter as error:
                    raise ConfigError(f"{option.opts[0]} ({name}): {error.message}") from error
        return raw

    def _checked(self, raw: dict[str, object], faults: list[str]) -> Config:
        """Without the handlers: nobody imports another module into a worker that runs."""
        url, schema = (str(raw[name]) if raw.get(name) else None for name in ("database_url", "schema"))
        return values(Shared(url, schema), raw, faults)
