"""The table of administrative functions in docs/coming-from.md: all that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_tree import leaves

from shithubd_worker import Client
from shithubd_worker.database import schema

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/coming-from.md").read_text()
_, _, SECTION = PAGE.partition("### Administrative functions\n")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in SECTION.partition("\n## ")[0].splitlines()
    if "::" in line
]
FUNCTIONS = [row for row in ROWS if len(row) == 5]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_the_test_that_shows_it_exists(row):
    file, _, name = row[-1].strip("`").partition("::")
    assert re.search(rf"^def {name}\(", (ROOT / "tests" / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize("row", FUNCTIONS, ids=lambda row: row[0][:40])
def test_the_function_the_command_and_the_method_exist(row):
    function, command, method = (cell.strip("`") for cell in row[1:4])
    assert function in schema.function_names()
    assert any(f"{command} ".startswith(f"{each.name} ") for each in leaves())
    assert callable(getattr(Client, method))


def test_the_table_has_each_function_and_task_of_the_other_page():
    assert {row[1].strip("`") for row in FUNCTIONS} == {
        *("complete_jobs", "permanently_fail_jobs", "reschedule_jobs", "force_unlock_workers", "cleanup")
    }
    assert {*re.findall(r"`([A-Z_]+)`: ", SECTION)} == {
        *("DELETE_PERMAFAILED_JOBS", "GC_TASK_IDENTIFIERS", "GC_JOB_QUEUES")
    }
