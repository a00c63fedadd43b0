"""What a mutant is, and how a list names files and tests so that these may move."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[2]
PYTHON = "shithubd_worker/**/*.py"
UNIT = "units/shithubd-worker*.service"
# The tests of the runbooks that need no booted host. Each layer is tried in turn.
RUNBOOKS = ("tests/runbooks/test_pages.py", "tests/runbooks/test_alert_rules.py")


class Mutant(NamedTuple):
    """One change: every occurrence of `old` in the files of these patterns, and in their names.

    `found_by` has the layers of tests that search for it, in order, each as the arguments of one pytest; or the names
    of tests.
    """

    name: str
    files: str
    old: str
    new: str
    found_by: tuple[str, ...] = RUNBOOKS

    @property
    def layers(self) -> tuple[str, ...]:
        """The arguments of pytest, layer by layer."""
        named = [each for each in self.found_by if each.startswith("test_")]
        if not named:
            return self.found_by
        return (" ".join(f"{file_of(each)}::{each}" for each in named),)


@cache
def sql(function: str) -> str:
    """The path of the one file that defines this function of the schema."""
    (path,) = (each for each in (REPOSITORY / "sql").glob("**/*.sql") if re.sub(r"^\d+_", "", each.stem) == function)
    return str(path.relative_to(REPOSITORY))


def file_of(test: str) -> str:
    """The path of the one file that has a test of this name. The text in brackets is the test's parameters."""
    line = f"\ndef {test.partition('[')[0]}("
    paths = [name for name, text in _tests().items() if line in text]
    if len(paths) != 1:
        raise LookupError(f"one file should have {test}: {paths or 'none has'}")
    return paths[0]


@cache
def _tests() -> dict[str, str]:
    return {str(path.relative_to(REPOSITORY)): path.read_text() for path in (REPOSITORY / "tests").glob("**/test_*.py")}


def wants_host(layer: str) -> bool:
    """Does this layer boot a systemd host?"""
    booted = ("tests/runbooks/test_executed.py", "tests/systemd/")
    return layer.startswith(booted) and "test_units_static.py" not in layer


def concerned(tree: Path, mutant: Mutant) -> set[Path]:
    """The files that the mutant changes."""
    files = {path for pattern in mutant.files.split() for path in tree.glob(pattern) if path.is_file()}
    return {path for path in files if mutant.old in path.name or mutant.old in path.read_text()}


def mutate(tree: Path, mutant: Mutant) -> None:
    """Make the change."""
    for path in concerned(tree, mutant):
        path.write_text(path.read_text().replace(mutant.old, mutant.new))
        path.rename(path.with_name(path.name.replace(mutant.old, mutant.new)))
