"""The commands as their pages tell of them: read from click's own tree and from the table of settings.

A help text has paragraphs, and blocks that click's \\b begins. A page has places of its own for the blocks "Exit
codes:" and "Example:" or "Examples:". All others stay where they are.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import click
import settings_pages

from shithubd_worker.cli import cli
from shithubd_worker.settings.config import DATABASE_URL, OF_COMMANDS, SCHEMA, SETTINGS

PROGRAM = "shithubd-worker"
_ROWS = {row.variable: row for row in (DATABASE_URL, SCHEMA, *SETTINGS.values(), *OF_COMMANDS)}
_DEFAULT = re.compile(r"  \[default: (?P<default>.*)\]$")
# What the word behind a flag stands for; a test holds that each has one.
VALUES = {
    "DURATION": "a duration: seconds, or a number with `s`, `m`, `h` or `d`",
    "[DURATION]": "a duration, which you can leave out",
    "TIME": "a time",
    "TIME|DURATION": "a time, or a duration from now",
    "PERCENT,...": "whole percentages that rise, from 1 to 100: `10,50,100`",
    "NUMBER/UNIT": "a number of jobs for each `s`, `m` or `h`: `50/s`, `0.5/h`",
    "PART": "a part of the whole: `20%` or `0.2`",
    "TEXT": "any text",
    "JSON": "a JSON object",
    "NAME": "a name",
    "NAME=NUMBER": "a name, and a number from 0 on",
    "KIND": "the name of a kind",
    "PATH": "a path",
    "DIR": "an existing directory",
    "FILE": "a file",
    "[FILE]": "a file, which you can leave out",
    "ID": "an id of systemd",
    "UNIT": "the name of a unit",
}


@dataclass
class Verbatim:
    """Lines that stay as they are, below a paragraph that may be empty."""

    above: str
    lines: list[str]


@dataclass
class Told:
    """A help text in its parts."""

    summary: str = ""
    body: list[str | Verbatim] = field(default_factory=list)
    exits: list[tuple[str, str]] = field(default_factory=list)
    examples: list[Verbatim] = field(default_factory=list)


class Flag(NamedTuple):
    """An option. `value`: what may stand behind it, in words, with its unit and bounds."""

    spelled: str
    metavar: str
    value: str
    default: str
    variable: str
    text: str

    @property
    def name(self) -> str:
        """The long way to write it."""
        return self.spelled.rpartition(" ")[2]


class Command:
    """One command, or a group of them, with the words that call it."""

    def __init__(self, words: tuple[str, ...], command: click.Command) -> None:
        self.words = words
        self.command = command
        self.name = " ".join(words)
        self.typed = " ".join((PROGRAM, *words))

    @cached_property
    def told(self) -> Told:
        """Its help, and for the program what stands below that."""
        told = parsed(inspect.cleandoc(self.command.help or ""))
        below = parsed(inspect.cleandoc(self.command.epilog or ""))
        told.exits += below.exits
        told.examples += (block for block in below.body if isinstance(block, Verbatim))
        return told

    @property
    def subcommands(self) -> list[Command]:
        """Those of a group, in the order in which they were written."""
        commands = self.command.commands if isinstance(self.command, click.Group) else {}
        return [Command((*self.words, name), each) for name, each in commands.items()]

    @property
    def arguments(self) -> str:
        """What stands behind its options."""
        if isinstance(self.command, click.Group):
            return "COMMAND [ARGUMENTS]"
        return " ".join(
            each.make_metavar(self.context) for each in self.command.params if isinstance(each, click.Argument)
        )

    @property
    def flags(self) -> list[Flag]:
        """Its options, in the order of --help."""
        return [
            _flag(each, self.context)
            for each in self.command.get_params(self.context)
            if isinstance(each, click.Option)
        ]

    @property
    def context(self) -> click.Context:
        """One that nothing was parsed in."""
        return click.Context(self.command, info_name=self.typed, **cli.context_settings)

    @property
    def asks_the_database(self) -> bool:
        """Does it name a queue, or a command of this group?"""
        own = any(flag.variable == DATABASE_URL.variable for flag in self.flags)
        return own or any(each.asks_the_database for each in self.subcommands)


def parsed(text: str) -> Told:
    """The parts of a help text."""
    told = Told()
    for block in re.split(r"\n\n+", text) if text else ():
        head, _, rest = block.partition("\n")
        if head != "\b":
            paragraph = " ".join(block.split())
            if not told.summary:
                told.summary = paragraph
            else:
                told.body.append(paragraph)
            continue
        lines = rest.splitlines()
        above = " ".join(line for line in lines if not line.startswith(" "))
        found = Verbatim(above, [line.removeprefix("  ") for line in lines if line.startswith(" ")])
        if above == "Exit codes:":
            told.exits += _exits(found.lines)
        elif above.startswith("Example"):
            told.examples.append(found)
        else:
            told.body.append(found)
    return told


def _exits(lines: list[str]) -> Iterator[tuple[str, str]]:
    for each in re.split(r"\n(?=\d)", "\n".join(lines)):
        code, _, text = each.partition(" ")
        yield code, " ".join(text.split())


def _flag(option: click.Option, context: click.Context) -> Flag:
    metavar = "" if option.is_flag else option.make_metavar(context)
    spelled = ", ".join(sorted(option.opts, key=len))
    variable = str(option.envvar or "")
    text = (option.help or "").replace("this message", "the help")  # click's words, which a page is not
    default = match["default"] if (match := _DEFAULT.search(text)) else ""
    text = _DEFAULT.sub("", text)
    if row := _ROWS.get(variable):
        default, value = settings_pages.unless_set(row), settings_pages.takes(row)
        metavar = row.metavar or metavar
        value = "yes or no, in the variable" if row.switch else value
    elif option.is_flag:
        value, default = "", "" if option.is_eager else "off"
    elif isinstance(option.type, click.Choice):
        value = ", ".join(f"`{choice}`" for choice in option.type.choices)
    elif isinstance(option.type, click.IntRange):
        value = f"a whole number, {option.type.min} to {option.type.max}"
        default = str(option.default) if isinstance(option.default, int) else ""
    else:
        value = VALUES[metavar]
    return Flag(spelled, metavar, value, default.strip("`"), variable, text)


ROOT = Command((), cli)
TOP = ROOT.subcommands


def all_commands() -> Iterator[Command]:
    """Every command that can be typed, groups too, but the program itself."""
    for command in TOP:
        yield command
        yield from command.subcommands


def leaves() -> Iterator[Command]:
    """Every command that does something: all but the groups."""
    return (each for each in all_commands() if not each.subcommands)
