"""Variables with our prefix: which exist, and which one a misspelt name meant."""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches

from shithubd_worker.errors import ConfigError
from shithubd_worker.settings.config import DATABASE_URL, OF_COMMANDS, SCHEMA, SETTINGS
from shithubd_worker.settings.table import PREFIX

# Variables without a flag: the meaning, and an example. A unit sets the first; the second is read only from files.
UNIT, RUN_AS = f"{PREFIX}UNIT", f"{PREFIX}RUN_AS"
WITHOUT_FLAG = {
    UNIT: ("The name of the worker's unit. The shipped units set it.", "shithubd-worker@2.service"),
    RUN_AS: (
        "The user that a command of root's becomes before it connects. Only operator.env and owner.env can set it.",
        "shithub",
    ),
}
VARIABLES = {row.variable for row in (DATABASE_URL, SCHEMA, *OF_COMMANDS, *SETTINGS.values())} | WITHOUT_FLAG.keys()


def meant(name: str) -> str | None:
    """The variable of ours that this name is, or resembles most. None for a name that has nothing to do with us."""
    name = name.upper()
    if name in VARIABLES:
        return name
    if name.startswith(PREFIX):  # all of them have it, so it tells nothing
        near = get_close_matches(name.removeprefix(PREFIX), [known.removeprefix(PREFIX) for known in VARIABLES], n=1)
        return f"{PREFIX}{near[0]}" if near else None
    return next(iter(get_close_matches(name, VARIABLES, n=1, cutoff=0.9)), None)


def misnamed(names: Iterable[str]) -> list[str]:
    """A fault for each name that was meant for us but is not a variable of ours: nothing would read its value."""
    return [
        f"{name} is not a setting: "
        + (f"did you mean {near}?" if (near := meant(name)) else f"a variable of yours can't begin with {PREFIX}")
        for name in sorted(names)
        if name not in VARIABLES and (name.startswith(PREFIX) or meant(name))
    ]


def refuse_misnamed(flags: Iterable[str]) -> None:
    """Raise ConfigError for a misspelt variable that was meant to choose the command's queue, unless a flag chooses it.

    Only `run`, `check-config` and a reload care about other misspelt variables: in an incident all other commands must
    work.
    """
    unsaid = {row.variable for row in (DATABASE_URL, SCHEMA) if row.flag not in flags}
    if faults := misnamed(name for name in os.environ if meant(name) in unsaid):
        raise ConfigError(*faults)
