"""The package keeps its structure: who may import whom, and what a module and a SQL file must have."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import conftest
import pytest

import shithubd_worker
from shithubd_worker.database import schema
from shithubd_worker.host import shipped

PACKAGE = Path(shithubd_worker.__file__).parent
TESTS = Path(__file__).parents[1]

# From the bottom up: a room is a module, or a package with all of its files. It imports only from the rooms below it.
FLOORS = (
    ("errors", "model", "payload", "plain", "timing"),
    ("backoff", "options", "settings"),
    ("client", "job", "ramps"),
    ("registry",),
    ("host",),
    ("database",),
    ("admin", "doctor"),
    ("telemetry",),
    ("attempt",),
    ("turn",),
    ("process",),
    ("cli",),
    ("__main__",),
)
# What a handler may import from the package: the errors that it raises, what it is given, and how it is registered.
HANDLERS_IMPORT = {"errors", "registry", "job", "handlers", ""}
# The modules outside of database/ and the handlers that use psycopg. All others ask the sessions of database/.
SPEAK_PSYCOPG = {
    "admin/borrowed.py",
    "admin/rows.py",
    "doctor/allowed.py",
    "doctor/drift.py",
    "doctor/of_host.py",
    "doctor/of_queue.py",
    "doctor/query.py",
    "doctor/server.py",
    "client.py",
    "telemetry/gauges.py",
    "turn/wire.py",
}
# Nothing in these rooms touches a socket, a process, a signal or a file. So these are the only libraries that they
# import.
PURE = {
    "errors.py": {"datetime"},
    "model.py": {"collections", "dataclasses", "datetime", "enum", "re", "typing", "uuid"},
    "payload.py": {"decimal", "itertools", "json", "re"},
    "backoff.py": set(),
    "timing.py": set(),
    "attempt/deadlines.py": {"collections", "math", "typing"},
    "attempt/outcome.py": {"enum", "errno", "typing"},
    "attempt/raised.py": {"collections", "contextlib", "itertools", "opcode", "traceback", "types"},
    "database/arrays.py": {"collections", "typing"},
    "database/clock.py": {"collections", "math", "threading"},
    "database/sqlstates.py": {"enum"},
    "turn/caution.py": {"collections"},
    "turn/damping.py": {"collections", "math"},
    "turn/frontier.py": {"collections", "math", "typing"},
    "turn/prefetch.py": {"collections", "math"},
    "turn/shares.py": set(),
    "turn/tray.py": {"collections", "dataclasses", "typing"},
}
LIBRARIES = {
    "click": {"cli"},
    "idna": {"handlers"},
    "rich": {"cli"},
    "prometheus_client": {"telemetry"},
    "sdnotify": {"host"},
    "textual": {"cli"},
}
LONGEST_FILE, LONGEST_TEST, MOST_ARGUMENTS = 300, 500, 7


def named(path: Path) -> str:
    """A file of the package, by its path in it."""
    return path.relative_to(PACKAGE).as_posix()


FILES = {named(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room(name: str) -> str:
    """The room that a file is in."""
    return name.partition("/")[0].removesuffix(".py")


ROOMS = {room(name) for name in FILES}
ROOMS_OF_FLOORS = [each for floor in FLOORS for each in floor]
MACHINERY = [name for name in FILES if room(name) not in ("__init__", "handlers")]


@cache
def imports(name: str, *, types: bool) -> frozenset[str]:
    """The full names that a file imports; imports under `if TYPE_CHECKING:` only with `types`. Each file is read
    once."""
    tree = ast.parse(FILES[name].read_text())
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
            assert node.level == 0, f"{name} imports relatively"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def libraries(name: str, *, types: bool) -> set[str]:
    """The libraries that a file imports, including our own package."""
    return {each.partition(".")[0] for each in imports(name, types=types)}


def rooms_that(name: str, *, types: bool) -> set[str]:
    """The rooms of our own package that a file imports; '' for a name of the package, such as __version__."""
    ours = [each.split(".") for each in imports(name, types=types) if each.startswith("shithubd_worker")]
    return {parts[1] if len(parts) > 1 and parts[1] in ROOMS else "" for parts in ours}


def files_that(name: str) -> set[str]:
    """The files of our own package that a file imports at run time."""
    found = set()
    for each in imports(name, types=False):
        parts = each.split(".")[1:]
        candidates = ["/".join(parts[:end]) + ".py" for end in range(1, len(parts) + 1)]
        found.update(each for each in candidates if each in FILES)
    return found


def floor(of: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if of in rooms)


def test_every_room_has_its_place():
    assert {*ROOMS_OF_FLOORS, "__init__", "handlers"} == ROOMS


@pytest.mark.parametrize("name", MACHINERY)
def test_a_file_imports_only_from_the_floors_below_its_own(name):
    """Type imports count, too. A separate test covers the command line, which looks up the forge's handlers."""
    higher = {
        other
        for other in rooms_that(name, types=True) - {"", room(name), "handlers"}
        if floor(other) >= floor(room(name))
    }
    assert higher == set()


