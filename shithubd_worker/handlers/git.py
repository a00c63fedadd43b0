"""Git for handlers: which repository a payload means, and running git on it without trusting it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, cast

from shithubd_worker.errors import NotNow, Permanent

if TYPE_CHECKING:
    from shithubd_worker.job import Job

# How long an operator's mistake waits before it is looked at again, in seconds.
MISCONFIGURED_SECONDS = 300
# The name is part of an index row, which PostgreSQL limits to about 2,700 bytes.
LONGEST_NAME = 1000
LONGEST_COMPLAINT = 300
# Less than the half second after which an interrupted handler is interrupted again.
LAST_WORDS_SECONDS = 0.4

# Nothing of the machine's or a user's configuration, no question to a terminal, no fetching of objects that a
# partial clone lacks, messages that can be matched.
_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "LC_ALL": "C",
}


# What git says where the machine has no more of something, and the error number that a system call has for it.
_SHORTAGES = {
    number: os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
}


_NO_SUCH = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


class GitFailed(Exception):
    """Git ended with an error: its last line, and its exit status (negative: the signal that killed it)."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository inside the root. `name` is its real path relative to the root: one name for one repository."""

    name: str
    path: Path


def find(job: Job, repo: object) -> Repository:
    """The repository that a payload names by its path, relative to the root or absolute inside it.

    Raises Permanent for a name that leads out of the root, to nothing, or to something else than a repository;
    NotNow for what an operator has to set right, which is not the job's fault.
    """
    path, root = _confined(_root(job), repo)
    repository = Repository(path.relative_to(root).as_posix(), path)
    if not path.is_dir():
        raise Permanent(f"{repository.name!r} is not a git repository")
    # Git takes what it may not read for no repository at all.
    if not os.access(path, os.R_OK | os.X_OK):
        raise NotNow(MISCONFIGURED_SECONDS, f"repository {repository.name!r} can't be read by this worker's user")
    try:
        run(job, repository, "rev-parse", "--git-dir")
    except GitFailed as error:
        if "not a git repository" not in str(error):
            raise
        raise Permanent(f"{repository.name!r} is not a git repository") from None
    return repository


def run(job: Job, repository: Repository, *arguments: str, timeout: float | None = None) -> bytes:
    """What git prints. Raises GitFailed, and subprocess.TimeoutExpired after `timeout` seconds."""
    with _running(job, repository, arguments, subprocess.DEVNULL) as child:
        printed: bytes = child.communicate(timeout=timeout)[0]
    return printed


@contextmanager
def output(
    job: Job, repository: Repository, *arguments: str, stdin: IO[bytes] | int = subprocess.DEVNULL
) -> Iterator[IO[bytes]]:
    """What git prints, to be read to its end while git runs. Raises GitFailed at the end of the block."""
    with _running(job, repository, arguments, stdin) as child:
        yield cast("IO[bytes]", child.stdout)


@contextmanager
def _running(
    job: Job, repository: Repository, arguments: tuple[str, ...], stdin: IO[bytes] | int
) -> Iterator[subprocess.Popen[bytes]]:
    """A git that must have succeeded at the end of the block.

    If the block raises, git is asked to end, so that it removes its own locks and temporary files; what doesn't go
    is killed with the job. A lock that is left behind is never removed here: it could be that of a push.
    """
    with TemporaryFile() as complaints:  # a pipe that nobody reads could fill up
        child = job.popen(
            _command(repository, arguments),
            env=_ENVIRONMENT,
            cwd=repository.path,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=complaints,
        )
        try:
            yield child
        except BaseException:
            _end(child)
            raise
        cast("IO[bytes]", child.stdout).close()
        status = child.wait()
        if status != 0:
            complaints.seek(0)
            complaint = _complaint(complaints.read(), status)
            verb = next(word for word in arguments if not word.startswith("-") and "=" not in word)
            said = f"git {verb} on {repository.name!r}: {complaint}"
            for shortage, words in _SHORTAGES.items():
                if words in complaint:  # as if it had befallen this process
                    raise OSError(shortage, said)
            raise GitFailed(said, status)


def _command(repository: Repository, arguments: tuple[str, ...]) -> list[str]:
    # With --git-dir git doesn't ask who owns the repository; the processes that it starts itself might. Of the
    # repository's own configuration, these two could name programs to run.
    return [
        "git",
        "-c", f"safe.directory={repository.path}",
        "-c", f"core.hooksPath={os.devnull}",
        "-c", "core.fsmonitor=false",
        f"--git-dir={repository.path}",
        *arguments,
    ]  # fmt: skip


def _root(job: Job) -> Path:
    root = job.config.repo_root
    if root is None:
        raise NotNow(
            MISCONFIGURED_SECONDS, "no repository root configured: set --repo-root (SHITHUBD_WORKER_REPO_ROOT)"
        )
    if not _holds_something(root):  # not mounted, perhaps: no reason to call every repository unknown
        raise NotNow(MISCONFIGURED_SECONDS, f"the repository root {root} is not there, or empty")
    return root.resolve()


def _holds_something(root: Path) -> bool:
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is not None
    except PermissionError:  # it may be passed through and not listed
        return os.access(root, os.X_OK)
    except OSError:
        return False


def _confined(root: Path, repo: object) -> tuple[Path, Path]:
    if not isinstance(repo, str) or not 0 < len(repo) <= LONGEST_NAME or "\x00" in repo:
        raise Permanent(f"repo must be a path of 1 to {LONGEST_NAME} characters, not {_shown(repo)}")
    asked = root / repo
    if ".." in asked.parts:
        raise Permanent(f"repo {_shown(repo)} leads out of the repository root")
    try:
        path = asked.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: symbolic links in a circle
        if isinstance(error, OSError) and error.errno not in _NO_SUCH:  # a disk that is ill, a server that is away
            raise NotNow(MISCONFIGURED_SECONDS, f"repo {_shown(repo)} can't be reached: {error.strerror}") from None
        raise Permanent(f"unknown repository: {_shown(repo)}") from None
    if root not in path.parents:
        raise Permanent(f"repo {_shown(repo)} leads out of the repository root")
    return path, root


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_COMPLAINT else f"{text[:LONGEST_COMPLAINT]}…"


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is not None:
        return  # its number may be somebody else's by now
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        child.wait(LAST_WORDS_SECONDS)


def _complaint(text: bytes, status: int) -> str:
    lines = [line for line in text.decode(errors="backslashreplace").splitlines() if line.strip()]
    # The line that says why is the first fatal one; what follows is advice.
    line = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1] if lines else "")
    return line[:LONGEST_COMPLAINT] or f"exit status {status}"
