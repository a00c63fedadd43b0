"""Which files of this host hold settings and passwords, for its units and for people's commands."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from shithubd_worker.errors import ConfigError
from shithubd_worker.settings import env_file

# The files that the units read, by EnvironmentFile= and LoadCredential=.
ENV_FILE = Path("/etc/shithub/worker.env")
PASSFILE = Path("/etc/shithub/pgpass")

# How somebody logs in: like the workers, as the owner of the tables, or as the operator on call.
Login = Literal["worker", "owner", "operator"]
LOGINS: tuple[Login, ...] = ("worker", "owner", "operator")


def read_by(login: Login) -> tuple[list[Path], list[Path]]:
    """The files for a login: files of variables, where later ones win, and files of passwords, where the first readable
    one counts. People and the timer log in otherwise than the workers."""
    if login == "worker":
        return [ENV_FILE], [PASSFILE]
    return [ENV_FILE, ENV_FILE.with_name(f"{login}.env")], [ENV_FILE.with_name(f"{login}.pgpass"), PASSFILE]


def of_unit(unit: str) -> list[Path]:
    """The files of a unit, as EnvironmentFile= names them: first those of all units, then its own, which win."""
    return [ENV_FILE, ENV_FILE.with_name(f"{unit.removesuffix('.service')}.env")]


def said_to(unit: str, faults: list[str]) -> dict[str, str]:
    """The variables in a unit's files.

    Files that can't be read, and lines that systemd ignores, go into `faults`. A missing file says nothing.
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
