"""Keeps the deadlines of the running handler: by the dead man, in place of a lost alarm, and by a forced end."""

from __future__ import annotations

import math
from collections.abc import Callable

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.errors import EXIT_FORCED, EXIT_OK
from shithubd_worker.host.dead_man import DeadMan
from shithubd_worker.host.signals import ring_main
from shithubd_worker.process.shared import Progress
from shithubd_worker.timing import (
    INTERRUPT_AGAIN_SECONDS,
    LOST_ALARM_SECONDS,
    PATIENCE_SECONDS,
    STAND_DOWN_SECONDS,
)


class Enforcing:
    """`lethal` says whether a signal of ours would end the process. `end` ends it, with an exit code, because of an
    attempt."""

    def __init__(
        self,
        progress: Progress,
        dead_man: DeadMan,
        *,
        lethal: Callable[[], bool],
        end: Callable[[Attempt, int], None],
    ) -> None:
        self._progress = progress
        self._dead_man = dead_man
        self._lethal = lethal
        self._end = end
        self._rang_at = 0.0
        self._late_since = math.inf

    def tick(self, now: float) -> None:
        """Look at the attempt that runs now, if there is one."""
        attempt = self._progress.attempt
        if attempt is None or attempt.over or attempt.settled:
            self._late_since = math.inf
            with self._dead_man.held():
                if self._progress.attempt is attempt:
                    self._dead_man.stand_down(within=STAND_DOWN_SECONDS)
            return
        with self._dead_man.held():
            # Not for an attempt that hasn't started: if its lease is over, it will not start.
            if self._progress.attempt is attempt and not attempt.shielded:
                self._dead_man.cover(*attempt.dead_man_at)
        if self._lethal():
            ring_main()  # only the main thread can take signals back
        if (late := now - attempt.end_at) < 0:
            self._late_since = math.inf
            return
        if not attempt.shielded and late >= LOST_ALARM_SECONDS and now - self._rang_at >= INTERRUPT_AGAIN_SECONDS:
            self._rang_at = now
            ring_main()
        # Counted from when this thread saw it. If the whole process stood still, the handler had no turn to obey.
        self._late_since = min(now, self._late_since)
        if now - self._late_since < PATIENCE_SECONDS:
            return
        if now >= self._progress.stop.kill_at:
            self._end(attempt, EXIT_OK)
        elif not attempt.shielded and attempt.why_end() != "stop":
            self._end(attempt, EXIT_FORCED)
