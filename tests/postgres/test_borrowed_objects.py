"""A fork borrows objects from the repository that it was made of. Both repositories stay complete and are read."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from helpers_handlers import Repository, git

from shithubd_worker.model import How

KIND = "repo.maintenance"


@pytest.fixture
def base(root: Path, tmp_path: Path) -> Repository:
    repository = Repository(root, "alice/site.git", tmp_path)
    repository.commit({"a": b"one\n"})
    return repository


@pytest.fixture
def fork(root: Path, base: Repository) -> Path:
    git(root, "clone", "--quiet", "--bare", "--shared", str(base.bare), "fork.git")
    return root / "fork.git"


def forget_main(base: Repository) -> None:
    """The base loses its commits to a forced push of years ago."""
    git(base.work, "checkout", "--quiet", "--orphan", "other")
    base.commit({"b": b"two\n"})
    git(base.bare, "reflog", "expire", "--expire=now", "--all")


def in_its_own(bare: Path) -> int:
    """How many objects the repository itself has."""
    facts = dict(line.split(": ") for line in git(bare, "count-objects", "-v").splitlines())
    return int(facts["count"]) + int(facts["in-pack"])


def test_the_base_keeps_lost_objects_that_a_fork_needs(bench, base, fork):
    forget_main(base)
    for path in (base.bare / "objects").glob("??/*"):
        os.utime(path, (1, 1))
    git(base.bare, "config", "gc.pruneExpire", "now")
    assert bench.run(KIND, repo=base.name).how is How.OK
    git(fork, "fsck", "--full")
    assert git(fork, "rev-list", "--objects", "--count", "main") == "3"
    assert bench.run("search.reindex", repo="fork.git").how is How.OK
    assert bench.connection.execute("SELECT path FROM search_files").fetchall() == [("a",)]


def test_a_gc_with_prune_removes_lost_objects(bench, base):
    forget_main(base)
    old = git(base.bare, "hash-object", "-w", "--stdin", stdin=b"unreachable")
    path = base.bare / "objects" / old[:2] / old[2:]
    os.utime(path, (1, 1))
    assert bench.run(KIND, repo=base.name).how is How.OK
    assert git(base.bare, "cat-file", "-t", old) == "blob"
    assert bench.run(KIND, repo=base.name, prune=True).how is How.OK
    with pytest.raises(subprocess.CalledProcessError, match="cat-file"):
        git(base.bare, "cat-file", "-t", old)
    assert bench.run(KIND, repo=base.name, prune="yes").error == "prune must be true or false"


def test_a_gc_of_a_fork_copies_no_objects_and_keeps_the_alternate(bench, base, fork):
    own = in_its_own(fork)
    assert bench.run(KIND, repo="fork.git").how is How.OK
    assert in_its_own(fork) == own == 0
    assert (fork / "objects/info/alternates").read_text() == f"{base.bare}/objects\n"
    git(fork, "fsck", "--full")


def test_a_fork_of_a_fork_by_a_relative_path_is_read(bench, root, fork):
    git(root, "clone", "--quiet", "--bare", "--shared", "fork.git", "second.git")
    (root / "second.git/objects/info/alternates").write_text("../../fork.git/objects\n")
    assert bench.run("search.reindex", repo="second.git").how is How.OK
    assert bench.run(KIND, repo="second.git").how is How.OK


def test_a_missing_alternate_is_ignored(bench, base):
    (base.bare / "objects/info").mkdir(exist_ok=True)
    (base.bare / "objects/info/alternates").write_text("/nowhere/objects\n")
    assert bench.run("search.reindex", repo=base.name).how is How.OK


def test_a_fork_borrows_only_objects(bench, base, root):
    (base.bare / "objects/info").mkdir(exist_ok=True)
    (base.bare / "objects/info/alternates").write_text(f"{root}/alice\n")
    outcome = bench.run("search.reindex", repo=base.name)
    assert outcome.how is How.FAILED
    assert outcome.error
    assert outcome.error.endswith("it borrows objects from outside of the repository root")
