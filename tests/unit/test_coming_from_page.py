"""The table of administrative functions in docs/coming-from.md: all that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_tree import leaves

from shithubd_worker import Client
from shithubd_worker.database import schema
from shithubd_worker.settings.config import SETTINGS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/coming-from.md").read_text()


def section(title: str) -> str:
    """The text under a heading of the third level."""
    return re.split(r"\n##", PAGE.partition(f"### {title}\n")[2])[0]


def rows(text: str) -> list[list[str]]:
    """The rows of its tables that name a test."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "::" in line]


SECTION = section("Administrative functions")
ROWS = rows(SECTION)
FUNCTIONS = [row for row in ROWS if len(row) == 5]
RECOVERY = rows(section("Recovery"))
INSPECTION = rows(section("Inspection"))


@pytest.mark.parametrize("row", ROWS + RECOVERY + INSPECTION, ids=lambda row: row[0][:40])
def test_the_test_that_shows_it_exists(row):
    file, _, name = row[-1].strip("`").partition("::")
    assert re.search(rf"^def {name}\(", (ROOT / "tests" / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize("row", FUNCTIONS, ids=lambda row: row[0][:40])
def test_the_function_the_command_and_the_method_exist(row):
    assert_exists(*row[1:4])


@pytest.mark.parametrize("row", INSPECTION, ids=lambda row: row[0][:40])
def test_what_the_table_of_inspection_names_exists(row):
    assert_exists(*row[1:4])


def test_the_table_of_inspection_has_each_command_of_the_other_page():
    names = [row[0].split("`")[1] for row in INSPECTION]
    assert names == ["list --state ready", "stats", "queues", "workers"]


def assert_exists(function, command, method):
    function, command, method = (cell.strip("`") for cell in (function, command, method))
    assert function == "none" or function in schema.function_names()
    assert any(f"{command} ".startswith(f"{each.name} ") for each in leaves())
    assert method == "none" or callable(getattr(Client, method))


@pytest.mark.parametrize("row", RECOVERY, ids=lambda row: row[0][:40])
def test_what_the_table_of_recovery_names_exists(row):
    setting, function, command, method = (cell.strip("`") for cell in row[1:5])
    assert setting in {"none", *(each.flag for each in SETTINGS.values())}
    assert function in schema.function_names()
    [found] = [each for each in leaves() if f"{command} ".startswith(f"{each.name} ")]
    known = {flag for parameter in found.command.params for flag in parameter.opts}
    assert {word for word in command.split() if word.startswith("--")} <= known
    assert method == "none" or callable(getattr(Client, method))


def test_the_table_of_recovery_has_each_setting_of_the_other_page():
    names = ("heartbeat_interval", "sweep_interval", "sweep_threshold", "recovery_delay")
    assert {*re.findall(r"^\| `(\w+)`: ", section("Recovery"), re.MULTILINE)} == {*names}
    assert {row[1].strip("`") for row in RECOVERY} >= {f"--{name.replace('_', '-')}" for name in names}


def test_the_table_has_each_function_and_task_of_the_other_page():
    assert {row[1].strip("`") for row in FUNCTIONS} == {
        *("complete_jobs", "permanently_fail_jobs", "reschedule_jobs", "force_unlock_workers", "cleanup")
    }
    assert {*re.findall(r"`([A-Z_]+)`: ", SECTION)} == {
        *("DELETE_PERMAFAILED_JOBS", "GC_TASK_IDENTIFIERS", "GC_JOB_QUEUES")
    }
