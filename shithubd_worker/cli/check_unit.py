"""check-config --unit: what systemd would give a unit, and which of it can't work."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from shithubd_worker.cli.screen import say
from shithubd_worker.errors import ConfigError, Refused, RightsMissing
from shithubd_worker.host import units_asked
from shithubd_worker.host.units_asked import Unit
from shithubd_worker.settings import env_file, host_files
from shithubd_worker.settings.config import SETTINGS
from shithubd_worker.settings.names import UNIT
from shithubd_worker.settings.table import PREFIX, variable


class Fault(NamedTuple):
    """What is wrong, and the place where the setting gets its value, if that is known."""

    fault: str
    where: str | None = None


def is_inside(name: str) -> bool:
    """Does this process belong to that unit?"""
    return os.environ.get(UNIT) == units_asked.full_name(name) and "INVOCATION_ID" in os.environ


def flags(name: str) -> tuple[list[str], list[str]]:
    """The flags of ExecStart=, before and after `run`, for a process of the unit itself. systemd has just read the
    unit's files for this process, so nothing else is asked. Raises ConfigError for a fault in the files that the worker
    will read."""
    faults: list[str] = []
    host_files.said_to(name, faults)
    if faults:
        raise ConfigError(*faults)
    try:
        before, behind = units_asked.ask(name).flags
    except Refused as error:
        say(f"the flags of ExecStart= are not checked: {error}")
        return [], []
    return before, [os.path.expandvars(word) for word in behind]  # systemd does the same


def check(name: str) -> dict[str, Any]:
    """What `check-config --json` answers in the unit's place. If it can't, all faults, each with its place. Beside them
    stand the warnings: what a worker of the unit works without."""
    unit = units_asked.ask(name)
    if os.geteuid() != 0:
        raise RightsMissing("--unit: systemd starts the check as it would start the unit. Run it as root")
    faults = [fault for check in CHECKS for fault in check(unit)]
    answer = _start(unit)
    faults += (_placed(unit, each["fault"]) for each in answer.get("faults", ()))
    warnings = _shared_address(unit, answer["config"]) if "config" in answer else ()
    told = {"faults": [fault._asdict() for fault in faults]} if faults else answer
    return {**told, "warnings": [warning._asdict() for warning in warnings]}


def _placed(unit: Unit, fault: str) -> Fault:
    """A fault of a setting, with its place, and with what hides a directory from the unit."""
    flag = next(iter(re.findall(r"--[a-z-]+", fault)), "")
    name = next(iter(re.findall(rf"{PREFIX}\w+|PG[A-Z]+", fault)), variable(flag) if flag else "")
    where = unit.where(flag, name)
    if (hidden := re.search(r": '(.+)' is not a directory$", fault)) and Path(hidden[1]).is_dir():
        user, home, tmp = (unit.told[each] for each in ("User", "ProtectHome", "PrivateTmp"))
        hiding = f"User={user}, ProtectHome={home} or PrivateTmp={'yes' if tmp else 'no'}"
        fault += f" for the unit: it exists, but {hiding} hides it"
    return Fault(fault, where)


def _start(unit: Unit) -> dict[str, Any]:
    """Let systemd start check-config once, in place of `run`. Returns its answer, or the faults that kept it from
    starting."""
    words = unit.command
    words = [*words[: (run := words.index("run"))], "check-config", *words[run + 1 :], "--json"]
    name = f"shithubd-check-{os.getpid()}.service"
    file = Path("/run/systemd/system", name)
    with tempfile.TemporaryDirectory(prefix="shithubd-check-", dir="/run") as out:
        try:
            file.parent.mkdir(exist_ok=True)
            file.write_text(units_asked.starts(name, unit, words, Path(out)), encoding="utf-8")
            units_asked.call("systemctl", "start", "--quiet", name)
            shown = units_asked.call("systemctl", "show", "--property=ExecMainStatus", "--value", name).stdout.strip()
            said = {
                kind: Path(out, kind).read_text(encoding="utf-8") if Path(out, kind).exists() else ""
                for kind in ("out", "err")
            }
            _, begins, answer = f"\n{said['out']}".rpartition("\n{\n")  # a module may have printed something before it
            if begins:
                return dict(json.loads(f"{{{answer}"))
            last = said["err"].strip().rpartition("\n")[2]
            return {"faults": [{"fault": last or f"systemd can't start it: {_why(name)} (status {shown})"}]}
        finally:
            file.unlink(missing_ok=True)
            units_asked.call("systemctl", "stop", "--quiet", name)
            units_asked.call("systemctl", "reset-failed", "--quiet", name)


def _why(name: str) -> str:
    """What systemd said about a failed start."""
    units_asked.call("journalctl", "--sync")
    # Not by --unit: a child of systemd tells why, and is often gone before the journal looks up which unit it was in.
    of_the_unit = ("_UID=0", f"UNIT={name}", "+", f"_SYSTEMD_UNIT={name}")
    told = units_asked.call("journalctl", "--output=cat", "--no-pager", "--priority=warning", *of_the_unit).stdout
    return "; ".join(line.removeprefix(f"{name}: ") for line in told.splitlines()[:2]) or "see the journal"


def _not_read_again(unit: Unit) -> Iterator[Fault]:
    if unit.told["NeedDaemonReload"]:
        yield Fault("systemd has not read the unit's files since they changed: run systemctl daemon-reload")


def _misread(unit: Unit) -> Iterator[Fault]:
    """What systemd ignored, although it started the unit: an unknown key, an unknown section, a bad value."""
    files = (unit.told["FragmentPath"], *unit.told["DropInPaths"])
    verify = ("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit.name)
    for said in units_asked.call(*verify).stderr.splitlines():
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


# Checks for a unit that starts but would do what nobody wanted.
CHECKS: tuple[Callable[[Unit], Iterator[Fault]], ...] = (_not_read_again, _misread, _left_out, _kills_the_job)


def _shared_address(unit: Unit, config: dict[str, Any]) -> Iterator[Fault]:
    if not config["metrics_port"]:  # off, or any port that is free
        return
    row, own = SETTINGS["metrics"], config["metrics_host"]
    for other in units_asked.workers():
        with suppress(ConfigError):
            host, port = other.metrics()
            hosts = {own, host}
            if (
                other.name != unit.name
                and port == config["metrics_port"]
                and (len(hosts) == 1 or hosts & units_asked.EVERY_ADDRESS)
            ):
                told = (
                    f"{row.spelled}: {other.name} has port {port}, too, and only one of them can have its metrics there"
                )
                yield Fault(told, unit.where(row.flag, row.variable))
