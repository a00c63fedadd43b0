"""The end for a handler that ignores its interrupt: settle in place of the main thread, then end the process."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from uuid import UUID

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.attempt.raised import stands_at
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.database.failures import DatabaseError, in_one_line
from shithubd_worker.errors import EXIT_FORCED
from shithubd_worker.host.signals import end_process
from shithubd_worker.host.systemd import Systemd
from shithubd_worker.model import Finished
from shithubd_worker.process.duties.figures import Figures
from shithubd_worker.telemetry import logs
from shithubd_worker.turn.relief import Relief

log = logging.getLogger(__name__)


class Ending:
    """Ends the process. `strays` gives the tokens of the lease queries whose answers nobody will read."""

    def __init__(
        self,
        session: ControlSession,
        worker: UUID,
        relief: Relief,
        *,
        strays: Callable[[], list[str]],
        figures: Figures,
        systemd: Systemd,
        end_process: Callable[[int], object] = end_process,
    ) -> None:
        self._session = session
        self._worker = worker
        self._relief = relief
        self._strays = strays
        self._figures = figures
        self._systemd = systemd
        self._end_process = end_process

    def __call__(self, attempt: Attempt, code: int) -> None:
        """End the process with this exit code. What can't be settled stays leased, and release-dead finds it by the
        worker's row."""
        why = attempt.why_end() or "stop"
        log.critical(
            "job %d (%s) ignores its interrupt (%s): ending this process",
            attempt.lease.id,
            attempt.kind.name,
            why,
            extra={**logs.about(attempt.lease), "event": logs.HANDLER_ENDED},
        )
        attempt.end_children()
        try:
            self._relief.put_down(None if why == "lost" else _ended(attempt, why))
            if why != "lost":
                self._session.unregister(self._worker, self._strays())
        except DatabaseError as error:
            text = "could not settle job %d: %s"
            log.error(text, attempt.lease.id, error, extra=logs.about(attempt.lease))  # noqa: TRY400 (its text is enough)
        else:
            self._count(attempt, forced=code == EXIT_FORCED)
        logs.flush()
        self._systemd.stopping()
        self._end_process(code)

    def _count(self, attempt: Attempt, *, forced: bool) -> None:
        kind = attempt.kind.name
        try:
            self._figures.leave(lease_lost=kind if attempt.lost else None, forced=kind if forced else None)
        except DatabaseError as error:
            log.warning("could not count what ended: %s", in_one_line(error))


def _ended(attempt: Attempt, why: str) -> Finished:
    main = sys._current_frames().get(threading.main_thread().ident or 0)
    outcome = attempt.interrupted_outcome(why, stands_at(main))
    return Finished(attempt.lease, outcome, attempt.kind.retention, time.monotonic() - attempt.started_at)
