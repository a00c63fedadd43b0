"""search.reindex with real repositories and a real database, and the search over its result."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers_handlers import Bench, Repository, git

from shithubd_worker.attempt.outcome import Settle
from shithubd_worker.handlers import confined, search_index, search_reindex
from shithubd_worker.handlers import git as git_of_handlers
from shithubd_worker.handlers.search_query import Hit
from shithubd_worker.handlers.search_query import search as look_up
from shithubd_worker.handlers.search_text import vector
from shithubd_worker.model import How
from shithubd_worker.settings.config import Config

KIND = "search.reindex"


@pytest.fixture
def repository(root: Path, tmp_path: Path) -> Repository:
    return Repository(root, "alice/site.git", tmp_path)


@pytest.fixture
def search(bench: Bench) -> Callable[..., list[Hit]]:
    def find(text: str, **options: Any) -> list[Hit]:
        return look_up(bench.connection, bench.schema, text, **options).hits

    return find


@pytest.fixture
def blobs_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The blobs whose content is read from git, in order."""
    read: list[str] = []
    original = search_reindex._blob

    def counting(answers: Any, oid: str) -> bytes:
        read.append(oid)
        return original(answers, oid)

    monkeypatch.setattr(search_reindex, "_blob", counting)
    return read


def index(bench: Bench, repository: Repository, **members: object) -> None:
    outcome = bench.run(KIND, repo=repository.name, **members)
    assert outcome.how is How.OK, outcome.error


def paths(bench: Bench) -> dict[str, bool]:
    """Every path of the index, and whether its content is in the index, too."""
    return dict(bench.connection.execute("SELECT path, content IS NOT NULL FROM search_files ORDER BY path").fetchall())


def test_a_word_is_found_with_its_file_its_line_and_the_line_itself(bench, repository, search):
    repository.commit(
        {"src/app.py": b"import os\n\n    def start_engine(key):\n        return key\n", "README": b"nothing\n"}
    )
    index(bench, repository)
    (hit,) = search("start_engine")
    assert (hit.repo, hit.path, hit.line, hit.text) == ("alice/site.git", "src/app.py", 3, "def start_engine(key):")
    assert hit.rank > 0


def test_only_changed_blobs_are_read_again(bench, repository, search, blobs_read):
    repository.commit({f"f{n}.txt": f"number{n} common\n".encode() for n in range(50)})
    index(bench, repository)
    assert len(blobs_read) == 50
    blobs_read.clear()
    repository.commit({"f7.txt": b"changed common\n", "f8.txt": None})
    index(bench, repository)
    assert blobs_read == [git(repository.work, "rev-parse", "HEAD:f7.txt")]
    assert search("number7") == []
    assert search("number8") == []
    assert [hit.path for hit in search("changed")] == ["f7.txt"]
    assert len(search("common", limit=100)) == 49


def test_a_commit_that_is_indexed_already_is_not_indexed_again(bench, repository, blobs_read):
    repository.commit({"a": b"text\n"})
    index(bench, repository)
    index(bench, repository)
    assert len(blobs_read) == 1
    assert bench.connection.execute("SELECT generation, files FROM search_repos").fetchall() == [(1, 1)]


def test_a_forced_push_whose_old_commit_is_gone_is_indexed(bench, repository, search):
    repository.commit({"a": b"before\n"})
    index(bench, repository)
    git(repository.work, "checkout", "--quiet", "--orphan", "other")
    repository.commit({"a": b"after\n"})
    git(repository.bare, "reflog", "expire", "--expire=now", "--all")
    git(repository.bare, "gc", "--quiet", "--prune=now")
    index(bench, repository)
    assert search("before") == []
    assert len(search("after")) == 1


def test_another_ref_replaces_the_one_before(bench, repository, search):
    repository.commit({"a": b"mainly\n"})
    index(bench, repository)
    repository.commit({"a": b"topical\n"}, push=False)
    git(repository.work, "push", "--quiet", str(repository.bare), "HEAD:refs/heads/topic")
    index(bench, repository, ref="refs/heads/topic")
    assert search("mainly") == []
    assert len(search("topical")) == 1


