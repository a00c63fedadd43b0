"""docs/commands.md has all that the commands say, and each example in it is a command that exists."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import command_pages
import pytest
from command_pages import NOT_RUN, PAGE
from command_tree import Command, Verbatim, all_commands, leaves

from shithubd_worker import errors
from shithubd_worker.cli import ROOMS, cli
from shithubd_worker.settings.config import SETTINGS

TEXT = PAGE.read_text()
LEAVES = list(leaves())
EXAMPLES = [(each, line) for each in all_commands() for block in each.told.examples for line in block.lines]


def test_each_room_has_the_commands_by_which_it_is_found():
    assert list(cli.commands) == [name for names in ROOMS.values() for name in names]


def test_a_command_imports_no_room_but_its_own():
    program = (
        "import sys, click; from shithubd_worker.cli import ROOMS, cli; cli.get_command(click.Context(cli), 'status');"
        " print(*(room for room in ROOMS if f'shithubd_worker.cli.{room}' in sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True).split() == ["status"]


def section(command: Command) -> str:
    """What the page says below the heading of a command, up to the next one."""
    return TEXT.partition(f"# `{command.typed}`\n")[2].partition("\n#")[0]


def test_the_page_says_what_the_commands_say():
    assert command_pages.page() == TEXT, "write it again with `make pages`"


@pytest.mark.parametrize("command", LEAVES, ids=lambda each: each.name)
def test_each_command_has_its_options_or_names_those_that_many_share(command):
    here = section(command)
    assert f"`{command.typed} [OPTIONS]" in here
    options = {option.opts[-1] for option in command.command.params if isinstance(option, click.Option)}
    if command.name == "check-config":
        options -= {option.opts[-1] for option in cli.commands["run"].params}
    assert [name for name in options if not re.search(rf"`{name}[` ]", here)] == []
    for name in options & set(command_pages.SHARED):
        assert f"\n| `{name}" in TEXT.partition("## `")[0]


def test_each_option_is_shown_in_an_example_of_docs():
    """The options of `run` have theirs in the table of settings, see test_settings_pages.py. systemd gives the id."""
    shown = "\n".join(
        block
        for path in PAGE.parent.glob("*.md")
        for block in re.findall(r"^```sh\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
    )
    elsewhere = {row.flag for row in SETTINGS.values()} | {"--help", "--invocation-id"}
    names = {flag.name for each in LEAVES for flag in each.flags} - elsewhere
    assert len(names) > 20
    assert [name for name in names if not re.search(rf"shithubd-worker .*{name}\b", shown)] == []


def test_each_option_that_takes_a_value_has_its_default_on_the_page():
    rows = re.findall(r"^\| `(--[^`]*)` \| (.*?) \| (.*?) \| ", TEXT.replace("\\|", "/"), re.MULTILINE)
    assert len(rows) > 40
    assert [name for name, value, default in rows if not default and not value.startswith("none")] == []


@pytest.mark.parametrize("command", LEAVES, ids=lambda each: each.name)
def test_each_command_says_how_to_undo_it_or_that_it_changes_nothing(command):
    if command.name != "run":
        said = " ".join((command.command.help or "").split())
        assert re.search("changes? nothing|undo", said)


@pytest.mark.parametrize("command", LEAVES, ids=lambda each: each.name)
def test_the_exit_codes_of_a_command_are_codes_of_the_program(command):
    known = {str(value) for name, value in vars(errors).items() if name.startswith("EXIT_")}
    by_signal = {"154"} if command.name == "run" else set()
    assert {code for code, _ in command.told.exits} <= known | by_signal


@pytest.mark.parametrize(("command", "line"), EXAMPLES, ids=[line for _, line in EXAMPLES])
def test_each_example_is_understood(command, line):
    """By click, which knows the options and their values; nothing is done."""
    lexer = shlex.shlex(line.partition("Post=-")[2] or line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    for at, word in enumerate(words):
        if word.rpartition("/")[2] == "shithubd-worker" and at + 1 < len(words):
            end = next((n for n in range(at, len(words)) if re.fullmatch(r"[|&;]+", words[n])), len(words))
            understood(words[at + 1 : end])


def understood(arguments: list[str]) -> None:
    context = cli.make_context("shithubd-worker", list(arguments))
    command: click.Command = cli
    while isinstance(command, click.Group):
        name, found, arguments = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        context = found.make_context(name, list(arguments), parent=context)
        command = found


def test_each_reason_not_to_run_an_example_has_an_example():
    assert [text for text in NOT_RUN if not any(text in line for _, line in EXAMPLES)] == []


def test_a_command_that_does_not_exist_is_not_understood():
    for words in (["drains"], ["drain", "--hosts", "a"], ["jobs", "show", "x"], ["status", "--timeout", "soon"]):
        with pytest.raises(click.UsageError):
            understood(words)


def test_a_block_of_a_help_text_keeps_its_lines():
    [migrate] = [each for each in LEAVES if each.name == "migrate"]
    [roles] = [part for part in migrate.told.body if isinstance(part, Verbatim)]
    assert [f"    {line}" for line in roles.lines] == re.findall(r"(?m)^    shithub_.*", section(migrate))


def test_the_line_for_bash_makes_completion():
    [line] = re.findall(r"(?m)^eval .*bash_source.*$", TEXT)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    asked = ["bash", "-c", f"{line}; complete -p shithubd-worker"]
    done = subprocess.run(asked, env={"PATH": path}, capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("_completion shithubd-worker")
