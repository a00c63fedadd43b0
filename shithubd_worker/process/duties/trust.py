"""Until when the running job is this worker's: its lease, and how long the worker may be silent."""

from __future__ import annotations

import math
import time

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.host.dead_man import DeadMan
from shithubd_worker.process.shared import Progress


class Trust:
    """Each renewal and each beat that the database confirms moves that moment. `silence`: for how many seconds the
    worker goes on without a beat; 0: for ever."""

    def __init__(self, progress: Progress, dead_man: DeadMan, silence: float) -> None:
        self._progress = progress
        self._dead_man = dead_man
        self._silence = silence
        self._beat_at = -math.inf
        # Somebody may have taken the jobs before this moment. Only a renewal shows that they are still this worker's.
        self.doubted_at = -math.inf

    def renewed(self, sent_at: float, attempt: Attempt) -> None:
        """The database has renewed the lease. It was asked at `sent_at`."""
        attempt.renewed_at = sent_at
        self._goes_on(attempt)

    def beat(self, sent_at: float, attempt: Attempt | None, *, anew: bool = False) -> None:
        """The database has recorded a beat. It was sent at `sent_at`. `anew`: the worker's row was gone before."""
        self._beat_at = sent_at
        if anew or (attempt is not None and time.monotonic() >= attempt.lease_deadline):
            self.doubted_at = sent_at
        if self._silence and attempt is not None and not attempt.over and attempt.renewed_at >= self.doubted_at:
            self._goes_on(attempt)

    def _goes_on(self, attempt: Attempt) -> None:
        until = attempt.renewed_at + attempt.kind.lease_timeout
        if self._silence:
            # The lease was a sign of life, too: the sweep takes no job that was leased later.
            until = min(until, max(self._beat_at, attempt.lease.sent_at) + self._silence)
        attempt.lease_deadline = until
        # At once: a handler that holds the interpreter may keep this thread from running again.
        with self._dead_man.held():
            if self._progress.attempt is attempt:
                self._dead_man.put_off(attempt.dead_man_at[0])
