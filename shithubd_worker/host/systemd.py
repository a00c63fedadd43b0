"""What systemd is told, if it listens."""

from __future__ import annotations

import os
import time

import sdnotify

from shithubd_worker.host.forks import keep_private
from shithubd_worker.plain import in_ascii
from shithubd_worker.timing import NOTIFY_SECONDS


class Systemd:
    """Messages to systemd, if it listens. sdnotify sends latin-1, so the text is kept to ASCII.

    No message waits long for systemd. While systemd takes nothing, a message that can be repeated later is given up at
    once.
    """

    def __init__(self) -> None:
        self._notifier = sdnotify.SystemdNotifier()
        if self._notifier.socket is not None:
            keep_private(self._notifier.socket)
        self._notifier.debug = True  # raise errors instead of swallowing them
        self.listens = self._notifier.socket is not None
        usec = os.environ.get("WATCHDOG_USEC", "")
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_seconds = int(usec) / 1e6 if usec.isdigit() and mine else None
        self._status = ""

    def ready(self, status: str) -> None:
        """READY=1: this worker can lease."""
        self._status = status
        self._send("READY=1", f"STATUS={in_ascii(status)}", patience=NOTIFY_SECONDS)

    def status(self, text: str) -> None:
        """STATUS=: the text in `systemctl status`. Sent when it changes."""
        if text != self._status and self._send(f"STATUS={in_ascii(text)}"):
            self._status = text

    def reloading(self) -> None:
        """RELOADING=1: the worker reads its configuration again. `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", patience=NOTIFY_SECONDS)

    def watchdog(self) -> bool:
        """WATCHDOG=1: there is progress. False if it must be sent again soon."""
        return self._send("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """EXTEND_TIMEOUT_USEC=: the start or stop in progress needs this many seconds from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def stopping(self) -> None:
        """STOPPING=1. Sent only when the process leaves, because systemd starts its stop timeout at this message."""
        self._send("STOPPING=1", patience=NOTIFY_SECONDS)

    def _send(self, *lines: str, patience: float = 0.0) -> bool:
        """Send. False if systemd took nothing within `patience` seconds."""
        if not self.listens:
            return True
        try:
            self._notifier.socket.settimeout(patience)
            self._notifier.notify("\n".join(lines))
        except OSError:
            return False
        return True