def test_a_file_that_is_not_text_is_found_by_its_name_or_left_out(bench, repository, search):
    repository.commit({"logo.png": b"\x89PNG\0\0secretive", "big.sql": b"hugeness\n" * 400_000, "ok.txt": b"fine\n"})
    (repository.work / "link").symlink_to("ok.txt")
    git(repository.work, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module")
    git(repository.work, "add", "link")
    git(repository.work, "commit", "--quiet", "--message=odd things")
    git(repository.work, "push", "--quiet", str(repository.bare), "HEAD:main")
    index(bench, repository)
    assert paths(bench) == {"big.sql": False, "logo.png": False, "ok.txt": True}
    assert search("secretive") == []
    assert search("hugeness") == []
    (hit,) = search("logo")
    assert (hit.path, hit.line, hit.text) == ("logo.png", None, "")


def test_texts_in_other_encodings_are_read(bench, repository, search):
    repository.commit(
        {
            "latin1.txt": "Grüße aus Köln\n".encode("latin-1"),
            "utf8.txt": "Grüße aus Bonn\n".encode(),
            "marked.txt": "\ufeffGrüße aus Ulm\n".encode(),
            "utf16.txt": "eins\nGrüße aus Jena\n".encode("utf-16"),
            "late-nul.txt": b"x" * 9000 + b"\nGr\xc3\xbc\xc3\x9fe\0aus Kiel\n",
        }
    )
    index(bench, repository)
    assert {hit.path: hit.line for hit in search("GRÜSSE or grüße")} == {
        "latin1.txt": 1, "utf8.txt": 1, "marked.txt": 1, "utf16.txt": 2, "late-nul.txt": 2,
    }  # fmt: skip


def test_file_names_that_are_not_utf8_are_shown_with_escapes(bench, repository, search):
    repository.commit({"plain": b"needle\n"})
    odd = os.fsencode(repository.work) + b"/na\xefve\nname.txt"
    Path(os.fsdecode(odd)).write_bytes(b"needle\n")
    repository.commit()
    index(bench, repository)
    shown = "na\\xefve\\x0aname.txt"
    assert set(paths(bench)) == {"plain", shown}
    assert {hit.path for hit in search("needle")} == {"plain", shown}
    assert [hit.path for hit in search("name.txt")] == [shown]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("getUserName", True),
        ("GETUSERNAME", True),
        ("user", True),
        ("std::vector", True),
        ("vector std", True),
        ('"vector std"', False),
        ("max_retry_count", True),
        ("retry.count", True),
        ("count_retry", False),
        ("vector -retry", False),
        ("nothing or vector", True),
        ("source", True),  # a word of the path
        ("vectors", False),
        ("", False),
        ("::", False),
        ("-vector", False),
        ("nul\0 'quote\" (& | ! <-> :*", False),
        ("vector\0", True),
    ],
)
def test_a_search_finds_words_as_code_writes_them(bench, repository, search, text, found):
    repository.commit({"source/a.cc": b"std::vector<int> v;\nint max_retry_count = obj.getUserName();\n"})
    index(bench, repository)
    assert bool(search(text)) is found


def test_the_line_shown_is_the_first_that_has_most_of_the_words(bench, repository, search):
    repository.commit({"a.txt": b"alpha\nbeta\nx alpha beta\nbeta alpha\n"})
    index(bench, repository)
    (hit,) = search("alpha beta")
    assert (hit.line, hit.text) == (3, "x alpha beta")


def test_a_search_can_be_limited_to_one_repository_and_a_number_of_hits(bench, repository, search, root, tmp_path):
    other = Repository(root, "bob.git", tmp_path)
    for each in (repository, other):
        each.commit({f"f{n}": b"shared\n" for n in range(3)})
        index(bench, each)
    assert len(search("shared")) == 6
    assert {hit.repo for hit in search("shared", repo="bob.git")} == {"bob.git"}
    assert len(search("shared", limit=2)) == 2
    assert search("shared", repo="carol.git") == []


def test_the_search_uses_its_index(bench, repository):
    repository.commit({f"f{n}": f"w{n} everywhere\n".encode() for n in range(30)})
    index(bench, repository)
    with bench.connection.transaction():
        bench.connection.execute("SET LOCAL enable_seqscan = off")
        plan = bench.connection.execute("EXPLAIN SELECT * FROM search_files WHERE tsv @@ tsquery 'w7'").fetchall()
    assert "search_files_words" in str(plan)


