"""A small repository that yields a huge amount, or never ends, costs only its own job."""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path

import pytest
from helpers_handlers import Repository, git

from shithubd_worker.handlers import git as git_of_handlers
from shithubd_worker.handlers import search_reindex
from shithubd_worker.model import How

KIND = "search.reindex"


@pytest.fixture
def repository(root: Path, tmp_path: Path) -> Repository:
    repository = Repository(root, "alice/site.git", tmp_path)
    repository.commit({"a": b"one\n"})
    return repository


def commit_tree(bare: Path, listing: str) -> str:
    """Let main be a commit with this tree, written as for git mktree. Returns the tree."""
    tree = git(bare, "mktree", stdin=listing.encode())
    git(bare, "update-ref", "refs/heads/main", git(bare, "commit-tree", tree, "-m", "x"))
    return tree


def memory() -> int:
    """The most memory that this process has had since the last reset, in KiB."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


def test_a_tree_that_contains_another_one_many_times_is_refused(bench, repository):
    """Ten trees of ten entries each list 10^10 files."""
    blob = git(repository.bare, "hash-object", "-w", "--stdin", stdin=b"bomb\n")
    listing = "".join(f"100644 blob {blob}\tf{n}\n" for n in range(10))
    for _ in range(9):
        tree = commit_tree(repository.bare, listing)
        listing = "".join(f"040000 tree {tree}\td{n}\n" for n in range(10))
    commit_tree(repository.bare, listing)
    Path("/proc/self/clear_refs").write_text("5")
    before = memory()
    outcome = bench.run(KIND, repo=repository.name)
    assert outcome.how is How.FAILED
    assert outcome.error == "repository 'alice/site.git' has more files than can be indexed"
    assert memory() - before < 4 * search_reindex.MOST_LISTED // 1024


def test_an_endless_name_is_refused(bench, repository):
    blob = git(repository.bare, "hash-object", "-w", "--stdin", stdin=b"bomb\n")
    commit_tree(repository.bare, f"100644 blob {blob}\t{'x' * 1_000_000}\n")
    outcome = bench.run(KIND, repo=repository.name)
    assert outcome.error == "repository 'alice/site.git' has more files than can be indexed"


def test_a_text_at_many_paths_is_written_up_to_a_limit(bench, repository, monkeypatch):
    monkeypatch.setattr(search_reindex, "MOST_CONTENT", 5_000)
    repository.commit({f"f{n}": b"x" * 1000 for n in range(8)})
    assert bench.run(KIND, repo=repository.name).how is How.OK
    written = bench.connection.execute("SELECT count(*), sum(length(content)) FROM search_files").fetchone()
    assert written == (9, 4004)


def test_an_object_that_is_larger_than_memory_is_a_failed_attempt(bench, repository, monkeypatch):
    """A tree of a few kilobytes on disk that has 256 MiB, as it says."""
    monkeypatch.setattr(git_of_handlers, "MEMORY", 128 * 1024 * 1024)
    size = 256 * 1024 * 1024
    packer = zlib.compressobj(1)
    text = packer.compress(b"tree %d\0" % size)
    zeros = bytes(1024 * 1024)
    text += b"".join(packer.compress(zeros) for _ in range(256)) + packer.flush()
    tree = "a" * 40
    path = repository.bare / "objects" / tree[:2] / tree[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text)
    commit = git(
        repository.bare, "hash-object", "-t", "commit", "-w", "--stdin", "--literally",
        stdin=f"tree {tree}\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n\nx\n".encode(),
    )  # fmt: skip
    git(repository.bare, "update-ref", "refs/heads/main", commit)
    outcome = bench.run(KIND, repo=repository.name)
    assert outcome.how is How.RETRY
    assert outcome.error
    assert "ut of memory" in outcome.error.splitlines()[0]


def test_a_git_beyond_its_time_is_ended_and_the_job_is_tried_again(bench, repository, monkeypatch):
    """It waits for a named pipe, which was made after the look at the repository."""
    (repository.bare / "packed-refs").unlink(missing_ok=True)
    os.mkfifo(repository.bare / "packed-refs")
    monkeypatch.setattr(git_of_handlers, "check", lambda root, path, name: ())
    monkeypatch.setattr(git_of_handlers, "SECONDS", 0.2)
    outcome = bench.run(KIND, repo=repository.name, ref="refs/heads/none")
    assert outcome.how is How.RETRY
    assert outcome.error
    assert "was ended after its limit of 0.2 s" in outcome.error.splitlines()[0]


def test_endlessly_deep_directories_are_refused(bench, repository):
    (repository.bare / "refs" / "/".join("x" * 100)).mkdir(parents=True)
    outcome = bench.run(KIND, repo=repository.name)
    assert outcome.how is How.FAILED
    assert outcome.error
    assert "nested more than 64 deep" in outcome.error
