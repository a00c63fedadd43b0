"""The processes that handlers start: in sessions of their own, with a clean environment, never outliving their job."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

# What belongs to the worker alone: systemd's sockets and secrets, the way into the database, and whatever git context
# the worker may have been started in.
_PRIVATE = ("NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "INVOCATION_ID", "JOURNAL_STREAM")
_PRIVATE_PREFIXES = ("PG", "WATCHDOG_", "SHITHUBD_WORKER_", "GIT_")


def clean_environment() -> dict[str, str]:
    """The environment without what a child of a handler must not see."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in _PRIVATE and not name.startswith(_PRIVATE_PREFIXES)
    }


class Children:
    """Starts processes and remembers their process groups, so that the control thread too can end them."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[Any]] = []

    def popen(
        self, command: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """subprocess.Popen in a session of its own: neither a stop of the unit nor a Ctrl-C reaches the child.

        `env` is added to the clean environment.
        """
        options["start_new_session"] = True
        child = subprocess.Popen(command, env={**clean_environment(), **(env or {})}, **options)  # noqa: S603
        self._started.append(child)
        return child

    def end_all(self) -> None:
        """Kill the process groups of all children, grandchildren included. Safe from any thread."""
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
    """The kernel gives a group's number to nobody else while a process of the group lives. But once the child was
    waited for and the last of its group has ended, another process may have the number, and a group of its own."""
    if child.poll() is None:
        return False
    try:
        os.kill(child.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
