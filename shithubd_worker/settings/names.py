"""Variables with our prefix: which there are, and which one a misspelt name was meant to be."""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches

from shithubd_worker.errors import ConfigError
from shithubd_worker.settings.config import DATABASE_URL, SCHEMA, SETTINGS
from shithubd_worker.settings.table import PREFIX

# Those that no flag stands for, and what they are for. A unit sets the first; the second is read from files alone.
UNIT, RUN_AS = f"{PREFIX}UNIT", f"{PREFIX}RUN_AS"
WITHOUT_FLAG = {
    UNIT: "The name of the worker's unit. The shipped units set it.",
    RUN_AS: "Only in operator.env and owner.env: the user as whom a command of root's goes on before it connects.",
}
VARIABLES = {row.variable for row in (DATABASE_URL, SCHEMA, *SETTINGS.values())} | WITHOUT_FLAG.keys()


def meant(name: str) -> str | None:
    """The variable of ours that a name is, or is most like; None for one that has nothing to do with us."""
    name = name.upper()
    if name in VARIABLES:
        return name
    if name.startswith(PREFIX):  # which all have in common, so it tells nothing
        near = get_close_matches(name.removeprefix(PREFIX), [known.removeprefix(PREFIX) for known in VARIABLES], n=1)
        return f"{PREFIX}{near[0]}" if near else None
    return next(iter(get_close_matches(name, VARIABLES, n=1, cutoff=0.9)), None)


def misnamed(names: Iterable[str]) -> list[str]:
    """A fault for each name that was meant for us, and is none of ours: what it says would go unheard."""
    return [
        f"{name} is not a setting: "
        + (f"did you mean {near}?" if (near := meant(name)) else f"a variable of yours can't begin with {PREFIX}")
        for name in sorted(names)
        if name not in VARIABLES and (name.startswith(PREFIX) or meant(name))
    ]


def refuse_misnamed(flags: Iterable[str]) -> None:
    """Raise ConfigError for a misspelt variable that was meant to say which queue a command acts on, and no flag says.

    What else is misspelt is no command's business but of `run` and `check-config`: in an incident the others work.
    """
    unsaid = {row.variable for row in (DATABASE_URL, SCHEMA) if row.flag not in flags}
    if faults := misnamed(name for name in os.environ if meant(name) in unsaid):
        raise ConfigError(*faults)
