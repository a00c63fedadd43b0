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
    """The repository of these names has no commits, or there is none: its real name first, then the name that was
    asked for. Each with its `storage`; None: the repository itself is there."""

    def __init__(self, said: str, names: dict[str, str | None]) -> None:
        super().__init__(said)
        self.names = names


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
            raise _gone(unknown, root, path, asked) from None
        raise Permanent(unknown) from None
    if root not in path.parents:
        raise Permanent(f"repo {shown(repo)} leads out of the repository root")
    if _is_emptied(path):
        raise _gone(f"{shown(repo)} is not a git repository", root, path, asked)
    name = path.relative_to(root).as_posix()
    if not _is_name(name):
        raise Permanent(f"the real path of repo {shown(repo)} is not UTF-8, or has more than {LONGEST_NAME} bytes")
    return Place(name, path, root, asked.relative_to(root).as_posix() if root in asked.parents else name)


def _gone(said: str, root: Path, *paths: Path) -> Gone:
    below = [path for path in paths if root in path.parents]
    return Gone(said, {path.relative_to(root).as_posix(): storage(root, path) for path in below})


def storage(root: Path, path: Path) -> str:
    """The directory in which the file system of a path is mounted, relative to the root: `.` for the root itself, and
    an empty text for a file system that begins above it. The path may be missing.

    If a disk is away, what it held is on no disk of this name. So a repository is gone only if this text is the one
    from the time when it was there.
    """
    held = [each for each in (path, *path.parents) if root in each.parents and each.exists()]
    for each in held:
        if _mount(each) != _mount(each.parent):
            return each.relative_to(root).as_posix()
    # A unit may mount the root for itself alone, for example to write there. So only another disk counts.
    return "." if root.stat().st_dev != root.parent.stat().st_dev else ""


def _mount(path: Path) -> tuple[int, str]:
    """The disk of a path, and the number of its mount: a part of a disk may be mounted in another place of it."""
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        told = Path(f"/proc/self/fdinfo/{descriptor}").read_text("ascii").splitlines()
        return os.fstat(descriptor).st_dev, next((line for line in told if line.startswith("mnt_id")), "")
    except OSError:  # /proc is not there
        return os.fstat(descriptor).st_dev, ""
    finally:
        os.close(descriptor)


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


def _is_emptied(path: Path) -> bool:
    """Is this a directory with nothing in it? Somebody took it away, or its disk is away."""
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is None
    except OSError:  # git says what it is
        return False


def _holds_something(root: Path) -> bool:
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is not None
    except PermissionError:  # a directory may be entered though it can't be listed
        return os.access(root, os.X_OK)
    except OSError:
        return False
