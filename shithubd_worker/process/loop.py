"""The loop: lease, run, settle, wait. One job at a time, in the main thread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from shithubd_worker.database.session import DatabaseError
from shithubd_worker.host.signals import Stop
from shithubd_worker.process.shared import Progress
from shithubd_worker.turn.exchange import Exchange, Next

if TYPE_CHECKING:
    from shithubd_worker.database.session import Session
    from shithubd_worker.process.live import LiveConfig
    from shithubd_worker.process.patience import Patience
    from shithubd_worker.process.runner import Runner
    from shithubd_worker.process.shutdown import Shutdown
    from shithubd_worker.process.sleep import Sleep


class Loop:
    """A turn settles what is finished and leases what is next; where handlers are quick, the next turn is sent before
    they run, so that the database works while they do. `sessions`: those whose refused login ends the worker, since
    nobody would beat, or jobs would come back for ever."""

    def __init__(
        self,
        exchange: Exchange,
        runner: Runner,
        sleep: Sleep,
        patience: Patience,
        shutdown: Shutdown,
        config: LiveConfig,
        progress: Progress,
        stop: Stop,
        sessions: Sequence[Session],
    ) -> None:
        self._exchange = exchange
        self._runner = runner
        self._sleep = sleep
        self._patience = patience
        self._shutdown = shutdown
        self._config = config
        self._progress = progress
        self._stop = stop
        self._sessions = sessions

    def run(self) -> None:
        """As long as it goes on, or until the queue is empty if that was asked for. Raises ShithubdError, and
        DatabaseError, if no waiting helps."""
        while self._goes_on():
            all_at_hand = self._exchange.all_at_hand
            try:
                match self._exchange.turn():
                    case Next.WORK:
                        self._runner.work()
                    case Next.AGAIN:
                        pass
                    case Next.REST if not self._config.now.until_empty:
                        self._sleep.rest(self._config.now.poll_interval)
                    case Next.REST if all_at_hand and not self._shutdown.wait_for_locks():
                        return
            except DatabaseError as error:
                self._patience.failed(error)
            else:
                self._patience.served()

    def _goes_on(self) -> bool:
        self._progress.ticked_at = time.monotonic()
        for session in self._sessions:
            if session.login_refused is not None:
                raise session.login_refused
        return not self._stop.wanted
