"""Which commit a payload means: a branch first, then a tag, then a commit. A name is never an expression."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from shithubd_worker.errors import Permanent
from shithubd_worker.handlers import git
from shithubd_worker.handlers.git_place import LONGEST_NAME, Gone

if TYPE_CHECKING:
    from shithubd_worker.job import Job

_WHOLE_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHORT_ID = re.compile(r"[0-9a-f]{4,63}")


def commit(job: Job, repository: git.Repository, ref: object) -> str:
    """The id of the commit. Raises Permanent if there is none, and Gone if the repository has no refs at all.

    Git itself prefers a tag to a branch of the same name, and looks for a missing HEAD among the branches. So each name
    is asked in full. Raises GitFailed for a ref or an object that is damaged.
    """
    if not _is_ref(ref):
        raise Permanent(f"ref must be a text of 1 to {LONGEST_NAME} bytes")
    name = str(ref)
    oid = _found(job, repository, name)
    if oid is None:
        _explain(job, repository, name)
        raise Permanent(f"ref {name!r} is not a commit of repository {repository.name!r}")
    kind = _kind(job, repository, oid)
    if kind == "tag":
        oid = _line(job, repository, "rev-parse", "--verify", f"{oid}^{{}}")
        kind = _kind(job, repository, oid)
    if kind != "commit":
        raise Permanent(f"ref {name!r} is not a commit of repository {repository.name!r}, but a {kind}")
    return oid


def _is_ref(ref: object) -> bool:
    return isinstance(ref, str) and "\x00" not in ref and 0 < len(ref.encode(errors="replace")) <= LONGEST_NAME


def _candidates(name: str) -> tuple[str, ...]:
    if name == "HEAD" or name.startswith("refs/"):
        return (name,)
    return (f"refs/heads/{name}", f"refs/tags/{name}", f"refs/{name}")


def _found(job: Job, repository: git.Repository, name: str) -> str | None:
    if _WHOLE_ID.fullmatch(name):
        return _id(job, repository, name)
    for full in _candidates(name):
        try:
            return _line(job, repository, "show-ref", "--verify", "--hash", "--", full)
        except git.GitFailed:
            if not _is_missing(job, repository, full):
                raise
    return _id(job, repository, name) if _SHORT_ID.fullmatch(name) else None


def _is_missing(job: Job, repository: git.Repository, full: str) -> bool:
    """Is there no such ref? What git says of it may be cut off, or go over several lines."""
    try:
        git.run(job, repository, "show-ref", "--verify", "--quiet", "--", full)
    except git.GitFailed as error:
        return error.status == 1
    return False


def _id(job: Job, repository: git.Repository, digits: str) -> str | None:
    """The whole id of an object that the repository has."""
    try:
        return _line(job, repository, "rev-parse", "--verify", "--quiet", f"{digits}^{{object}}")
    except git.GitFailed as error:
        if error.status < 0:
            raise
        return None


def _kind(job: Job, repository: git.Repository, oid: str) -> str:
    return _line(job, repository, "cat-file", "-t", oid)


def _line(job: Job, repository: git.Repository, *arguments: str) -> str:
    return git.run(job, repository, *arguments).decode(errors="backslashreplace").strip()


def _explain(job: Job, repository: git.Repository, name: str) -> None:
    """Say more than that there is no such ref, if that is possible. A file without a ref's content is damage, and no
    missing ref: the crash of a machine leaves files of no bytes."""
    head = _head(repository) if name == "HEAD" else None
    for full in (head,) if head else _candidates(name):
        # Git never writes a ref with such a name, and a lock is no ref.
        odd = os.path.normpath(full) != full or full.endswith(".lock") or full == "HEAD"
        if not odd and os.path.isfile(repository.path / full):  # noqa: PTH113 (Path.is_file raises for a long name)
            raise git.GitFailed(f"{full} of {repository.name!r} is damaged: its file names no object", 0)
    if not git.run(job, repository, "for-each-ref", "--count=1"):
        if damaged := _files_of_refs(repository):
            raise git.GitFailed(f"refs of {repository.name!r} are damaged: {damaged} names no object", 0)
        raise Gone(f"repository {repository.name!r} is empty: it has no commits to index", {repository.name: None})
    if head:
        raise Permanent(f"HEAD of repository {repository.name!r} names {head}, which does not exist: name another ref")


def _head(repository: git.Repository) -> str | None:
    """The branch that HEAD names. None if it names a commit. Git doesn't tell the name of a branch that is damaged."""
    words = (repository.path / "HEAD").read_text(errors="backslashreplace").split()
    return words[1] if words[:1] == ["ref:"] and len(words) > 1 else None


def _files_of_refs(repository: git.Repository) -> str | None:
    """A file of a ref, if there is one. Git with the format `reftable` has none, but for one that explains that."""
    if (repository.path / "reftable").is_dir():
        return None
    for directory, _, files in os.walk(repository.path / "refs"):
        for file in files:
            if not file.endswith(".lock"):
                found = Path(directory, file).relative_to(repository.path)
                return os.fsencode(found).decode(errors="backslashreplace")
    return None
