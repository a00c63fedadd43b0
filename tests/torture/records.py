"""The logs of a run: one file of JSON lines for each process, complete up to the moment of a SIGKILL."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

Record = dict[str, Any]
# Errors that the parts of the run wait out, and try again: the database is away, as planned. Any other error is a
# fault.
AWAY = (psycopg.OperationalError, psycopg.InterfaceError)
_PR_SET_PDEATHSIG = 1
PARENT = "TORTURE_PARENT"


class Log:
    """Appends to a file of this process's own. Any thread may use it."""

    def __init__(self, directory: Path, role: str) -> None:
        # The time is part of the name, because pids are reused.
        path = directory / f"{role}-{os.getpid()}-{time.monotonic_ns()}.jsonl"
        self._pid = os.getpid()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    def __call__(self, what: str, at: float | None = None, **facts: object) -> None:
        """Write that something happens now, or happened a moment ago."""
        if os.getpid() != self._pid:
            return  # a child that was forked in the middle of a handler
        at = time.monotonic() if at is None else at
        # One write to a file opened for appending is atomic, and the kernel has it when the call returns.
        os.write(self._descriptor, json.dumps({"at": at, "what": what, **facts}).encode() + b"\n")


def read(directory: Path, role: str) -> Iterator[list[Record]]:
    """The records of each file of a role, in the order in which they were written."""
    for path in sorted(directory.glob(f"{role}-*.jsonl")):
        # A process that is killed in the middle of a write leaves a line without an end. Such a line does not count.
        yield [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def die_with_parent() -> None:
    """The kernel kills this process when the thread that started it ends. So no process outlives the run, however the
    run ends. PARENT is the pid of that process, which may have died already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.environ.get(PARENT, str(os.getppid())) != str(os.getppid()):
        os._exit(1)
