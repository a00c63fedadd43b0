"""One worker process, from its first step to its exit code."""

from __future__ import annotations

import gc
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from shithubd_worker.database.failures import DatabaseError, explained
from shithubd_worker.errors import EXIT_DATABASE, EXIT_OK, ShithubdError, Unsettled
from shithubd_worker.host import leaving
from shithubd_worker.host.dead_man import DeadMan
from shithubd_worker.host.forks import Hooks
from shithubd_worker.host.process_state import ProcessState
from shithubd_worker.host.signals import signals_elsewhere
from shithubd_worker.telemetry import logs

if TYPE_CHECKING:
    from shithubd_worker.process.control import Control
    from shithubd_worker.process.loop import Loop
    from shithubd_worker.process.presence import Presence
    from shithubd_worker.process.shutdown import Shutdown
    from shithubd_worker.turn.exchange import Exchange

log = logging.getLogger(__name__)


class Worker:
    """The worker. wiring.worker makes it."""

    def __init__(
        self,
        process_state: ProcessState,
        dead_man: DeadMan,
        presence: Presence,
        control: Control,
        exchange: Exchange,
        loop: Loop,
        shutdown: Shutdown,
    ) -> None:
        self._process_state = process_state
        self._dead_man = dead_man
        self._presence = presence
        self._control = control
        self._exchange = exchange
        self._loop = loop
        self._shutdown = shutdown

    def run(self, database_wait: float) -> int:
        """Work until a stop, or with --until-empty until the queue is empty. `database_wait`: how many seconds to wait
        for the database at the start. Returns the exit code. Raises ShithubdError, which has an exit code too."""
        Hooks(self._process_state.disown).install()
        self._process_state.take()
        try:
            return self._live(database_wait)
        finally:
            self._process_state.let_go()
            leaving.no_later_than(self._shutdown.leave_by)

    def _live(self, database_wait: float) -> int:
        if not self._presence.enter(database_wait):
            return EXIT_OK
        with signals_elsewhere():
            self._control.start()
        self._presence.ready()
        gc.freeze()  # what is loaded now stays, so the collector need not look through it
        clean = False
        try:
            self._loop.run()
            self._shutdown.put_down()
            self._control.finish()
            self._shutdown.put_down()  # what the control thread was working on
            clean = True
        except Unsettled as error:
            log.error("%s", error)  # noqa: TRY400 (expected: its text says it all)
            return EXIT_DATABASE
        except (DatabaseError, ShithubdError) as error:
            with suppress(DatabaseError, Unsettled):
                self._shutdown.put_down()  # what is finished can perhaps be settled, though nothing can be leased
            raise (explained(error) if isinstance(error, DatabaseError) else error) from error
        finally:
            logs.flush()
            self._control.finish()
            self._dead_man.stand_down()
            self._presence.leave(self._exchange.strays, clean=clean)
        return EXIT_OK
