"""What a page names exists in the product. Takes seconds; test_executed.py shows that it works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import claims
import page
import products
import prose
import pytest
import scenes
from claims import CHECKS, Check
from conftest import Database, new_database
from mutants.runbooks import MUTANTS
from page import PAGES, RUNBOOKS, RUNNABLE, Block, Page
from products import UPSTREAM, Product
from servers import Server
from test_closed_loops import ALWAYS, LOOPS
from test_upstream import REPORTED

MOST_MANUAL = 0.05
# What a page may take of its reader: the words of half of its sentences, and the grade (see prose.py).
MEDIAN, GRADE = 14, 9
# What leads to the pages.
STUBS = (RUNBOOKS / "README.md", RUNBOOKS / "incidents.md")

every_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)


def blocks(language: str | None = None) -> list[Block]:
    return [block for path in PAGES for block in Page(path).blocks if language in (None, block.language)]


@pytest.fixture(scope="module")
def ours() -> Product:
    return products.ours()


@pytest.fixture(scope="module")
def schema(server: Server) -> Iterator[Database]:
    """A database with our schema for all pages. No check leaves a trace in it."""
    yield from new_database(server)


@every_page
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_what_a_page_says_is_so(check: Check, path: Path, ours: Product, schema: Database) -> None:
    faults = [f"{path.name}:{fault.line}: {fault.text}" for fault in check(Page(path), ours, schema)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("path", [*PAGES, *STUBS], ids=lambda path: path.stem)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if not target.startswith("https://"):
            name, _, anchor = target.partition("#")
            other = (path.parent / name).resolve() if name else path
            assert other.is_file(), target
            headings = {
                re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")
                for heading in re.findall(r"^#+ (.*)$", other.read_text(), re.MULTILINE)
            }
            assert not anchor or anchor in headings, target


def test_incidents_lead_to_the_page_of_each_alert() -> None:
    text = (RUNBOOKS / "incidents.md").read_text()
    alerts = [path.name for path in PAGES if path.parent.name == "alerts"]
    assert [name for name in alerts if f"(alerts/{name})" not in text] == []


@every_page
def test_every_scene_and_placeholder_is_known(path: Path) -> None:
    given: set[str] = set()
    for block in Page(path).blocks:
        assert block.language in RUNNABLE, f"{block}: {block.language or 'a block without a language'}"
        assert set(block.options) <= {"rc", "timeout", "as"}, block
        for name, arguments in block.scenes:
            given |= scenes.gives(name) | set(arguments)
        assert block.manual is not None or block.placeholders <= given, block


def test_at_most_one_block_in_twenty_is_left_to_people() -> None:
    manual = [block for block in blocks() if block.manual is not None]
    assert all(block.manual for block in manual)
    assert len(manual) <= MOST_MANUAL * len(blocks())


@every_page
def test_a_page_never_shows_only_dots(path: Path) -> None:
    for block in Page(path).blocks:
        assert block.prints is None or set(block.prints) - set(". \n"), f"{block} shows nothing but dots"


@every_page
def test_a_page_has_a_title_and_something_to_do(path: Path) -> None:
    found = Page(path)
    assert found.text.startswith("# ")
    assert found.blocks
    seen = [line for line in found.text.splitlines() if not line.startswith("<!--")]
    assert len(seen) <= 150, "too long for somebody who is tired"


@pytest.mark.parametrize("path", [*PAGES, *STUBS], ids=lambda path: path.stem)
def test_a_tired_reader_understands_a_page_at_once(path: Path) -> None:
    text = path.read_text()
    assert prose.median_length(text) <= MEDIAN
    assert prose.grade(text) <= GRADE
    assert not [said for said in prose.sentences(text) if len(said.split()) > prose.LONGEST]
    assert not list(prose.stumbles(text))


def test_the_readme_has_the_figures_of_the_tests() -> None:
    readme = " ".join(STUBS[0].read_text().split())
    numbers = {3: "three", 10: "ten", 13: "thirteen", 20: "twenty"}
    statements = len(re.findall(r"^## \d+\.", (UPSTREAM / "page.md").read_text(), re.MULTILINE))
    said = (
        f"For {numbers[len(LOOPS)]} alerts a test follows the whole loop",
        f"`make test` does this for {numbers[len(ALWAYS)]} alerts, `make test-long` for all {numbers[len(LOOPS)]}",
        f"The forge's own pages said {numbers[statements]} things",
        f"The static layer reports {numbers[len(REPORTED)]} of them",
        f"Its subject `runbooks` has {len(MUTANTS)} changes",
    )
    assert [each for each in said if each not in readme] == []


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


def test_the_tests_read_every_page_in_the_directory() -> None:
    assert set(RUNBOOKS.rglob("*.md")) == {*PAGES, *STUBS}


# For each check a false sentence.
LIES: dict[Check, str] = {
    claims.commands_and_flags: "`shithubd-worker drain --everything`",
    claims.who_types_it: "`shithubd-worker history drop`",
    claims.sql: "`SELECT locked_by FROM jobs`",
    claims.values: "Look for `state = 'running'`.",
    claims.units_and_paths: "`systemctl stop shithubd-workers`",
    claims.kinds: "`pause-kind search.index`",
    claims.words: "`locked_by` names the process.",
    claims.metrics: "`shithubd_job_queue_length` grows.",
    claims.alerts: "The alert `JobsWait` tells.",
    claims.variables: "Set `SHITHUBD_WORKER_PATIENCE`.",
    claims.directives: "After `TimeoutStopSec=90` it is ended.",
    claims.exit_codes: "It ends with exit code 78: the database is away.",
    claims.claims: "<!-- claim late=written -->",
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_each_check_reports_its_false_sentence(check: Check, tmp_path: Path, ours: Product, schema: Database) -> None:
    (tmp_path / "x.md").write_text(f"# x\n\n{LIES[check]}\n")
    [fault] = check(Page(tmp_path / "x.md"), ours, schema)
    assert fault.line == 3
