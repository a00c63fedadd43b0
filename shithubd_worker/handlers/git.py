"""Git for handlers: which repository a payload means, and how git runs on it without trusting it."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import takewhile
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from shithubd_worker.errors import NotNow, Permanent
from shithubd_worker.handlers import confined
from shithubd_worker.handlers.git_check import check
from shithubd_worker.handlers.git_place import MISCONFIGURED_SECONDS, located

if TYPE_CHECKING:
    from shithubd_worker.job import Job

LONGEST_COMPLAINT = 300
# What one git may take, unless its caller says otherwise: time by the clock, and own memory for each of its processes
# (the unit's MemoryHigh). A kind's max_runtime is longer.
SECONDS = 600.0
MEMORY = 1536 * 1024 * 1024
# `run` is for short answers.
LONGEST_ANSWER = 64 * 1024

# No configuration of the machine or of a user. No question to a terminal. No fetching of objects that a partial clone
# lacks (git 2.45; for older versions, no protocol is allowed). Messages in English, which can be matched.
_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "LC_ALL": "C",
}
# These override the repository's own configuration: files elsewhere, and programs to run. Landlock forbids both as
# well. With these options git doesn't fail because of that, and kernels without Landlock are covered.
_OVERRIDES = (
    f"core.hooksPath={os.devnull}",
    f"core.attributesFile={os.devnull}",
    f"core.excludesFile={os.devnull}",
    "core.fsmonitor=false",
    "core.alternateRefsCommand=false",
    "gc.repackFilter=",
    "gc.repackFilterTo=",
)

# What git says when the machine is short of something, and the error number of a system call for it. ENOMEM is left
# out: it means git's own limit, so the repository is the reason.
_SHORTAGES = {number: os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)}


# What git says when this git can't work with the repository's configuration. To try again doesn't help.
_UNFIT = re.compile(
    "unknown repository extension|v1-only extension|Expected git repo version|bad config|bad boolean config value"
    "|bad numeric config value|invalid value for 'extensions|unknown hash algorithm|unknown ref storage"
    "|missing value for '|bad (?:zlib|pack) compression level"
)


class GitFailed(Exception):
    """Git ended with an error. It has the line that says why, and the exit status (negative: the signal that killed
    git)."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class TooLong(GitFailed):
    """Git was ended because its time was over."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository inside the root. `name` is its real path relative to the root, so one repository has one name.
    `borrowed` are the directories of objects in other repositories that it uses."""

    name: str
    path: Path
    root: Path
    borrowed: tuple[Path, ...] = ()
    asked: str = ""  # the name as it was spelled, which may be that of a link


def find(job: Job, repo: object) -> Repository:
    """The repository that a payload names by a path: relative to the root, or absolute inside it.

    Raises Permanent if the name leads out of the root, to nothing, or to something that is no repository. Raises it as
    well if git must not run on the repository. Raises NotNow for what an operator has to put right, because that is not
    the job's fault.
    """
    place = located(job, repo)
    name, path, root = place.name, place.path, place.root
    if not path.is_dir():
        raise Permanent(f"{name!r} is not a git repository")
    # Git calls a repository that it may not read no repository at all.
    unreadable = NotNow(MISCONFIGURED_SECONDS, f"repository {name!r} can't be read by this worker's user")
    if not os.access(path, os.R_OK | os.X_OK):
        raise unreadable
    try:
        repository = Repository(name, path, root, check(root, path, name), place.asked)
    except PermissionError:
        raise unreadable from None
    for line in _news():
        job.log.warning(line)
    try:
        run(job, repository, "rev-parse", "--git-dir")
    except GitFailed as error:
        if "not a git repository" not in str(error):
            raise
        raise Permanent(f"{name!r} is not a git repository") from None
    return repository


def run(
    job: Job, repository: Repository, *arguments: str, seconds: float | None = None, changes: bool = False
) -> bytes:
    """What git prints, if that is short. Raises GitFailed, and TooLong after `seconds` (None: SECONDS). It may write to
    the repository only with `changes`."""
    with _running(job, repository, arguments, subprocess.DEVNULL, seconds, changes) as child:
        printed = cast("IO[bytes]", child.stdout).read(LONGEST_ANSWER + 1)
        if len(printed) > LONGEST_ANSWER:
            raise Permanent(f"git {_verb(arguments)} on {repository.name!r} prints more than {LONGEST_ANSWER} bytes")
    return printed


@contextmanager
def output(
    job: Job,
    repository: Repository,
    *arguments: str,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    seconds: float | None = None,
) -> Iterator[IO[bytes]]:
    """What git prints, as a stream. The block must read it to its end while git runs. Raises GitFailed at the end of
    the block, and TooLong after `seconds`."""
    with _running(job, repository, arguments, stdin, seconds, changes=False) as child:
        yield cast("IO[bytes]", child.stdout)


