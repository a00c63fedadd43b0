"""The manual pages: what they say is what the commands say, and the tools that read such pages find no fault."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache

import click
import man_pages
import pytest
from man_pages import MAN

from shithubd_worker import errors
from shithubd_worker.cli import cli
from shithubd_worker.settings.names import VARIABLES

PAGES = sorted(path.relative_to(MAN) for path in MAN.glob("man*/*"))
USUAL = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "FILES", "ENVIRONMENT", "SEE ALSO"]
AGAIN = "write it again with `make pages`"


def tool(name: str) -> str:
    """A program of man-db, or mandoc."""
    if shutil.which(name) is None:
        reason = f"{name} is missing (Debian: man-db, mandoc)"
        assert os.environ.get("CI") != "true", reason
        pytest.skip(reason)
    return name


def said(*command: str, **environment: str) -> str:
    """All that a program prints, on stderr too."""
    done = subprocess.run(
        command,
        env={**os.environ, "LC_ALL": "C.UTF-8", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout


@cache
def shown(path: str) -> str:
    """A page as text without its line breaks."""
    text = said(tool("mandoc"), "-Tutf8", str(MAN / path))
    return " ".join(re.sub(".\x08", "", text).split())


def commands(group: click.Group = cli, above: tuple[str, ...] = ()):
    """Each command that is no group, with its words."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))
        else:
            yield (*above, name), command


def options():
    for words, command in commands():
        for option in command.params:
            if isinstance(option, click.Option):
                yield pytest.param(words, option, id=f"{' '.join(words)} {option.opts[0]}")


def test_each_page_says_what_its_command_says_and_no_page_has_lost_its_command():
    made = man_pages.pages()
    assert set(PAGES) == made.keys(), AGAIN
    for path, page in made.items():
        file = (MAN / path).read_text()
        assert file == man_pages.whole(path, page, man_pages.date_of(file)), f"{path}: {AGAIN}"


def test_a_page_that_did_not_change_keeps_its_date(tmp_path, monkeypatch):
    monkeypatch.setattr(man_pages, "MAN", tmp_path)
    man_pages.write()
    old, changed = (tmp_path / f"man1/shithubd-worker-{name}.1" for name in ("drain", "resume"))
    for page in (old, changed):
        page.write_text(page.read_text().replace(man_pages.date_of(page.read_text()), "2001-02-03"))
    changed.write_text(changed.read_text().replace("drain", "dr\\-ain"))
    gone = tmp_path / "man1/shithubd-worker-undo.1"
    gone.write_text("")
    man_pages.write()
    assert man_pages.date_of(old.read_text()) == "2001-02-03"
    assert man_pages.date_of(changed.read_text()) > "2001-02-03"
    assert not gone.exists()


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_neither_mandoc_nor_groff_warns_of_a_page(path):
    assert said(tool("mandoc"), "-Tlint", "-Wwarning", str(MAN / path)) == ""
    warnings = said("sh", "-c", f'{tool("man")} --warnings --local-file "$1" 2>&1 >/dev/null', "sh", str(MAN / path))
    assert warnings == ""


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_the_index_of_manual_pages_can_read_each_name(path):
    found = said(tool("lexgrog"), str(MAN / path))
    assert re.fullmatch(rf'{re.escape(str(MAN / path))}: "{path.stem} - [a-z].*[a-z]"\n', found)


@pytest.mark.parametrize(("words", "option"), list(options()))
def test_each_option_has_a_place_of_its_own_in_the_page_of_its_command(words, option):
    page = (MAN / f"man1/shithubd-worker-{words[0]}.1").read_text()
    where = " ".join(words).upper() if words[1:] else "OPTIONS"
    section = page.partition(f"\n.SH {where}\n")[2].partition("\n.SH ")[0]
    heads = [re.sub(r"\\f.|\\", "", head) for head in re.findall(r"^\.TP\n(.*)$", section, re.MULTILINE)]
    [head] = [each for each in heads if re.search(rf"(^|, ){option.opts[-1]}( |$)", each)]
    assert option.is_flag or head.partition(" ")[2]
    assert not option.envvar or f" {option.envvar} " in shown(f"man1/shithubd-worker-{words[0]}.1").replace(".", " ")


def test_the_page_of_the_program_names_each_command_and_each_exit_code():
    page = shown("man1/shithubd-worker.1")
    assert [name for name in cli.commands if f"shithubd-worker-{name}(1)" not in page] == []
    status = page.partition(" EXIT STATUS ")[2].partition(" EXAMPLES ")[0]
    codes = [value for name, value in vars(errors).items() if name.startswith("EXIT_")]
    assert [code for code in codes if f" {code} " not in f" {status}"] == []


def test_the_page_of_the_settings_has_each_variable():
    page = shown("man5/shithubd-worker.env.5")
    assert [name for name in VARIABLES if f" {name} " not in page] == []


@pytest.mark.parametrize("path", [path for path in PAGES if path.suffix == ".1"], ids=str)
def test_each_page_has_its_sections_in_the_usual_order(path):
    sections = re.findall(r"^\.SH (.*)$", (MAN / path).read_text(), re.MULTILINE)
    usual = [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "EXIT STATUS",
        "EXAMPLES",
        "FILES",
        "ENVIRONMENT",
        "SEE ALSO",
    ]
    found = [each for each in sections if each in usual]
    assert found == [each for each in usual if each in found]
    assert set(found) >= {"NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "EXAMPLES", "SEE ALSO"}
