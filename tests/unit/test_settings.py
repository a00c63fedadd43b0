"""A variable that looks like one of ours, but is not, is a fault."""

from __future__ import annotations

import click
import pytest

from shithubd_worker.cli import cli
from shithubd_worker.cli.common import Shared
from shithubd_worker.errors import ConfigError
from shithubd_worker.settings.names import VARIABLES, WITHOUT_FLAG, misnamed

NAMES = sorted(VARIABLES)


def test_each_variable_of_each_command_is_known():
    def variables(group: click.Group):
        yield from (str(each.envvar) for each in group.params if each.envvar)
        for command in group.commands.values():
            if isinstance(command, click.Group):
                yield from variables(command)
            else:
                yield from (str(each.envvar) for each in command.params if each.envvar)

    assert {name for name in variables(cli) if name != "INVOCATION_ID"} == VARIABLES - WITHOUT_FLAG.keys()
    assert misnamed(VARIABLES) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_typing_error_in_any_variable_is_a_fault_that_names_the_nearest_variable(name):
    for wrong in (f"{name}S", name[:-1], name[:-2] + name[:-3:-1], name.replace("SHITHUBD", "SHITHUB"), name.lower()):
        if wrong != name:  # the variable may have that letter twice
            assert misnamed([wrong]) == [f"{wrong} is not a setting: did you mean {name}?"]


def test_an_unknown_variable_with_our_prefix_is_a_fault_and_any_other_is_not():
    assert misnamed(["SHITHUBD_WORKER_XYZZY"]) == [
        "SHITHUBD_WORKER_XYZZY is not a setting: a variable of yours can't begin with SHITHUBD_WORKER_"
    ]
    others = ["_SHITHUBD_WORKER_COMPLETE", "SHITHUBD_DATABASE_URL", "SHITHUB_ROOT", "PGHOST", "DATABASE_URL", "PATH"]
    assert misnamed(others) == []


@pytest.mark.parametrize("flags", [(), ("--database-url",), ("--schema",)])
def test_a_command_refuses_only_variables_that_leave_the_queue_unclear(monkeypatch, flags):
    monkeypatch.setenv("SHITHUBD_WORKER_GRACES", "3")
    shared = Shared("dbname=mine", None, flags)
    shared.connect("test")
    monkeypatch.setenv("SHITHUBD_WORKER_DATABASE_ULR", "dbname=other")
    if "--database-url" in flags:
        shared.connect("test")
    else:
        with pytest.raises(ConfigError, match="did you mean SHITHUBD_WORKER_DATABASE_URL"):
            shared.connect("test")
