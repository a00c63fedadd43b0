"""`search find` and `search forget`: what they print, and how the second is undone."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable

import pytest
from conftest import Database

from shithubd_worker import cli as program
from shithubd_worker.handlers import search_index
from shithubd_worker.handlers.search_index import File


@pytest.fixture
def shell(
    database: Database, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[str], tuple[int, str, str]]:
    """Runs a command line in this process: its exit code, what it prints, what it says beside."""
    for name, value in database.environment().items():
        monkeypatch.setenv(name, value)

    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["shithubd-worker", *shlex.split(line)])
        code = program._main()
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def indexed(database: Database) -> str:
    name = "alice/o'ld.git"
    with database.connect() as connection:
        [(repo,)] = connection.execute(
            "INSERT INTO search_repos (repo, ref, commit, files, generation, exact_at, names_only)"
            " VALUES (%s, 'refs/heads/main', 'x', 2, 1, 1, 1) RETURNING id",
            (name,),
        ).fetchall()
        files = [File("src/a.py", "0", "x\nself.needle()\n"), File("forget.bin", "0", None, "larger than 1 MiB")]
        search_index.put(connection, database.schema, repo, files)
        connection.commit()
    return name


def test_find_needs_no_name_and_says_what_the_index_lacks(shell, indexed):
    lacks = "note: 1 file(s) are found only by name: larger than 1 MiB, or too much text in the repository\n"
    for line in (
        "search self.needle",
        "search find self.needle",
        "search --limit 9 self.needle",
        "search -- self.needle",
    ):
        assert shell(line) == (0, f"{indexed}:src/a.py:2: self.needle()\n", lacks)
    assert shell("search --limit 1 self.needle")[2] == ""
    assert shell("search find forget") == (
        0, f"{indexed}:forget.bin: (only its name is indexed: larger than 1 MiB)\n", lacks,
    )  # fmt: skip
    code, out, err = shell("search absent --json")
    assert (code, json.loads(out), err) == (0, [], lacks)
    code, out, err = shell("search ::")
    assert (code, out) == (0, "")
    assert err == "nothing found for '::'\nnote: a search needs a word: letters or digits that it wants\n"


def test_a_search_that_is_too_long_is_refused(shell):
    code, out, err = shell(f"search {'x' * 10_001}")
    assert (code, out) == (2, "")
    assert "a search has at most 10,000 characters, and this one 10,001" in err


def test_forget_takes_the_index_away_and_says_how_to_undo_it(shell, indexed, database):
    code, out, _ = shell(f"search forget {shlex.quote(indexed)} --reason gone")
    said, undo = out.splitlines()
    assert (code, said) == (0, f"forgot the index of {indexed}: 2 files")
    assert database.query("SELECT count(*) FROM search_files") == [(0,)]
    assert database.query("SELECT action, target, reason, detail FROM audit") == [
        ("forget-index", f"repository {indexed}", "gone", {"ref": "refs/heads/main", "files": 2})
    ]
    assert undo.startswith("undo: shithubd-worker enqueue search.reindex ")
    assert shell(undo.removeprefix("undo: shithubd-worker "))[0] == 0
    assert database.query("SELECT kind, payload FROM jobs") == [
        ("search.reindex", {"repo": indexed, "ref": "refs/heads/main"})
    ]


def test_forget_of_what_is_not_indexed_changes_nothing(shell, indexed, database):
    assert shell("search forget bob.git") == (0, "nothing is indexed as bob.git\n", "")
    code, out, _ = shell("search forget bob.git --json")
    assert (code, json.loads(out)) == (0, {"repo": "bob.git", "forgotten": False})
    assert database.query("SELECT count(*) FROM audit") == [(0,)]
    code, out, _ = shell(f"search forget --json {shlex.quote(indexed)}")
    assert json.loads(out) == {"repo": indexed, "forgotten": True, "ref": "refs/heads/main", "files": 2}


def test_forget_waits_no_longer_than_it_may_for_a_run(shell, indexed, database):
    with database.connect() as other, other.transaction():
        other.execute("UPDATE search_repos SET generation = generation + 1")
        code, _, err = shell(f"search forget {shlex.quote(indexed)} --timeout 0.2s")
    assert code == 4
    assert "search_repos" in err or "lock" in err
