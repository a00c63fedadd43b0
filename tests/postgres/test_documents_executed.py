"""Every block of README.md and docs/ that can be run is run, page by page, and prints what the page shows."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import claims
import click
import pytest
from documents import OF_OTHERS, OPTIONS, RUNNABLE, SCENES, SHOWN, Reader, shell_environment
from page import RUNBOOKS, Page

from shithubd_worker.cli import cli

ROOT = RUNBOOKS.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# What no test of this file can run, and why. To leave a block out, write its reason here and above the block.
NOT_RUN = {
    "README.md": [
        "a test of its own runs it on a booted systemd host",
    ],
    "commands.md": [
        "it needs the virtual environment of a host",
        "it needs root on a host of workers",
        "it needs zsh",
        "it needs fish",
        "it runs until you stop it",
        "it needs systemd",
        "it needs root on a host of workers",
        "it runs until you stop it",
        "it needs systemd",
        "it needs a terminal",
        "no worker works here, so it exits with 3",
        "it needs jq",
        "it needs jq",
        "it needs jq",
        "it needs jq",
        "no worker of this host is known here",
        "this worker is not here",
        "it needs jq",
        "no worker has died here",
        "there is no such plan here",
        "it needs root on a host of workers",
        "it needs systemd",
        "it needs systemd",
        "it needs systemd",
        "it needs systemd",
    ],
    "metrics.md": ["it needs systemd; tests/systemd/test_units_fleet.py runs it"],
}

# How README.md installs the product. All pages are read with what this makes.
INSTALL = "python3 -m venv ~/try && ~/try/bin/pip install --quiet ."

# How many figures of a page are text that no block prints. Another test holds each to what it shows.
FIGURES = {"timing.md": 1}

every_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)


def document(path: Path) -> Page:
    return Page(path, with_figures=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with the virtual environment that README.md makes. Nothing else of the tests' own environment is in it."""
    home = tmp_path_factory.mktemp("home")
    assert INSTALL in (ROOT / "README.md").read_text()
    subprocess.run(INSTALL, shell=True, cwd=ROOT, env=shell_environment(home), check=True)
    return home


@every_page
def test_the_page_is_true(path, reader):
    if path.name == "README.md":  # which begins in a clone, and makes a database
        reader.directory = ROOT
    try:
        for block in document(path).blocks:
            if block.manual is None and block.language in RUNNABLE:
                reader.do(block)
    finally:
        reader.database.query("DROP DATABASE IF EXISTS try WITH (FORCE)")


@every_page
def test_each_block_that_is_not_run_is_listed_with_its_reason(path):
    left_out = [block.manual for block in document(path).blocks if block.manual is not None]
    assert left_out == NOT_RUN.get(path.name, [])


@pytest.mark.parametrize("path", [*PAGES, ROOT / "SECURITY.md"], ids=lambda path: path.stem)
def test_every_link_leads_somewhere(path):
    for target in re.findall(r"\]\(([^)]+)\)", document(path).prose):
        name, _, anchor = target.partition("#")
        other = (path.parent / name).resolve() if name else path
        assert other.exists() or target.startswith("https://"), target
        headings = re.findall(r"^#+ (.*)$", other.read_text(), re.MULTILINE) if anchor else []
        anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, target


@every_page
def test_text_that_no_block_prints_is_a_figure_that_is_listed(path):
    figures = [block for block in document(path).blocks if block.language == "text"]
    assert len(figures) == FIGURES.get(path.name, 0)


def test_the_figures_of_the_readme_are_those_of_the_benchmark():
    results = (ROOT / "benchmarks/results/results.md").read_text()
    section = (ROOT / "README.md").read_text().partition("## Speed")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    figures = [figure for row in rows for figure in re.findall(r"[\d,.]+", row.partition("|")[2].partition("|")[2])]
    assert len(figures) == 15
    assert [figure for figure in figures if figure not in re.findall(r"[\d,.]+", results)] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("name", ["README.md", "SECURITY.md", "docs/handlers.md", "docs/coming-from.md"])
