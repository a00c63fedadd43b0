"""One round trip of the loop: settle what is finished, lease what is next. It may be sent before handlers run.

psycopg's own calls wait for their answer, and its pipeline keeps the transaction open until the next sync. So a turn is
sent by libpq's own functions: two statements, and the sync that ends their transaction. The server runs and commits it
all, no matter when the answer is read.

The answer of a lease is bounded (lease_v1), so that it fits into the buffers of a socket that nobody reads at the
moment. Otherwise the server would wait in the middle of its transaction.
"""

from __future__ import annotations

import json
import math
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
from shithubd_worker.timing import TURN_LOCK_SECONDS
from shithubd_worker.turn.frontier import Range
from shithubd_worker.turn.tray import Settles

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

    from shithubd_worker.database.queue_session import QueueSession

# The functions that a turn calls, and the types of their parameters.
_SETTLE = "settle_v1"
_LEASE = "lease_v1"
# A settle waits for somebody's lock only this long, and then the turn fails. Otherwise the other jobs of the turn would
# wait, too. The server sets it before it calls the function, so it costs no statement. The transaction resets it.
_CALLS = {
    _SETTLE: "SELECT {}({}) FROM pg_catalog.set_config('lock_timeout', {}, true)",
    _LEASE: "SELECT * FROM {}({})",
}
TYPES = {
    _SETTLE: ("bigint[]", "uuid[]", "text[]", "float8[]", "text[]", "text[]"),
    _LEASE: (
        *("uuid", "uuid", "text[]", "smallint[]", "smallint[]", "float8[]", "bigint[]", "float8[]", "integer[]"),
        *("boolean", "bigint[]", "boolean"),
    ),
}


@dataclass(slots=True)
class Turn:
    """What to do in one turn: settle what is finished, and lease from `ranges`, at most `most` jobs of each."""

    settles: Settles
    ranges: Sequence[Range]
    most: Sequence[int]
    full: bool  # do the ranges reach back to the start?
    woken: bool = False  # does it answer a wake-up?
    wakeable: bool = True  # should the next enqueue wake this worker, if this turn leases nothing?
    skip: Sequence[int] = ()  # jobs to pass over
    careful: bool = False  # with `most` 1: find out whether the database refuses to lease that job
    token: str = field(default_factory=lambda: str(uuid4()))
    sent_at: float = field(default_factory=time.monotonic)  # taken before it is sent


@dataclass(slots=True)
class Answer:
    """The answer to a turn."""

    turn: Turn
    lost: set[int] = field(default_factory=set)  # ids of settled jobs whose lease was lost
    leases: list[Lease] = field(default_factory=list)
    walked: list[tuple[str, int]] = field(default_factory=list)  # kind, and the priority up to which no job is due
    # kind and job that the database refuses to lease, and why
    refused: list[tuple[str, int, str]] = field(default_factory=list)
    visited: int = 0  # how many of the ranges were looked at to their end
    now: float = 0.0  # the database's clock; 0: the worker is held, so nothing was looked at
    took: float = 0.0  # how many seconds the database looked for jobs
    shut: Sequence[str] = ()  # kinds whose ramps let nothing through now: jobs of theirs may wait in any range
    again: float = math.inf  # look again after so many seconds: a ramp lets only some jobs of a kind through
    deaf: bool = False  # the next enqueue may not wake this worker, though it should
    received_at: float = 0.0  # on the monotonic clock

    @property
    def more(self) -> bool:
        """May there be more to lease in these ranges?"""
        return self.visited < len(self.turn.ranges)


class Wire:
    """Sends turns on the queue's connection, one at a time, and reads their answers.

    `timeouts` are the kinds' lease timeouts in seconds. `pooled`: the connection goes to a pooler, so nothing can be
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
        """Wait for the answer to the turn that was sent. Raises what psycopg raises; call `forget` then."""
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
                # psycopg deallocates all prepared statements, for example after a ROLLBACK or a DROP
                self._prepared = None
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
            raise failed from None  # the server's last message before it closed the connection

    def forget(self) -> Turn | None:
        """Take back the turn that was sent: it has failed, or nobody will answer it."""
        turn, self.sent = self.sent, None
        return turn

    def _prepare(self, connection: psycopg.Connection) -> None:
        if self._prepared is connection:
            return
        for name, types in TYPES.items():
            call = sql.SQL(_CALLS[name]).format(
                sql.Identifier(self.queue.schema, name),
                sql.SQL(", ".join(f"${n}::{each}" for n, each in enumerate(types, start=1))),
                f"{TURN_LOCK_SECONDS * 1000:.0f}",
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
        """Wait for the socket, at most for as long as the connection waits for any answer."""
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
        if not values:  # the worker is held
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
    """Take over what the first row of a lease's answer says about its looks (see lease_v1)."""
    answer.now, answer.took = report["now_us"] / 1e6, report["took_us"] / 1e6
    answer.visited, answer.deaf = report["visited"], report["deaf"]
    answer.shut = report["shut"] or ()
    if (again := report["again"]) is not None:
        answer.again = again
    answer.walked = [(kinds[at - 1], priority) for at, priority in report["walked"]]
    if refused := report["refused"]:
        answer.refused = [(kinds[refused["range"] - 1], refused["id"], refused["why"])]