def test_within_a_package_imports_run_one_way():
    """The set lists the files whose imports lead back to them through other files of the package."""
    inside = {name: {each for each in files_that(name) if room(each) == room(name) != "handlers"} for name in FILES}

    def reached(name: str) -> set[str]:
        found, next_ones = set(), {name}
        while next_ones := {each for name in next_ones for each in inside[name]} - found:
            found |= next_ones
        return found

    assert {name for name in FILES if name in reached(name)} == set()


def test_a_handler_knows_nothing_of_the_machinery():
    known = {each for name in FILES if room(name) == "handlers" for each in rooms_that(name, types=True)}
    assert known == HANDLERS_IMPORT


def test_only_the_command_line_and_the_handlers_themselves_look_up_a_handler():
    """The loop learns its handlers from the registry, so no handler is built in."""
    assert {room(name) for name in FILES if "handlers" in rooms_that(name, types=False)} == {"cli", "handlers"}


def test_an_import_of_the_package_loads_no_module_of_it():
    assert rooms_that("__init__.py", types=False) == set()


def test_only_a_few_modules_use_the_database():
    speakers = {name for name in MACHINERY if "psycopg" in libraries(name, types=False)}
    assert {name for name in speakers if room(name) not in ("database", "cli")} == SPEAK_PSYCOPG


@pytest.mark.parametrize(("library", "rooms"), LIBRARIES.items())
def test_each_library_is_used_in_one_room(library, rooms):
    assert {room(name) for name in FILES if library in libraries(name, types=True)} == rooms


@pytest.mark.parametrize("name", PURE)
def test_the_pure_rooms_import_no_input_or_output(name):
    assert libraries(name, types=False) - {"__future__", "shithubd_worker"} == PURE[name]


def test_the_help_loads_no_library_and_no_room_that_it_does_not_need():
    """An interpreter of its own prints the help and tells what it loaded."""
    command = [sys.executable, "-X", "importtime", "-m", "shithubd_worker", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    loaded = {line.rpartition("|")[2].strip() for line in told.splitlines()}
    assert {"click", "shithubd_worker.cli.deadline"} <= loaded
    assert loaded & {"idna", "psycopg", "rich", "prometheus_client", "sdnotify", "textual"} == set()
    rooms = {each.split(".")[1] for each in loaded if each.startswith("shithubd_worker.")}
    assert rooms & {"attempt", "database", "telemetry", "turn", "process", "handlers"} == set()


def test_only_top_loads_the_library_of_its_screen():
    """A worker and every other command would pay for its 250 modules."""
    assert {name for name in FILES if "textual" in libraries(name, types=True)} == {
        "cli/top/app.py",
        "cli/top/page.py",
        "cli/top/terminal.py",
    }
    commands = "import sys; from shithubd_worker.cli import cli; cli.commands; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", commands], capture_output=True, text=True, check=True).stdout.split()
    assert "shithubd_worker.cli.top" in loaded
    assert {"textual", "shithubd_worker.cli.top.app"} & {*loaded} == set()


def test_only_the_attempt_and_the_host_may_end_or_interrupt_the_process():
    text = {name: path.read_text() for name, path in FILES.items()}
    assert {name for name in FILES if "os._exit" in text[name]} == {"host/forks.py", "host/signals.py"}
    assert {name for name in FILES if "raise Interrupted" in text[name]} == {"attempt/attempt.py"}


