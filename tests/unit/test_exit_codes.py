"""docs/exit-codes.md explains the exit codes that the program has, and what systemd does with them."""

from __future__ import annotations

import re
import subprocess
import sys

import exit_code_facts
import pytest
from exit_code_facts import CODES, headings
from made_pages import EXIT_CODES, filled, without_words

from shithubd_worker import errors
from shithubd_worker.cli import deadline, migrate
from shithubd_worker.host.dead_man import SIGNAL
from shithubd_worker.settings.config import Config
from shithubd_worker.timing import CONNECT_SECONDS, MIGRATION_LOCK_SECONDS

PAGE = EXIT_CODES.read_text()


def section(code: str) -> str:
    """What the page says of a code."""
    found = re.search(rf"^## {code}: .*?(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]


def test_the_page_has_the_facts_of_the_code_and_of_the_units():
    assert filled(PAGE, exit_code_facts.MAKERS) == PAGE, "write it again with `make pages`"
    assert without_words(PAGE) == []


def test_the_page_explains_each_exit_code_and_no_other():
    assert sorted(headings()) == sorted([*map(str, CODES), f"signal {SIGNAL.value}"])


def test_no_two_exit_codes_are_the_same():
    assert len(CODES) == len([name for name in vars(errors) if name.startswith("EXIT_")])


@pytest.mark.parametrize("code", headings())
def test_each_code_has_its_commands_its_meaning_the_next_step_and_an_example(code):
    rows = re.findall(r"^\| (\w+) \| .+ \|$", section(code), re.MULTILINE)
    assert rows[:3] == ["commands", "means", "next"]
    example = re.search(r"^```sh\n.*?^```\n```text\n(.*?)^```$", section(code), re.MULTILINE | re.DOTALL)
    assert example is not None
    shell = str(128 + SIGNAL.value) if code.startswith("signal") else code
    assert code == "0" or f"exit code {shell}\n" in example[1]


def test_the_page_says_which_codes_systemd_does_not_restart_after():
    no = re.findall(r"^\| \[(\d+): .* \| no \|$", PAGE, re.MULTILINE)
    assert [f"EXIT_{name}" for name in ("USAGE", "SCHEMA", "RIGHTS", "CONFIG")] == [CODES[int(code)] for code in no]


def test_the_times_of_the_page_are_those_of_the_code():
    assert f"a command that looks waits {deadline.LOOK_SECONDS:g} s for a lock" in section("4")
    assert f"one that changes something {deadline.CHANGE_SECONDS:g} s" in section("4")
    assert f"`migrate` waits {migrate.ANOTHER_MIGRATION_SECONDS:g} s for another" in section("4")
    assert f"waits {CONNECT_SECONDS:g} s for each address of the server, and {deadline.ANSWER_SECONDS:g} s" in section(
        "75"
    )
    assert f"waits for `--database-wait` ({Config().database_wait:g} s)" in section("75")
    assert f"keeps it waiting for {MIGRATION_LOCK_SECONDS:g} s" in section("75")


INTERRUPTED = """
import importlib.abc, os, signal, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
module, sys.argv = sys.argv[1], ["shithubd-worker", "status", "--database-url", "host=/nowhere"]
from shithubd_worker.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["click", "shithubd_worker.host.leaving", "shithubd_worker.cli.status", "psycopg"])
def test_ctrl_c_while_modules_are_imported_is_one_line(module):
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, module], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.lstrip() in ("interrupted\n", "shithubd-worker: can't start: interrupted\n")
