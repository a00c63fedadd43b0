"""docs/client.md names each method of Client, with its arguments."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from shithubd_worker import Client
from shithubd_worker.admin import arguments
from shithubd_worker.admin.plans import Planned

PAGE = (Path(__file__).parents[2] / "docs/client.md").read_text()


def written(name: str, method: object) -> str:
    """A method's call, without types and defaults."""
    told, named = [], False
    for argument in list(inspect.signature(method).parameters.values())[1:]:
        if argument.kind is argument.KEYWORD_ONLY and not named:
            told.append("*")
            named = True
        told.append(f"**{argument.name}" if argument.kind is argument.VAR_KEYWORD else argument.name)
    return f"{name}({', '.join(told)})"


def test_the_page_has_each_method_with_its_arguments():
    methods = {written(name, getattr(Client, name)) for name in dir(Client) if name[0] != "_"}
    told = re.findall(r"^\| `(\w+\(.*?\))` \|", PAGE, re.MULTILINE)
    assert {*told} == methods
    assert len(told) == len(methods)


def test_the_page_has_what_a_plan_takes_and_what_it_gives():
    """Each member of a selection, each value of an action, and each member of the plan."""
    _, _, table = PAGE.partition("## Plans")
    assert {*re.findall(r"^\| `(\w+)` \|", table.partition("\n## ")[0], re.MULTILINE)} == {
        *arguments._WHERE,
        *(name for values in arguments._VALUES.values() for name in values),
        *Planned._fields,
    }