@contextmanager
def _running(
    job: Job,
    repository: Repository,
    arguments: tuple[str, ...],
    stdin: IO[bytes] | int,
    seconds: float | None,
    changes: bool,
) -> Iterator[subprocess.Popen[bytes]]:
    """A running git. At the end of the block it must have succeeded.

    If the block raises, git is asked to end, and then killed. A lock that is left behind is never removed here, because
    it may belong to a push.
    """
    seconds = SECONDS if seconds is None else seconds
    start = partial(
        job.popen,
        _command(repository, arguments),
        env=_ENVIRONMENT,
        cwd=repository.path,
        stdin=stdin,
        stdout=subprocess.PIPE,
    )
    program = confined.Confined(start, _rules(repository, changes), seconds=seconds, memory=MEMORY)
    said = f"git {_verb(arguments)} on {repository.name!r}"
    too_long = TooLong(f"{said} was ended after its limit of {seconds:g} s", -1)
    try:
        with program:
            child = program.started()
            yield child
            cast("IO[bytes]", child.stdout).close()
    except GitFailed:
        if program.overran:
            raise too_long from None
        raise
    status = child.wait()
    if program.overran:
        raise too_long
    if status != 0:
        complaint = _complaint(program.complaints, status)
        for shortage, words in _SHORTAGES.items():
            if words in complaint:  # raise what a system call of this process would raise
                raise OSError(shortage, f"{said}: {complaint}")
        if status > 0 and _UNFIT.search(complaint):
            raise Permanent(f"{said}: this git can't use its configuration: {complaint}")
        raise GitFailed(f"{said}: {complaint}", status)


def _verb(arguments: tuple[str, ...]) -> str:
    return next(word for word in arguments if not word.startswith("-") and "=" not in word)


@cache
def _program() -> str:
    """Where git is."""
    found = shutil.which("git")
    if found is None:
        raise NotNow(MISCONFIGURED_SECONDS, "git is not installed on this host")
    return os.path.realpath(found)


@cache
def _program_rules() -> tuple[confined.Rule, ...]:
    """What git needs of the machine: itself, under both of its names, the loader, the libraries, and two devices. No
    shell, so no command of a configuration runs, and no helper programs, which speak to the network."""
    place = subprocess.run([_program(), "--exec-path"], capture_output=True, check=True, timeout=60).stdout  # noqa: S603
    itself = Path(os.fsdecode(place.strip()), "git")
    loaders = Path("/").glob("lib*/ld*.so*")
    libraries = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/etc/ld.so.cache")
    return (
        *(confined.Rule(path, confined.EXECUTE) for path in (Path(_program()), itself, *loaders) if path.exists()),
        *(
            confined.Rule(path, confined.READ if path.is_dir() else confined.READ_FILE)
            for path in map(Path, libraries)
            if path.exists()
        ),
        confined.Rule(Path(os.devnull), confined.READ_WRITE_FILE),
        confined.Rule(Path("/dev/urandom"), confined.READ_FILE),  # for the names of temporary files
    )


def _rules(repository: Repository, changes: bool) -> tuple[confined.Rule, ...]:
    own = confined.Rule(repository.path, confined.CHANGE if changes else confined.READ, repository.root)
    others = (confined.Rule(store, confined.READ, repository.root) for store in repository.borrowed)
    return (*_program_rules(), own, *others)


@cache
def _news() -> Iterator[str]:
    """Lines to log once in the life of this process."""
    unconfined = (
        "this kernel has no Landlock, or the unit forbids it: only a check beforehand and git's own options keep git in"
        " its repository"
    )
    return iter(() if confined.landlock() else (unconfined,))


def _command(repository: Repository, arguments: tuple[str, ...]) -> list[str]:
    # With --git-dir git doesn't ask who owns the repository, but processes that git starts may ask.
    overrides = (f"safe.directory={repository.path}", *_OVERRIDES)
    options = [word for override in overrides for word in ("-c", override)]
    return [_program(), *options, f"--git-dir={repository.path}", *arguments]


def _complaint(text: bytes, status: int) -> str:
    """Why git failed, on one line: what it reports as an error first, with the list below it."""
    lines = [line for line in text.decode(errors="backslashreplace").splitlines() if line.strip()]
    at = next((n for n, line in enumerate(lines) if line.startswith(("fatal:", "error:"))), len(lines) - 1)
    # The lines after it are advice, but for a list and for the place in a file.
    listed = list(takewhile(lambda line: line.startswith(("\t", "fatal: bad config")), lines[at + 1 :]))
    said = " ".join(line.strip() for line in [*lines[at : at + 1], *listed])
    return said[:LONGEST_COMPLAINT] or f"exit status {status}"
