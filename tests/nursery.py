"""`shithubd-worker ARGS` without the time that a new Python takes to import it: several times that of a short command.

One process imports the product, and forks for each command and each worker. What runs is a process of its own, with its
own descriptors, environment and directory.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

HERE = Path(__file__).parent

# It forks twice: the one process waits for the other, and tells its pid and its exit code. No more orders end it.
_PROGRAM = """
import gc, importlib, json, os, pkgutil, signal, socket, sys
import psycopg.types.json, rich.console, rich.markup, rich.table
import shithubd_worker
for module in pkgutil.walk_packages(shithubd_worker.__path__, "shithubd_worker."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from shithubd_worker.cli import main
from shithubd_worker.database import operations
operations.LOGINUID = operations.Path("/dev/null")  # not that of the person who runs the tests
orders = socket.socket(fileno=int(sys.argv[1]))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
gc.freeze()  # the collection at the end of a command would look at all that was imported, for 0.1 s
while True:
    text, (*descriptors,), *_ = socket.recv_fds(orders, 1 << 20, 4)
    if not text:
        sys.exit()
    if os.fork():
        for each in descriptors:
            os.close(each)
        continue
    orders.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    line = socket.socket(fileno=descriptors.pop(0))
    if child := os.fork():
        for each in descriptors:
            os.close(each)
        line.send(str(child).encode())
        line.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())
        os._exit(0)
    line.close()
    for number, each in enumerate(descriptors):
        os.dup2(each, number)
        os.close(each)
    order = json.loads(text)
    if order["session"]:
        os.setsid()
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    sys.path[1:1] = order["env"]["PYTHONPATH"].split(":")
    exec(order["first"])
    sys.argv = ["shithubd-worker", *order["arguments"]]
    sys.exit(main())
"""


@cache
def _nursery() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        nursery = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(theirs.fileno())],
            cwd=HERE,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
    return ours, nursery


def end() -> None:
    """Let it end, if there is one."""
    if _nursery.cache_info().currsize:
        orders, nursery = _nursery()
        _nursery.cache_clear()
        orders.close()
        nursery.wait()


class Process:
    """`shithubd-worker ARGS`, with what subprocess.Popen offers. `session`: in one of its own. `first`: code that the
    process runs before."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        files: Sequence[Any],  # stdin, stdout, stderr: what has a fileno()
        cwd: Path = HERE,
        session: bool = False,
        first: str = "",
    ) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        order = {"arguments": arguments, "env": dict(env), "cwd": str(cwd), "session": session, "first": first}
        with theirs:
            descriptors = [theirs.fileno(), *(file.fileno() for file in files)]
            socket.send_fds(_nursery()[0], [json.dumps(order).encode()], descriptors)
        self.returncode: int | None = None
        self.pid = self._hear()

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; its exit code."""
        if self.returncode is None:
            self._line.settimeout(timeout)
            try:
                self.returncode = self._hear()
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired("shithubd-worker", timeout or 0.0) from None
            self._line.close()
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _hear(self) -> int:
        heard = self._line.recv(100)
        assert heard, "the nursery is gone"
        return int(heard)


def run(
    arguments: Sequence[str], *, env: Mapping[str, str], input: str = "", cwd: Path = HERE, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run `shithubd-worker ARGS` to its end, with all that it said. Bytes that are no text come as surrogates."""
    with TemporaryFile() as stdin, TemporaryFile() as stdout, TemporaryFile() as stderr:
        stdin.write(input.encode())
        stdin.seek(0)
        process = Process(arguments, env=env, files=(stdin, stdout, stderr), cwd=cwd)
        try:
            process.wait(timeout)
        finally:
            process.kill()
        said = []
        for file in (stdout, stderr):
            file.seek(0)
            said.append(file.read().decode(errors="surrogateescape"))
    return subprocess.CompletedProcess(arguments, process.wait(), *said)
