"""repo.maintenance on real repositories."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from helpers_handlers import Repository, git

from shithubd_worker.handlers import git as git_of_handlers
from shithubd_worker.handlers import repo_maintenance
from shithubd_worker.model import How

KIND = "repo.maintenance"


@pytest.fixture
def repository(root: Path, tmp_path: Path) -> Repository:
    repository = Repository(root, "alice/site.git", tmp_path)
    for n in range(3):
        repository.commit({f"f{n}": b"line\n" * 1000})
    return repository


def test_loose_objects_become_one_pack_and_the_record_says_so(bench, repository):
    assert bench.run(KIND, repo=repository.name).how is How.OK
    record = bench.connection.execute(
        "SELECT repo, loose_before > 0, loose_after, packs_before, packs_after, size_after < size_before,"
        " seconds > 0, started_at < now() FROM repo_maintenance"
    ).fetchall()
    assert record == [("alice/site.git", True, 0, 0, 1, True, True, True)]
    assert (repository.bare / "packed-refs").exists()
    assert list((repository.bare / "objects" / "pack").glob("*.bitmap"))
    assert git(repository.bare, "rev-list", "--count", "main") == "3"


def test_unreachable_young_objects_survive(bench, repository):
    oid = git(repository.bare, "hash-object", "-w", "--stdin", stdin=b"of a push that is under way")
    assert bench.run(KIND, repo=repository.name).how is How.OK
    assert git(repository.bare, "cat-file", "-t", oid) == "blob"


def test_an_empty_repository_needs_nothing(bench, root, tmp_path):
    empty = Repository(root, "empty.git", tmp_path)
    assert bench.run(KIND, repo=empty.name).how is How.OK


def test_a_job_waits_for_its_turn_while_another_gc_runs(bench, repository):
    (repository.bare / "gc.pid").write_text(f"{os.getpid()} {socket.gethostname()}\n")
    outcome = bench.run(KIND, repo=repository.name)
    assert (outcome.how, outcome.delay_seconds) == (How.RELEASED, 600)
    assert outcome.error
    assert outcome.error.startswith("git gc on 'alice/site.git': fatal: gc is already running on machine")
    assert "\n" not in outcome.error


def test_the_files_of_a_killed_gc_do_not_stop_the_next_one(bench, repository):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)  # a process id that no process has
    (repository.bare / "gc.pid").write_text(f"{child} {socket.gethostname()}\n")
    assert bench.run(KIND, repo=repository.name).how is How.OK
    assert not (repository.bare / "gc.pid").exists()


def test_a_lock_file_is_left_alone_and_the_job_is_tried_again(bench, repository):
    lock = repository.bare / "packed-refs.lock"
    lock.write_text("")
    outcome = bench.run(KIND, repo=repository.name)
    assert outcome.how is How.RETRY
    assert outcome.error
    assert "packed-refs.lock" in outcome.error.splitlines()[0]
    assert lock.exists()
    assert bench.connection.execute("SELECT count(*) FROM repo_maintenance").fetchone() == (0,)


def test_a_gc_beyond_its_limit_is_ended_and_tried_again(bench, repository, monkeypatch):
    """The gc waits for a named pipe, which was made after the look at the repository."""
    os.mkfifo(repository.bare / "packed-refs")
    monkeypatch.setattr(git_of_handlers, "check", lambda root, path, name: ())
    monkeypatch.setattr(repo_maintenance, "TIME_LIMIT", 1.0)
    outcome = bench.run(KIND, repo=repository.name)
    assert (outcome.how, outcome.delay_seconds) == (How.RETRY, 86_400)
    assert outcome.error == "git gc on 'alice/site.git' was ended after its limit of 1 s"
    assert not list(repository.bare.glob("*.lock"))
    assert not (repository.bare / "gc.pid").exists()


def test_the_next_run_deletes_records_older_than_a_year(bench, repository):
    for age in ("400 days", "300 days"):
        bench.connection.execute(
            "INSERT INTO repo_maintenance (repo, job_id, started_at, seconds, size_before, size_after, loose_before,"
            " loose_after, packs_before, packs_after) VALUES (%s, 0, now() - %s::interval, 1, 1, 1, 1, 1, 1, 1)",
            (repository.name, age),
        )
    assert bench.run(KIND, repo=repository.name).how is How.OK
    assert bench.connection.execute("SELECT count(*) FROM repo_maintenance").fetchone() == (2,)


def test_no_hook_of_the_repository_runs(bench, repository, tmp_path):
    for hook in ("pre-auto-gc", "reference-transaction", "post-update"):
        path = repository.bare / "hooks" / hook
        path.write_text(f"#!/bin/sh\necho ran >> {tmp_path}/hooked\n")
        path.chmod(0o755)
    assert bench.run(KIND, repo=repository.name).how is How.OK
    assert not (tmp_path / "hooked").exists()


def test_an_unknown_repository_fails_at_once(bench, repository):
    outcome = bench.run(KIND, repo="nothing.git")
    assert (outcome.how, outcome.error) == (How.FAILED, "unknown repository: 'nothing.git'")
