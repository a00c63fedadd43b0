"""What systemd is told, if it listens."""

from __future__ import annotations

import os
import time

import sdnotify

from shithubd_worker.host.forks import keep_private
from shithubd_worker.plain import on_one_line
from shithubd_worker.timing import NOTIFY_SECONDS


class Systemd:
    """What systemd is told, if it listens. sdnotify sends latin-1, so the text is kept to ASCII.

    Nothing waits for systemd for long: what can be said again later is given up at once while it takes nothing.
    """

    def __init__(self) -> None:
        self._notifier = sdnotify.SystemdNotifier()
        if self._notifier.socket is not None:
            keep_private(self._notifier.socket)
        self._notifier.debug = True  # raise what it would swallow
        self.listens = self._notifier.socket is not None
        usec = os.environ.get("WATCHDOG_USEC", "")
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_seconds = int(usec) / 1e6 if usec.isdigit() and mine else None
        self._status = ""

    def ready(self, status: str) -> None:
        """READY=1: this worker can lease."""
        self._status = status
        self._send("READY=1", f"STATUS={_ascii(status)}", patience=NOTIFY_SECONDS)

    def status(self, text: str) -> None:
        """STATUS=: the first line of `systemctl status`. Sent when it changes."""
        if text != self._status and self._send(f"STATUS={_ascii(text)}"):
            self._status = text

    def reloading(self) -> None:
        """RELOADING=1: the configuration is read again; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", patience=NOTIFY_SECONDS)

    def watchdog(self) -> bool:
        """WATCHDOG=1: there is progress. False if it must be said again soon."""
        return self._send("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """EXTEND_TIMEOUT_USEC=: the start or the stop under way needs so many seconds from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def stopping(self) -> None:
        """STOPPING=1. Only when the process is leaving: systemd starts its stop timeout at this word."""
        self._send("STOPPING=1", patience=NOTIFY_SECONDS)

    def _send(self, *lines: str, patience: float = 0.0) -> bool:
        """False if systemd took nothing within so many seconds."""
        if not self.listens:
            return True
        try:
            self._notifier.socket.settimeout(patience)
            self._notifier.notify("\n".join(lines))
        except OSError:
            return False
        return True


def _ascii(text: str) -> str:
    return on_one_line(text).encode("ascii", "backslashreplace").decode()
