"""check-config: what `run` would be given, here or by systemd in a unit, and which of it can't work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from shithubd_worker.cli import announce
from shithubd_worker.cli.common import Shared, json_option, with_database
from shithubd_worker.cli.screen import emit, line, only_data_on_stdout, say
from shithubd_worker.cli.settings import config_options, load
from shithubd_worker.errors import EXIT_OK, ConfigError
from shithubd_worker.settings.config import SETTINGS
from shithubd_worker.settings.names import UNIT

if TYPE_CHECKING:
    from shithubd_worker.registry import Kind
    from shithubd_worker.settings.config import Config

_WRITES_TO_THE_ROOT = "shithubd_worker.handlers.repo_maintenance"


@click.command("check-config")
@click.option(
    "--unit",
    metavar="UNIT",
    help="Check what systemd would give this unit, with its drop-ins. You can leave out .service."
    " This needs root, and no other option but --json goes with it.",
)
@with_database
@config_options
@json_option
def check_config(shared: Shared, unit: str | None, *, as_json: bool, **raw: object) -> int:
    """Check the settings of a worker, and print all faults.

    The command checks what `run` would get: values, names of variables, directories and handlers. It asks no database
    and changes nothing.

    With --unit, systemd starts this command once, as it would start the unit: as its user, with its variables, in its
    sandbox. Running workers notice nothing. ExecReload= of the shipped units calls it, so a reload fails if there is a
    fault. A port that two units share is no fault: the command warns, and the second worker has no metrics.

    \b
    Exit codes:
      0    there is no fault
      5    --unit: there is no such unit, or systemd does not answer
      77   --unit: you are not root
      78   there are faults: one a line; with --unit, each with its file and line

    \b
    Examples:
      shithubd-worker check-config --handlers jobs:registry
      sudo shithubd-worker check-config --unit shithubd-worker@2
    """
    context = click.get_current_context()
    if unit is None:
        answer = _check_here(shared, raw)
    else:
        from shithubd_worker.cli import check_unit

        if check_unit.is_inside(unit):
            return _check_inside(context, check_unit.flags(unit), as_json=as_json)
        _refuse_flags(context)
        answer = check_unit.check(unit)
    if more := [{"fault": fault, "where": None} for fault in _webhook_faults()]:
        answer = {"faults": [*answer.get("faults", ()), *more]}
    if as_json:
        emit(answer)
    for warning in () if as_json else _with_places(answer.get("warnings", ())):
        say(warning)
    if faults := _with_places(answer.get("faults", ())):
        raise ConfigError(*faults)
    if not as_json:
        # not for each reload: this output goes to the journal
        for kind in answer["kinds"] if UNIT not in os.environ else ():
            line("  ".join(f"{name}={value}" for name, value in kind.items()))
        line(f"configuration is good: {len(answer['kinds'])} kinds")
    return EXIT_OK


COMMANDS = (check_config,)


def _with_places(faults: Iterable[dict[str, Any]]) -> list[str]:
    return [f"{each['fault']} [{each['where']}]" if each["where"] else each["fault"] for each in faults]


def _check_here(shared: Shared, raw: dict[str, object]) -> dict[str, Any]:
    """The answer for --json: the configuration, or the faults. The faults have no places here."""
    try:
        with only_data_on_stdout():
            config, kinds = load(shared, raw)
        faults = list(_out_of_reach(config, kinds))
    except ConfigError as error:
        faults = list(error.args)
    if faults:
        return {"faults": [{"fault": each, "where": None} for each in faults]}
    settings = {name: getattr(config, name) for name in SETTINGS if name != "metrics"}
    settings |= {f"metrics_{name}": value for name, value in config.metrics._asdict().items()}
    return {"config": settings, "schema": shared.schema_name, "kinds": [_limits(kind) for kind in kinds]}


def _out_of_reach(config: Config, kinds: list[Kind]) -> Iterator[str]:
    """What this process could not use, as this user and in this sandbox."""
    for name, directory in (("repo_root", config.repo_root), ("secrets_dir", config.secrets_dir)):
        if directory is not None and not os.access(directory, os.R_OK | os.X_OK):
            yield f"{SETTINGS[name].spelled}: '{directory}' can't be read by this user"
    root = config.repo_root
    writers = [kind.name for kind in kinds if kind.handler.__module__ == _WRITES_TO_THE_ROOT]
    if root is not None and writers and os.statvfs(root).f_flag & os.ST_RDONLY:
        yield (
            f"{SETTINGS['repo_root'].spelled}: '{root}' is read-only here, but {', '.join(writers)} writes there;"
            f" in a unit, ReadWritePaths={root} allows it"
        )
    passfile = os.environ.get("PGPASSFILE")
    # systemd itself reads a unit's credentials. A process of ExecReload= can't read them.
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    if passfile and not (given and Path(passfile).is_relative_to(given)) and not os.access(passfile, os.R_OK):
        yield f"PGPASSFILE: '{passfile}' can't be read by this user"


def _webhook_faults() -> Iterator[str]:
    """What is wrong with the file of the audit webhook. A unit need not be able to read it: only commands do."""
    file = click.get_current_context().find_root().params.get("audit_webhook")
    if file and UNIT not in os.environ:
        try:
            announce.read_url(file)
        except ConfigError as error:
            yield str(error)


def _check_inside(context: click.Context, flags: tuple[list[str], list[str]], *, as_json: bool) -> int:
    """Check the unit that this process belongs to, with the flags of its ExecStart= before and after `run`."""
    before, behind = flags
    words = [*before, "check-config", *behind, *(["--json"] if as_json else [])]
    main: Callable[..., int] = context.find_root().command.main
    return main(words, prog_name="shithubd-worker", standalone_mode=False)


def _refuse_flags(context: click.Context) -> None:
    flags = [
        option.opts[0]
        for option in context.command.params
        if option.name not in ("unit", "as_json")
        and context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
    ]
    if flags:
        raise click.UsageError(f"--unit checks the unit's own flags: leave out {', '.join(flags)}")


def _limits(kind: Kind) -> dict[str, object]:
    return {
        "kind": kind.name,
        "lease_timeout": kind.lease_timeout,
        "max_runtime": kind.max_runtime,
        "max_attempts": kind.max_attempts,
        "retention": kind.retention,
        "wait_objective": kind.wait_objective,
    }
