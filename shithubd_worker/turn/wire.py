"""One round trip of the loop: settle what is finished, lease what is next. It may be sent ahead of handlers.

psycopg's own calls wait for their answer, and its pipeline keeps the transaction open until the next sync. So a turn is
sent by libpq's own means, two statements and the sync that ends their transaction: the server runs it all and commits,
whoever reads the answer when.
The answer of a lease is bounded (lease_v1), so that it fits into the buffers of a socket that nobody reads: else the
server would wait in the midst of its transaction.
"""

from __future__ import annotations

import json
import select
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.adapt import Transformer
from psycopg.pq import ConnStatus, ExecStatus, Format

from shithubd_worker.database.arrays import as_array, as_quoted_array
from shithubd_worker.database.impatient import ImpatientConnection, SharedConnection
from shithubd_worker.model import Batch, Lease
from shithubd_worker.turn.frontier import Range
from shithubd_worker.turn.tray import Settles

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

    from shithubd_worker.database.queue_session import QueueSession

# The functions that a turn calls, and the types of their parameters.
_SETTLE = "settle_v1"
_LEASE = "lease_v1"
TYPES = {
    _SETTLE: ("bigint[]", "uuid[]", "text[]", "float8[]", "text[]", "text[]"),
    _LEASE: (
        *("uuid", "uuid", "text[]", "smallint[]", "smallint[]", "float8[]", "bigint[]", "float8[]", "integer[]"),
        *("boolean", "bigint[]", "boolean"),
    ),
}


@dataclass(slots=True)
class Turn:
    """What to do in one turn: settle what is finished, and lease from ranges, at most so many jobs of each."""

    settles: Settles
    ranges: Sequence[Range]
    most: Sequence[int]
    full: bool  # do the ranges reach back to the start?
    woken: bool = False  # is it the answer to a wake-up?
    wakeable: bool = True  # shall the next enqueue wake this worker, if this turn leases nothing?
    skip: Sequence[int] = ()  # jobs to pass over
    careful: bool = False  # with `most` 1: find out whether it is that job that the database refuses to lease
    token: str = field(default_factory=lambda: str(uuid4()))
    sent_at: float = field(default_factory=time.monotonic)  # before it is sent


@dataclass(slots=True)
class Answer:
    """What came back."""

    turn: Turn
    lost: set[int] = field(default_factory=set)  # of the settled: the ids of those whose lease was lost
    leases: list[Lease] = field(default_factory=list)
    walked: list[tuple[str, int]] = field(default_factory=list)  # kinds, and up to which priority no job is due
    refused: list[tuple[str, int, str]] = field(default_factory=list)  # kind and job that it refuses to lease, and why
    visited: int = 0  # how many of the ranges were looked at to their end
    now: float = 0.0  # the database's clock; 0: held, so nothing was looked at
    took: float = 0.0  # how many seconds the database looked for jobs
    deaf: bool = False  # though it shall wake this worker, the next enqueue may not
    received_at: float = 0.0  # the monotonic clock

    @property
    def more(self) -> bool:
        """May there be more to lease where it looked?"""
        return self.visited < len(self.turn.ranges)


