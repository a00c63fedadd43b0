"""The database of this host's workers, for the commands of a person who is logged in there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from shithubd_worker.cli import as_whom, needs, screen
from shithubd_worker.errors import ConfigError
from shithubd_worker.settings import env_file, host_files
from shithubd_worker.settings.config import DATABASE_URL, OF_COMMANDS, SCHEMA
from shithubd_worker.settings.names import RUN_AS, UNIT, meant

NAMING = (DATABASE_URL.variable, "PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGSERVICE")
_QUEUE = (DATABASE_URL.variable, SCHEMA.variable)
_OF_COMMANDS = {row.variable for row in OF_COMMANDS}

# The files that told this command something about the database.
_taken_from: list[Path] = []


def adopt(arguments: Sequence[str]) -> None:
    """Take the database's variables from the units' own file, unless the database is named in another way.

    So `shithubd-worker status`, typed on a host at night, asks the database that the host's workers use. operator.env,
    or owner.env for the commands of the tables' owner, says as whom. Variables that only `run` needs are left out. A
    file that is missing, or that this user may not read, changes nothing.
    """
    if _names_a_database(os.environ) or any(word.startswith("--database-url") for word in arguments):
        return
    env_files, passfiles = host_files.read_by(needs.login(needs.role(arguments)))
    variables: dict[str, str] = {}
    for path in env_files:
        with suppress(OSError):
            try:
                said = env_file.read(path).variables
            except ConfigError as error:
                screen.say(f"shithubd-worker: {error}")
                continue
            variables |= said
            if RUN_AS in said:
                as_whom.named(said[RUN_AS], path)
            if any(map(_is_of_the_database, said)):
                _taken_from.append(path)
    wanted = {name: value for name, value in variables.items() if _is_of_the_database(name)}
    readable = [path for path in passfiles if os.access(path, os.R_OK)]
    if wanted and "PGPASSFILE" not in wanted and readable:
        wanted["PGPASSFILE"] = str(readable[0])
    wanted |= {name: value for name, value in variables.items() if name in _OF_COMMANDS}
    for name, value in wanted.items():
        os.environ.setdefault(name, value)


def naming() -> list[Path]:
    """The host's files that told this process how to reach the database, and as whom."""
    unit = os.environ.get(UNIT)
    by_systemd = host_files.of_unit(unit) if unit else []
    return [*_taken_from, *(path for path in by_systemd if os.access(path, os.F_OK))]


def _names_a_database(environment: Mapping[str, str]) -> bool:
    return any(name in environment for name in NAMING)


def _is_of_the_database(name: str) -> bool:
    """Is it a variable of the database, or was it meant to be? A misspelt one is taken as well, for refuse_misnamed."""
    return name.startswith("PG") or meant(name) in _QUEUE
