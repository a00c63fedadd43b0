"""Runs a program that can open only what it is given, with a limit of time and of memory.

Landlock (Linux 5.13) enforces this, no matter what the program reads: no link, no file and no race leads past it. A
thread restricts itself and then starts the program, which inherits the restriction. So the worker itself stays
unrestricted, and nothing runs between fork and exec. The same thread then watches the program: it reads the program's
error output, and ends the program when its time is over.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Event, Thread
from typing import cast

# How much of a program's error output is kept: the end, which says why it failed.
COMPLAINTS = 16_384
# How much time a program gets after it was asked to end. It is less than the half second after which an interrupted
# handler is interrupted again. If only the program's own time is over, it is enough even on a loaded machine.
LAST_WORDS_SECONDS = 0.4
OVERTIME_SECONDS = 10.0

_libc = ctypes.CDLL(None, use_errno=True)
# <linux/landlock.h>. These system calls have the same numbers on all machines that systemd runs on.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << bit for bit in range(6))
_MAKE_DIR, _MAKE_REGULAR, _REFER, _TRUNCATE = 1 << 7, 1 << 8, 1 << 13, 1 << 14
# What each version of the kernel's interface can forbid: files from the first version on, TCP from the fourth on.
_FILE_BITS = {1: 13, 2: 14, 3: 15, 4: 15}
_ALL_OF_TCP = 0b11

EXECUTE = _EXECUTE | _READ_FILE
READ_FILE = _READ_FILE
READ_WRITE_FILE = _READ_FILE | _WRITE_FILE | _TRUNCATE
READ = _READ_FILE | _READ_DIR
CHANGE = READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REGULAR | _REFER | _TRUNCATE


@dataclass(frozen=True, slots=True)
class Rule:
    """What is allowed with a file, or with a directory and all below it. `beneath`: from there on, no link leads to
    `path`."""

    path: Path
    access: int
    beneath: Path | None = None

    def open(self) -> int:
        """A descriptor for this very file, even if another file takes its name."""
        if self.beneath is None:
            return os.open(self.path, os.O_PATH | os.O_CLOEXEC)
        return open_beneath(self.beneath, self.path)


def open_beneath(root: Path, path: Path) -> int:
    """A descriptor of a directory below the root, reached without any symbolic link. Raises OSError at a link."""
    found = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in path.relative_to(root).parts:
        try:
            following = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=found)
        finally:
            os.close(found)
        found = following
    return found


@cache
def landlock() -> int:
    """The version of the kernel's interface. 0 if this kernel has none, or the unit forbids it."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)))


def _call(number: int, *arguments: object) -> int:
    answer = int(_libc.syscall(number, *arguments))
    if answer < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return answer


def _restrict(rules: Iterable[Rule]) -> None:
    """From now on this thread, and what it starts, can open only what the rules name. This can't be undone."""
    version = landlock()
    all_of_files = (1 << _FILE_BITS.get(version, 16)) - 1
    attributes = struct.pack("QQ", all_of_files, _ALL_OF_TCP)[: 16 if version >= 4 else 8]  # noqa: PLR2004
    with ExitStack() as stack:

        def held(descriptor: int) -> int:
            stack.callback(os.close, descriptor)
            return descriptor

        ruleset = held(_call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
        for rule in rules:
            beneath = struct.pack("=Qi", rule.access & all_of_files, held(rule.open()))
            _call(_ADD_RULE, ruleset, _PATH_BENEATH, beneath, 0)
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _call(_RESTRICT_SELF, ruleset, 0)


class Confined:
    """A running program. The end of its `with` block waits for its end. If the block raises, the program is asked to
    end, so that it removes its own locks and temporary files. If it doesn't end, it is killed."""

    def __init__(
        self, start: Callable[..., subprocess.Popen[bytes]], rules: Iterable[Rule], *, seconds: float, memory: int
    ) -> None:
        self.overran = False  # was it ended because its time was over?
        self.complaints = b""
        self._start = start
        self._rules = rules
        self._seconds = seconds
        self._memory = memory
        self._child: subprocess.Popen[bytes] | None = None
        self._failure: BaseException | None = None
        self._running = Event()
        self._keeper = Thread(target=self._keep, name="keeper", daemon=True)

    def __enter__(self) -> Confined:
        self._unwanted = os.eventfd(0, os.EFD_CLOEXEC)  # readable: the program must end
        self._keeper.start()
        return self

    def __exit__(self, raised: type[BaseException] | None, *_: object) -> None:
        if raised is not None:
            os.eventfd_write(self._unwanted, 1)
        self._keeper.join()
        os.close(self._unwanted)

    def started(self) -> subprocess.Popen[bytes]:
        """The program, once it runs. If it could not be started, raises the reason."""
        self._running.wait()
        if self._failure is not None:
            raise self._failure
        return cast("subprocess.Popen[bytes]", self._child)

    def _keep(self) -> None:
        with ExitStack() as stack:
            try:
                if landlock():
                    _restrict(self._rules)
                complaints, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
                stack.callback(os.close, complaints)
                try:
                    os.set_blocking(theirs, True)
                    self._child = self._start_limited(theirs)
                finally:
                    os.close(theirs)
                ended = os.pidfd_open(self._child.pid)
                stack.callback(os.close, ended)
            except BaseException as error:  # noqa: BLE001 (raised again where the program is waited for)
                self._failure = error
                return
            finally:
                self._running.set()
            self._watch(self._child, ended, complaints)

    def _start_limited(self, stderr: int) -> subprocess.Popen[bytes]:
        # The limit is set on the worker itself for the moment of the start. Set on the program, it would miss what the
        # program has started by then. It limits a process's own memory, not packs that it maps.
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limits = [limit for limit in (self._memory, soft) if limit != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
        try:
            return self._start(stderr=stderr)
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))

    def _watch(self, child: subprocess.Popen[bytes], ended: int, complaints: int) -> None:
        """Watch the program until it has ended. It never waits for a reader of its error output."""
        poll = select.poll()
        for descriptor in (ended, complaints, self._unwanted):
            poll.register(descriptor, select.POLLIN)
        until = time.monotonic() + self._seconds
        asked = False  # was it asked to end?
        while True:
            left = max(0.0, until - time.monotonic())
            ready = {descriptor for descriptor, _ in poll.poll(left * 1000)}
            if complaints in ready and not self._listen(complaints):
                poll.unregister(complaints)
            if ended in ready:
                self._listen(complaints)
                return
            if self._unwanted in ready:
                poll.unregister(self._unwanted)
            elif until > time.monotonic():
                continue
            elif not asked:
                self.overran = True
            _signal(child, signal.SIGKILL if asked else signal.SIGTERM)
            asked = True
            until = time.monotonic() + (OVERTIME_SECONDS if self.overran else LAST_WORDS_SECONDS)

    def _listen(self, complaints: int) -> bool:
        """Read the error output so far. False if nobody can write any more."""
        with suppress(BlockingIOError):
            said = os.read(complaints, 65_536)
            self.complaints = (self.complaints + said)[-COMPLAINTS:]
            return bool(said)
        return True


def _signal(child: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)
