"""check-config: what `run` would be given, here or by systemd to a unit, and what of it can't work."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.core import ParameterSource

from shithubd_worker.cli import env_file, host_env, systemd
from shithubd_worker.cli.common import Shared, json_option, with_database
from shithubd_worker.cli.screen import emit, line, say
from shithubd_worker.cli.settings import PREFIX, config_options, load, variable
from shithubd_worker.cli.systemd import Unit
from shithubd_worker.errors import EXIT_OK, ConfigError, Refused, RightsMissing

if TYPE_CHECKING:
    from shithubd_worker.registry import Kind
    from shithubd_worker.settings.config import Config

_WRITES_TO_THE_ROOT = "shithubd_worker.handlers.repo_maintenance"
_EVERY_ADDRESS = {"0.0.0.0", "::"}  # noqa: S104 (others listen on them)


class Fault(NamedTuple):
    """What is wrong, and the place that the setting has its value from, if it is known."""

    fault: str
    where: str | None = None


@click.command("check-config")
@click.option("--unit", metavar="UNIT", help="What systemd would give this unit, drop-ins and all. As root.")
@with_database
@config_options
@json_option
def check_config(shared: Shared, unit: str | None, *, as_json: bool, **raw: object) -> int:
    """Check what `run` would be given, without a database: values, names, directories, handlers. All faults at once.

    With --unit, systemd starts this command once, as it would start the unit: as its user, with its variables, in its
    sandbox. Nothing of a running worker changes. The unit's ExecReload= calls it, so that a reload fails of a fault.

    \b
    Examples:
      shithubd-worker check-config --handlers myforge.jobs:registry
      sudo shithubd-worker check-config --unit shithubd-worker@2
    """
    context = click.get_current_context()
    if unit is None:
        told, faults = _check_here(shared, raw)
    elif os.environ.get(variable("unit")) == systemd.full_name(unit) and "INVOCATION_ID" in os.environ:
        return _check_inside(context, unit, as_json=as_json)
    else:
        told, faults = _check_unit(context, unit)
    if faults:
        if as_json:
            emit({"faults": [fault._asdict() for fault in faults]})
        raise ConfigError(*(f"{fault} [{where}]" if where else fault for fault, where in faults))
    if as_json:
        emit(told)
        return EXIT_OK
    for kind in told["kinds"] if variable("unit") not in os.environ else ():  # not at each reload, into the journal
        line("  ".join(f"{name}={value}" for name, value in kind.items()))
    line(f"configuration is good: {len(told['kinds'])} kinds")
    return EXIT_OK


COMMANDS = (check_config,)


def _check_here(shared: Shared, raw: dict[str, object]) -> tuple[dict[str, Any], list[Fault]]:
    try:
        config, kinds = load(shared, raw)
    except ConfigError as error:
        return {}, [Fault(each) for each in error.args]
    settings = {name: getattr(config, name) for name in config.__slots__}
    told = {"config": settings, "schema": shared.schema_name, "kinds": [_limits(kind) for kind in kinds]}
    return told, [Fault(each) for each in _out_of_reach(config, kinds)]


def _out_of_reach(config: Config, kinds: list[Kind]) -> Iterator[str]:
    """What this process, as this user and in this sandbox, could not use."""
    for name, directory in (("repo-root", config.repo_root), ("secrets-dir", config.secrets_dir)):
        if directory is not None and not os.access(directory, os.R_OK | os.X_OK):
            yield f"--{name} ({variable(name)}): '{directory}' can't be read by this user"
    root = config.repo_root
    writers = [kind.name for kind in kinds if kind.handler.__module__ == _WRITES_TO_THE_ROOT]
    if root is not None and writers and os.statvfs(root).f_flag & os.ST_RDONLY:
        yield (
            f"--repo-root ({variable('repo-root')}): '{root}' is read-only here, and {', '.join(writers)} writes there;"
            f" in a unit, ReadWritePaths={root} opens it"
        )
    passfile = os.environ.get("PGPASSFILE")
    # Of a unit's credentials systemd takes care, and what ExecReload= starts can't read them.
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    if passfile and not (given and Path(passfile).is_relative_to(given)) and not os.access(passfile, os.R_OK):
        yield f"PGPASSFILE: '{passfile}' can't be read by this user"


def _check_inside(context: click.Context, unit: str, *, as_json: bool) -> int:
    """Of the unit that this process belongs to, as its ExecReload=: systemd has just read the unit's files for it, so
    only the flags of ExecStart= are asked for."""
    faults: list[str] = []
    host_env.told_to(unit, faults)  # what the worker will read
    if faults:
        raise ConfigError(*faults)
    before: list[str] = []
    behind: list[str] = []
    try:
        before, behind = systemd.ask(unit).flags
    except Refused as error:
        say(f"the flags of ExecStart= are not checked: {error}")
    flags = [os.path.expandvars(word) for word in ("check-config", *behind)]  # as systemd does
    words = [*before, *flags, *(["--json"] if as_json else [])]
    main: Callable[..., int] = context.find_root().command.main
    return main(words, prog_name="shithubd-worker", standalone_mode=False)


def _check_unit(context: click.Context, name: str) -> tuple[dict[str, Any], list[Fault]]:
    flags = [
        option.opts[0]
        for option in context.command.params
        if option.name not in ("unit", "as_json")
        and context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
    ]
    if flags:
        raise click.UsageError(f"--unit: the unit's own flags are checked; leave {', '.join(flags)} out")
    unit = systemd.ask(name)
    if os.geteuid() != 0:
        raise RightsMissing("--unit: systemd starts the check as it would start the unit. Run it as root")
    faults = [fault for check in CHECKS for fault in check(unit)]
    answer = _start(unit)
    faults += (_placed(unit, each["fault"]) for each in answer.get("faults", ()))
    if "config" in answer:
        faults += _shared_address(unit, answer["config"])
    return answer, faults


def _placed(unit: Unit, fault: str) -> Fault:
    """A fault of a setting, with its place, and with what hides a directory from the unit."""
    flag = next(iter(re.findall(r"--[a-z-]+", fault)), "")
    name = next(iter(re.findall(rf"{PREFIX}\w+|PG[A-Z]+", fault)), variable(flag) if flag else "")
    where = unit.where(flag, name)
    if (hidden := re.search(r": '(.+)' is no directory$", fault)) and Path(hidden[1]).is_dir():
        user, home, tmp = (unit.told[each] for each in ("User", "ProtectHome", "PrivateTmp"))
        hiding = f"User={user}, ProtectHome={home} or PrivateTmp={'yes' if tmp else 'no'}"
        fault += f" to the unit, though there is one: its {hiding} keeps it out"
    return Fault(fault, where)


def _start(unit: Unit) -> dict[str, Any]:
    """Have systemd start check-config in place of `run`, once; its answer, or the faults that kept it from starting."""
    words = unit.command
    words = [*words[: (run := words.index("run"))], "check-config", *words[run + 1 :], "--json"]
    name = f"shithubd-check-{os.getpid()}.service"
    file = Path("/run/systemd/system", name)
    with tempfile.TemporaryDirectory(prefix="shithubd-check-", dir="/run") as out:
        try:
            file.parent.mkdir(exist_ok=True)
            file.write_text(systemd.starts(name, unit, words, Path(out)))
            systemd.call("systemctl", "start", "--quiet", name)
            shown = systemd.call("systemctl", "show", "--property=ExecMainStatus", "--value", name).stdout.strip()
            said = {kind: Path(out, kind).read_text() if Path(out, kind).exists() else "" for kind in ("out", "err")}
            _, begins, answer = f"\n{said['out']}".rpartition("\n{\n")  # a module may have printed something before
            if begins:
                return dict(json.loads(f"{{{answer}"))
            last = said["err"].strip().rpartition("\n")[2]
            return {"faults": [{"fault": last or f"systemd can't start it: {_why(name)} (status {shown})"}]}
        finally:
            file.unlink(missing_ok=True)
            systemd.call("systemctl", "stop", "--quiet", name)
            systemd.call("systemctl", "reset-failed", "--quiet", name)


def _why(name: str) -> str:
    """What systemd said of a start that failed."""
    systemd.call("journalctl", "--sync")
    told = systemd.call("journalctl", f"--unit={name}", "--output=cat", "--no-pager", "--priority=warning").stdout
    return "; ".join(line.removeprefix(f"{name}: ") for line in told.splitlines()[:2]) or "see the journal"


def _not_read_again(unit: Unit) -> Iterator[Fault]:
    if unit.told["NeedDaemonReload"]:
        yield Fault("systemd has not read the unit's files since they changed: systemctl daemon-reload")


def _misread(unit: Unit) -> Iterator[Fault]:
    """What systemd makes nothing of, and goes on: an unknown key, a section that isn't, a value that is none."""
    files = (unit.told["FragmentPath"], *unit.told["DropInPaths"])
    verify = ("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit.name)
    for said in systemd.call(*verify).stderr.splitlines():
        if (at := re.match(r"(?P<path>/.*?):(?P<line>\d+): (?P<what>.*)", said)) and at["path"] in files:
            yield Fault(at["what"], f"{at['path']}:{at['line']}")


def _left_out(unit: Unit) -> Iterator[Fault]:
    for path in unit.env_files:
        try:
            yield from (Fault(f"{path}: {each}") for each in env_file.read(path).left_out)
        except ConfigError as error:
            yield from (Fault(each) for each in error.args)
        except OSError as error:
            yield Fault(f"{path} can't be read: {error.strerror}")


def _kills_the_job(unit: Unit) -> Iterator[Fault]:
    if unit.told["KillMode"] == "control-group":
        yield Fault("KillMode=control-group: a stop kills the git of a running job; with KillMode=mixed it may finish")


# What of a unit would do what nobody wanted, though it starts.
CHECKS: tuple[Callable[[Unit], Iterator[Fault]], ...] = (_not_read_again, _misread, _left_out, _kills_the_job)


def _shared_address(unit: Unit, config: dict[str, Any]) -> Iterator[Fault]:
    """Only of an address that was chosen: the default gives way."""
    if not config["metrics_chosen"] or config["metrics_port"] is None:
        return
    name, own = variable("metrics"), (config["metrics_host"], str(config["metrics_port"]))
    for other in systemd.other_workers(unit):
        host, _, port = other.environment().get(name, "").rpartition(":")
        hosts = {own[0], host.strip("[]")}
        if port == own[1] and (len(hosts) == 1 or hosts & _EVERY_ADDRESS):
            told = f"--metrics ({name}): {other.name} has port {port}, too, and only one of them can start"
            yield Fault(told, unit.where("--metrics", name))


def _limits(kind: Kind) -> dict[str, object]:
    return {
        "kind": kind.name,
        "lease_timeout": kind.lease_timeout,
        "max_runtime": kind.max_runtime,
        "max_attempts": kind.max_attempts,
        "retention": kind.retention,
    }
