"""What ARCHITECTURE.md and its pages in docs/ name exists: rooms, files, classes, functions, connections, tables."""

from __future__ import annotations

import ast
import logging
import re
from functools import cache
from pathlib import Path

import pytest
from test_architecture import FILES, FLOORS

from shithubd_worker.host.shipped import SQL
from shithubd_worker.telemetry import lines

ROOT = Path(__file__).parents[2]
PAGES = {
    name: (ROOT / name).read_text()
    for name in (
        "ARCHITECTURE.md",
        *(f"docs/{page}.md" for page in ("decisions", "timing", "failures", "handler-process", "database", "host")),
    )
}
PAGE = PAGES["ARCHITECTURE.md"]
PICTURE = PAGE.split("```")[1]
MOST_LINES, WIDEST = 250, 120
OF_GIT = {"objects/info/alternates"}
NO_FILES = {"jobs", "job"}  # a table, and what a handler is given
BENCHMARKS = "benchmarks/README.md"
PLACES = (ROOT, ROOT / "shithubd_worker", ROOT / "shithubd_worker/handlers", ROOT / "sql", ROOT / "units")


def ticked(page: str) -> set[str]:
    """What stands between backticks, outside of blocks of code."""
    return set(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL)))


@cache
def defined(path: Path) -> set[str]:
    """The classes, functions and constants of a file."""
    body = ast.parse(path.read_text()).body
    constants = {
        target.id
        for node in body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return constants | {node.name for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}


@cache
def members(path: Path) -> set[str]:
    """`Class.name` of each method, field and constant of a file's classes."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            for each in ast.walk(node):
                if isinstance(each, ast.FunctionDef):
                    found.add(f"{node.name}.{each.name}")
                elif isinstance(each, ast.Attribute) and ast.unparse(each.value) == "self":
                    found.add(f"{node.name}.{each.attr}")
    return found


def paths(page: str) -> set[str]:
    return {
        name.rstrip("/") for name in ticked(page) if re.fullmatch(r"[\w.-]+(/[\w.*-]+)+/?|\w+\.(py|sql|md)|\w+/", name)
    }


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(page: str) -> list[str]:
    return [slug(heading) for heading in re.findall(r"^#+ (.*)$", page, re.MULTILINE)]


def links(page: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", page)


def test_the_page_can_be_read_in_one_sitting():
    lines = PAGE.splitlines()
    assert len(lines) <= MOST_LINES
    assert [line for line in lines if len(line) > WIDEST] == []


def test_the_picture_comes_before_everything_but_the_introduction():
    assert "\n## " not in PAGE.split("```")[0]
    assert len(PAGE.split("```")[0].splitlines()) <= 8


def test_the_picture_names_each_connection_by_its_application_name_and_no_other():
    """As pg_stat_activity shows them."""
    opened = {
        name
        for path in FILES.values()
        for name in re.findall(r"\bconnect\(\s*\"(shithubd-worker[^\"]*)\"", path.read_text())
    }
    assert "shithubd-worker control" in opened
    assert set(re.findall(r"\"(shithubd-worker[^\"]*)\"", PICTURE)) == opened


def test_the_picture_names_each_thread_of_the_worker_and_no_other():
    """But for those that a handler starts, and ends with its job, those that watch the end of the process, and that of
    a command (top)."""
    named = {
        name
        for file, path in FILES.items()
        if not file.startswith(("handlers/", "cli/")) and file != "host/leaving.py"
        for call in re.findall(r"(?:Thread\(|super\(\).__init__\()[^\n]*", path.read_text())
        for name in re.findall(r"\bname=\"(\w+)\"", call)
    }
    assert "control" in named
    assert set(re.findall(r"thread \"(\w+)\"", PICTURE)) == named
    assert "main thread" in PICTURE


def test_the_picture_names_each_table_and_each_view():
    made = {
        name
        for path in (SQL / "migrations").glob("*.sql")
        for name in re.findall(r"^CREATE (?:TABLE|VIEW) (\w+)", path.read_text(), re.MULTILINE)
    }
    assert {"jobs", "standing_holds"} <= made
    assert made - set(re.findall(r"\w+", PICTURE)) == set()


def test_the_table_of_rooms_has_the_floors_that_are_tested():
    _, _, behind = PAGE.partition("| room | what it is |")
    rows = behind.partition("\n\n")[0].splitlines()[2:]
    rooms = [set(re.findall(r"`(\w+)/?`", row.split("|")[1])) for row in rows]
    assert rooms == [*(set(floor) for floor in FLOORS if floor != ("__main__",)), {"handlers"}]


def test_every_folder_of_functions_is_named():
    folders = {path.name for path in (SQL / "functions").iterdir()}
    assert folders - ticked(PAGE) == set()


def test_every_function_that_moves_a_job_is_in_the_table_of_transitions():
    """Each that writes a state into jobs, takes a job out of it, or has flip_v1 do so."""
    moves = re.compile(
        r"\bDELETE FROM (:\"schema\"\.)?jobs\b|\bflip_v1\(\w+, '"
        r"|\bUPDATE (:\"schema\"\.)?jobs\b(\s+j\b)?\s+SET\b((?!\bFROM\b|\bWHERE\b).)*?\bstate =",
        re.DOTALL,
    )
    moving = {path.stem for path in (SQL / "functions").rglob("*.sql") if moves.search(path.read_text())}
    # The first does what the table says of two others, and the last takes back what it has tried.
    through = {"flip_v1", "lease_refused_v1"}
    assert through | {"lease_v1", "settle_v1", "change_slice_v1", "return_crashed_v1", "unpause_v1"} <= moving
    table = PAGE.partition("## A job's life")[2].partition("\n\n`")[0]
    named = set(re.findall(r"\w+_v\d", table))
    assert moving - through == named - {"jobs_enqueued_v1"}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_every_file_that_the_page_names_exists(page):
    """As seen from the root, from the package, or from the handlers; a test by its name alone."""
    named = paths(page)
    found = {path for path in named if any(any(place.glob(path)) for place in PLACES)}
    found |= {path for path in named if path.startswith("test_") and any(ROOT.glob(f"tests/*/{path}"))}
    assert named - found - OF_GIT == set()


def test_files_are_found_among_what_is_named():
    assert "turn/wire.py" in paths(PAGE)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_every_function_of_sql_that_the_page_names_exists(page):
    functions = {path.stem for path in (SQL / "functions").rglob("*.sql")}
    assert set(re.findall(r"\b[a-z_]+_v\d\b", page)) <= functions


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_what_the_page_names_of_a_file_of_ours_is_defined_there(page):
    of_files = {Path(name).stem: defined(path) for name, path in FILES.items()}
    named = [name.partition(".")[::2] for name in ticked(page) if re.fullmatch(r"[a-z_]+\.[A-Za-z_]+", name)]
    ours = {
        (file, what)
        for file, what in named
        if file in of_files and what not in ("py", "sql", "env") and file not in NO_FILES
    }
    assert {(file, what) for file, what in ours if what not in of_files[file]} == set()


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_every_class_that_the_page_names_exists_and_has_what_is_named_of_it(page):
    classes = set.union(*map(defined, FILES.values()))
    of_classes = set.union(*map(members, FILES.values()))
    named = {name for name in ticked(page) if re.fullmatch(r"[A-Z][a-z]\w*(\.\w+)?", name)}
    assert {name.partition(".")[0] for name in named} <= classes
    assert {name for name in named if "." in name} <= of_classes


def test_classes_are_found_among_what_is_named():
    assert {"Settler", "Attempt.run"} <= ticked(PAGE)
    assert "pooled.ours" in ticked(PAGES["docs/database.md"])


def test_every_file_that_the_page_of_the_benchmark_names_exists():
    """As seen from its folder; the Node of the peers is made by a run."""
    folder = (ROOT / BENCHMARKS).parent
    places = (ROOT, folder, folder / "results", ROOT / "shithubd_worker")
    named = paths((ROOT / BENCHMARKS).read_text())
    assert {path for path in named if not any((place / path).exists() for place in places)} == {"node_modules"}


def test_the_page_of_the_benchmark_names_each_room_of_it():
    folder = (ROOT / BENCHMARKS).parent
    files = {path.name for path in folder.glob("*.py") if not path.name.startswith("__")}
    folders = {path.parent.name for path in folder.glob("*/*.py")}
    rooms = (ROOT / BENCHMARKS).read_text().partition("## The rooms")[2]
    named = set(re.findall(r"`([\w.]+)/?`", rooms.partition("A new peer")[0]))
    assert named - {"results.md"} == files | folders


@pytest.mark.parametrize("name", [*PAGES, BENCHMARKS])
def test_every_link_of_the_page_leads_somewhere(name):
    for link in links((ROOT / name).read_text()):
        file, _, anchor = link.partition("#")
        target = (ROOT / name).parent / file if file else ROOT / name
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


def test_the_page_of_the_host_has_each_drop_in_and_each_field_of_the_journal():
    named = ticked(PAGES["docs/host.md"])
    drop_ins = {path.name for path in (ROOT / "units/drop-ins").iterdir()}
    assert {name for name in named if name.endswith(".conf")} == drop_ins
    record = logging.LogRecord("shithubd_worker.x", logging.INFO, "file", 1, "text", (), None)
    for name in ("job_id", "kind", "attempt", "outcome", "event"):
        setattr(record, name, "1")
    record.threadName = "resolve"
    usual = {"PRIORITY", "SYSLOG_IDENTIFIER", "MESSAGE"}
    assert set(lines.journal_fields(record)) - usual == {name for name in named if re.fullmatch(r"[A-Z_]{9,}", name)}


def test_every_page_can_be_reached_from_the_architecture():
    assert set(PAGES) - {"ARCHITECTURE.md"} <= set(links(PAGE))


def test_no_two_headings_of_a_page_have_the_same_anchor():
    assert {name for name, page in PAGES.items() if len(anchors(page)) != len(set(anchors(page)))} == set()


def test_the_contents_of_the_decisions_list_all_of_them_in_their_order():
    page = PAGES["docs/decisions.md"]
    contents = re.findall(r"^  - \[(.*)\]\(#", page, re.MULTILINE)
    assert contents == re.findall(r"^### (.*)$", page, re.MULTILINE)
    assert len(contents) > 50


def test_each_decision_says_its_context_what_was_decided_what_follows_and_when():
    entries = PAGES["docs/decisions.md"].split("\n### ")[1:]
    parts = [re.findall(r"^- \*(\w+)\.\*", entry, re.MULTILINE) for entry in entries]
    usual, measured = ["Context", "Decision", "Consequence"], ["Measured"]
    assert [each for each in parts if each not in ([*usual, "Date"], [*usual, *measured, "Date"])] == []
    assert all(re.search(r"^- \*Date\.\* \d{4}-\d\d-\d\d$", entry, re.MULTILINE) for entry in entries)
