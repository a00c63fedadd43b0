"""One round trip of the loop: settle what is finished, lease what is next. It may be sent ahead of handlers.

psycopg's own calls wait for their answer, and its pipeline keeps the transaction open until the next sync. So a turn is
sent as libpq sends it, a single statement: the server runs it to its end and commits, whoever reads the answer when.
The answer of a lease is bounded (lease_v1), so that it fits into the buffers of a socket that nobody reads: else the
server would wait in the midst of its transaction.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from psycopg.adapt import Transformer
from psycopg.pq import ExecStatus, Format

from shithubd_worker.frontier import Range
from shithubd_worker.model import Batch, Finished, Lease
from shithubd_worker.store import as_array, as_quoted_array, settle_arguments

if TYPE_CHECKING:
    from shithubd_worker.store import Queue

# Of turn_v1's parameters: what to settle, who leases with which token, where to look.
_TYPES = [
    *("bigint[]", "uuid[]", "text[]", "float8[]", "text[]", "text[]"),
    *("uuid", "uuid"),
    *("text[]", "smallint[]", "smallint[]", "float8[]", "bigint[]", "float8[]", "integer[]"),
]


@dataclass(slots=True)
class Turn:
    """What to do in one turn: settle what is finished, and lease from ranges, at most so many jobs of each."""

    finished: Sequence[Finished]
    ranges: Sequence[Range]
    most: Sequence[int]
    full: bool  # do the ranges reach back to the start?
    token: str = field(default_factory=lambda: str(uuid4()))
    sent_at: float = field(default_factory=time.monotonic)  # before it is sent


@dataclass(slots=True)
class Answer:
    """What came back."""

    turn: Turn
    lost: set[int] = field(default_factory=set)  # of the settled: the ids of those whose lease was lost
    leases: list[Lease] = field(default_factory=list)
    found: list[tuple[str, int]] = field(default_factory=list)  # kinds and priorities of which no job is due
    visited: int = 0  # how many of the ranges were looked at to their end
    now: float = 0.0  # the database's clock
    received_at: float = 0.0  # the monotonic clock


class Turns:
    """Sends turns on the queue's connection, one at a time, and reads their answers.

    `timeouts` are the kinds' lease timeouts in seconds. `pooled`: the connection is a pooler's, so nothing can be
    prepared on it.
    """

    def __init__(self, queue: Queue, worker: UUID, timeouts: dict[str, float], *, pooled: bool) -> None:
        self._queue = queue
        self._worker = str(worker).encode()
        self._timeouts = timeouts
        self._pooled = pooled
        self._prepared: psycopg.Connection | None = None
        self._query = b""
        self.sent: Turn | None = None

    def send(self, turn: Turn) -> None:
        """Send a turn. Raises what psycopg raises."""
        self.sent, ranges = turn, turn.ranges
        connection = self._queue.connection
        self._prepare(connection)
        arguments = (
            *settle_arguments(turn.finished),
            as_quoted_array([each.kind for each in ranges]),
            as_array([str(each.low) for each in ranges]),
            as_array([str(each.high) for each in ranges]),
            as_array([repr(each.since) for each in ranges]),
            as_array([str(each.after) for each in ranges]),
            as_array([str(self._timeouts[each.kind]) for each in ranges]),
            as_array([str(count) for count in turn.most]),
        )
        encoded: list[bytes | None] = [argument.encode() for argument in arguments]
        encoded[6:6] = [self._worker, turn.token.encode()]
        pgconn = connection.pgconn
        if self._pooled:
            pgconn.send_query_params(self._query, encoded, result_format=Format.BINARY)
        else:
            pgconn.send_query_prepared(b"shithubd_turn", encoded, result_format=Format.BINARY)
        while pgconn.flush():
            self._await(connection, sending=True)
            pgconn.consume_input()

    def receive(self) -> Answer:
        """Wait for the answer of the turn that was sent. Raises what psycopg raises: then see `forget`."""
        turn = self.sent
        assert turn is not None  # noqa: S101
        connection = self._queue.connection
        pgconn = connection.pgconn
        answer = Answer(turn)
        failed: psycopg.Error | None = None
        while True:
            while pgconn.is_busy():
                self._await(connection, sending=False)
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:
                break
            if result.status == ExecStatus.TUPLES_OK:
                self._read(connection, result, answer)
            else:
                failed = psycopg.errors.error_from_result(result, encoding="utf-8")
        self._queue.heed()
        if failed is not None:
            raise failed
        self.sent = None
        answer.received_at = time.monotonic()
        return answer

    def forget(self) -> Turn | None:
        """The turn that was sent has failed, or nobody will answer it: take it back."""
        turn, self.sent = self.sent, None
        return turn

    def _prepare(self, connection: psycopg.Connection) -> None:
        if self._prepared is connection:
            return
        call = sql.SQL("SELECT * FROM {}({})").format(
            sql.Identifier(self._queue.schema, "turn_v1"),
            sql.SQL(", ".join(f"${n}::{name}" for n, name in enumerate(_TYPES, start=1))),
        )
        self._query = call.as_string(connection).encode()
        if not self._pooled:
            connection.execute(sql.SQL("PREPARE shithubd_turn AS {}").format(call))
        self._prepared = connection

    def _await(self, connection: psycopg.Connection, *, sending: bool) -> None:
        """Wait for the socket, at most as long as the connection waits for any answer."""
        limit = getattr(connection, "answer_seconds", None)
        readable, writable, _ = select.select([connection], [connection] if sending else [], [], limit)
        if not (readable or writable):
            connection.pgconn.finish()
            raise psycopg.OperationalError(f"no answer from the server within {limit:g} s")

    def _read(self, connection: psycopg.Connection, result: Any, answer: Answer) -> None:
        rows = Transformer(connection)
        rows.set_pgresult(result)
        batch = Batch(answer.turn.token, answer.turn.sent_at, 0.0)
        # The last row of a lease says when it was, by the database's clock; the jobs come before it.
        values = rows.load_rows(0, result.ntuples, tuple)
        if values and values[-1][0] is None and values[-1][1] is None:
            answer.visited, answer.now = values[-1][3], values[-1][7]
            batch = batch._replace(now=answer.now)
        kinds = [each.kind for each in answer.turn.ranges]
        for row in values:
            job, at, *rest = row
            if at is None:
                if job is not None:
                    answer.lost.add(job)
            elif job is None:
                answer.found.append((kinds[at - 1], row[6]))
            else:
                answer.leases.append(Lease._make((job, kinds[at - 1], *rest, batch)))
