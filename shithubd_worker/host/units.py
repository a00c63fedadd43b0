"""The systemd units on a host: which files belong where, and what `units install` would change."""

from __future__ import annotations

import difflib
import os
import pwd
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shithubd_worker.errors import Refused
from shithubd_worker.host import shipped

# Below /usr/local: /usr/lib belongs to a package of the distribution. `systemctl edit` writes to /etc, which wins over
# both.
TARGET = Path("/usr/local/lib")
PLACES = {
    ".service": "systemd/system",
    ".timer": "systemd/system",
    ".target": "systemd/system",
    ".slice": "systemd/system",
    ".preset": "systemd/system-preset",
    ".catalog": "systemd/catalog",
    ".sysusers.conf": "sysusers.d",
    ".tmpfiles.conf": "tmpfiles.d",
}
# Where a package of the distribution installs the units. Its own upgrades keep them up to date.
PACKAGED = Path("/usr/lib/systemd/system/shithubd-worker.service")
# The program that the shipped units name. A package installs it there.
PROGRAM = "/usr/bin/shithubd-worker"
# The units can't reach these: ProtectHome=, PrivateTmp=.
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108
PEOPLE = range(1000, 60000)  # the uids of people on Debian


@dataclass(frozen=True, slots=True)
class File:
    """One file: where it belongs, its wanted text, and its present text (None: it doesn't exist)."""

    path: Path
    wanted: str
    found: str | None

    @property
    def change(self) -> str:
        """new, changed or unchanged."""
        if self.found is None:
            return "new"
        return "unchanged" if self.found == self.wanted else "changed"

    def diff(self) -> Iterator[str]:
        """The lines of a unified diff, from the present text to the wanted one."""
        return difflib.unified_diff(
            (self.found or "").splitlines(),
            self.wanted.splitlines(),
            str(self.path) if self.found is not None else os.devnull,
            str(self.path),
            lineterm="",
        )


def packaged(root: Path) -> bool:
    """Has a package of the distribution installed the units?"""
    return below(root, PACKAGED).is_file()


def check_program(program: Path) -> Path:
    """The real path of the program that the units start. Raises Refused if they could not reach it."""
    real = program.resolve()
    if not real.is_file() or not os.access(real, os.X_OK):
        raise Refused(f"{program} is not a program that can be run: name the installed one with --program")
    if not re.fullmatch(r"/[\w./+@~-]+", str(real)):
        raise Refused(f"{real}: systemd would misread this path; install the program below /opt or /usr/local")
    interpreter = _interpreter(real)
    for path in (real, *([interpreter.resolve()] if interpreter else [])):
        if hidden := next((place for place in _hidden() if path.is_relative_to(place)), None):
            what = "" if path == real else f", the interpreter of {real},"
            raise Refused(
                f"{path}{what} lies in {hidden}, which the units can't reach (ProtectHome=, PrivateTmp=): install it,"
                " for example, with `/usr/bin/python3 -m venv /opt/shithubd-worker`"
            )
    return real


def _interpreter(program: Path) -> Path | None:
    """The program in the first line of a script."""
    with program.open("rb") as file:
        first = file.readline(4096)
    return Path(os.fsdecode(first[2:].split()[0])) if first.startswith(b"#!/") else None


def _hidden() -> Iterator[Path]:
    yield from map(Path, HIDDEN)
    yield from (Path(user.pw_dir) for user in pwd.getpwall() if user.pw_uid in PEOPLE)


def plan(program: Path, root: Path, target: Path = TARGET) -> list[File]:
    """All files, with their paths below `root`, as they are when they are installed in `target`."""
    files = []
    for source in sorted(shipped.UNITS.iterdir()):
        ending = next((ending for ending in PLACES if source.name.endswith(ending)), None)
        if ending is None:
            continue
        # shithubd-worker.sysusers.conf → sysusers.d/shithubd-worker.conf
        name = source.name.removesuffix(ending) + ".conf" if ending.endswith(".conf") else source.name
        path = below(root, target / PLACES[ending] / name)
        wanted = source.read_text(encoding="utf-8").replace(PROGRAM, str(program))
        files.append(File(path, wanted, path.read_text(encoding="utf-8") if path.is_file() else None))
    return files


def below(root: Path, path: Path) -> Path:
    """An absolute path, placed below `root`."""
    return root / path.relative_to("/")


def names(files: Sequence[File], *, ending: str = "") -> list[str]:
    """The names of the units among these files."""
    return [file.path.name for file in files if file.path.parent.name == "system" and file.path.name.endswith(ending)]
