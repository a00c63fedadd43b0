"""What systemd is told: what the worker does, that there is progress, and how much longer a stop takes."""

from __future__ import annotations

from shithubd_worker.host.signals import Stop
from shithubd_worker.host.systemd import Systemd
from shithubd_worker.process.shared import Progress
from shithubd_worker.timing import (
    ENDING_SECONDS,
    EXTEND_AGAIN_SECONDS,
    EXTEND_STOP_SECONDS,
    PING_SECONDS,
    STALLED_SECONDS,
    TOLD_AGAIN_SECONDS,
)


class Supervision:
    """Nothing before the worker is ready: until then the main thread tells it."""

    def __init__(self, systemd: Systemd, progress: Progress, stop: Stop) -> None:
        self._systemd = systemd
        self._progress = progress
        self._stop = stop
        self._status_at = 0.0
        self._pinged_at = 0.0
        self.refused = ""  # why the last reload was, behind everything else that is told

    def line(self, now: float) -> str:
        """For the first line of `systemctl status`."""
        return self._progress.sentence(self._stop, now) + self.refused

    def tick(self, now: float) -> None:
        """Tell what is due."""
        if not self._progress.ready:
            return
        if now - self._status_at >= TOLD_AGAIN_SECONDS:  # systemd tells each change to all who listen on its bus
            self._status_at = now
            self._systemd.status(self.line(now))
        every = min(PING_SECONDS, (self._systemd.watchdog_seconds or PING_SECONDS * 3) / 3)
        if now - self._pinged_at >= (min(every, EXTEND_AGAIN_SECONDS) if self._stop.wanted else every):
            self._ping(now)

    def _ping(self, now: float) -> None:
        self._pinged_at = now
        attempt = self._progress.attempt
        # A running handler is inside its max_runtime: the deadlines have ended the process otherwise.
        running = attempt is not None and not attempt.over
        progress = running or now - self._progress.ticked_at < STALLED_SECONDS
        if progress and not self._systemd.watchdog():
            self._pinged_at = 0.0  # again at the next tick
        if self._stop.wanted and now < self._stop.kill_at:
            # Not only while the handler runs: what it came to may still wait for the database.
            self._systemd.extend(min(EXTEND_STOP_SECONDS, self._stop.kill_at - now + ENDING_SECONDS))
