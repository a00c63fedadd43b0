"""The processes that handlers start: each in a session of its own, with a clean environment. None outlives its job."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

# What belongs to the worker alone: systemd's sockets and secrets, the way into the database, and the git context in
# which the worker may have been started.
_PRIVATE = ("NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "INVOCATION_ID", "JOURNAL_STREAM")
_PRIVATE_PREFIXES = ("PG", "WATCHDOG_", "SHITHUBD_WORKER_", "GIT_")


def clean_environment() -> dict[str, str]:
    """The environment, without what a handler's child must not see."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in _PRIVATE and not name.startswith(_PRIVATE_PREFIXES)
    }


class Children:
    """Starts processes and remembers their process groups, so that the control thread can end them too."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[Any]] = []

    def popen(
        self, command: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """subprocess.Popen in a session of its own. So a stop of the unit or a Ctrl-C doesn't reach the child.

        `env` is added to the clean environment.
        """
        options["start_new_session"] = True
        child = subprocess.Popen(command, env={**clean_environment(), **(env or {})}, **options)  # noqa: S603
        self._started.append(child)
        return child

    def end_all(self) -> None:
        """Kill the process groups of all children, with their own children. Safe from any thread."""
        started, self._started = self._started, []
        for child in started:
            if not _number_is_a_strangers(child):
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                child.wait(timeout=1)
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()


def _number_is_a_strangers(child: subprocess.Popen[Any]) -> bool:
    """Does another process have this number by now? The kernel doesn't reuse a group's number while a process of the
    group lives. After that, and once the child was waited for, a new process may get the number for a group of its
    own."""
    if child.poll() is None:
        return False
    try:
        os.kill(child.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
