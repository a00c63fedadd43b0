"""The loop: lease, run, settle, wait. One job at a time, in the main thread."""

from __future__ import annotations

import time
from collections.abc import Sequence

from shithubd_worker.database.failures import DatabaseError
from shithubd_worker.database.session import Session
from shithubd_worker.process.patience import Patience
from shithubd_worker.process.shared import Progress
from shithubd_worker.process.shutdown import Shutdown
from shithubd_worker.process.sleep import Sleep
from shithubd_worker.process.work import Work
from shithubd_worker.turn.exchange import Exchange, Next


class Loop:
    """A turn settles what is finished and leases what is next. Where handlers are quick, the next turn is sent before
    they run, so that the database works meanwhile. If the login of one of `sessions` is refused, the worker ends:
    without them nobody would beat, or jobs would come back for ever."""

    def __init__(
        self,
        exchange: Exchange,
        work: Work,
        sleep: Sleep,
        patience: Patience,
        shutdown: Shutdown,
        progress: Progress,
        sessions: Sequence[Session],
    ) -> None:
        self._exchange = exchange
        self._work = work
        self._sleep = sleep
        self._patience = patience
        self._shutdown = shutdown
        self._progress = progress
        self._sessions = sessions

    def run(self) -> None:
        """Run until a stop, or with --until-empty until the queue is empty. Raises ShithubdError and psycopg.Error if
        waiting can't help."""
        while self._goes_on():
            try:
                match self._exchange.turn():
                    case Next.WORK:
                        self._do_work()
                    case Next.AGAIN:
                        pass
                    case Next.REST:
                        self._sleep.rest()
                    case Next.END if not self._shutdown.wait_for_locks():
                        return
            except DatabaseError as error:
                self._patience.failed(error)
            else:
                self._patience.served()

    def _do_work(self) -> None:
        if short := self._work.do():
            self._exchange.put_down()
            self._patience.short(short)

    def _goes_on(self) -> bool:
        self._progress.ticked_at = time.monotonic()
        for session in self._sessions:
            if session.login_refused is not None:
                raise session.login_refused
        return not self._progress.stop.wanted
