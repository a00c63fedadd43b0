"""The house keeps its shape: who may import whom, what a module and a SQL file must have."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import shithubd_worker
from shithubd_worker.host import shipped

PACKAGE = Path(shithubd_worker.__file__).parent
TESTS = Path(__file__).parents[1]
LONGEST_FILE = 403

# Bottom up; a module imports from the layers below its own, and sideways only what SIDEWAYS names.
LAYERS = (
    ("errors", "model", "plain"),
    ("backoff", "client", "config", "host"),
    ("job", "registry"),
    ("database", "frontier", "prefetch", "shares", "wakeups"),
    ("tray", "telemetry"),
    ("attempt", "turns"),
    ("settling", "upkeep"),
    ("progress", "relief"),
    ("control",),
    ("line",),
    ("exchange",),
    ("patience", "unstarted"),
    ("worker",),
    ("cli",),
    ("__main__",),
)
SIDEWAYS: set[tuple[str, str]] = set()
# What a handler may know of the package: what it raises, what it is given, and how it is registered.
HANDLERS_MAY_IMPORT = {"errors", "registry", "config", "job", "handlers", ""}
# Those who speak to the database when they run. `job` and `attempt` name its types only.
SPEAK_TO_THE_DATABASE = {
    *("client", "cli", "database", "exchange", "handlers", "line", "telemetry", "turns", "unstarted", "upkeep"),
    "worker",
}
# Pure rooms: nothing in them touches a socket, a process, a signal or a file.
PURE = {
    "model": {"dataclasses", "enum", "math", "typing", "uuid"},
    "frontier": {"collections", "math", "typing"},
    "prefetch": {"collections", "math"},
    "wakeups": {"collections", "math"},
    "shares": set(),
    "database/clock": {"collections", "math", "threading"},
    "database/arrays": {"collections", "typing"},
    "tray": {"collections", "typing"},
    "errors": {"datetime"},
    "database/sqlstates": {"enum"},
    "attempt/raised": {"collections", "contextlib", "itertools", "opcode", "traceback", "types"},
    "backoff": set(),
}
LIBRARIES = {
    "click": {"cli"},
    "rich": {"cli"},
    "prometheus_client": {"telemetry"},
    "sdnotify": {"host"},
}


def modules() -> dict[str, list[Path]]:
    """The rooms of the package: a module, or a subpackage with all of its files."""
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        found.setdefault(path.relative_to(PACKAGE).parts[0].removesuffix(".py"), []).append(path)
    return found


ROOMS = modules()


@cache
def imports(path: Path, *, types: bool) -> frozenset[str]:
    """The full names that a file imports; those under `if TYPE_CHECKING:` only if `types`. Each file is read once."""
    tree = ast.parse(path.read_text())
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if node in for_types and not types:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def rooms_of(path: Path, *, types: bool) -> set[str]:
    """The rooms of our own package that a file imports; '' for a name of the package itself, such as __version__."""
    found = set()
    for name in imports(path, types=types):
        parts = name.split(".")
        if parts[0] == "shithubd_worker":
            found.add(parts[1] if len(parts) > 1 and parts[1] in ROOMS else "")
    return found


def layer(room: str) -> int:
    return next(number for number, rooms in enumerate(LAYERS) if room in rooms)


def test_every_room_has_its_place():
    placed = {room for rooms in LAYERS for room in rooms}
    assert set(ROOMS) == placed | {"__init__", "handlers"}


@pytest.mark.parametrize("room", [room for rooms in LAYERS for room in rooms])
def test_imports_run_one_way(room):
    for path in ROOMS[room]:
        for other in rooms_of(path, types=False) - {"", room}:
            if other == "handlers":
                assert room == "cli", f"{path.name} imports a handler"
            else:
                assert layer(other) < layer(room) or (room, other) in SIDEWAYS, f"{path.name} imports {other}"


def test_types_run_one_way_too_except_that_some_are_told_of_the_metrics():
    told = SIDEWAYS | {("settling", "metrics"), ("upkeep", "metrics")}
    for room in [room for rooms in LAYERS for room in rooms]:
        for path in ROOMS[room]:
            for other in rooms_of(path, types=True) - {"", room, "handlers"}:
                known = layer(other) < layer(room) or (room, other) in told
                assert known, f"{path.name} names types of {other}"


def test_a_handler_knows_nothing_of_the_machinery():
    for path in ROOMS["handlers"]:
        assert rooms_of(path, types=True) <= HANDLERS_MAY_IMPORT, path.name


def test_only_the_command_line_and_the_handlers_themselves_look_up_a_handler():
    """The loop learns its handlers from the registry, so none is built in."""
    importers = {room for room, paths in ROOMS.items() for p in paths if "handlers" in rooms_of(p, types=False)}
    assert importers <= {"cli", "handlers"}


def test_the_package_itself_imports_nothing_of_its_own_until_it_is_asked():
    assert rooms_of(PACKAGE / "__init__.py", types=False) == set()


def test_only_a_few_rooms_speak_to_the_database():
    speakers = {
        room
        for room, paths in ROOMS.items()
        for path in paths
        if any(name.split(".")[0] == "psycopg" for name in imports(path, types=False))
    }
    assert speakers <= SPEAK_TO_THE_DATABASE


@pytest.mark.parametrize(("library", "rooms"), LIBRARIES.items())
def test_each_library_is_used_in_one_room(library, rooms):
    users = {
        room
        for room, paths in ROOMS.items()
        for path in paths
        if any(name.split(".")[0] == library for name in imports(path, types=True))
    }
    assert users <= rooms


@pytest.mark.parametrize(("room", "allowed"), PURE.items())
def test_the_pure_rooms_touch_nothing(room, allowed):
    for name in imports(PACKAGE / f"{room}.py", types=False):
        assert name.split(".")[0] in allowed | {"__future__", "shithubd_worker"}, name


def test_the_help_pays_for_no_library_that_it_does_not_show():
    """psycopg, rich and prometheus-client are imported inside functions, or for types only, in what `--help` loads."""
    heavy = {"psycopg", "rich", "prometheus_client"}
    for path in ROOMS["cli"]:
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & heavy, path.name
            assert not {"shithubd_worker.database.queue_session", "shithubd_worker.worker"} & set(names), path.name


def test_nothing_but_the_attempt_and_the_host_may_end_or_interrupt_the_process():
    for room, paths in ROOMS.items():
        for path in paths:
            text = path.read_text()
            assert ("os._exit" in text) <= (room == "host"), path.name
            assert ("raise Interrupted" in text) <= (room == "attempt"), path.name


def test_every_module_says_what_it_is_for():
    for paths in ROOMS.values():
        for path in paths:
            tree = ast.parse(path.read_text())
            said = ast.get_docstring(tree)
            assert said, path
            assert said.splitlines()[0].endswith((".", ":")), path


def test_no_file_is_too_long_to_read():
    files = [*PACKAGE.rglob("*.py"), *shipped.SQL.rglob("*.sql")]
    assert files
    long = {path.name: n for path in files if (n := len(path.read_text().splitlines())) > LONGEST_FILE}
    assert not long


FUNCTION_FILES = sorted((shipped.SQL / "functions").glob("*.sql"))


def without_bodies(text: str) -> str:
    """The text of a SQL file without its comments and without what stands between $$ and $$."""
    return re.sub(r"\$\$.*?\$\$", "", re.sub(r"--[^\n]*", "", text), flags=re.DOTALL)


@pytest.mark.parametrize("path", FUNCTION_FILES, ids=lambda path: path.name)
def test_a_file_defines_the_one_function_that_it_is_named_after(path):
    number, _, name = path.stem.partition("_")
    assert re.fullmatch(r"\d\d", number)
    assert re.search(r"_v\d$", name)
    heads = re.findall(r"CREATE OR REPLACE FUNCTION (\w+)\s*\(", without_bodies(path.read_text()))
    assert heads == [name]


@pytest.mark.parametrize("path", FUNCTION_FILES, ids=lambda path: path.name)
def test_every_function_keeps_the_path_to_its_own_schema(path):
    head = without_bodies(path.read_text())
    kept = re.findall(r'SET search_path (?:FROM CURRENT|= pg_catalog, (?::"schema", )?pg_temp)\b', head)
    assert len(kept) == head.count("CREATE OR REPLACE FUNCTION")


@pytest.mark.parametrize("path", FUNCTION_FILES, ids=lambda path: path.name)
def test_every_function_says_what_it_does_before_it_does_it(path):
    assert re.match(r"-- \w[^\n]{15}", path.read_text())


def test_every_call_of_a_function_from_python_finds_its_file():
    """A name of a function in Python that no file defines would be found only when it is called."""
    defined = {path.stem.partition("_")[2] for path in FUNCTION_FILES}
    called = {
        node.value
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[a-z_]+_v\d", node.value)
    }
    assert "lease_v1" in called
    assert called <= defined


def test_no_name_in_sql_is_bound_to_one_schema():
    for path in shipped.SQL.rglob("*.sql"):
        code = re.sub(r"--[^\n]*", "", path.read_text())
        assert not re.search(r"\bpublic\.", code), path.name
