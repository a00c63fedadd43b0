"""The index of a repository that was deleted, renamed or emptied goes. If only its disk is away, the index stays."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest
from helpers_handlers import Bench, Repository, git

from shithubd_worker.handlers import git_place, search_index, search_reindex
from shithubd_worker.model import How, Outcome

KIND = "search.reindex"


@pytest.fixture
def repository(bench: Bench, root: Path, tmp_path: Path) -> Repository:
    Repository(root, "other.git", tmp_path)
    repository = Repository(root, "alice/site.git", tmp_path)
    repository.commit({"a": b"needle\n"})
    assert bench.run(KIND, repo=repository.name).how is How.OK
    return repository


def indexed(bench: Bench) -> list[str]:
    return [repo for (repo,) in bench.connection.execute("SELECT repo FROM search_repos ORDER BY repo").fetchall()]


def summary(outcome: Outcome) -> tuple[How, str | None]:
    return outcome.how, (outcome.error or "").split("\n")[0] or None


@pytest.mark.parametrize("with_its_directory", [False, True])
def test_the_job_of_a_deleted_repository_takes_its_index_away_and_the_next_fails(bench, repository, with_its_directory):
    shutil.rmtree(repository.bare.parent if with_its_directory else repository.bare)
    assert summary(bench.run(KIND, repo=repository.name)) == (How.OK, None)
    assert indexed(bench) == []
    assert bench.connection.execute("SELECT count(*) FROM search_files").fetchall() == [(0,)]
    assert summary(bench.run(KIND, repo=repository.name)) == (How.FAILED, "unknown repository: 'alice/site.git'")


def test_the_job_of_an_emptied_repository_takes_its_index_away(bench, repository):
    git(repository.bare, "update-ref", "-d", "refs/heads/main")
    assert summary(bench.run(KIND, repo=repository.name)) == (How.OK, None)
    assert indexed(bench) == []
    assert summary(bench.run(KIND, repo=repository.name)) == (
        How.FAILED, "repository 'alice/site.git' is empty: it has no commits to index",
    )  # fmt: skip
    repository.commit({"b": b"again\n"})
    assert bench.run(KIND, repo=repository.name).how is How.OK
    assert indexed(bench) == ["alice/site.git"]


def test_the_job_of_a_repository_with_an_empty_directory_takes_its_index_away(bench, repository):
    shutil.rmtree(repository.bare)
    repository.bare.mkdir()
    assert summary(bench.run(KIND, repo=repository.name)) == (How.OK, None)
    assert indexed(bench) == []
    assert summary(bench.run(KIND, repo=repository.name)) == (How.FAILED, "'alice/site.git' is not a git repository")


def test_the_job_of_a_link_that_leads_to_nothing_takes_the_index_of_its_name_away(bench, repository, root):
    shutil.rmtree(repository.bare)
    repository.bare.symlink_to("gone.git")
    assert summary(bench.run(KIND, repo=repository.name)) == (How.OK, None)
    assert indexed(bench) == []


def test_a_repository_that_moved_to_another_disk_is_known_there(bench, repository):
    bench.connection.execute("UPDATE search_repos SET storage = 'alice'")  # as on the disk before
    assert bench.run(KIND, repo=repository.name).how is How.OK
    shutil.rmtree(repository.bare)
    assert bench.run(KIND, repo=repository.name).how is How.OK
    assert indexed(bench) == []


def test_a_renamed_repository_has_one_index(bench, repository, root):
    repository.bare.rename(root / "alice/new.git")
    assert bench.run(KIND, repo="alice/new.git").how is How.OK
    assert bench.run(KIND, repo="alice/site.git").how is How.OK
    assert indexed(bench) == ["alice/new.git"]


def test_a_renamed_repository_that_leaves_a_link_has_one_index(bench, repository, root):
    repository.bare.rename(root / "alice/new.git")
    assert bench.run(KIND, repo="alice/new.git").how is How.OK
    repository.bare.symlink_to("new.git")
    assert bench.run(KIND, repo="alice/site.git").how is How.OK
    assert indexed(bench) == ["alice/new.git"]


def test_a_repository_that_is_only_damaged_keeps_its_index(bench, repository, root):
    (repository.bare / "refs/heads/main").write_text("")
    outcome = bench.run(KIND, repo=repository.name)
    assert summary(outcome) == (
        How.RETRY, "GitFailed: refs/heads/main of 'alice/site.git' is damaged: its file names no object",
    )  # fmt: skip
    (repository.bare / "HEAD").write_text("")
    assert bench.run(KIND, repo=repository.name).how is How.FAILED
    (root / "gone").symlink_to("nowhere")
    assert bench.run(KIND, repo="gone/alice/site.git").how is How.FAILED
    assert indexed(bench) == ["alice/site.git"]


def test_a_repository_whose_disk_is_away_keeps_its_index(bench, repository, root, monkeypatch):
    """As the test below does with a real disk, where that is allowed."""
    bench.connection.execute("UPDATE search_repos SET storage = 'alice'")
    shutil.rmtree(repository.bare)
    outcome = bench.run(KIND, repo=repository.name)
    assert (outcome.how, outcome.delay_seconds) == (How.RELEASED, git_place.MISCONFIGURED_SECONDS)
    assert outcome.error == (
        "unknown repository: 'alice/site.git'; its disk may be away, so its index stays: mount the disk, or run"
        " shithubd-worker search forget alice/site.git"
    )
    assert indexed(bench) == ["alice/site.git"]
    monkeypatch.setattr(git_place, "storage", lambda root, path: "alice")
    assert bench.run(KIND, repo=repository.name).how is How.OK
    assert indexed(bench) == []


@pytest.mark.parametrize(
    "how", [("-t", "tmpfs", "disk"), ("--bind", "part")], ids=["a disk", "a part of the same disk"]
)
def test_a_disk_that_is_mounted_below_the_root_is_known_again(bench, root, tmp_path, how):
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    disk = root / "disk"
    disk.mkdir()
    (tmp_path / "part").mkdir()

    def mount() -> int:
        return subprocess.run(["mount", *how, str(disk)], cwd=tmp_path, capture_output=True, check=False).returncode

    if mount() != 0:
        pytest.skip("this machine allows no mount")
    try:
        Repository(root, "disk/site.git", tmp_path).commit({"a": b"needle\n"})
        assert bench.run(KIND, repo="disk/site.git").how is How.OK
        assert bench.connection.execute("SELECT storage FROM search_repos").fetchall() == [("disk",)]
        subprocess.run(["umount", str(disk)], check=True)
        assert bench.run(KIND, repo="disk/site.git").how is How.RELEASED
        assert mount() == 0
        shutil.rmtree(disk / "site.git", ignore_errors=True)
        assert indexed(bench) == ["disk/site.git"]
        assert bench.run(KIND, repo="disk/site.git").how is How.OK
        assert indexed(bench) == []
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def test_an_index_of_an_older_release_is_not_taken_away_on_a_guess(bench, repository):
    bench.connection.execute("UPDATE search_repos SET storage = NULL")
    shutil.rmtree(repository.bare)
    assert bench.run(KIND, repo=repository.name).how is How.RELEASED
    assert indexed(bench) == ["alice/site.git"]


def test_a_run_that_waits_for_the_index_to_be_forgotten_makes_no_half_of_one(bench, repository, monkeypatch):
    """It compared with the old index, so it would write only what changed."""
    repository.commit({"b": b"more\n"})
    original = search_index.claim

    def forgotten(*arguments: object) -> int:
        monkeypatch.setattr(search_index, "claim", original)
        bench.connection.execute("DELETE FROM search_repos")
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(search_index, "claim", forgotten)
    outcome = bench.run(KIND, repo=repository.name)
    assert summary(outcome) == (
        How.RELEASED, "the index of 'alice/site.git' changed meanwhile: another job indexed it",
    )  # fmt: skip
    assert indexed(bench) == []
    assert bench.run(KIND, repo=repository.name).how is How.OK
    assert bench.connection.execute("SELECT count(*) FROM search_files").fetchall() == [(2,)]


def test_an_index_that_another_run_writes_is_not_taken_away(bench, database, repository, monkeypatch):
    monkeypatch.setattr(search_index, "BUSY_MILLISECONDS", 1)
    shutil.rmtree(repository.bare)
    with database.connect() as other, other.transaction():
        other.execute("UPDATE search_repos SET generation = generation + 1")
        assert bench.run(KIND, repo=repository.name).how is How.RELEASED
    original = search_reindex.search_index.base

    def overtaken(*arguments: object) -> search_index.Base:
        found = original(*arguments)  # type: ignore[arg-type]
        bench.connection.execute("UPDATE search_repos SET generation = generation + 1")
        return found

    monkeypatch.setattr(search_index, "base", overtaken)
    assert bench.run(KIND, repo=repository.name).how is How.RELEASED
    assert indexed(bench) == ["alice/site.git"]


def test_the_worker_may_take_an_index_away(bench, repository, database):
    with psycopg.connect(database.url) as connection:
        connection.execute("SET ROLE shithub_worker")
        connection.execute("DELETE FROM search_repos")
        connection.rollback()
