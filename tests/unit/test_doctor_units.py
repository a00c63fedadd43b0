"""Which units the doctor finds fault with, without a systemd. tests/systemd shows it on a booted host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shithubd_worker.doctor import units as examined
from shithubd_worker.doctor.finding import Finding
from shithubd_worker.host import units
from shithubd_worker.host.units_asked import Unit

USEC = 1_000_000


def installed(root: Path, target: Path) -> dict[str, Path]:
    """All files of the units below a root, by their names."""
    files = units.plan(Path(units.PROGRAM), root, target)
    for file in files:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        file.path.write_text(file.wanted)
    return {file.path.name: file.path for file in files}


def findings(root: Path) -> list[Finding]:
    return [each for each in examined.drift(root) if isinstance(each, Finding)]


@pytest.mark.parametrize("target", [units.TARGET, Path("/usr/lib")], ids=["installed", "packaged"])
def test_a_file_that_differs_or_is_missing_is_found(tmp_path: Path, target: Path) -> None:
    assert list(examined.drift(tmp_path)) == []  # no host of workers
    files = installed(tmp_path, target)
    assert findings(tmp_path) == []
    changed, missing = files["shithubd-worker@.service"], files["shithubd-worker.slice"]
    changed.write_text(changed.read_text().replace("MemoryMax=2G", "MemoryMax=1G"))
    missing.unlink()
    [finding] = findings(tmp_path)
    assert finding.evidence == {"files": sorted(map(str, (changed, missing)))}


def test_another_program_in_the_units_is_no_difference(tmp_path: Path) -> None:
    for path in installed(tmp_path, units.TARGET).values():
        path.write_text(path.read_text().replace(units.PROGRAM, "/opt/forge/bin/shithubd-worker"))
    assert findings(tmp_path) == []


def told(tmp_path: Path, text: str = "WatchdogSec=30", **changed: Any) -> Unit:
    """A unit as systemd tells of it."""
    path = tmp_path / "x.service"
    path.write_text(f"[Service]\n{text}\n")
    usual = {
        "NeedDaemonReload": False,
        "KillMode": "mixed",
        "TimeoutStopUSec": 30 * USEC,
        "Restart": "always",
        "ExecStopPost": [["/usr/bin/shithubd-worker", ["/usr/bin/shithubd-worker", "release-dead"], True, 0]],
        "FragmentPath": str(path),
        "DropInPaths": [],
    }
    return Unit("x.service", {**usual, **changed})


@pytest.mark.parametrize(
    ("text", "changed", "key"),
    [
        ("WatchdogSec=30", {}, None),
        ("WatchdogSec=30", {"TimeoutStopUSec": 2**64 - 1}, None),
        ("WatchdogSec=0", {}, "WatchdogSec="),
        ("", {}, "WatchdogSec="),
        ("WatchdogSec=30\nTimeoutStopSec=29", {"TimeoutStopUSec": 29 * USEC}, "TimeoutStopSec="),
        ("WatchdogSec=30", {"KillMode": "control-group"}, "KillMode="),
        ("WatchdogSec=30", {"Restart": "no"}, "Restart="),
        ("WatchdogSec=30", {"ExecStopPost": []}, "ExecStopPost="),
        ("WatchdogSec=30", {"NeedDaemonReload": True}, "systemd has not read the files"),
    ],
)
def test_each_promise_that_a_unit_breaks_is_found(
    tmp_path: Path, text: str, changed: dict[str, Any], key: str | None
) -> None:
    found = list(examined.broken(told(tmp_path, text, **changed)))
    assert [each.said.startswith(str(key)) for each in found] == ([] if key is None else [True])


def test_the_place_of_a_broken_promise_is_told(tmp_path: Path) -> None:
    [finding] = examined.broken(told(tmp_path, "WatchdogSec=30\nKillMode=process", KillMode="process"))
    assert finding.evidence["set_at"] == f"{tmp_path}/x.service:3: KillMode=process"
