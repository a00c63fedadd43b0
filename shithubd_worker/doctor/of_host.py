"""What a bundle shows of this host: versions, settings, units, and the journal."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg import pq

from shithubd_worker import __version__
from shithubd_worker.database import schema
from shithubd_worker.doctor.bundle import Bundle
from shithubd_worker.doctor.redaction import LEFT_OUT, loggers, template
from shithubd_worker.errors import ConfigError, Refused
from shithubd_worker.host import shipped, units, units_asked
from shithubd_worker.model import How
from shithubd_worker.settings import env_file, host_files
from shithubd_worker.settings.config import DATABASE_URL, OF_COMMANDS, SCHEMA, SETTINGS
from shithubd_worker.settings.table import PREFIX, Setting

MOST_LINES = 1000
_ROWS = {row.variable: row for row in (DATABASE_URL, SCHEMA, *OF_COMMANDS, *SETTINGS.values())}
# systemd's properties of a unit that are numbers and words of systemd.
_OF_UNITS = (
    *("LoadState", "ActiveState", "SubState", "UnitFileState", "Result", "NRestarts", "ExecMainCode", "ExecMainStatus"),
    *("NeedDaemonReload", "KillMode", "Restart", "Type", "NotifyAccess", "TimeoutStartUSec", "TimeoutStopUSec"),
    *("WatchdogUSec", "MemoryCurrent", "MemoryHigh", "MemoryMax", "TasksMax", "OOMPolicy", "UMask"),
)
# systemd's id of a line about a fault in a unit's file. Lines about a start, a stop and an end have other ids.
_INVALID = "c772d24e9a884cbeb9ea12625c306c01"
# Keys of a unit whose values may be a command, a variable or a secret.
_SECRET = re.compile(r"Exec|Environment|PassEnvironment|.*Credential|Description|Documentation")


def add(bundle: Bundle) -> None:
    """Add all of it. It asks no database, and reads what this user may read."""
    bundle.add("versions.json", "the versions of what runs here", _versions)
    bundle.add("settings.json", "which variables are set; values of numbers, switches and choices", _settings)
    bundle.add("units.json", "the units, their files and drop-ins, and their states; no command, no variable", _units)
    bundle.add("journal.json", f"the last {MOST_LINES} lines of the units, without what was filled in", _journal)


def _versions() -> dict[str, Any]:
    os_release: dict[str, str] = {}
    with suppress(OSError):
        os_release = platform.freedesktop_os_release()
    systemd = ""
    with suppress(Refused):
        systemd = units_asked.call("systemctl", "--version").stdout.partition("\n")[0]
    return {
        "shithubd-worker": __version__,
        "schema": schema.newest_version(),
        "packaged": units.packaged(Path("/")),
        "python": platform.python_version(),
        "psycopg": f"{psycopg.__version__} ({pq.__impl__})",
        "libpq": pq.version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "os": os_release.get("PRETTY_NAME", ""),
        "systemd": systemd,
    }


def _settings() -> dict[str, Any]:
    found: dict[str, Any] = {"this command": _told(os.environ)}
    directory = host_files.ENV_FILE.parent
    for path in sorted(directory.glob("*.env")) if os.access(directory, os.R_OK) else ():
        try:
            found[str(path)] = _told(env_file.read(path).variables)
        except (OSError, ConfigError):
            found[str(path)] = "it can't be read"
    return found


def _told(variables: Mapping[str, str]) -> dict[str, Any]:
    names = sorted(name for name in variables if name.startswith(("PG", PREFIX)))
    return {name: _value(_ROWS.get(name), variables[name]) for name in names}


def _value(row: Setting | None, given: str) -> object:
    """A value that can be no secret, or that it is set."""
    if row is not None and given in row.choices:
        return given
    if row is not None and (row.switch or row.metavar in ("SECONDS", "DAYS")):
        with suppress(ValueError):
            if isinstance(value := row.read(given), (bool, int, float)):
                return value
    return "set" if given else "empty"


def _units() -> list[dict[str, Any]]:
    harmless = _harmless_keys()
    return [
        {
            "unit": unit.name,
            "files": [unit.told["FragmentPath"], *unit.told["DropInPaths"]],
            "told": {name: unit.told.get(name) for name in _OF_UNITS},
            "lines": [
                {
                    "place": line.place,
                    # A key that systemd does not know may be the rest of a secret that somebody broke into two lines.
                    "key": line.key if line.key in harmless or line.key in unit.told else LEFT_OUT,
                    "value": line.value if line.key in harmless else LEFT_OUT,
                }
                for line in unit.lines()
            ],
        }
        for unit in units_asked.workers()
    ]


def _harmless_keys() -> set[str]:
    text = "\n".join(path.read_text(encoding="utf-8") for path in shipped.UNITS.glob("*.service"))
    return {key for key in re.findall(r"^([A-Z]\w+)=", text, re.MULTILINE) if not _SECRET.match(key)}


def _journal() -> list[dict[str, Any]]:
    asked = ("journalctl", "--output=json", "--no-pager", f"--lines={MOST_LINES}", "--unit=shithubd-worker*")
    done = units_asked.call(*asked)
    if done.returncode:
        raise Refused("journalctl refuses it")
    return list(filter(None, map(_entry, done.stdout.splitlines())))


def _entry(text: str) -> dict[str, Any] | None:
    """One line of the journal. The fields that begin with _ come from the journal itself, all others from the
    program."""
    try:
        # What is no text is a field that is too long, no UTF-8, or there twice.
        entry = {name: value for name, value in json.loads(text).items() if isinstance(value, str)}
    except ValueError:
        return None
    message = entry.get("MESSAGE", "")
    by_systemd = entry.get("_PID") == "1" and entry.get("_UID") == "0"
    # What a unit or a file of variables has wrong, systemd quotes; and a password may stand there.
    quotes = entry.get("MESSAGE_ID", _INVALID) == _INVALID
    return {
        "at": int(entry.get("__REALTIME_TIMESTAMP", 0)) / 1e6,
        "unit": entry.get("UNIT" if by_systemd else "_SYSTEMD_UNIT", ""),
        "priority": _number(entry.get("PRIORITY")),
        "message": template(message) if not by_systemd else LEFT_OUT if quotes else message,
        **dict(_of_job(entry)),
    }


def _of_job(entry: Mapping[str, str]) -> Iterator[tuple[str, object]]:
    if entry.get("SHITHUB_LOGGER") in loggers():
        yield "logger", entry["SHITHUB_LOGGER"]
    if entry.get("SHITHUB_OUTCOME") in list(How):
        yield "outcome", entry["SHITHUB_OUTCOME"]
    for member in ("JOB_ID", "ATTEMPT"):
        yield member.lower(), _number(entry.get(f"SHITHUB_{member}"))


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"-?[0-9]{1,19}", text) else None
