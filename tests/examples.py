"""The examples in the docstrings of the public names: what help() shows is checked by type checkers, and executed."""

from __future__ import annotations

import inspect
import re
import textwrap

import shithubd_worker

# What an example doesn't say. A program begins with the lines for the words in it.
_IMPORTS = {
    "os": "import os",
    "Path": "from pathlib import Path",
    "psycopg": "import psycopg",
    **{name: f"from shithubd_worker import {name}" for name in shithubd_worker.__all__},
}
_STARTS = {
    "connection.transaction": "connection = psycopg.connect()",
    "@registry": "registry = Registry()",
}

PUBLIC = [name for name in shithubd_worker.__all__ if not name.startswith("__")]


def example(name: str) -> str:
    """The example of a public name, or of the package for ''."""
    told = inspect.getdoc(getattr(shithubd_worker, name) if name else shithubd_worker)
    found = re.findall(r":\n\n((?: {4}.*\n|\n)+)", f"{told}\n")
    assert len(found) == 1, f"{name or 'the package'} has {len(found)} examples"
    return textwrap.dedent(found[0]).strip() + "\n"


def program(text: str) -> str:
    """A program that has what the text needs, and then the text."""
    starts = [line for word, line in _STARTS.items() if re.search(rf"(?<![.\w]){word}", text) and line not in text]
    text = "\n".join([*starts, text])
    return "\n".join([*(line for word, line in _IMPORTS.items() if re.search(rf"(?<![.\w]){word}\b", text)), text])
