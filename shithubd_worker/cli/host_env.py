"""The database of this host's workers, for the commands of whoever is logged in there."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from shithubd_worker.cli import as_whom, needs
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
        with suppress(OSError, UnicodeDecodeError):
            said = parse(path.read_text())
            variables |= said
            if as_whom.RUN_AS in said:
                as_whom.told(said[as_whom.RUN_AS], path)
            if any(map(_is_of_the_database, said)):
                _taken_from.append(path)
    wanted = {name: value for name, value in variables.items() if _is_of_the_database(name) or name == SCHEMA}
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


def told_to(unit: str) -> dict[str, str]:
    """What the files of a unit say, as EnvironmentFile= names them: the file of all units, and its own, which wins.

    Raises ConfigError for one that can't be read; one that isn't there says nothing.
    """
    if "/" in unit:
        raise ConfigError(f"{unit!r} is not the name of a unit")
    variables: dict[str, str] = {}
    for path in (ENV_FILE, ENV_FILE.with_name(f"{unit.removesuffix('.service')}.env")):
        try:
            variables |= parse(path.read_text())
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} can't be read: {error}") from error
    return variables


def parse(text: str) -> dict[str, str]:
    """A file as systemd.exec(5) describes EnvironmentFile=: NAME=value lines, in quotes or not, # and ; for comments.

    >>> parse("# here" + chr(10) + 'PGHOST="db 1"' + chr(10) + "PGUSER=a b")
    {'PGHOST': 'db 1', 'PGUSER': 'a b'}
    """
    variables = {}
    text, _, _ = text.partition("\0")  # there systemd stops too, and no variable can hold one
    for line in text.replace("\\\n", "").splitlines():
        name, equals, value = line.strip().partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name.strip()):  # a comment, or no variable's name
            continue
        value = value.strip()
        if value[:1] in ("'", '"'):
            try:
                value = "".join(shlex.split(value))
            except ValueError:  # a quote that doesn't end: systemd leaves the line out
                continue
        variables[name.strip()] = value
    return variables


def naming() -> list[Path]:
    """The files of this host that told this process how to reach the database, and as whom."""
    unit = os.environ.get("SHITHUBD_WORKER_UNIT")
    by_systemd = [ENV_FILE, ENV_FILE.with_name(f"{unit.removesuffix('.service')}.env")] if unit else []
    return [*_taken_from, *(path for path in by_systemd if os.access(path, os.F_OK))]


def _names_a_database(environment: Mapping[str, str]) -> bool:
    return any(name in environment for name in NAMING)


def _is_of_the_database(name: str) -> bool:
    return name == DATABASE_URL or name.startswith("PG")
