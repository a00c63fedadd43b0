"""The units of this host, compared with those of this release, and with what the worker needs of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from shithubd_worker.doctor.finding import Finding, Severity, Unchecked, finding
from shithubd_worker.errors import Refused
from shithubd_worker.host import units, units_asked
from shithubd_worker.host.units_asked import Unit

_SYSTEMD = Path("/run/systemd/system")
STOP_SECONDS = 30.0  # a job has 25 s, and the worker needs 2 more to give it back
_PROGRAM = re.compile(r"^ExecStart=(\S+) run$", re.MULTILINE)


def drift(root: Path = Path("/")) -> Iterator[Finding | Unchecked]:
    """A host without units has no finding."""
    installed = _installed(root)
    if changed := {str(file.path): file.change for file in installed if file.change != "unchanged"}:
        said = f"{len(changed)} file(s) of the units are not those of this release: see `shithubd-worker units diff`"
        yield finding("unit-drift", Severity.WARNING, said, {"files": sorted(changed)})
    if not _SYSTEMD.is_dir():
        if installed:
            yield Unchecked("unit-drift", "systemd does not run here, so nobody knows what the units are given")
        return
    try:
        for unit in units_asked.workers():
            yield from broken(unit)
    except Refused as error:
        yield Unchecked("unit-drift", str(error))


def _installed(root: Path) -> list[units.File]:
    """The files of this release's units, as they should be where they are installed; [] where they are not."""
    package = units.packaged(root)
    place = units.PACKAGED.parents[2] if package else units.TARGET
    service = units.below(root, place / "systemd/system" / units.PACKAGED.name)
    if not service.is_file():
        return []
    program = _PROGRAM.search(service.read_text(encoding="utf-8", errors="replace"))
    return units.plan(Path(program[1] if program else units.PROGRAM), root, place)


def broken(unit: Unit) -> Iterator[Finding]:
    """The promises of the worker that a unit breaks, by a drop-in or by a file of its own."""
    if unit.told["NeedDaemonReload"]:
        said = f"systemd has not read the files of {unit.name} since they changed: run systemctl daemon-reload"
        yield finding("unit-drift", Severity.WARNING, said, {"unit": unit.name})
    set_last = {line.key: line for line in unit.lines()}
    # systemd tells the watchdog's time of a running unit alone, so the files count.
    watchdog = set_last["WatchdogSec"].value if "WatchdogSec" in set_last else ""
    faults = {
        "KillMode": unit.told["KillMode"] != "mixed" and "a stop ends the git of a running job, or leaves it behind",
        "TimeoutStopSec": unit.told["TimeoutStopUSec"] < STOP_SECONDS * 1e6
        and "systemd kills the worker before it could give its job back",
        "WatchdogSec": watchdog in ("", "0", "infinity") and "nobody ends a worker that hangs",
        "Restart": unit.told["Restart"] == "no" and "a worker that died stays away",
        "ExecStopPost": not any("release-dead" in words for _, words, *_ in unit.told["ExecStopPost"])
        and "the jobs of a dead worker wait until their leases expire",
    }
    for key, fault in faults.items():
        if fault:
            line = set_last.get(key)
            evidence = {"unit": unit.name, "set_at": f"{line.place}: {key}={line.value}" if line else "nowhere"}
            yield finding("unit-drift", Severity.WARNING, f"{key}= of {unit.name}: {fault}", evidence)
