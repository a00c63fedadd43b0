"""No repository leads git out of the root or makes it run a program. What two guards forbid, each forbids alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers_handlers import Bench
from hostile_repositories import CANARY, HARMLESS, HOSTILE, build, copy, lay_out, look_at

from shithubd_worker.handlers import confined, git
from shithubd_worker.model import How

KINDS = ("search.reindex", "repo.maintenance")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "outside"
    path.mkdir()
    lay_out(path)
    return path


def told(bench: Bench) -> str:
    """Everything in the database that git has read."""
    tables = ("jobs", "job_history", "search_files", "search_repos", "repo_maintenance")
    return "\n".join(str(bench.connection.execute(f"SELECT * FROM {table}").fetchall()) for table in tables)


@pytest.mark.parametrize("guards", ["both", "Landlock alone", "the check alone"])
def test_no_hostile_repository_reaches_anything_outside(bench, root, outside, monkeypatch, guards):
    if guards == "the check alone":  # as on an older kernel
        monkeypatch.setattr(confined, "landlock", lambda: 0)
    elif not confined.landlock():
        pytest.skip("this kernel has no Landlock")
    names = list(HOSTILE)
    if guards == "Landlock alone":  # as if somebody changed a repository between the check and git
        monkeypatch.setattr(git, "check", lambda root, path, name: ())
        names = [name for name in names if not name.startswith("pipe")]
    before = look_at(outside)
    for name in names:
        build(name, root, outside)
        for kind in KINDS:
            outcome = bench.run(kind, repo=f"{name}.git")
            assert outcome.how in (How.OK, How.FAILED, How.RETRY)
            assert CANARY not in (outcome.error or ""), (name, kind)
            assert look_at(outside) == before, (name, kind)
    assert CANARY not in told(bench)
    assert HARMLESS in told(bench)


@pytest.mark.parametrize("version", [0, 1, 2, 3, 4])
def test_git_works_on_kernels_that_can_forbid_less(bench, root, outside, monkeypatch, version):
    if confined.landlock() < version:
        pytest.skip("this kernel is older")
    monkeypatch.setattr(confined, "landlock", lambda: version)
    copy(root / "base.git", outside)
    fork = copy(root / "fork.git", outside)
    (fork / "objects/info/alternates").write_text(f"{root}/base.git/objects\n")
    for kind in KINDS:
        assert bench.run(kind, repo="fork.git").how is How.OK


def test_a_hook_of_the_forge_may_be_a_link(bench, root, outside):
    bare = copy(root / "base.git", outside)
    for name in ("hooks", "custom_hooks"):
        shutil.rmtree(bare / name, ignore_errors=True)
        (bare / name).symlink_to(outside)
    before = look_at(outside)
    for kind in KINDS:
        assert bench.run(kind, repo="base.git").how is How.OK
    assert look_at(outside) == before
