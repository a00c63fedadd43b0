"""What is learnt from the jobs that ran: how long each took, and what a handler left behind."""

from __future__ import annotations

import time
from collections import defaultdict

from shithubd_worker.host.process_state import ProcessState
from shithubd_worker.process.patience import Patience
from shithubd_worker.telemetry.metrics import Metrics
from shithubd_worker.turn.selection import Selection
from shithubd_worker.turn.tray import Tray


class Lessons:
    """For the main thread. Notes each job as it ends, and learns from them together: at 70,000 jobs a second a single
    call for each would cost too much."""

    def __init__(
        self, selection: Selection, tray: Tray, process_state: ProcessState, patience: Patience, metrics: Metrics
    ) -> None:
        self._selection = selection
        self._tray = tray
        self._process_state = process_state
        self._patience = patience
        self._metrics = metrics
        self._given_back = 0  # of tray.given_back: what the main thread knows of
        self._since = 0.0
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)  # of the jobs that ran since then, by kind

    def begin(self) -> None:
        """From now on jobs run."""
        self.seconds, self._since = defaultdict(list), time.monotonic()

    def learn(self, *, short: bool = False) -> bool:
        """From what ran since it began; False if nothing did. `short`: the last one was refused connections, memory or
        disk. What counts for the next batch is the time from one job
        to the next: reading payloads and waiting for a processor are in it."""
        seconds, jobs = self.seconds, sum(map(len, self.seconds.values()))
        if seconds:
            self._process_state.put_back(seconds)
            if not short:
                self._patience.ran()
        between = time.monotonic() - self._since - sum(map(sum, seconds.values()))
        given_back, self._given_back = self._tray.given_back - self._given_back, self._tray.given_back
        for kind, each in seconds.items():
            self._metrics.ran(kind, each)
            spent = sum(each) + between * len(each) / jobs
            self._selection.ran(kind, jobs=len(each), seconds=spent, too_many=given_back > 0)
        return bool(seconds)
