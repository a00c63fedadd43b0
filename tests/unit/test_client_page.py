"""docs/client.md names each method of Client, with its arguments."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from shithubd_worker import Client

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
    methods = [written(name, method) for name, method in vars(Client).items() if name[0] != "_"]
    assert re.findall(r"^\| `(\w+\(.*?\))` \|", PAGE, re.MULTILINE) == methods
