"""What systemd is told: what the worker does, that it makes progress, and how much more time a stop needs."""

from __future__ import annotations

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
    """It says nothing before the worker is ready: until then the main thread speaks to systemd."""

    def __init__(self, systemd: Systemd, progress: Progress) -> None:
        self._systemd = systemd
        self._progress = progress
        self._status_at = 0.0
        self._pinged_at = 0.0
        self.refused = ""  # why the last reload failed; it is added to every status

    def line(self, now: float) -> str:
        """The text for `systemctl status`."""
        return self._progress.sentence(now) + self.refused

    def tick(self, now: float) -> None:
        """Tell systemd what is due."""
        if not self._progress.ready:
            return
        if now - self._status_at >= TOLD_AGAIN_SECONDS:  # systemd forwards each change to all who listen on its bus
            self._status_at = now
            self._systemd.status(self.line(now))
        every = min(PING_SECONDS, (self._systemd.watchdog_seconds or PING_SECONDS * 3) / 3)
        if now - self._pinged_at >= (min(every, EXTEND_AGAIN_SECONDS) if self._progress.stop.wanted else every):
            self._ping(now)

    def _ping(self, now: float) -> None:
        self._pinged_at = now
        attempt = self._progress.attempt
        # A running handler is inside its max_runtime: past it, the deadlines would have ended the process.
        running = attempt is not None and not attempt.over
        progress = running or now - self._progress.ticked_at < STALLED_SECONDS
        if progress and not self._systemd.watchdog():
            self._pinged_at = 0.0  # try again at the next tick
        if self._progress.stop.wanted and now < self._progress.stop.kill_at:
            # Not only while the handler runs: its outcome may still wait for the database.
            self._systemd.extend(min(EXTEND_STOP_SECONDS, self._progress.stop.kill_at - now + ENDING_SECONDS))
