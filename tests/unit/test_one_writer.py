"""What two threads share has one writer. The table of ARCHITECTURE.md names the writer, and this test compares the code
with it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from test_architecture import FILES

ARCHITECTURE = (Path(__file__).parents[2] / "ARCHITECTURE.md").read_text()
ROW = re.compile(
    r"\| `(?P<room>[\w/]+\.py)` (?P<owner>\w+) \| (?P<fields>(?:`\w+`,? ?)+)\| (?P<writers>[^|]+) \| [^|]+ \|"
)
# The files that only the control thread calls. Every other writer is the main thread.
CONTROL = {name for name in FILES if name.startswith("process/duties/")} | {
    "process/control.py",
    "process/live.py",
    "turn/relief.py",
}
# Fields of other classes with the same name: of an answer of turn/wire.py.
NAMESAKES = {("answer", "lost"), ("answer", "now")}


def shared():
    """Each field of the table: its file, its class, and who writes it."""
    found = {}
    for row in ROW.finditer(ARCHITECTURE):
        for field in re.findall(r"`(\w+)`", row["fields"]):
            found[row["owner"], field] = row["room"], row["writers"].strip()
    return found


SHARED = shared()


def assigned(tree):
    """Every `what.field = …` of a file, including `+=` and `del`, as (what, field)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del)):
            yield ast.unparse(node.value), node.attr


TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}
ASSIGNED = {name: set(assigned(tree)) - NAMESAKES for name, tree in TREES.items()}


CLASSES = [(name, node) for name, tree in TREES.items() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def class_of(room, owner):
    return next(node for name, node in CLASSES if (name, node.name) == (room, owner))


def made_with(room, owner):
    """The fields that a class sets on each new object, before any thread has the object."""
    found = set()
    for node in class_of(room, owner).body:
        if isinstance(node, ast.AnnAssign):
            found.add(node.target.id)
        elif isinstance(node, ast.FunctionDef) and node.name == "__init__":
            found |= {field for what, field in assigned(node) if what == "self"}
    return found


def writers(room, owner, field):
    """The files that assign the field after the object is made. The class and its subclasses do so by `self`, the
    others by any name."""
    found = {name for name in FILES if {what for what, its in ASSIGNED[name] if its == field} - {"self"}}
    for name, node in CLASSES:
        if (node.name == owner and name == room) or owner in map(ast.unparse, node.bases):
            methods = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name != "__init__"]
            found |= {name for each in methods if ("self", field) in set(assigned(each))}
    return found


@pytest.mark.parametrize(("owner", "field"), SHARED)
def test_only_its_writer_assigns_a_field_that_two_threads_share(owner, field):
    room, told = SHARED[owner, field]
    assert field in made_with(room, owner)
    by = writers(room, owner, field)
    if told == "nobody":
        assert not by
    elif told == "main":
        assert by, "nobody writes it"
        assert not by & CONTROL
    elif told.startswith("control: "):
        assert by == set(re.findall(r"`([\w/]+\.py)`", told))
        assert by <= CONTROL
    else:
        assert told in ("both, a lock", "both, a deque", "both, a set", "both, a list each"), told
        assert by <= {room}, "only its own room knows how both may write it"


@pytest.mark.parametrize(("owner", "room"), sorted({(owner, room) for (owner, _), (room, _) in SHARED.items()}))
def test_a_field_with_a_lock_is_assigned_only_under_the_lock(owner, room):
    """Each assignment, in any file, is inside a `with self._lock`."""
    under_lock = {field for (its, field), (_, told) in SHARED.items() if its == owner and told == "both, a lock"}
    for node in class_of(room, owner).body:
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":
            locked = {
                inner
                for each in ast.walk(node)
                if isinstance(each, ast.With) and any("self._lock" in ast.unparse(item) for item in each.items)
                for inner in ast.walk(each)
            }
            for inner in ast.walk(node):
                if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store) and inner.attr in under_lock:
                    assert inner in locked, f"{owner}.{node.name} assigns {inner.attr} without the lock"


def test_the_table_names_every_field_of_the_shared_state():
    assert {field for owner, field in SHARED if owner == "Progress"} == made_with("process/shared.py", "Progress")
    assert {field for owner, field in SHARED if owner == "Tray"} == made_with("turn/tray.py", "Tray")


def test_the_table_has_every_field_that_the_control_thread_writes_elsewhere():
    """These are fields of other objects. Its own objects belong to no other thread, so it may write them freely."""
    named = {field for (_, field), (_, told) in SHARED.items() if told.startswith("control: ")}
    for name in CONTROL:
        of_others = {field for what, field in ASSIGNED[name] if what not in ("self", "self._supervision")}
        assert of_others <= named, name