def test_only_a_refused_settle_creates_a_lost_lease():
    assert {name for name, path in FILES.items() if "Outcome(How.LEASE_LOST" in path.read_text()} == {
        "turn/settling.py"
    }


def test_every_module_says_what_it_is_for():
    for name, path in FILES.items():
        said = ast.get_docstring(ast.parse(path.read_text()))
        assert said, name
        assert said.splitlines()[0].endswith((".", ":")), name


def longer(files: Iterable[Path], than: int) -> set[str]:
    return {path.name for path in files if len(path.read_text().splitlines()) > than}


def test_no_file_is_too_long_to_read():
    assert longer(PACKAGE.rglob("*.py"), LONGEST_FILE) == set()
    assert longer(shipped.SQL.rglob("*.sql"), LONGEST_FILE) == set()


def test_no_test_is_too_long_to_read():
    assert longer(TESTS.rglob("*.py"), LONGEST_TEST) == set()


def test_each_file_of_tests_that_begins_first_exists():
    assert [name for name in conftest.LONGEST if not (TESTS / name).exists()] == []


def test_no_constructor_takes_too_many_arguments():
    """Each __init__ counts, without self."""
    taken = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                for each in node.body:
                    if isinstance(each, ast.FunctionDef) and each.name == "__init__":
                        taken[node.name] = len(each.args.args) + len(each.args.kwonlyargs) - 1
    assert {name for name, count in taken.items() if count > MOST_ARGUMENTS} == set()


FUNCTION_FILES = schema.function_files()
MOST_FUNCTIONS = 12  # in the folder of one subject


def without_bodies(text: str) -> str:
    """The text of a SQL file without its comments and its function bodies (between $$ and $$)."""
    return re.sub(r"\$\$.*?\$\$", "", re.sub(r"--[^\n]*", "", text), flags=re.DOTALL)


@pytest.mark.parametrize("path", FUNCTION_FILES, ids=lambda path: path.name)
def test_a_file_defines_one_function_and_has_its_name(path):
    named_as_in_graphile_worker = path.parent.name == "admin"
    assert re.fullmatch(r"[a-z_]+_v\d", path.stem) or named_as_in_graphile_worker
    heads = re.findall(r"CREATE OR REPLACE FUNCTION (\w+)\s*\(", without_bodies(path.read_text()))
    assert heads == [path.stem]


def test_every_folder_of_functions_has_one_subject_and_a_few_files():
    assert {*(shipped.SQL / "functions").rglob("*.*")} == {*FUNCTION_FILES}
    assert max(Counter(path.parent for path in FUNCTION_FILES).values()) <= MOST_FUNCTIONS


@pytest.mark.parametrize("path", FUNCTION_FILES, ids=lambda path: path.name)
def test_every_function_keeps_the_search_path_of_its_schema(path):
    head = without_bodies(path.read_text())
    kept = re.findall(r'SET search_path (?:FROM CURRENT|= pg_catalog, (?::"schema", )?pg_temp)\b', head)
    assert len(kept) == head.count("CREATE OR REPLACE FUNCTION")


@pytest.mark.parametrize("path", FUNCTION_FILES, ids=lambda path: path.name)
def test_every_function_begins_with_a_comment(path):
    assert re.match(r"-- \w[^\n]{15}", path.read_text())


def test_only_the_view_decides_which_holds_stand():
    saying = {path.name for path in shipped.SQL.rglob("*.sql") if re.search(r"until IS NULL OR", path.read_text())}
    assert saying == {"0006_standing_holds.sql"}


def test_every_call_of_a_function_from_python_finds_its_file():
    """Otherwise a wrong name in Python would be found only when it is called."""
    defined = {path.stem for path in FUNCTION_FILES}
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


def test_each_file_is_read_in_an_encoding_of_its_own_and_not_in_that_of_the_locale():
    ruff = Path(sys.executable).with_name("ruff")
    command = [ruff, "check", "--preview", "--select", "PLW1514", "--isolated", "--no-cache", PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
