"""All that the package writes to a terminal, or into a log, goes through one module each, which makes it harmless."""

from __future__ import annotations

import ast
import json
import logging
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from canaries import CANARY, FORGED, check_plain
from hypothesis import given
from hypothesis import strategies as st

import shithubd_worker
from shithubd_worker.cli import screen
from shithubd_worker.plain import behind_margin, json_text, on_one_line
from shithubd_worker.telemetry.lines import JsonFormatter, TextFormatter, journal_fields

PACKAGE = Path(shithubd_worker.__file__).parent

# The files that may name what reaches a terminal, with the reason. Compared by equality, so no exception outlives its
# reason.
MAY_NAME = {
    "__main__.py": {"os.write", "sys.stderr"},  # says that the program can't start
    "cli/screen.py": {
        "click.echo",
        "click.style",
        "click.clear",
        "rich",
        "sys.stdout",
        "sys.stderr",
    },  # keeps data apart from the rest
    "cli/top/app.py": {"sys.stdout", "textual"},  # shows what page.py has
    "cli/top/jobs.py": {"rich"},  # measures letters
    "cli/top/page.py": {"rich", "textual"},  # each line of it goes through table.fit
    "cli/top/table.py": {"rich"},  # measures letters
    "cli/top/terminal.py": {"os.write", "textual"},  # gives the terminal back
    "cli/__init__.py": {"sys.stdout"},  # flushes it, and looks whether it took all
    "host/leaving.py": {"sys.stdout"},  # flushes it at the end
    "host/stdio.py": {"sys.stdout", "sys.stderr"},  # makes them
    "cli/run.py": {"sys.stderr"},  # asks whether it is the journal
    "telemetry/logs.py": {"sys.stderr"},  # whose descriptor gets the log lines
    "host/outlets.py": {"os.write"},  # writes the log lines
    "cli/announce.py": {"os.write"},  # wakes the process that posts, by a pipe
    "host/forks.py": {"print", "sys.stdout", "sys.stderr"},  # ends a handler's own child as Python does
}
OF_CLICK = {
    *("echo", "secho", "style", "clear", "prompt", "confirm", "echo_via_pager", "progressbar", "pause", "edit"),
    *("launch", "get_text_stream", "get_binary_stream", "open_file", "getchar", "format_filename"),
}
OF_SYS = {"stdout", "stderr", "__stdout__", "__stderr__"}
OTHERS = {"rich", "textual", "pprint", "warnings"}


def ways_out(path: Path) -> set[str]:
    """The names in a file that write to a terminal."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Attribute(value=ast.Name(id="click"), attr=name) if name in OF_CLICK:
                found.add(f"click.{name}")
            case ast.Attribute(value=ast.Name(id="sys"), attr=name) if name in OF_SYS:
                found.add(f"sys.{name}")
            case ast.Attribute(value=ast.Name(id="os"), attr=("write" | "writev" | "system") as name):
                found.add(f"os.{name}")
            case ast.Name(id=("print" | "input" | "breakpoint") as name):
                found.add(name)
            case ast.Import(names=names):
                found |= {each.name for each in names if each.name.split(".")[0] in OTHERS}
            case ast.ImportFrom(module=module, names=names) if module:
                found |= {
                    f"{module}.{each.name}"
                    for each in names
                    if module in ("click", "sys") and each.name in OF_CLICK | OF_SYS
                }
                found |= {module.split(".")[0]} & OTHERS
    return found


def test_only_the_screen_writes_to_a_terminal():
    found = {str(path.relative_to(PACKAGE)): ways_out(path) for path in sorted(PACKAGE.rglob("*.py"))}
    assert {name: ways for name, ways in found.items() if ways} == MAY_NAME


@given(st.text(st.characters()))
def test_a_line_stays_one_line_of_printable_characters_with_its_letters(text):
    plain = on_one_line(text)
    assert plain.isprintable()
    assert not {unicodedata.category(c) for c in plain} & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    assert [c for c in plain if not c.isascii()] == [c for c in text if c.isprintable() and not c.isascii()]


@given(st.text(st.characters()))
def test_no_later_line_of_a_text_looks_like_a_first_line(text):
    first, *others = behind_margin(text).split("\n")
    assert first.isprintable()
    assert all(line.startswith("  | ") and line.isprintable() for line in others)
    assert len(others) == text.count("\n")


@given(st.recursive(st.text(st.characters()), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_is_printable_ascii_and_exact(data):
    text = json_text(data, indent=2)
    assert text.isascii()
    assert text.replace("\n", "").isprintable()
    assert json.loads(text) == data


def record(text: str, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("shithubd_worker.job", logging.ERROR, __file__, 1, "%s", (text,), None)
    vars(made).update(extra)
    try:
        raise ValueError(text)
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


@pytest.mark.parametrize("told_by", [TextFormatter().format, lambda made: journal_fields(made)["MESSAGE"]])
def test_a_log_line_cannot_forge_another_and_a_stack_has_a_margin(told_by):
    told = told_by(record(CANARY, job_id=7, kind=CANARY))
    check_plain(told, "a log line")
    first, *others = told.split("\n")
    assert "job 7" in first
    assert others
    assert all(line.startswith("  | ") for line in others)


def test_a_json_log_line_is_one_line_and_exact():
    told = JsonFormatter().format(record(CANARY, job_id=7, kind=CANARY))
    assert told.isascii()
    assert told.isprintable()
    assert json.loads(told)["kind"] == CANARY
    assert json.loads(told)["message"] == CANARY


def test_the_fields_that_journalctl_shows_are_harmless():
    fields = journal_fields(record("x", kind=CANARY, outcome=CANARY))
    assert {name for name, value in fields.items() if not value.isprintable()} == {"MESSAGE"}
    assert fields["SHITHUB_KIND"] == on_one_line(CANARY)


@pytest.mark.parametrize(
    "name", ["$(reboot)", "a b", "a\nb", "-x", "--force", "a;b", "'", "~root", "=ls", "", "é", "a\u202eb"]
)
def test_a_word_that_is_unsafe_in_a_shell_is_not_completed(name):
    assert screen.offered([name, "plain"], "") == ["plain"]


@pytest.mark.parametrize("name", ["search.reindex", "web1:4711", "shithubd-worker@2.service", "42", "a/b_c+d"])
def test_a_plain_word_is_completed(name):
    assert screen.offered([name, "other"], name[:1]) == [name]


def test_a_terminal_without_a_letter_gets_its_escape():
    code = (
        "from shithubd_worker.cli import screen; from shithubd_worker.host import stdio;"
        " stdio.take(goes_on=False); screen.line('gr\u00f6\u0416')"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert done.stdout == b"gr\xf6\\u0416\n"


def test_the_canaries_are_as_described():
    assert not CANARY.isprintable()
    assert all(line in CANARY.split("\r\n") for line in FORGED)
