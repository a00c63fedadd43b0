"""What the worker learns from the jobs that ran: how long each took, and what a handler changed in the process."""

from __future__ import annotations

import time
from collections import defaultdict

from shithubd_worker.host.process_state import ProcessState
from shithubd_worker.process.patience import Patience
from shithubd_worker.telemetry import logs
from shithubd_worker.telemetry.metrics import Metrics
from shithubd_worker.turn.selection import Selection
from shithubd_worker.turn.tray import Tray


class Lessons:
    """For the main thread. It notes each job as it ends, and learns from all of them together. At 70,000 jobs a second,
    one call for each job would cost too much."""

    def __init__(
        self, selection: Selection, tray: Tray, process_state: ProcessState, patience: Patience, metrics: Metrics
    ) -> None:
        self._selection = selection
        self._tray = tray
        self._process_state = process_state
        self._patience = patience
        self._metrics = metrics
        self._given_back = 0  # the part of tray.given_back that the main thread knows
        self._since = 0.0
        # seconds of the jobs that ran since begin(), by kind
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)

    def begin(self) -> None:
        """Jobs run from now on."""
        self.seconds, self._since = defaultdict(list), time.monotonic()

    def learn(self, *, short: bool = False) -> bool:
        """Learn from what ran since begin(). False if nothing ran. `short`: the last job was refused connections,
        memory or disk. The size of the next batch depends on the time from one job to the next, which includes reading
        payloads and waiting for a processor."""
        seconds, jobs = self.seconds, sum(map(len, self.seconds.values()))
        if seconds:
            self._process_state.put_back(seconds)
            logs.stay()
            if not short:
                self._patience.ran()
        between = time.monotonic() - self._since - sum(map(sum, seconds.values()))
        given_back, self._given_back = self._tray.given_back - self._given_back, self._tray.given_back
        for kind, each in seconds.items():
            self._metrics.ran(kind, each)
            spent = sum(each) + between * len(each) / jobs
            self._selection.ran(kind, jobs=len(each), seconds=spent, too_many=given_back > 0)
        return bool(seconds)
