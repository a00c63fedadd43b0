"""A unit of this host, asked from systemd over its bus: what a start would be given, and which file says so."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from glob import glob
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from shithubd_worker.errors import ConfigError, Refused, RightsMissing
from shithubd_worker.settings import env_file
from shithubd_worker.settings.config import SETTINGS
from shithubd_worker.settings.table import Address

EVERY_ADDRESS = {"0.0.0.0", "::"}  # noqa: S104 (workers listen on them)
_SYSTEMD = "org.freedesktop.systemd1"
_NAME = re.compile(r"[A-Za-z0-9:_.\\@-]+")
_OURS = "shithubd-worker*.service"
_PROGRAMS = ("shithubd-worker", "shithubd_worker")  # python -m shithubd_worker

# Settings about a process that keeps running, not about what it is given. RuntimeDirectory= is left out because its
# directory, which is the running worker's, would be removed at the end.
_OF_A_RUN = re.compile(
    r"Exec(Start|Stop|Reload|Condition)\w*|Type|Restart\w*|NotifyAccess|WatchdogSec|Timeout\w+|Success\w+|Standard\w+"
    r"|RuntimeDirectory\w*|RemainAfterExit|ExitType|PIDFile|BusName|Sockets|FileDescriptorStore\w*|TTY\w*|Kill\w+|Slice"
)


class Line(NamedTuple):
    """An assignment in a file of a unit. `place` is the file and its line."""

    place: str
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit. `told` has systemd's properties of it, by their names on the bus."""

    name: str
    told: Mapping[str, Any]

    @property
    def command(self) -> list[str]:
        """The words of ExecStart=. Raises ConfigError if it starts no worker."""
        words = [str(word) for start in self.told["ExecStart"] for word in start[1]]
        if "run" not in words:
            started = " ".join(words) or "nothing"
            raise ConfigError(f"{self.name} starts no worker: its ExecStart= has no `run`, but {started}")
        return words

    @property
    def flags(self) -> tuple[list[str], list[str]]:
        """The flags of the command: those before the word `run`, and those after it."""
        words = self.command
        run = words.index("run")
        program = max((at for at, word in enumerate(words[:run]) if Path(word).name in _PROGRAMS), default=0)
        return words[program + 1 : run], words[run + 1 :]

    @property
    def env_files(self) -> list[Path]:
        """The existing files of EnvironmentFile=. Later ones win."""
        patterns = [pattern for pattern, _optional in self.told["EnvironmentFiles"]]
        return [Path(path) for pattern in patterns for path in sorted(glob(pattern))]  # noqa: PTH207 (it is absolute)

    def lines(self) -> Iterator[Line]:
        """The assignments in [Service] of the unit's files, drop-ins last."""
        for path in (self.told["FragmentPath"], *self.told["DropInPaths"]):
            with suppress(OSError):  # a file that was removed: NeedDaemonReload shows it
                yield from _service_lines(path, Path(path).read_text(encoding="utf-8", errors="replace"))

    def where(self, flag: str, variable: str) -> str | None:
        """Where a setting got its value: the place of the flag, else of the variable's file, else of Environment=."""
        if any(word == flag or word.startswith(f"{flag}=") for part in self.flags for word in part):
            return next((line.place for line in reversed(list(self.lines())) if line.key == "ExecStart"), None)
        for path in reversed(self.env_files):
            with suppress(OSError, ConfigError):
                if line := env_file.read(path).lines.get(variable):
                    return f"{path}:{line}"
        says = re.compile(rf"(?<!\w){re.escape(variable)}=")
        found = [line.place for line in self.lines() if line.key == "Environment" and says.search(line.value)]
        return found[-1] if found else None

    def environment(self) -> dict[str, str]:
        """The unit's variables, read from its files. Nothing more is known of a unit that isn't started."""
        variables = dict(str(each).split("=", 1) for each in self.told["Environment"])
        for path in self.env_files:
            with suppress(OSError, ConfigError):
                variables |= env_file.read(path).variables
        return variables

    def metrics(self) -> Address:
        """Where its worker serves its metrics. Raises ConfigError if no worker would start so, RightsMissing if this
        user may not read a file that may say so."""
        directories = {Path(pattern).parent for pattern, _optional in self.told["EnvironmentFiles"]}
        for path in (*sorted(each for each in directories if each.is_dir()), *self.env_files):
            if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
                raise RightsMissing(f"{self.name}: {path} may say where its metrics are, and this user cannot read it")
        row = SETTINGS["metrics"]
        words = [word.partition("=") for word in self.flags[1]]
        flag = [
            part or following[0] for (name, _, part), following in pairwise([*words, ("", "", "")]) if name == row.flag
        ]
        given = flag[-1] if flag else self.environment().get(row.variable, "")
        try:
            address: Address = row.read(given)
        except ValueError as error:
            raise ConfigError(f"{self.name}: {row.spelled}: {error}") from error
        return address.in_unit(self.name)


def full_name(name: str) -> str:
    """The unit's full name. A name without an ending means a service."""
    return name if re.search(r"\.(service|timer|target|slice|socket|path|mount)$", name) else f"{name}.service"


