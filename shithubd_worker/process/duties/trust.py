"""Until when the running job is this worker's: its lease, and how long the worker may be silent."""

from __future__ import annotations

import math

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.host.dead_man import DeadMan
from shithubd_worker.process.shared import Progress


class Trust:
    """Each renewal and each beat that the database confirms moves that moment. `silence`: after how many seconds
    without a beat a sweep may take the worker's jobs; 0: never."""

    def __init__(self, progress: Progress, dead_man: DeadMan, silence: float) -> None:
        self._progress = progress
        self._dead_man = dead_man
        self._silence = silence
        self._beat_at = -math.inf

    def renewed(self, sent_at: float, attempt: Attempt) -> None:
        """The database has renewed the lease. It was asked at `sent_at`."""
        attempt.renewed_at = sent_at
        self._goes_on(attempt)

    def beat(self, sent_at: float, attempt: Attempt | None) -> None:
        """The database has recorded a beat. It was sent at `sent_at`."""
        self._beat_at = sent_at
        if self._silence and attempt is not None and not attempt.over:
            self._goes_on(attempt)

    def _goes_on(self, attempt: Attempt) -> None:
        until = attempt.renewed_at + attempt.kind.lease_timeout
        if self._silence:
            # The lease was a sign of life, too: the sweep takes none that is younger.
            until = min(until, max(self._beat_at, attempt.lease.sent_at) + self._silence)
        attempt.lease_deadline = until
        # At once: a handler that holds the interpreter may keep this thread from running again.
        with self._dead_man.held():
            if self._progress.attempt is attempt:
                self._dead_man.put_off(attempt.dead_man_at[0])