def test_any_text_fits_a_tsvector(bench):
    alphabet = [chr(c) for c in range(0x4E00, 0x9FA5)]
    texts = (
        " ".join(f"{n:x}" for n in range(150_000)),
        " ".join(a + b for a in alphabet[:500] for b in alphabet[:300]),
        " ".join(f"{n % 10}e{n}a" for n in range(150_000)),
        "a b " * 250_000,
        "x" * 1_000_000,
        " ".join(f"aB{n}Cd{n}" for n in range(60_000)),
        "É" * 500_000,
    )
    for text in texts:
        path = "/".join(str(n) for n in range(400))
        bench.connection.execute("SELECT %s::text::tsvector", (vector(path, text),))


def test_a_run_that_another_run_overtook_tries_again(bench, repository, monkeypatch):
    repository.commit({"a": b"one\n"})
    original = search_reindex._tree

    def overtaken(*arguments: Any) -> Any:
        monkeypatch.setattr(search_reindex, "_tree", original)
        bench.connection.execute(
            "INSERT INTO search_repos (repo, ref, commit, files, generation) VALUES (%s, 'HEAD', 'other', 0, 1)",
            (repository.name,),
        )
        return original(*arguments)

    monkeypatch.setattr(search_reindex, "_tree", overtaken)
    outcome = bench.run(KIND, repo=repository.name)
    assert (outcome.how, outcome.delay_seconds) == (How.RELEASED, 1)
    assert outcome.error == "the index of 'alice/site.git' changed meanwhile: another job indexed it"
    assert paths(bench) == {}


def test_a_run_waits_only_briefly_for_another_run(bench, database, repository, monkeypatch):
    monkeypatch.setattr(search_index, "BUSY_MILLISECONDS", 1)
    repository.commit({"a": b"one\n"})
    index(bench, repository)
    repository.commit({"a": b"two\n"})
    with database.connect() as other, other.transaction():
        other.execute("UPDATE search_repos SET generation = generation + 1")
        outcome = bench.run(KIND, repo=repository.name)
    assert (outcome.how, outcome.error) == (How.RELEASED, "another job is indexing 'alice/site.git'")


def test_the_writes_are_committed_with_the_settle_or_not_at_all(bench, repository):
    repository.commit({"a": b"one\n"})
    attempt = bench.lease(KIND, repo=repository.name)
    bench.connection.execute("UPDATE jobs SET state = 'queued', leased_by = NULL, leased_at = NULL")
    assert attempt.prepare() is None
    result = attempt.run()
    assert (result.outcome.how, result.settle) == (How.RELEASED, Settle.DUE)
    assert "was leased again while this run went on" in result.outcome.error
    assert paths(bench) == {}
    assert bench.connection.execute("SELECT count(*) FROM search_repos").fetchone() == (0,)


def test_a_repository_without_files_has_an_empty_index(bench, repository):
    repository.commit({"a": b"one\n"})
    index(bench, repository)
    repository.commit({"a": None})
    index(bench, repository)
    assert paths(bench) == {}


def test_a_repository_of_another_user_is_read(bench, repository):
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    repository.commit({"a": b"one\n"})
    subprocess.run(["chown", "-R", "65534", str(repository.bare)], check=True)
    index(bench, repository)
    assert paths(bench) == {"a": True}


def test_a_repository_has_one_name_in_every_spelling(bench, repository, root):
    repository.commit({"a": b"one\n"})
    (root / "alias").symlink_to("alice")
    for name in ("alice/site.git", str(root / "alice/site.git"), "alias/site.git", "./alice//site.git/"):
        assert bench.run(KIND, repo=name).how is How.OK
    assert bench.connection.execute("SELECT repo FROM search_repos").fetchall() == [("alice/site.git",)]


