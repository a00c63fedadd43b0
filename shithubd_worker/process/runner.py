"""Runs one leased job with the dead man armed, and prepares the process for the next job."""

from __future__ import annotations

import time
from collections.abc import Mapping

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.attempt.outcome import Result
from shithubd_worker.database.handler_session import HandlerSession
from shithubd_worker.host.dead_man import DeadMan
from shithubd_worker.host.process_state import ProcessState
from shithubd_worker.host.signals import Alarm
from shithubd_worker.model import Lease
from shithubd_worker.process.live import LiveConfig
from shithubd_worker.process.shared import Progress
from shithubd_worker.registry import Kind
from shithubd_worker.timing import STAND_DOWN_SECONDS


class Runner:
    """For the main thread. `session` is the connection that handlers use."""

    def __init__(
        self,
        kinds: Mapping[str, Kind],
        config: LiveConfig,
        session: HandlerSession,
        progress: Progress,
        alarm: Alarm,
        dead_man: DeadMan,
        process_state: ProcessState,
    ) -> None:
        self._kinds = kinds
        self._config = config
        self._session = session
        self._progress = progress
        self._alarm = alarm
        self._dead_man = dead_man
        self._process_state = process_state

    def run(self, lease: Lease) -> tuple[Result, float, str] | None:
        """Run the job. Returns its result, how many seconds it took, and its retention class. None if it may not start
        any more; then nothing has happened."""
        attempt = Attempt(
            self._kinds[lease.kind],
            lease,
            config=self._config.now,
            database=self._session,
            stop=self._progress.stop,
            alarm=self._alarm,
        )
        result = attempt.prepare() or self._run(attempt)
        if result is None:
            return None
        return result, time.monotonic() - attempt.started_at, attempt.kind.retention

    def _run(self, attempt: Attempt) -> Result | None:
        self._progress.attempt = attempt
        latest, slack = attempt.dead_man_at
        # If the lease is already over, nothing is armed: it would end the process because of a job that doesn't start.
        if not self._dead_man.covers(latest, slack) and attempt.may_start():
            self._dead_man.cover(latest, slack)
        try:
            return attempt.run()
        finally:
            self._progress.attempt = None
            self._dead_man.stand_down(within=STAND_DOWN_SECONDS)
            self._process_state.check(attempt.kind.name)
            self._session.tidy()
