"""What the main thread and the control thread tell each other.

They also share what other files define: the running attempt, the tray, the settler, the request to stop.
ARCHITECTURE.md names every shared field, the thread that writes it, and why that is safe ("Two threads").
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.host.signals import Stop
from shithubd_worker.model import Hold, Lease, WorkerState


@dataclass
class Progress:
    """What the two threads tell each other. Only one of them writes each field; `stop` is safe for both."""

    stop: Stop
    # By the main thread:
    ticked_at: float = field(default_factory=time.monotonic)
    attempt: Attempt | None = None
    database_up: bool = True  # did the database answer the last thing that it asked?
    found_at: float = 0.0  # when the database was last found again
    ready: bool = False
    trouble: str = ""  # why it leases nothing at the moment
    # By the control thread:
    holds: list[Hold] = field(default_factory=list)
    watched: bool = False  # does it look at the tray often?
    away: bool = False  # did the last thing that it asked get no answer?

    @property
    def reached(self) -> bool:
        """Did the database answer the last thing that either thread asked?"""
        return self.database_up and not self.away

    def word(self, *, answered: bool = False) -> WorkerState:
        """What the worker is doing. With `answered`, the word that is true once the control thread gets its answer:
        that thread writes the word into the database."""
        attempt = self.attempt
        if self.stop.wanted:
            return WorkerState.STOPPING
        if not (self.database_up if answered else self.reached):
            return WorkerState.RECONNECTING
        if attempt is not None and not attempt.over:
            return WorkerState.RUNNING
        if self.trouble:
            return WorkerState.PAUSING
        return WorkerState.HELD if self.holds else WorkerState.IDLE

    def is_up(self) -> bool:
        """For a scrape: has this worker reached its database, and is it still connected?"""
        return self.ready and self.reached

    def state(self) -> WorkerState:
        """For a scrape: the state, once the worker is ready."""
        return self.word() if self.ready else WorkerState.STARTING

    def running(self) -> tuple[str, float] | None:
        """For a scrape: which kind runs now, and for how many seconds."""
        attempt = self.attempt
        return None if attempt is None else (attempt.kind.name, time.monotonic() - attempt.started_at)

    def at_work(self) -> Lease | None:
        """For the log: the job whose handler runs now."""
        attempt = self.attempt
        return None if attempt is None or attempt.over else attempt.lease

    def sentence(self, now: float) -> str:
        """The state as a sentence, for `systemctl status`."""
        attempt = self.attempt
        held = f"; held: {self.holds[0]}" if self.holds else ""
        if attempt is not None and not attempt.over:
            what = f"running {attempt.kind.name} {attempt.lease.id} for {now - attempt.started_at:.0f} s"
            if self.stop.wanted:
                return f"stopping: {what}; released in {max(0.0, self.stop.release_at - now):.0f} s"
            gone = "" if self.reached else "; database away"
            return f"{what}; lease {max(0.0, attempt.lease_deadline - now):.0f} s{gone}{held}"
        if self.stop.wanted:
            return "stopping"
        if not self.reached:
            return "waiting for the database"
        if trouble := self.trouble:
            return f"pausing: {trouble}"
        return held[2:] if held else "idle"
