"""A flag wins over its variable, in every position. A text that is printed to be pasted is one word to a shell."""

from __future__ import annotations

import subprocess
from itertools import product

import click
import pytest
from click.core import ParameterSource
from command_tree import leaves
from hypothesis import given, settings
from hypothesis import strategies as st

from shithubd_worker.cli import cli
from shithubd_worker.cli.common import Shared, queue_named
from shithubd_worker.plain import on_one_line, shell_word

OF_THE_QUEUE = {"--database-url": "database_url", "--schema": "schema"}
ARGUMENTS = {"KIND": "k", "JOB": "1", "TEXT": "t", "ROW": "1", "ROWS": "1"}


def options():
    """Each option of each command that has a variable."""
    for each in leaves():
        for option in each.command.params:
            if isinstance(option, click.Option) and option.envvar:
                yield pytest.param(each.name, each.command, option, id=f"{each.name} {option.opts[0]}")


def parsed(words, command, before, behind):
    """The context of a command with these flags, before its name and after it."""
    above = cli.make_context("shithubd-worker", [*before, *words.split()])
    arguments = [ARGUMENTS.get(each.name.upper(), "k") for each in command.params if each.required]
    return command.make_context(words.split()[-1], [*behind, *arguments], parent=above)


@pytest.mark.parametrize(("words", "command", "option"), list(options()))
def test_a_flag_wins_over_its_variable_in_every_position(monkeypatch, words, command, option):
    flag = option.opts[0]
    choices = getattr(option.type, "choices", ("7", "8"))
    monkeypatch.setenv(option.envvar, "0" if option.is_flag else choices[1])
    as_given = [flag] if option.is_flag else [flag, choices[0]]
    expected = True if option.is_flag else (choices[0],) if option.multiple else choices[0]
    for before, behind in [([], as_given), (as_given, [])][: 2 if flag in OF_THE_QUEUE else 1]:
        context = parsed(words, command, before, behind)
        shared = queue_named(context)
        assert context.params[option.name] == expected
        assert context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
        if flag in OF_THE_QUEUE:
            assert getattr(shared, OF_THE_QUEUE[flag]) == choices[0]
            assert shared.flags == (flag,)


@pytest.mark.parametrize("flag", OF_THE_QUEUE)
def test_a_flag_after_the_name_wins_over_one_before_it_and_both_win_over_a_variable(monkeypatch, flag):
    command, name = cli.commands["status"], OF_THE_QUEUE[flag]
    variable = f"SHITHUBD_WORKER_{name.upper()}"
    for variable_set, before, behind in product((False, True), repeat=3):
        monkeypatch.setenv(variable, "variable" if variable_set else "")
        context = parsed("status", command, [flag, "before"] if before else [], [flag, "behind"] if behind else [])
        wins = "behind" if behind else "before" if before else "variable" if variable_set else None
        assert getattr(queue_named(context), name) == wins


@pytest.mark.parametrize("flag", OF_THE_QUEUE)
@pytest.mark.parametrize("before", [True, False])
def test_an_empty_flag_is_refused(flag, before):
    given_so = [flag, ""]
    with pytest.raises(click.BadParameter, match="is empty"):
        parsed("status", cli.commands["status"], given_so if before else [], [] if before else given_so)


def test_a_command_to_paste_repeats_the_flags_and_leaves_a_password_out():
    shared = Shared("postgresql://ada:secret@db/forge", "my queue", ("--database-url", "--schema"))
    again = shared.command("resume-kind", "a b")
    assert again.startswith("shithubd-worker resume-kind --database-url '")
    assert "secret" not in again
    assert "user=ada" in again
    assert again.endswith("--schema 'my queue' 'a b'")
    # The same shell still has the variables, so the command does not repeat them.
    assert Shared("postgresql://db/forge", "my queue").command("resume") == "shithubd-worker resume"


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1))
def test_any_text_becomes_one_printable_word_that_a_shell_reads_back(text):
    word = shell_word(text)
    assert on_one_line(word) == word
    done = subprocess.run(
        ["bash", "-c", f"printf '%s|' {word}"], env={"LC_ALL": "C.UTF-8"}, capture_output=True, check=True
    )
    assert done.stdout.decode() == f"{text}|"
