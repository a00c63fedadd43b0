"""What a repository may consist of: files and directories, and of other repositories only objects below the root.

Landlock enforces the same while git runs. This check before says in plain words what is wrong. It also finds what would
make git wait for ever. On a kernel without Landlock, it is all there is.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from shithubd_worker.errors import Permanent
from shithubd_worker.handlers.confined import open_beneath

# Git itself nests less deeply, except for branch names.
DEEPEST = 64
LONGEST_CONFIG = 1024 * 1024
MOST_BORROWED = 100
# What the forge runs, and this git doesn't. On some forges these are links to one place for all repositories.
_SCRIPTS = ("hooks", "custom_hooks")
# A key can't be written in any other way. The last one names programs, and no option of git switches it off.
_FOREIGN = re.compile(rb"\[include|\bworktree\s*=|recentobjectshook", re.IGNORECASE)
_NO_ENTRY = (errno.ENOENT, errno.ENOTDIR)
_NO_DIRECTORY = (errno.ELOOP, errno.ENOTDIR)


def check(root: Path, path: Path, name: str) -> tuple[Path, ...]:
    """Raise Permanent unless git may run on the repository. Returns the directories of objects that it borrows from."""
    try:
        repository = _opened(root, path)
        try:
            _look_through(repository, "", skipped=_SCRIPTS)
            if _read(repository, "commondir", LONGEST_CONFIG) is not None:
                raise _Refused("it belongs to a working tree of another repository (commondir)")
            for config in ("config", "config.worktree"):
                if found := _FOREIGN.search(_read(repository, config, LONGEST_CONFIG) or b""):
                    key = found[0].decode().strip("[= \t\r\n").lower()
                    raise _Refused(f"its {config} has a setting that leads outside or runs a program ({key})")
        finally:
            os.close(repository)
        return _borrowed(root, path / "objects")
    except _Refused as error:
        raise Permanent(f"git must not run on repository {name!r}: {error}") from None


class _Refused(Exception):
    """The reason."""


def _opened(root: Path, path: Path) -> int:
    place = open_beneath(root, path)
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=place)
    finally:
        os.close(place)


def _look_through(directory: int, inside: str, depth: int = 0, skipped: tuple[str, ...] = ()) -> None:
    """Refuse everything that is neither a file nor a directory, at any depth. Follows no link."""
    if depth > DEEPEST:
        raise _Refused(f"directories are nested more than {DEEPEST} deep")
    below = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False) or entry.name in skipped:
                continue
            if entry.is_dir(follow_symlinks=False):
                below.append(entry.name)
            else:
                kind = "a symbolic link" if entry.is_symlink() else "neither a file nor a directory"
                raise _Refused(f"{_shown(inside + entry.name)} is {kind}")
    for name in below:
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
        except OSError as error:
            if error.errno in _NO_DIRECTORY:
                raise _Refused(f"{_shown(inside + name)} is a symbolic link") from None
            if error.errno in (errno.ENOENT, errno.EACCES):  # it is gone, or git can't read it either
                continue
            raise
        try:
            _look_through(descriptor, f"{inside}{name}/", depth + 1)
        finally:
            os.close(descriptor)


def _read(directory: int, name: str, most: int) -> bytes | None:
    """The content of a file. None if there is none."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except OSError as error:
        if error.errno in _NO_ENTRY:
            return None
        raise
    with os.fdopen(descriptor, "rb") as file:
        text = file.read(most + 1)
    if len(text) > most:
        raise _Refused(f"its {name} has more than {most} bytes")
    return text


def _borrowed(root: Path, store: Path) -> tuple[Path, ...]:
    """The directories of objects that git also reads. Forks usually have some; they are fine below the root."""
    found: list[Path] = []
    to_read = [store]
    while to_read:
        for other in _alternates(root, to_read.pop()):
            if other not in found:
                _look_through_store(root, other)
                found.append(other)
                to_read.append(other)
            if len(found) > MOST_BORROWED:
                raise _Refused(f"it borrows objects from more than {MOST_BORROWED} places")
    return tuple(found)


def _look_through_store(root: Path, store: Path) -> None:
    directory = _opened(root, store)
    try:
        _look_through(directory, f"{store.relative_to(root)}/")
    finally:
        os.close(directory)


def _alternates(root: Path, store: Path) -> Iterator[Path]:
    try:
        directory = _opened(root, store)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        text = _read(directory, "info/alternates", LONGEST_CONFIG) or b""
    finally:
        os.close(directory)
    for line in text.split(b"\n"):
        if line.startswith(b'"'):
            raise _Refused("it borrows objects from a path in quotes")
        if line and not line.startswith(b"#"):
            try:
                other = (store / os.fsdecode(line)).resolve(strict=True)
            except (OSError, RuntimeError, ValueError):
                continue  # git skips it, and Landlock forbids git to read what appears there later
            if root not in other.parents or other.name != "objects":
                raise _Refused("it borrows objects from outside of the repository root")
            yield other


def _shown(path: str) -> str:
    return repr(path if len(path) <= 200 else f"{path[:200]}…")  # noqa: PLR2004