def ask(name: str) -> Unit:
    """What systemd knows of a unit, running or not. Raises Refused for an unknown unit, or if systemd can't be asked;
    ConfigError for a unit that systemd would not start."""
    name = full_name(name)
    unit = _asked(name) if _NAME.fullmatch(name) else None
    if unit is None or unit.told["LoadState"] == "not-found":
        raise Refused(f"there is no unit {name!r}{_did_you_mean(name)}")
    if unit.told["LoadState"] != "loaded":
        state, why = unit.told["LoadState"], unit.told["LoadError"][1]
        raise ConfigError(f"{name} is {state}: systemd doesn't start it" + (f": {why}" if why else ""))
    if "ExecStart" not in unit.told:
        raise ConfigError(f"{name} is not a service")
    return unit


def workers() -> Iterator[Unit]:
    """The workers of this host that run, or that start at boot."""
    for name in _names("list-units", "--all", _OURS):
        if (unit := _asked(name)) is not None and unit.told["LoadState"] == "loaded":
            up = unit.told["ActiveState"] in ("active", "activating", "reloading")
            if up or unit.told["UnitFileState"] == "enabled":
                yield unit


def call(*command: str) -> subprocess.CompletedProcess[str]:
    """Run one of systemd's own tools. Raises Refused if the tool is missing or finds no systemd."""
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)  # noqa: S603
    except OSError as error:
        raise Refused(f"systemd can't be asked: {command[0]}: {error.strerror}") from error
    if done.returncode and re.search("Failed to connect to|not been booted with systemd", done.stderr):
        raise Refused(
            f"systemd can't be asked what it would give a unit: {done.stderr.strip()} (Debian: systemd, dbus)."
            " Without --unit, flags and variables are checked as they are given here"
        )
    return done


def _asked(name: str) -> Unit | None:
    """The unit. None for a name that can't be started, such as a template without an instance."""
    escaped = re.sub(r"[^A-Za-z0-9]", lambda letter: f"_{ord(letter[0]):02x}", name)
    path = f"/org/freedesktop/systemd1/unit/{escaped}"
    everything = ("org.freedesktop.DBus.Properties", "GetAll", "s", "")
    done = call("busctl", "--json=short", "call", _SYSTEMD, path, *everything)
    if done.returncode:
        return None
    (told,) = json.loads(done.stdout)["data"]
    return Unit(name, {key: value["data"] for key, value in told.items()})


def _did_you_mean(name: str) -> str:
    known = {*_names("list-units", "--all", _OURS), *_names("list-unit-files", _OURS)}
    near = get_close_matches(name, sorted(each for each in known if "@." not in each), n=3)
    return f": did you mean {' or '.join(near)}?" if near else ""


def _names(verb: str, *arguments: str) -> list[str]:
    listed = call("systemctl", verb, "--plain", "--no-legend", "--no-pager", *arguments).stdout
    return [line.split()[0] for line in listed.splitlines() if line.split()]


def _service_lines(path: str, text: str) -> Iterator[Line]:
    section, began, so_far = "", 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        if line.lstrip()[:1] in ("#", ";"):  # also in the middle of a value
            continue
        began = began if so_far else number
        so_far += line.strip()
        if so_far.endswith("\\"):
            so_far = f"{so_far[:-1]} "
            continue
        if so_far.startswith("["):
            section = so_far
        elif section == "[Service]" and "=" in so_far:
            key, _, value = so_far.partition("=")
            yield Line(f"{path}:{began}", key.strip(), value.strip())
        so_far = ""


def _plain(part: str) -> str:
    """A part of a unit's name without escapes, like systemd-escape --unescape."""
    return re.sub(r"-|\\x([0-9a-f]{2})", lambda it: chr(int(it[1], 16)) if it[1] else "/", part)


def starts(name: str, unit: Unit, words: Sequence[str], out: Path) -> str:
    """The text of a unit like this one, which starts these words once and writes its output into the directory
    `out`."""
    stem = unit.name.removesuffix(".service")
    prefix, _, instance = stem.partition("@")
    escaped = {"p": prefix, "i": instance, "j": prefix.rpartition("-")[2]}
    specifiers = {"n": unit.name, "N": stem, **escaped, **{key.upper(): _plain(it) for key, it in escaped.items()}}
    kept = [
        f"{key}={re.sub('%(.)', lambda letter: specifiers.get(letter[1], letter[0]), value)}"
        for _, key, value in unit.lines()
        if not _OF_A_RUN.fullmatch(key)
    ]
    quoted = " ".join('"' + re.sub(r'["\\]', r"\\\g<0>", word).replace("%", "%%") + '"' for word in words)
    # A oneshot has no time limit of its own, and a module may hang while it is loaded. This is the usual limit for a
    # start.
    ours = [
        "TimeoutStartSec=90",
        f"ExecStart={quoted}",
        f"StandardOutput=truncate:{out}/out",
        f"StandardError=truncate:{out}/err",
    ]
    head = ["[Unit]", f"Description={name}, what {unit.name} would be given", "[Service]", "Type=oneshot"]
    return "\n".join([*head, *kept, *ours, ""])
