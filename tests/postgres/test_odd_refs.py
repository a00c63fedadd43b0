"""What a payload calls a ref, and repositories that this git can't read."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers_handlers import Bench, Repository, git

from shithubd_worker.model import How

KIND = "search.reindex"
LONG = "深" * 80 + "/"


@pytest.fixture
def repository(root: Path, tmp_path: Path) -> Repository:
    repository = Repository(root, "alice/site.git", tmp_path)
    repository.commit({"a": b"on the branch\n"})
    return repository


def line(bench: Bench, kind: str = KIND, **members: object) -> tuple[How, str]:
    outcome = bench.run(kind, **members)
    return outcome.how, (outcome.error or "").split("\n")[0]


def indexed(bench: Bench) -> str:
    [(commit,)] = bench.connection.execute("SELECT commit FROM search_repos").fetchall()
    return str(commit)


def other(repository: Repository, name: str) -> str:
    """Another commit, with a ref of this name."""
    git(repository.work, "commit", "--quiet", "--allow-empty", f"--message={name}")
    git(repository.work, "push", "--quiet", str(repository.bare), f"HEAD:refs/keep/{len(name)}")
    oid = git(repository.work, "rev-parse", "HEAD")
    git(repository.bare, "update-ref", name, oid)
    return oid


def test_a_name_is_a_branch_then_a_tag_then_a_commit(bench, repository):
    main = git(repository.bare, "rev-parse", "refs/heads/main")
    tag = other(repository, "refs/tags/main")
    git(repository.work, "tag", "-a", "-m", "x", "annotated", main)
    git(repository.work, "tag", "-a", "-m", "x", "twice", "annotated")
    git(repository.work, "push", "--quiet", str(repository.bare), "annotated", "twice")
    odd = other(repository, "refs/heads/feature/ü-%s-'quote\"")
    hidden = other(repository, "refs/tags/refs/heads/main")
    hexed = other(repository, f"refs/heads/{main[:8]}")
    other(repository, f"refs/heads/{main}")
    named_head = other(repository, "refs/heads/HEAD")
    pull = other(repository, "refs/pull/1/head")
    git(repository.bare, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
    cases = {
        "main": main, "refs/heads/main": main, "refs/tags/main": tag, "tags/main": tag, "heads/main": main,
        "HEAD": main, "refs/heads/HEAD": named_head, "annotated": main, "twice": main, "alias": main,
        "feature/ü-%s-'quote\"": odd, "refs/tags/refs/heads/main": hidden, main: main, main[:8]: hexed, tag[:9]: tag,
        "pull/1/head": pull,
    }  # fmt: skip
    git(repository.bare, "pack-refs", "--all")
    for name, expected in cases.items():
        assert line(bench, repo=repository.name, ref=name) == (How.OK, ""), name
        assert indexed(bench) == expected, name


def test_a_name_is_never_an_expression_or_an_option(bench, repository):
    other(repository, "refs/heads/topic")
    for name in ("main~0", "main^", "main:a", "@", "main@{0}", ":/work", "ma*", "--all", "-h", "main..topic", "./main"):
        assert line(bench, repo=repository.name, ref=name) == (
            How.FAILED, f"ref {name!r} is not a commit of repository 'alice/site.git'",
        )  # fmt: skip


def test_a_name_that_no_file_can_have_fails_at_once(bench, repository):
    for name in ("r" * 300, f"refs/heads/{'ä' * 400}", f"{'a/' * 300}b", "refs/heads/x\ny", "main/x"):
        assert line(bench, repo=repository.name, ref=name) == (
            How.FAILED, f"ref {name!r} is not a commit of repository 'alice/site.git'",
        )  # fmt: skip


def test_a_head_that_names_no_commit_by_itself(bench, repository):
    main = git(repository.bare, "rev-parse", "refs/heads/main")
    (repository.bare / "HEAD").write_text(f"{main}\n")
    assert line(bench, repo=repository.name) == (How.OK, "")
    other(repository, "refs/heads/HEAD")
    git(repository.bare, "symbolic-ref", "HEAD", "refs/heads/gone")
    assert line(bench, repo=repository.name) == (
        How.FAILED, "HEAD of repository 'alice/site.git' names refs/heads/gone, which does not exist: name another ref",
    )  # fmt: skip
    assert indexed(bench) == main
    git(repository.bare, "symbolic-ref", "HEAD", "refs/heads/HEAD")
    assert line(bench, repo=repository.name) == (How.OK, "")


def test_a_ref_to_something_else_than_a_commit_fails_at_once(bench, repository):
    tree = git(repository.bare, "rev-parse", "main^{tree}")
    blob = git(repository.bare, "rev-parse", "main:a")
    git(repository.bare, "update-ref", "refs/tags/tree", tree)
    git(repository.bare, "update-ref", "refs/tags/blob", blob)
    for name, kind in (("tree", "tree"), ("blob", "blob"), (blob, "blob")):
        assert line(bench, repo=repository.name, ref=name) == (
            How.FAILED, f"ref {name!r} is not a commit of repository 'alice/site.git', but a {kind}",
        )  # fmt: skip


def test_a_damaged_ref_or_commit_is_tried_again_and_is_no_empty_repository(bench, repository):
    assert line(bench, repo=repository.name) == (How.OK, "")
    main = repository.bare / "refs/heads/main"
    oid = main.read_text()
    for text, reason in (
        ("", "GitFailed: refs/heads/main of 'alice/site.git' is damaged: its file names no object"),
        ("\0" * 41, "GitFailed: refs/heads/main of 'alice/site.git' is damaged: its file names no object"),
        (f"{'1' * 40}\n", "GitFailed: git show-ref on 'alice/site.git': fatal: git show-ref: bad ref"),
    ):
        main.write_text(text)
        for ref in ("HEAD", "main", "refs/heads/main"):
            how, error = line(bench, repo=repository.name, ref=ref)
            assert how is How.RETRY
            assert error.startswith(reason)
    how, error = line(bench, repo=repository.name, ref="none")
    assert how is How.RETRY  # git can't list the refs
    main.write_text("")
    assert line(bench, repo=repository.name, ref="none") == (
        How.RETRY, "GitFailed: refs of 'alice/site.git' are damaged: refs/heads/main names no object",
    )  # fmt: skip
    main.write_text(oid)
    path = repository.bare / "objects" / oid[:2] / oid[2:].strip()
    path.chmod(0o600)
    path.write_bytes(b"")
    assert line(bench, repo=repository.name, ref="main")[0] is How.RETRY
    assert len(bench.connection.execute("SELECT * FROM search_files").fetchall()) == 1


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("extensions.foo", "true", "fatal: unknown repository extension found: foo"),
        ("extensions.objectformat", "sha999", "error: invalid value for 'extensions.objectformat': 'sha999'"),
        ("core.repositoryformatversion", "99", "fatal: Expected git repo version <= 1, found 99"),
        ("core.bare", "maybe", "fatal: bad boolean config value 'maybe' for 'core.bare'"),
        ("core.packedgitlimit", "x", "fatal: bad numeric config value 'x' for 'core.packedgitlimit': invalid unit"),
        ("core.compression", "77", "fatal: bad zlib compression level 77"),
    ],
)
def test_a_repository_that_this_git_cannot_read_fails_at_once_with_the_whole_reason(
    bench, repository, setting, value, reason
):
    config = str(repository.bare / "config")
    git(repository.work, "config", "-f", config, "core.repositoryformatversion", "1")
    git(repository.work, "config", "-f", config, setting, value)
    for kind in (KIND, "repo.maintenance"):
        how, error = line(bench, kind, repo=repository.name)
        assert how is How.FAILED
        assert f"on 'alice/site.git': this git can't use its configuration: {reason}" in error
    assert bench.connection.execute("SELECT * FROM search_repos").fetchall() == []


def test_a_setting_that_only_maintenance_reads_fails_it_at_once(bench, repository):
    for setting in ("gc.pruneExpire", "pack.windowMemory"):
        config = str(repository.bare / "config")
        git(repository.work, "config", "-f", config, setting, "nonsense")
        how, error = line(bench, "repo.maintenance", repo=repository.name)
        assert (how, "can't use its configuration" in error) == (How.FAILED, True)
        git(repository.work, "config", "-f", config, "--unset", setting)
    assert line(bench, "repo.maintenance", repo=repository.name) == (How.OK, "")


def test_unknown_extensions_are_all_named(bench, repository):
    with (repository.bare / "config").open("a") as config:
        config.write("[extensions]\n\tfoo = 1\n\tbar = 1\n[core]\n\trepositoryFormatVersion = 1\n")
    assert line(bench, repo=repository.name)[1].endswith("unknown repository extensions found: foo bar")


def test_limits_of_names_are_in_bytes(bench, repository, root):
    assert line(bench, repo="深" * 334)[1].startswith("repo must be a path of 1 to 1000 bytes, not '深")
    name = f"{LONG * 3}{'深' * 70}.git"
    (root / LONG / LONG / LONG / LONG).mkdir(parents=True)
    repository.bare = repository.bare.rename(root / name)
    repository.commit({f"{LONG * 4}a": b"x"})
    (root / "alias").symlink_to(root / LONG / LONG)
    for spelled in (name, f"alias/{LONG}{'深' * 70}.git"):
        for kind in (KIND, "repo.maintenance"):
            assert line(bench, kind, repo=spelled) == (How.OK, "")
    deeper = f"{LONG * 4}{'深' * 70}.git"
    repository.bare.rename(root / deeper)
    assert line(bench, repo=deeper)[1].startswith("repo must be a path of 1 to 1000 bytes")
    spelled = f"alias/{LONG * 2}{'深' * 70}.git"
    assert line(bench, repo=spelled)[1].endswith("is not UTF-8, or has more than 1000 bytes")


def test_a_repository_whose_real_path_is_not_utf8_fails_at_once(bench, repository, root):
    odd = Path(str(root / "na\udcefve.git"))
    repository.bare.rename(odd)
    (root / "alias.git").symlink_to(odd)
    assert line(bench, repo="alias.git") == (
        How.FAILED, "the real path of repo 'alias.git' is not UTF-8, or has more than 1000 bytes",
    )  # fmt: skip


def test_paths_that_look_alike_are_two_files(bench, repository):
    for name in (b"\xff", rb"\xff", b"a\nb", rb"a\x0ab", b"\"q'", b"t\tb", b"README", b"readme", b"d"):
        Path(bytes(repository.work / "x").decode()).parent.joinpath(name.decode(errors="surrogateescape")).write_text(
            "n"
        )
    repository.commit()
    assert line(bench, repo=repository.name) == (How.OK, "")
    paths = {path for (path,) in bench.connection.execute("SELECT path FROM search_files").fetchall()}
    assert paths == {
        "a", r"\xff", r"\\xff", r"a\x0ab", r"a\\x0ab", "\"q'", r"t\x09b", "README", "readme", "d",
    }  # fmt: skip
    # A file becomes a directory, and a link takes the place of a file.
    (repository.work / "d").unlink()
    (repository.work / "readme").unlink()
    (repository.work / "readme").symlink_to("README")
    repository.commit({"d/e": b"n"})
    assert line(bench, repo=repository.name) == (How.OK, "")
    paths = {path for (path,) in bench.connection.execute("SELECT path FROM search_files").fetchall()}
    assert {"d", "readme"}.isdisjoint(paths)
    assert "d/e" in paths


def test_shallow_borrowing_and_sha256_repositories_are_indexed(bench, root, tmp_path, repository):
    repository.commit({"b": b"two\n"})
    git(root, "clone", "--quiet", "--bare", "--depth=1", f"file://{repository.bare}", "shallow.git")
    git(root, "clone", "--quiet", "--bare", "--shared", str(repository.bare), "fork.git")
    (root / "sha256.git").mkdir()
    git(root / "sha256.git", "init", "--quiet", "--bare", "--object-format=sha256", "--initial-branch=main")
    blob = git(root / "sha256.git", "hash-object", "-w", "--stdin", stdin=b"x\n")
    tree = git(root / "sha256.git", "mktree", stdin=f"100644 blob {blob}\tf\n".encode())
    commit = git(root / "sha256.git", "commit-tree", tree, "-m", "x")
    git(root / "sha256.git", "update-ref", "refs/heads/main", commit)
    for name in ("shallow.git", "fork.git", "sha256.git"):
        for kind in (KIND, "repo.maintenance"):
            assert line(bench, kind, repo=name) == (How.OK, ""), (name, kind)
    assert line(bench, repo="sha256.git", ref=commit) == (How.OK, "")
    repository.bare.rename(root / "moved.git")
    how, error = line(bench, repo="fork.git", ref="main")
    assert how is How.RETRY, error
