"""How a reload of `run` reads variables: click reads them as at the start, and the flags of the start win."""

from __future__ import annotations

from collections.abc import Mapping

import click
from click.core import ParameterSource

from shithubd_worker.cli.common import Shared
from shithubd_worker.cli.settings import values
from shithubd_worker.settings.config import Config
from shithubd_worker.settings.reload import Reload


def reload_of(ctx: click.Context, unit: str) -> Reload:
    """The reload of the worker that this context of `run` starts."""
    from shithubd_worker.telemetry import logs

    options = {str(option.envvar): option for option in ctx.command.params if option.envvar}
    by_flag = {
        name
        for name, option in options.items()
        if ctx.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
    }

    def check(environment: Mapping[str, str], faults: list[str]) -> Config:
        """Check without the handlers: no other module may be imported into a running worker."""
        raw: dict[str, object] = {}
        for name, option in options.items():
            if name in by_flag:
                raw[option.name or ""] = ctx.params[option.name or ""]
            elif text := environment.get(name):
                try:
                    raw[option.name or ""] = _read(ctx, option, text)
                except click.BadParameter as error:
                    faults.append(f"{option.opts[0]} ({name}): {error.message}")
        url, schema = (str(raw[name]) if raw.get(name) else None for name in ("database_url", "schema"))
        return values(Shared(url, schema), raw, faults)

    return Reload(unit, by_flag, check, logs.set_level)


def _read(ctx: click.Context, option: click.Parameter, text: str) -> object:
    return option.type_cast_value(ctx, option.type.split_envvar_value(text) if option.multiple else text)