class Wire:
    """Sends turns on the queue's connection, one at a time, and reads their answers.

    `timeouts` are the kinds' lease timeouts in seconds. `pooled`: the connection is a pooler's, so nothing can be
    prepared on it.
    """

    def __init__(self, queue: QueueSession, timeouts: Mapping[str, float], *, pooled: bool) -> None:
        self.queue = queue
        self._worker = str(queue.worker)
        self._timeouts = timeouts
        self._pooled = pooled
        self._prepared: psycopg.Connection | None = None
        self._calls: dict[str, bytes] = {}
        self.sent: Turn | None = None

    def send(self, turn: Turn) -> None:
        """Send a turn. Raises what psycopg raises."""
        self.sent, ranges = turn, turn.ranges
        connection = self.queue.connection
        self._prepare(connection)
        pgconn = connection.pgconn
        pgconn.enter_pipeline_mode()
        for statement in connection.opening:
            pgconn.send_query_params(statement, None)
        if turn.settles.finished:
            self._send_call(pgconn, _SETTLE, *turn.settles.arguments)
        self._send_call(
            pgconn,
            _LEASE,
            self._worker,
            turn.token,
            as_quoted_array([each.kind for each in ranges]),
            as_array([str(each.low) for each in ranges]),
            as_array([str(each.high) for each in ranges]),
            as_array([repr(each.since) for each in ranges]),
            as_array([str(each.after) for each in ranges]),
            as_array([str(self._timeouts[each.kind]) for each in ranges]),
            as_array([str(count) for count in turn.most]),
            None if self._pooled else str(turn.wakeable),
            as_array([str(job) for job in turn.skip]),
            str(turn.careful),
        )
        if connection.opening:
            pgconn.send_query_params(b"COMMIT", None)
        pgconn.pipeline_sync()
        while pgconn.flush():
            self._await(connection, sending=True)
            pgconn.consume_input()

    def receive(self) -> Answer:
        """Wait for the answer of the turn that was sent. Raises what psycopg raises: then see `forget`."""
        turn = self.sent
        assert turn is not None  # noqa: S101
        connection = self.queue.connection
        pgconn = connection.pgconn
        results: list[PGresult] = []
        failed: psycopg.Error | None = None
        while True:
            result = self._next_result(connection, failed)
            if result is None:  # the end of one statement's answer
                continue
            if result.status == ExecStatus.PIPELINE_SYNC:
                break
            if result.status == ExecStatus.TUPLES_OK:
                results.append(result)
            elif result.status not in (ExecStatus.COMMAND_OK, ExecStatus.PIPELINE_ABORTED):
                failed = psycopg.errors.error_from_result(result, encoding="utf-8")
                if pgconn.status != ConnStatus.OK:
                    raise failed
        pgconn.exit_pipeline_mode()
        self.queue.heed()
        if failed is not None:
            if isinstance(connection, SharedConnection):
                connection.roll_back()
            if isinstance(failed, psycopg.errors.InvalidSqlStatementName):
                self._prepared = None  # psycopg takes away all that is prepared, after a ROLLBACK or a DROP for example
            raise failed
        self.sent = None
        return self._read(connection, turn, *reversed(results))

    def _next_result(self, connection: ImpatientConnection, failed: psycopg.Error | None) -> PGresult | None:
        try:
            while connection.pgconn.is_busy():
                self._await(connection, sending=False)
                connection.pgconn.consume_input()
            return connection.pgconn.get_result()
        except psycopg.OperationalError:
            if failed is None:
                raise
            raise failed from None  # the server's last word, before it closed the connection

    def forget(self) -> Turn | None:
        """The turn that was sent has failed, or nobody will answer it: take it back."""
        turn, self.sent = self.sent, None
        return turn

    def _prepare(self, connection: psycopg.Connection) -> None:
        if self._prepared is connection:
            return
        for name, types in TYPES.items():
            call = sql.SQL("SELECT * FROM {}({})").format(
                sql.Identifier(self.queue.schema, name),
                sql.SQL(", ".join(f"${n}::{each}" for n, each in enumerate(types, start=1))),
            )
            self._calls[name] = call.as_string(connection).encode()
            if not self._pooled:
                connection.execute(sql.SQL("PREPARE {} AS {}").format(sql.Identifier(name), call))
        self._prepared = connection

    def _send_call(self, pgconn: PGconn, name: str, *arguments: str | None) -> None:
        encoded = [None if argument is None else argument.encode() for argument in arguments]
        if self._pooled:
            pgconn.send_query_params(self._calls[name], encoded, result_format=Format.BINARY)
        else:
            pgconn.send_query_prepared(name.encode(), encoded, result_format=Format.BINARY)

    def _await(self, connection: ImpatientConnection, *, sending: bool) -> None:
        """Wait for the socket, at most as long as the connection waits for any answer."""
        limit = connection.answer_seconds
        readable, writable, _ = select.select([connection], [connection] if sending else [], [], limit)
        if not (readable or writable):
            connection.pgconn.finish()
            raise psycopg.OperationalError(f"{connection.silence} within {limit:g} s")

    def _read(
        self, connection: psycopg.Connection, turn: Turn, leased: PGresult, settled: PGresult | None = None
    ) -> Answer:
        answer = Answer(turn, received_at=time.monotonic())
        rows = Transformer(connection)
        if settled is not None and settled.ntuples:
            rows.set_pgresult(settled)
            answer.lost = {job for (job,) in rows.load_rows(0, settled.ntuples, tuple)}
        rows.set_pgresult(leased)
        values = rows.load_rows(0, leased.ntuples, tuple)
        if not values:  # held
            return answer
        kinds = [each.kind for each in turn.ranges]
        jobs = iter(values)
        _learn(answer, kinds, json.loads(next(jobs)[2]))
        batch = Batch(turn.token, turn.sent_at, answer.now)
        for job, at, payload, attempt, max_attempts, crashes, priority, run_at in jobs:
            answer.leases.append(
                Lease(job, kinds[at - 1], payload, attempt, max_attempts, crashes, priority, run_at, batch)
            )
        return answer


def _learn(answer: Answer, kinds: Sequence[str], report: dict[str, Any]) -> None:
    """What the first row of a lease's answer says of its looks (see lease_v1)."""
    answer.now, answer.took = report["now_us"] / 1e6, report["took_us"] / 1e6
    answer.visited, answer.deaf = report["visited"], report["deaf"]
    answer.walked = [(kinds[at - 1], priority) for at, priority in report["walked"]]
    if refused := report["refused"]:
        answer.refused = [(kinds[refused["range"] - 1], refused["id"], refused["why"])]
