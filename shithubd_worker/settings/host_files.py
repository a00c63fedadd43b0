"""Which files of this host have settings and passwords, for its units and for the commands of people."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from shithubd_worker.errors import ConfigError
from shithubd_worker.settings import env_file

# What the units read: EnvironmentFile= and LoadCredential=.
ENV_FILE = Path("/etc/shithub/worker.env")
PASSFILE = Path("/etc/shithub/pgpass")

# As whom somebody logs in: as the workers do, as the owner of the tables, or as whoever is on call.
Login = Literal["worker", "owner", "operator"]
LOGINS: tuple[Login, ...] = ("worker", "owner", "operator")


def read_by(login: Login) -> tuple[list[Path], list[Path]]:
    """What is read for a login: files of variables, of which later ones win, and of passwords, of which the first that
    may be read counts. People, and the timer, log in otherwise than the workers."""
    if login == "worker":
        return [ENV_FILE], [PASSFILE]
    return [ENV_FILE, ENV_FILE.with_name(f"{login}.env")], [ENV_FILE.with_name(f"{login}.pgpass"), PASSFILE]


def of_unit(unit: str) -> list[Path]:
    """The files of a unit, as EnvironmentFile= names them: that of all units, and its own, which wins."""
    return [ENV_FILE, ENV_FILE.with_name(f"{unit.removesuffix('.service')}.env")]


def said_to(unit: str, faults: list[str]) -> dict[str, str]:
    """What the files of a unit say.

    Into `faults` goes what can't be read, and what systemd leaves out; a file that isn't there says nothing.
    """
    variables: dict[str, str] = {}
    for path in of_unit(unit):
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