def test_bad_input_fails_at_once_with_one_line_that_says_why(bench, repository, root, tmp_path):
    repository.commit({"a": b"one\n"})
    Repository(root, "empty.git", tmp_path)
    Repository(tmp_path / "outside", "secret.git", tmp_path).commit({"a": b"x"})
    (root / "plain").mkdir()
    (root / "file").write_text("")
    (root / "loop").symlink_to("loop")
    (root / "escape.git").symlink_to(tmp_path / "outside" / "secret.git")
    cases: list[tuple[dict[str, object], str]] = [
        ({"repo": "nobody/nothing.git"}, "unknown repository: 'nobody/nothing.git'"),
        ({"repo": "empty.git"}, "repository 'empty.git' is empty: it has no commits to index"),
        ({"repo": "plain"}, "'plain' is not a git repository"),
        ({"repo": "file"}, "'file' is not a git repository"),
        ({"repo": "file/x"}, "unknown repository: 'file/x'"),
        ({"repo": "loop"}, "unknown repository: 'loop'"),
        ({"repo": "../outside/secret.git"}, "repo '../outside/secret.git' leads out of the repository root"),
        ({"repo": "escape.git"}, "repo 'escape.git' leads out of the repository root"),
        ({"repo": "/"}, "repo '/' leads out of the repository root"),
        ({"repo": "."}, "repo '.' leads out of the repository root"),
        ({"repo": ""}, "repo must be a path of 1 to 1000 bytes, not ''"),
        ({"repo": 7}, "repo must be a path of 1 to 1000 bytes, not 7"),
        ({"repo": "x/" * 500}, f"unknown repository: {'x/' * 500!r}"[:320] + "…"),
        ({"repo": repository.name, "ref": "nowhere"}, "ref 'nowhere' is not a commit of repository 'alice/site.git'"),
        ({"repo": repository.name, "ref": "--all"}, "ref '--all' is not a commit of repository 'alice/site.git'"),
        ({"repo": repository.name, "ref": "HEAD:a"}, "ref 'HEAD:a' is not a commit of repository 'alice/site.git'"),
        ({"repo": repository.name, "ref": None}, "ref must be a text of 1 to 1000 bytes"),
    ]
    for members, error in cases:
        outcome = bench.run(KIND, **members)
        assert (outcome.how, outcome.error) == (How.FAILED, error)


def test_a_missing_root_costs_no_attempt(database, tmp_path):
    (tmp_path / "unmounted").mkdir()
    for config, error in (
        (Config(), "no repository root configured: set --repo-root (SHITHUBD_WORKER_REPO_ROOT)"),
        (Config(repo_root=tmp_path / "gone"), f"the repository root {tmp_path / 'gone'} does not exist, or is empty"),
        (
            Config(repo_root=tmp_path / "unmounted"),
            f"the repository root {tmp_path / 'unmounted'} does not exist, or is empty",
        ),
    ):
        bench = Bench(database.url, database.schema, config)
        outcome = bench.run(KIND, repo="a.git")
        bench.close()
        assert (outcome.how, outcome.delay_seconds, outcome.error) == (How.RELEASED, 300, error)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EACCES])
def test_a_disk_that_does_not_answer_costs_no_attempt(bench, repository, monkeypatch, number):
    resolve = Path.resolve

    def ill(self, strict=False):
        if strict:
            raise OSError(number, os.strerror(number))
        return resolve(self, strict)

    monkeypatch.setattr(Path, "resolve", ill)
    outcome = bench.run(KIND, repo=repository.name)
    assert (outcome.how, outcome.delay_seconds) == (How.RELEASED, 300)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE])
def test_a_shortage_in_git_costs_the_job_no_attempt(bench, repository, monkeypatch, number):
    original = git_of_handlers._command

    def refused(repository, arguments):
        if "ls-tree" not in arguments:
            return original(repository, arguments)
        return ["sh", "-c", f"echo 'fatal: write error: {os.strerror(number)}' >&2; exit 128"]

    repository.commit({"a": b"one\n"})
    monkeypatch.setattr(git_of_handlers, "_command", refused)
    monkeypatch.setattr(confined, "landlock", lambda: 0)  # Landlock would forbid the shell that stands in for git
    outcome = bench.run(KIND, repo=repository.name)
    assert outcome.how is How.RELEASED
    assert os.strerror(number) in outcome.error


def test_a_damaged_repository_is_tried_again(bench, repository):
    repository.commit({"a": b"one\n"})
    oid = git(repository.work, "rev-parse", "HEAD:a")
    (repository.bare / "objects" / oid[:2] / oid[2:]).unlink()
    outcome = bench.run(KIND, repo=repository.name)
    assert outcome.how is How.RETRY
    assert outcome.error
    assert outcome.error.splitlines()[0] == f"GitFailed: blob {oid} can't be read ({oid} missing)"
