"""What the main thread and the control thread know of each other.

What else they share lives in lower rooms: the attempt that runs, the tray, the settler, the wish to stop.
ARCHITECTURE.md names every field, its writer, and why that is enough ("Two threads").
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.host.signals import Stop
from shithubd_worker.model import Hold, WorkerState


@dataclass
class Progress:
    """What the two threads know of each other. Each field is written by one of them only."""

    # By the main thread:
    ticked_at: float = field(default_factory=time.monotonic)
    attempt: Attempt | None = None
    database_up: bool = True  # was the last thing that it asked answered?
    found_at: float = 0.0  # when the database was last found again
    ready: bool = False
    trouble: str = ""  # why it leases nothing at the moment
    # By the control thread:
    holds: list[Hold] = field(default_factory=list)
    watched: bool = False  # does it look at the tray often?
    away: bool = False  # was the last thing that it asked not answered?

    @property
    def reached(self) -> bool:
        """Did the database answer the last thing that either thread asked?"""
        return self.database_up and not self.away

    def word(self, stop: Stop, *, answered: bool = False) -> WorkerState:
        """What the worker is doing. `answered`: as it is if the control thread, which tells the database this word,
        gets an answer now."""
        attempt = self.attempt
        if stop.wanted:
            return WorkerState.STOPPING
        if not (self.database_up if answered else self.reached):
            return WorkerState.RECONNECTING
        if attempt is not None and not attempt.over:
            return WorkerState.RUNNING
        if self.trouble:
            return WorkerState.PAUSING
        return WorkerState.HELD if self.holds else WorkerState.IDLE

    def is_up(self) -> bool:
        """For a scrape: has this worker reached its database, and does it still?"""
        return self.ready and self.reached

    def state(self, stop: Stop) -> WorkerState:
        """For a scrape: the word, once there is one."""
        return self.word(stop) if self.ready else WorkerState.STARTING

    def running(self) -> tuple[str, float] | None:
        """For a scrape: which kind runs now, and for how many seconds."""
        attempt = self.attempt
        return None if attempt is None else (attempt.kind.name, time.monotonic() - attempt.started_at)

    def sentence(self, stop: Stop, now: float) -> str:
        """The same for the first line of `systemctl status`."""
        attempt = self.attempt
        held = f"; held: {self.holds[0]}" if self.holds else ""
        if attempt is not None and not attempt.over:
            what = f"running {attempt.kind.name} {attempt.lease.id} for {now - attempt.started_at:.0f} s"
            if stop.wanted:
                return f"stopping: {what}; released in {max(0.0, stop.release_at - now):.0f} s"
            gone = "" if self.reached else "; database away"
            return f"{what}; lease {max(0.0, attempt.lease_deadline - now):.0f} s{gone}{held}"
        if stop.wanted:
            return "stopping"
        if not self.reached:
            return "waiting for the database"
        if trouble := self.trouble:
            return f"pausing: {trouble}"
        return held[2:] if held else "idle"
