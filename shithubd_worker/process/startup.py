"""The first steps: check the schema and the rights, register, and take back what dead workers of this host hold."""

from __future__ import annotations

import logging
from collections.abc import Callable

from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.database.failures import DatabaseError, explained, in_one_line, lost
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.database.sqlstates import LOCKED
from shithubd_worker.errors import DatabaseUnavailable, ShithubdError
from shithubd_worker.host.identity import is_dead
from shithubd_worker.model import Registration
from shithubd_worker.process.duties.heartbeat import Heartbeat
from shithubd_worker.telemetry import logs

log = logging.getLogger(__name__)


class Startup:
    """For the main thread. It uses the control connection, which is free until the control thread runs. `listen` opens
    the queue's connection as the worker uses it. Without `woken`, the worker has asked not to be woken by enqueues."""

    def __init__(
        self,
        worker: Registration,
        queue: QueueSession,
        session: ControlSession,
        heartbeat: Heartbeat,
        listen: Callable[[], None],
        *,
        woken: bool,
    ) -> None:
        self.identity = worker.identity
        self.kinds = worker.kinds
        self._worker = worker
        self._queue = queue
        self._session = session
        self._heartbeat = heartbeat
        self._listen = listen
        self._woken = woken

    def begin(self) -> None:
        """Do all of it, once. Raises what psycopg raises, and ShithubdError."""
        self._queue.check()
        self._session.register(self._worker)
        self._listen()
        self._take_back()
        drains = self._heartbeat.first()
        pauses = self._queue.kind_holds()
        wakes, open_to_all = not self._woken or self._queue.wakes, self._queue.open_to_all
        for hold in (*drains, *pauses):
            log.info("starting under a hold: %s", hold, extra={"event": logs.HELD})
        if open_to_all:
            log.warning(
                "everybody may create in schema %s, so anybody can make this worker run their code: see SECURITY.md",
                self._queue.schema,
            )
        if not wakes:
            log.info(
                "enqueues wake no worker here, so jobs wait for a poll: the server allows two-phase commits, and"
                " shithubd.notify isn't on"
            )

    def why(self, error: DatabaseError) -> ShithubdError:
        """Say why it failed. Drops the connections."""
        locked = error.sqlstate == LOCKED
        reason = DatabaseUnavailable(self._queue.in_the_way(error)) if locked else explained(error)
        self._queue.close()
        self._session.close()
        return reason

    def __str__(self) -> str:
        return f"{self.identity.leased_by}, schema {self._queue.schema}, kinds {', '.join(self.kinds) or 'none'}"

    def _take_back(self) -> None:
        for other in self._session.housemates(self.identity):
            proof = is_dead(other, self.identity)
            if proof is None:
                continue
            try:
                returned = self._session.release_worker(other.id, f"its worker {other.leased_by} is dead: {proof}")
            except DatabaseError as error:
                if lost(error):
                    raise
                # The worker starts all the same: these leases come back when they expire.
                log.warning(
                    "%s is dead (%s), but its leases could not be returned: %s",
                    other.leased_by,
                    proof,
                    in_one_line(error),
                )
                continue
            log.info("%s is dead (%s): %d job(s) returned", other.leased_by, proof, len(returned))
            for job, kind, how in returned:
                logs.returned(job, kind, how)
