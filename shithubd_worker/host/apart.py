"""A process apart: it outlives the one that starts it, and nothing that happens to it reaches that one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from shithubd_worker.host.signals import end_process

# Those that a terminal, a login's end or a service's end send to a command.
_NOT_MEANT = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def start(work: Callable[[int], None]) -> int:
    """Call `work` in a process apart. It gets the reading end of a pipe, and the caller gets the writing end. The
    process finds the end of the pipe when the caller's process ends, no matter how it ends: by SIGKILL, too.

    It is a fork in a session of its own. It inherits no descriptor but the pipe, and its standard streams are
    /dev/null. Not for a process with threads or connections.
    """
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            for each in _NOT_MEANT:
                signal.signal(each, signal.SIG_IGN)
            os.setsid()
            if os.fork() == 0:
                _let_go_of_all_but(reads)
                work(reads)
        finally:
            end_process(0)
    os.close(reads)
    os.waitpid(child, 0)
    return writes


def _let_go_of_all_but(kept: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
    os.chdir("/")
