"""The settings page and the package's file of settings say what the table of settings says, and the file can be
used."""

from __future__ import annotations

import re

import click
import settings_pages
from settings_pages import ENV_FILE, LIBPQ, PAGE

from shithubd_worker.cli import cli, host_env
from shithubd_worker.settings import env_file
from shithubd_worker.settings.config import SETTINGS, Config, make_config
from shithubd_worker.settings.names import VARIABLES, WITHOUT_FLAG, misnamed

AGAIN = "write it again with `make pages`"


def test_the_page_says_what_the_table_says():
    assert PAGE.read_text() == settings_pages.page(), AGAIN


def test_the_file_of_the_package_says_what_the_table_says():
    assert ENV_FILE.read_text() == settings_pages.env_file(), AGAIN


def test_the_page_has_each_variable_and_each_flag_of_run():
    page = PAGE.read_text()
    flags = [f"`{option.opts[0]}`" for option in cli.commands["run"].params if isinstance(option, click.Option)]
    assert len(flags) == len(SETTINGS) + 2
    assert [each for each in (*flags, *(f"`{name}`" for name in VARIABLES)) if each not in page] == []


def test_every_setting_and_variable_has_an_example_and_it_can_be_used(tmp_path):
    rows = re.findall(r"^\| .*`([A-Z_]+)` \|.*$", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == len(VARIABLES) + len(LIBPQ)
    assert "``" not in re.sub(r"^```.*$", "", PAGE.read_text(), flags=re.MULTILINE)
    assert [row.flag for row in SETTINGS.values() if row.example in ("", row.default)] == []
    examples = {name: str(tmp_path) if row.metavar == "DIR" else row.example for name, row in SETTINGS.items()}
    examples["kinds"], examples["exclude_kinds"] = SETTINGS["kinds"].example.split(), []
    make_config(examples)


def test_every_setting_in_the_file_of_the_package_is_commented_out():
    assert env_file.parse(ENV_FILE.read_bytes()) == env_file.EnvFile()


def test_each_line_of_the_file_of_the_package_can_be_used_unchanged(tmp_path):
    """The test removes the # before each line, and makes the directories of the examples elsewhere."""
    found = env_file.parse(re.sub(r"(?m)^#(?=[A-Z_]+=)", "", ENV_FILE.read_text()).encode())
    assert found.left_out == []
    assert misnamed(found.variables) == []
    assert {name for name in found.variables if name.startswith("SHITHUBD")} == VARIABLES - WITHOUT_FLAG.keys()
    raw: dict[str, object] = {
        name: str(tmp_path) if row.metavar == "DIR" else found.variables[row.variable] for name, row in SETTINGS.items()
    }
    make_config(raw)


def test_the_file_of_the_package_shows_the_defaults():
    """All but the metrics address: an operator who sets it has chosen a value."""
    shown = env_file.parse(re.sub(r"(?m)^#(?=[A-Z_]+=)", "", ENV_FILE.read_text()).encode()).variables
    with_default = {name: shown[row.variable] for name, row in SETTINGS.items() if row.default and name != "metrics"}
    assert len(with_default) == 10
    assert make_config(with_default) == Config()


def test_the_variables_of_libpq_that_name_a_database_are_on_the_page():
    assert {name for name in host_env.NAMING if name not in VARIABLES} <= LIBPQ.keys()
