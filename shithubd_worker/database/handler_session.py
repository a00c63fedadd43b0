"""The connection that handlers write with. One attempt at a time has it, and the next one finds it like new."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
from psycopg import generators, waiting
from psycopg.pq import ExecStatus, TransactionStatus

from shithubd_worker.database.connection import LOOK_FOR_CLIENT, Connect
from shithubd_worker.database.impatient import ImpatientConnection
from shithubd_worker.database.session import Session
from shithubd_worker.database.settles import settle
from shithubd_worker.model import Finished, Lease, Outcome, Past, moment
from shithubd_worker.timing import HANDLER_ANSWER_SECONDS, HANDLER_FRESH_SECONDS

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn

# What DISCARD ALL does, and the role that a login may begin with. The plans stay: nobody can see them, and the settle's
# plan is needed again. DISCARD ALL must be sent alone; this is one round trip.
_FORGET = (
    f"CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; {LOOK_FOR_CLIENT}; UNLISTEN *;"
    " SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES; DEALLOCATE ALL"
).encode()


# The references to a connection that are ours: the attribute, and the argument of the function that counts them.
_OWN_REFERENCES = 2
_AT_REST = (TransactionStatus.IDLE, TransactionStatus.INTRANS, TransactionStatus.INERROR)


class HandlerSession(Session):
    """The connection that handlers write with. It is opened when the first handler asks for it.

    `pooled`: a pooler shares its sessions with other clients, so there is nothing to tidy in them.
    """

    hears_notices = False  # notices of a handler's own statements are not the worker's matter

    def __init__(self, connect: Connect, schema: str, *, pooled: bool = False) -> None:
        super().__init__(connect, schema)
        self._pooled = pooled
        self._used = False
        self._used_at = 0.0

    @property
    def connection(self) -> ImpatientConnection:
        """The handlers' connection. If it broke while nobody used it, a new one is opened: that is not a handler's
        fault."""
        if self.opened and not self._used and time.monotonic() - self._used_at > HANDLER_FRESH_SECONDS:
            try:
                super().connection.execute("SELECT 1")
            except psycopg.Error:
                self.close()
        self._used = True
        return super().connection

    def lend(self, answer_by: Callable[[], float]) -> psycopg.Connection:
        """Lend the handlers' connection to one attempt. No call on it waits for an answer beyond answer_by()."""
        if self._connection is not None:
            self._connection.answer_by = answer_by  # also for the question whether the connection lives
        connection = self.connection
        connection.answer_by, connection.answer_seconds = answer_by, None
        return connection

    def settle(self, lease: Lease, outcome: Outcome, retention: str) -> bool:
        """End the lease inside the handler's own transaction."""
        return not settle(self, "settle_within_v1", [Finished(lease, outcome, retention, 0.0)])

    def past(self, lease: Lease) -> Past | None:
        """What the lease doesn't carry, because few handlers ask for it. None if the lease is lost."""
        rows = self.rows("past_v1", lease.id, lease.token)
        return Past(moment(float(rows[0][0])), rows[0][1]) if rows else None  # the handler may load them as it likes

    @property
    def broken(self) -> bool:
        """Did the connection break under the handler? Then the database is at fault, not the job."""
        return self._connection is not None and self._connection.broken

    def tidy(self) -> None:
        """After an attempt: leave a connection like new for the next handler. If that is not certain, leave none."""
        if self._connection is None or not self._used:
            return
        self._used = False
        self._used_at = time.monotonic()
        pgconn = self._connection.pgconn
        if sys.getrefcount(self._connection) > _OWN_REFERENCES:
            self._abandon(pgconn)
            return
        # for example in a COPY, which can't be left
        if pgconn.pipeline_status or pgconn.transaction_status not in _AT_REST:
            self.close()
            return
        # psycopg keeps a connection's settings in its object. So the session gets a new object.
        new, opening = type(self._connection), self._connection.opening
        del self._connection.pgconn  # otherwise the old object would warn that nobody closed it
        self._connection = None
        pgconn.notify_handler = pgconn.notice_handler = None  # nobody waits for a message that still comes
        in_transaction = pgconn.transaction_status != TransactionStatus.IDLE
        forget = b"" if self._pooled else _FORGET
        if in_transaction:
            forget = b"ROLLBACK; " + forget
        try:
            # Sent by libpq itself, which takes less time than a cursor. The saved time pays for the new object.
            if forget:
                pgconn.send_query(forget)
                forgotten = waiting.wait(generators.execute(pgconn), pgconn.socket, 0.1, HANDLER_ANSWER_SECONDS)
                if forgotten[-1].status != ExecStatus.COMMAND_OK:
                    pgconn.finish()
                    return
        except (psycopg.Error, psycopg.errors._WaitTimeout):
            pgconn.finish()
            return
        self._connection = new(pgconn)
        self._connection.answer_seconds = HANDLER_ANSWER_SECONDS
        self._connection.autocommit = True
        if opening:
            self._connection.opening = opening

    def _abandon(self, pgconn: PGconn) -> None:
        """A thread, a cursor or a global of the handler still has the connection, and would write into the next job's
        transaction. So the connection is shut down, and its next use finds that it has ended. It is not closed, because
        a thread that waits on its descriptor would then wait on a descriptor with another owner."""
        self._connection = None
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(pgconn.socket)) as end:
            end.shutdown(socket.SHUT_RDWR)
