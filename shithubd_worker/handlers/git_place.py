"""Which repository a payload means, and whether one that is missing is gone or only out of reach."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shithubd_worker.errors import NotNow, Permanent

if TYPE_CHECKING:
    from shithubd_worker.job import Job

# After an operator's mistake, the job waits so many seconds until it is tried again.
MISCONFIGURED_SECONDS = 300
# In bytes. The name is part of an index row, which PostgreSQL limits to about 2,700 bytes.
LONGEST_NAME = 1000
LONGEST_SHOWN = 300

_GONE = (errno.ENOENT, errno.ENOTDIR)
_NO_SUCH = (*_GONE, errno.ENAMETOOLONG, errno.ELOOP)


@dataclass(frozen=True, slots=True)
class Place:
    """A path below the root that exists. `name` is its real path relative to the root, so one repository has one
    name. `asked` may be the name of a link."""

    name: str
    path: Path
    root: Path
    asked: str


class Gone(Permanent):
    """The repository of this name has no commits, or there is none. `storage`: see `storage`; None: the repository
    itself is there."""

    def __init__(self, said: str, name: str, storage: str | None = None) -> None:
        super().__init__(said)
        self.name = name
        self.storage = storage


def located(job: Job, repo: object) -> Place:
    """Where the path of a payload leads: relative to the root, or absolute inside it.

    Raises Permanent if it leads out of the root, and Gone if it leads to nothing. Raises NotNow for what an operator
    has to put right.
    """
    root = _root(job)
    if not _is_name(repo):
        raise Permanent(f"repo must be a path of 1 to {LONGEST_NAME} bytes, not {shown(repo)}")
    asked = root / str(repo)
    if ".." in asked.parts:
        raise Permanent(f"repo {shown(repo)} leads out of the repository root")
    try:
        path = asked.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: symbolic links that form a circle
        if isinstance(error, OSError) and error.errno not in _NO_SUCH:  # a broken disk, a file server that is away
            raise NotNow(MISCONFIGURED_SECONDS, f"repo {shown(repo)} can't be reached: {error.strerror}") from None
        unknown = f"unknown repository: {shown(repo)}"
        if isinstance(error, OSError) and error.errno in _GONE and root in (path := asked.resolve()).parents:
            raise Gone(unknown, path.relative_to(root).as_posix(), storage(root, path)) from None
        raise Permanent(unknown) from None
    if root not in path.parents:
        raise Permanent(f"repo {shown(repo)} leads out of the repository root")
    name = path.relative_to(root).as_posix()
    if not _is_name(name):
        raise Permanent(f"the real path of repo {shown(repo)} is not UTF-8, or has more than {LONGEST_NAME} bytes")
    return Place(name, path, root, asked.relative_to(root).as_posix() if root in asked.parents else name)


def storage(root: Path, path: Path) -> str:
    """The directory in which the file system of a path is mounted, relative to the root: `.` for the root itself, and
    an empty text for a file system that begins above it. The path may be missing.

    If a disk is away, what it held is on no disk of this name. So a repository is gone only if this text is the one
    from the time when it was there.
    """
    held = [each for each in (path, *path.parents) if each == root or root in each.parents]
    there = [each for each in held if each.exists()]
    for each in there:
        if each.stat().st_dev != each.parent.stat().st_dev:
            return each.relative_to(root).as_posix()
    return ""


def shown(value: object) -> str:
    """A value of a payload, for an error."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _is_name(name: object) -> bool:
    """Is it a text that a row of an index can hold?"""
    if not isinstance(name, str) or "\x00" in name:
        return False
    try:
        return 0 < len(name.encode()) <= LONGEST_NAME
    except UnicodeEncodeError:
        return False


def _root(job: Job) -> Path:
    root = job.config.repo_root
    if root is None:
        raise NotNow(
            MISCONFIGURED_SECONDS, "no repository root configured: set --repo-root (SHITHUBD_WORKER_REPO_ROOT)"
        )
    if not _holds_something(root):  # perhaps it is not mounted: then the repositories are not unknown, only away
        raise NotNow(MISCONFIGURED_SECONDS, f"the repository root {root} does not exist, or is empty")
    return root.resolve()


def _holds_something(root: Path) -> bool:
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is not None
    except PermissionError:  # a directory may be entered though it can't be listed
        return os.access(root, os.X_OK)
    except OSError:
        return False
