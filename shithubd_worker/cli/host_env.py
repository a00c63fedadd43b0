"""The database of this host's workers, for the commands of whoever is logged in there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from shithubd_worker.cli import as_whom, env_file, needs, screen, settings
from shithubd_worker.errors import ConfigError

# What the units read: EnvironmentFile= and LoadCredential=.
ENV_FILE = Path("/etc/shithub/worker.env")
PASSFILE = Path("/etc/shithub/pgpass")
DATABASE_URL, SCHEMA = "SHITHUBD_WORKER_DATABASE_URL", "SHITHUBD_WORKER_SCHEMA"
NAMING = (DATABASE_URL, "PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGSERVICE")

# Which of them said something of the database to this command.
_taken_from: list[Path] = []


def adopt(arguments: Sequence[str]) -> None:
    """Take the database's variables from the units' own file, if nobody has named one otherwise.

    So that `shithubd-worker status`, typed on a host at night, asks the database that the host's workers use; as whom,
    operator.env says, or owner.env for the commands of the tables' owner. What only `run` needs is left out. A file
    that isn't there, or isn't for our eyes, changes nothing.
    """
    if _names_a_database(os.environ) or any(word.startswith("--database-url") for word in arguments):
        return
    env_files, passfiles = _read_by(needs.role(arguments))
    variables: dict[str, str] = {}
    for path in env_files:
        with suppress(OSError):
            try:
                said = env_file.read(path).variables
            except ConfigError as error:
                screen.say(f"shithubd-worker: {error}")
                continue
            variables |= said
            if as_whom.RUN_AS in said:
                as_whom.told(said[as_whom.RUN_AS], path)
            if any(map(_is_of_the_database, said)):
                _taken_from.append(path)
    wanted = {name: value for name, value in variables.items() if _is_of_the_database(name)}
    readable = [path for path in passfiles if os.access(path, os.R_OK)]
    if wanted and "PGPASSFILE" not in wanted and readable:
        wanted["PGPASSFILE"] = str(readable[0])
    for name, value in wanted.items():
        os.environ.setdefault(name, value)


def _read_by(role: str) -> tuple[list[Path], list[Path]]:
    """What a command that needs this role reads: files of variables, of which later ones win, and of passwords, of
    which the first that may be read counts. People, and the timer, log in otherwise than the workers."""
    login = {"shithub_worker": None, "shithub_migrate": "owner"}.get(role, "operator")
    if login is None:
        return [ENV_FILE], [PASSFILE]
    return [ENV_FILE, ENV_FILE.with_name(f"{login}.env")], [ENV_FILE.with_name(f"{login}.pgpass"), PASSFILE]


def env_files(role: str) -> list[Path]:
    """The files of variables that a command with this role reads."""
    return _read_by(role)[0]


def files() -> set[Path]:
    """All files that some command reads."""
    return {path for role in (needs.OPERATOR, *needs.NEEDS.values()) for paths in _read_by(role) for path in paths}


def told_to(unit: str, faults: list[str]) -> dict[str, str]:
    """What the files of a unit say, as EnvironmentFile= names them: the file of all units, and its own, which wins.

    Into `faults` goes what can't be read, and what systemd leaves out; a file that isn't there says nothing.
    """
    variables: dict[str, str] = {}
    for path in (ENV_FILE, ENV_FILE.with_name(f"{unit.removesuffix('.service')}.env")):
        try:
            file = env_file.read(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            faults.append(f"{path} can't be read: {error.strerror}")
        except ConfigError as error:
            faults += error.args
        else:
            variables |= file.variables
            faults += (f"{path}: {each}" for each in file.left_out)
    return variables


def naming() -> list[Path]:
    """The files of this host that told this process how to reach the database, and as whom."""
    unit = os.environ.get("SHITHUBD_WORKER_UNIT")
    by_systemd = [ENV_FILE, ENV_FILE.with_name(f"{unit.removesuffix('.service')}.env")] if unit else []
    return [*_taken_from, *(path for path in by_systemd if os.access(path, os.F_OK))]


def _names_a_database(environment: Mapping[str, str]) -> bool:
    return any(name in environment for name in NAMING)


def _is_of_the_database(name: str) -> bool:
    """Is it, or was it meant to be? A misspelt one is taken, too, for settings.refuse_misnamed to refuse it."""
    return name.startswith("PG") or settings.meant(name) in (DATABASE_URL, SCHEMA)
