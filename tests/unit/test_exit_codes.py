"""The exit codes that README.md explains are those that the program has."""

from __future__ import annotations

import re
from pathlib import Path

from shithubd_worker import errors
from shithubd_worker.host.dead_man import SIGNAL

README = (Path(__file__).parents[2] / "README.md").read_text()
CODES = {name: value for name, value in vars(errors).items() if name.startswith("EXIT_")}
_, _, BEHIND = README.partition("Exit codes:\n\n")
TABLE = BEHIND.partition("\n\n")[0]


def test_the_readme_explains_each_exit_code_and_no_other():
    explained = re.findall(r"^\| ([^|]+) \| \S", TABLE, re.MULTILINE)
    assert sorted(explained[1:]) == sorted([*map(str, CODES.values()), f"signal {SIGNAL.value}"])


def test_no_two_exit_codes_are_the_same():
    assert len(set(CODES.values())) == len(CODES)
