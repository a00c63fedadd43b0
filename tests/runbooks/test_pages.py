"""The runbooks against the product, in seconds: what a page names exists. That it works is test_executed.py's."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import page
import pytest
import scenes
from page import PAGES, RUNBOOKS, RUNNABLE, Block, Page

from shithubd_worker import units
from shithubd_worker.cli import cli

# What stands for a placeholder where only the form counts.
ANY = "1"
BEFORE_A_COMMAND = {"--", "do", "then", "else", "if", "while", "until", "!", "sudo"}
UNIT = re.compile(r"shithubd-worker(?:@[\w*-]*)?\.(?:service|target|slice|timer)")
PATH = re.compile(r"/(?:etc|run|var/lib|usr)/[\w./@-]+\w")
MOST_MANUAL = 0.05

every_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)


def blocks(language: str | None = None) -> list[Block]:
    return [block for path in PAGES for block in Page(path).blocks if language in (None, block.language)]


def commands(text: str) -> Iterator[list[str]]:
    """The words of each call of shithubd-worker in shell text, without its name."""
    for line in re.sub(r"<[a-z-]+>", ANY, text.replace("\\\n", " ")).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        call: list[str] | None = None
        before = ";"
        for word in [*lexer, ";"]:
            if set(word) <= set("();<>|&"):
                if call is not None:
                    yield call
                call = None
            elif call is not None:
                call.append(word)
            elif word == "shithubd-worker" and (before in BEFORE_A_COMMAND or set(before) <= set("();|&")):
                call = []
            before = word


def check_command(words: list[str]) -> None:
    """Raises click.UsageError for a command, an option or an argument that doesn't exist."""
    command: click.Command = cli
    context = click.Context(cli, info_name="shithubd-worker")
    while isinstance(command, click.Group):
        assert words, f"{command.name} needs a command behind it"
        name, words = words[0], words[1:]
        found = command.get_command(context, name)
        assert found is not None, f"there is no command {name}"
        command = found
        context = click.Context(command, parent=context, info_name=name)
    with command.make_context(command.name, words, parent=context.parent):
        pass


def sentences(path: Path) -> Iterator[str]:
    """What stands in backquotes in the text, if it is a command of ours."""
    for quoted in re.findall(r"`([^`\n]+)`", Page(path).prose):
        if quoted.startswith("shithubd-worker "):
            yield quoted


@every_page
def test_every_command_and_flag_exists(path: Path) -> None:
    text = [block.text for block in Page(path).blocks if block.language == "sh"]
    for words in [words for each in (*text, *sentences(path)) for words in commands(each.replace("…", ""))]:
        given = [re.sub(r"\$\([^)]*\)", ANY, word) for word in words]
        try:
            check_command(given)
        except click.ClickException as error:
            pytest.fail(f"{path.name}: shithubd-worker {' '.join(words)}: {error.format_message()}")


def _can_be_prepared(statement: str) -> bool:
    """A VACUUM can't; it is only executed."""
    return bool(statement.strip()) and not statement.strip().startswith("VACUUM")


@pytest.mark.parametrize("block", blocks("sql"), ids=str)
def test_every_statement_is_understood_by_the_schema(block: Block, database) -> None:
    for number, statement in enumerate(filter(_can_be_prepared, block.text.split(";"))):
        text = re.sub(r"<[a-z-]+>", ANY, statement)
        database.query(f"PREPARE statement_{number} AS {text}")


@every_page
def test_every_unit_and_path_exists(path: Path) -> None:
    text = Page(path).text
    shipped = {file.name for file in units.directory().iterdir()}
    for unit in UNIT.findall(text):
        assert re.sub(r"@[\w*-]+", "@", unit) in shipped, unit
    for drop_in in re.findall(r"drop-in `([\w.-]+)`", text):
        assert (units.directory() / "drop-ins" / drop_in).is_file(), drop_in
    known = "\n".join(file.read_text() for file in units.directory().rglob("*.*"))
    for place in PATH.findall(text):
        if place.startswith(("/etc/shithub/", "/run/shithub")):
            assert re.sub(r"shithubd-worker(@\w*)?\.env", "%N.env", place) in known, place


@every_page
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", Page(path).text):
        if not target.startswith("https://"):
            name, _, anchor = target.partition("#")
            other = (path.parent / name).resolve() if name else path
            assert other.is_file(), target
            headings = {
                re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")
                for heading in re.findall(r"^#+ (.*)$", other.read_text(), re.MULTILINE)
            }
            assert not anchor or anchor in headings, target


@every_page
def test_every_scene_and_placeholder_is_known(path: Path) -> None:
    given: set[str] = set()
    for block in Page(path).blocks:
        assert block.language in RUNNABLE, f"{block}: {block.language or 'a block without a language'}"
        assert set(block.options) <= {"rc", "timeout", "as"}, block
        for name, arguments in block.scenes:
            given |= scenes.gives(name) | set(arguments)
        assert block.manual is not None or block.placeholders <= given, block


def test_hardly_any_block_is_left_to_people() -> None:
    manual = [block for block in blocks() if block.manual is not None]
    assert all(block.manual for block in manual)
    assert len(manual) <= MOST_MANUAL * len(blocks())


@every_page
def test_a_page_has_a_title_and_something_to_do(path: Path) -> None:
    found = Page(path)
    assert found.text.startswith("# ")
    assert found.blocks
    assert len(found.text.splitlines()) <= 150, "too long for somebody who is tired"


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("drained", "drained\n", True),
        ("drained", "not drained\n", False),
        ("held (... s)", "held (0.5 s)\n", True),
        ("a\n...\nb", "a\nb\n", True),
        ("a\n...\nb", "a\nx\ny\nb\n", True),
        ("a\n...", "a\n", True),
        ("a\n...\nb", "a\nx\n", False),
        (" n\n---\n 3", " n \n------\n  3\n", True),
        (" n\n---\n 3", " n \n------\n 13\n", False),
        ("", "anything", False),
    ],
)
def test_what_a_page_shows_is_compared_line_by_line(shown: str, printed: str, same: bool) -> None:
    assert page.prints(shown, printed) is same


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("```sh\ntrue\n", "no end"),
        ("```text\nx\n```\n", "no block right before"),
        ("```sh\ntrue\n```\nprose\n```text\nx\n```\n", "no block right before"),
        ("<!-- scen x -->\n```sh\ntrue\n```\n", "isn't understood"),
        ("``` sh\ntrue\n```\n", "isn't understood"),
    ],
)
def test_a_page_that_is_not_understood_is_a_fault(tmp_path: Path, text: str, fault: str, monkeypatch) -> None:
    monkeypatch.setattr(page, "RUNBOOKS", tmp_path)
    (tmp_path / "x.md").write_text(f"# x\n\n{text}")
    with pytest.raises(ValueError, match=fault):
        Page(tmp_path / "x.md")


def test_the_runbooks_directory_holds_nothing_that_no_test_reads() -> None:
    assert set(RUNBOOKS.rglob("*.md")) == {*PAGES, RUNBOOKS / "README.md"}
