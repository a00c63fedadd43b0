"""What ARCHITECTURE.md names is there: the rooms on their floors, files, classes, functions."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from test_architecture import FILES, FLOORS

from shithubd_worker.host.shipped import SQL

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "ARCHITECTURE.md").read_text()
TICKED = set(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)))
OF_GIT = {"objects/info/alternates"}
NO_FILES = {"jobs", "job"}  # a table, and what a handler is given


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


def test_the_table_of_rooms_has_the_floors_that_are_tested():
    _, _, behind = PAGE.partition("| room | what it is |")
    rows = behind.partition("\n\n")[0].splitlines()[2:]
    rooms = [set(re.findall(r"`(\w+)/?`", row.split("|")[1])) for row in rows]
    assert rooms == [*(set(floor) for floor in FLOORS if floor != ("__main__",)), {"handlers"}]


def test_every_file_that_the_page_names_exists():
    """As seen from the root, from the package, or from the handlers; a test by its name alone."""
    paths = {name.rstrip("/") for name in TICKED if re.fullmatch(r"[\w.-]+(/[\w.*-]+)+/?|\w+\.(py|sql|md)|\w+/", name)}
    assert "turn/wire.py" in paths
    places = (ROOT, ROOT / "shithubd_worker", ROOT / "shithubd_worker/handlers", ROOT / "sql", ROOT / "units")
    found = {path for path in paths if any(any(place.glob(path)) for place in places)}
    found |= {path for path in paths if path.startswith("test_") and any(ROOT.glob(f"tests/*/{path}"))}
    assert paths - found == OF_GIT


def test_every_function_of_sql_that_the_page_names_exists():
    functions = {path.stem for path in (SQL / "functions").rglob("*.sql")}
    named = set(re.findall(r"\b[a-z_]+_v\d\b", PAGE))
    assert "lease_v1" in named
    assert named <= functions


def test_what_the_page_names_of_a_file_of_ours_is_defined_there():
    of_files = {Path(name).stem: defined(path) for name, path in FILES.items()}
    named = [name.partition(".")[::2] for name in TICKED if re.fullmatch(r"[a-z_]+\.[A-Za-z_]+", name)]
    ours = {
        (file, what)
        for file, what in named
        if file in of_files and what not in ("py", "sql", "env") and file not in NO_FILES
    }
    assert ("pooled", "ours") in ours
    assert {(file, what) for file, what in ours if what not in of_files[file]} == set()


def test_every_class_that_the_page_names_exists():
    classes = set.union(*map(defined, FILES.values()))
    named = {name.partition(".")[0] for name in TICKED if re.fullmatch(r"[A-Z][a-z]\w*(\.\w+)?", name)}
    assert "Settler" in named
    assert named <= classes