def test_each_command_that_the_text_names_with_its_arguments_exists(name):
    faults = []
    for line, text in claims.quoted(Page(ROOT / name)):
        words = re.sub(r"\bID\b", "1", text.replace("…", "")).removeprefix("shithubd-worker ").split(" ")
        if words[0] in cli.commands and len(words) > 1:
            try:
                claims.check_command(cli, shlex.split(" ".join(words)))
            except click.UsageError as error:
                faults.append(f"{name}:{line}: {text}: {error.format_message()}")
    assert faults == []


@every_page
def test_every_language_scene_and_placeholder_of_a_page_is_known(path):
    given: set[str] = set()
    for block in document(path).blocks:
        assert block.language in (*RUNNABLE, *OF_OTHERS, *SHOWN, "text"), f"{block}: {block.language!r}"
        assert set(block.options) <= OPTIONS, block
        for name, arguments in block.scenes:
            assert name in SCENES, f"{block}: {name}"
            given |= set(arguments) | {"job-id"}
        if block.manual is None and block.language in RUNNABLE:
            assert block.placeholders <= given, block
        assert block.prints is None or set(block.prints) - set(". \n"), f"{block} shows nothing but dots"


@pytest.fixture
def reader(database, home, tmp_path):
    (tmp_path / "empty").mkdir()
    reader = Reader(database, home, tmp_path / "empty")
    yield reader
    reader.leave()


@pytest.fixture
def follow(reader, tmp_path):
    """Do what a page says that a test has written."""

    def do(*blocks):
        path = tmp_path / "page.md"
        path.write_text("\n\n".join(blocks) + "\n")
        for block in document(path).blocks:
            reader.do(block)

    return do


def block(language, text, prints=None):
    shown = "" if prints is None else f"\n```text\n{prints}\n```"
    return f"```{language}\n{text}\n```{shown}"


@pytest.mark.parametrize(
    "wrong",
    [
        block("sh", "false"),
        block("sh", "echo one", "two"),
        block("sh", "echo 'one two' >&2", "one"),
        block("sql", "SELECT nothing"),
        block("sql", "SELECT 1 AS n", " n\n---\n 2\n(1 row)"),
        block("python", "raise SystemExit(1)"),
        block("python", "print(1)", "2"),
        block("python", "# jobs.py\nthis is no code"),
        block("sh", "test -e jobs.py"),
        block("sh", 'test "$(psql -XAtc "SELECT count(*) FROM jobs")" = 1'),
    ],
)
def test_a_block_that_is_not_so_fails(follow, wrong):
    with pytest.raises((AssertionError, SyntaxError)):
        follow(wrong)


def test_a_block_finds_what_those_above_it_have_left(follow):
    follow(
        block("python", "# forge/jobs.py\nKINDS = ['a', 'b']"),
        block("python", "from forge.jobs import KINDS\nn = len(KINDS)"),
        block("python", "connection.execute('INSERT INTO jobs (kind) SELECT %s', [KINDS[0]])\nprint(n)", "2"),
        block("sql", "SELECT kind FROM jobs", " kind\n------\n a\n(1 row)"),
        block("sh", 'ls forge/jobs.py\nshithubd-worker jobs list --json | grep -o \'"kind": "a"\'', '...\n"kind": "a"'),
    )


def test_a_scene_gives_a_job_to_act_upon(follow):
    follow(
        "<!-- scene failed kind=webhook.deliver -->\n" + block("sh", "shithubd-worker jobs retry <job-id>", "..."),
        "<!-- scene done kind=search.reindex -->\n" + block("sh", "shithubd-worker jobs show <job-id>", "..."),
        "<!-- scene running kind=repo.maintenance waiting=2 -->\n"
        + block("sh", "shithubd-worker status", "running 1, held 0 (queued 3, paused 0, failed 0)\n..."),
        "<!-- run rc=3 -->\n" + block("sh", "shithubd-worker status --drained"),
    )


@pytest.mark.parametrize(
    ("option", "shown", "printed"),
    [
        ("times=vary", "2026-01-31 23:59:59 for 4 s", "2025-11-27 02:00:00 for 1.5 s"),
        ("people=vary", "paused by alice@forge-1", "paused by root@vm"),
    ],
)
def test_what_differs_from_run_to_run_may_differ_where_the_page_says_so(follow, option, shown, printed):
    said = block("sh", f"echo {printed}", shown)
    follow(f"<!-- run {option} -->\n{said}")
    with pytest.raises(AssertionError):
        follow(said)
