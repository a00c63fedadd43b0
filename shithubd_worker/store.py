"""Calling the database: one method here, one function of sql/functions there; rows become types at the door."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import tuple_row

from shithubd_worker import __version__
from shithubd_worker.errors import DatabaseUnavailable, RightsMissing, SchemaMismatch, ShithubdError
from shithubd_worker.model import Hold, Identity, Lease, Outcome
from shithubd_worker.registry import Kind
from shithubd_worker.schema import newest_version

if TYPE_CHECKING:
    from psycopg.abc import PQGen

RV = TypeVar("RV")

# What tells "the connection is gone, or this server can't write now" from "this statement is wrong".
LOST = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction)

Connect = Callable[[], psycopg.Connection]

# libpq's own defaults would wait minutes for a host that is gone. A URL or a PG* variable overrides each of these;
# the variable is named where libpq has one.
_SETTINGS: dict[str, tuple[str | None, int]] = {
    "connect_timeout": ("PGCONNECT_TIMEOUT", 2),
    "keepalives_idle": (None, 10),
    "keepalives_interval": (None, 5),
    "keepalives_count": (None, 3),
    "tcp_user_timeout": (None, 15_000),  # milliseconds
}


# The gate needs READ COMMITTED, and psycopg reads times in ISO style; a role's own defaults may say otherwise.
_PINNED = "SET default_transaction_isolation = 'read committed'; SET datestyle = 'ISO, YMD'; SET timezone = 'UTC'"


class ImpatientConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose calls end with an OperationalError when no answer came within `answer_seconds`.

    For a server that is frozen: its kernel still acknowledges, so that no keepalive notices, and no timeout of the
    server's own runs.
    """

    answer_seconds: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """As psycopg's own, with an end; the connection can't be used any more then."""
        limit = self.answer_seconds if timeout is None else timeout
        try:
            return super().wait(gen, interval, limit)
        except psycopg.errors._WaitTimeout as error:
            if timeout is not None:  # psycopg's own, as of notifies(timeout=...)
                raise
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer from the server within {self.answer_seconds:g} s") from error


def connector(
    database_url: str | None, name: str, *, pooled: bool = False, ours: bool = True, answer_seconds: float | None = None
) -> Connect:
    """A function that opens connections in autocommit mode to the database that libpq finds (URL, PG*, service).

    `name` is shown in pg_stat_activity. `pooled` for a pooler in transaction mode: no use of the session.
    `ours`: pin what a role or database may have set otherwise; not for the handlers' own. `answer_seconds`: how long a
    call waits for the server (None: for ever); a wait for a lock ends before that, in the server, so that no backend
    is left waiting behind.
    """
    given = conninfo_to_dict(database_url or "")
    settings: dict[str, Any] = {
        key: value
        for key, (variable, value) in _SETTINGS.items()
        if key not in given and not (variable and variable in os.environ)
    }
    if "application_name" not in given and "PGAPPNAME" not in os.environ:
        settings["application_name"] = name
    pinned = _PINNED
    if answer_seconds is not None:
        pinned += f"; SET lock_timeout = {int(answer_seconds * 750)}"

    def connect() -> psycopg.Connection:
        connection = ImpatientConnection.connect(
            database_url or "", autocommit=True, client_encoding="UTF8", **settings
        )
        connection.answer_seconds = answer_seconds
        if pooled:
            connection.prepare_threshold = None
        elif ours:
            connection.execute(pinned.encode())
        return connection

    return connect


def explained(error: psycopg.Error) -> ShithubdError:
    """The error of psycopg as one line of ours, with the right exit code."""
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    text = str(error)
    rights = "password authentication failed|no password supplied|no pg_hba.conf entry|role .* (does not exist|is not)"
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return RightsMissing(f"the database role lacks a right: {line}")
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None and re.search(rights, text):
        return RightsMissing(f"the database refuses this login: {_last_reason(text)}")
    if isinstance(error, LOST):
        reason = error.diag.message_primary or _last_reason(text)
        return DatabaseUnavailable(f"the database can't be reached: {reason}")
    if isinstance(
        error, (psycopg.errors.UndefinedFunction, psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName)
    ):
        return SchemaMismatch(f"the database's schema doesn't fit this release: {line}: run `shithubd-worker migrate`")
    return ShithubdError(f"the database says: {line}")


def _last_reason(text: str) -> str:
    # libpq lists every address that it tried, and psycopg repeats them; the last line that names a reason is enough.
    lines = [line.strip(" -") for line in text.splitlines() if line.strip()]
    return next(
        (line for line in reversed(lines) if "FATAL" in line or "failed" in line),
        lines[-1] if lines else text,
    )


# DISCARD ALL but for the prepared statements, of which psycopg keeps its own account.
_FORGET = (
    "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; SELECT pg_advisory_unlock_all();"
    " DISCARD TEMP; DISCARD SEQUENCES"
)


class Session:
    """One connection that calls functions of one schema. For one thread."""

    def __init__(self, connect: Connect, schema: str) -> None:
        self.schema = schema
        self._connect = connect
        self._connection: psycopg.Connection | None = None
        self._queries: dict[tuple[str, int], sql.Composed] = {}

    @property
    def connection(self) -> psycopg.Connection:
        """The connection, opened if need be. Raises psycopg.OperationalError."""
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection

    @property
    def opened(self) -> bool:
        """Is there a connection that was not found broken?"""
        return self._connection is not None and not self._connection.closed

    def close(self) -> None:
        """Drop the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def rows(self, function: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Call a function of the schema and return its rows."""
        key = (function, len(arguments))
        query = self._queries.get(key)
        if query is None:
            query = self._queries[key] = sql.SQL("SELECT * FROM {}({})").format(
                sql.Identifier(self.schema, function), sql.SQL(", ").join(sql.Placeholder() * len(arguments))
            )
        # On a handler's connection too, whose row factory may be another.
        with self.connection.cursor(row_factory=tuple_row) as cursor:
            return cursor.execute(query, arguments).fetchall()

    def value(self, function: str, *arguments: object) -> Any:
        """Call a function of the schema that returns one value (None if it returned no row)."""
        rows = self.rows(function, *arguments)
        return rows[0][0] if rows else None


class Queue(Session):
    """What the main thread of a worker asks: lease, start, settle, sweep."""

    def __init__(self, connect: Connect, schema: str, worker: UUID) -> None:
        super().__init__(connect, schema)
        self._worker = worker

    def listen(self, on_notify: Callable[[], None]) -> None:
        """Be told, on this connection, when jobs were enqueued."""
        connection = self.connection
        channel = self.value("channel_v1")
        connection.add_notify_handler(lambda _: on_notify())
        connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))

    def lease(self, kinds: Sequence[Kind]) -> Lease | None:
        """Lease the next job of these kinds, the first kind first; None if there is nothing to run."""
        token = uuid4()
        sent_at = time.monotonic()
        rows = self.rows(
            "lease_v1",
            self._worker,
            token,
            [kind.name for kind in kinds],
            [kind.lease_timeout for kind in kinds],
        )
        if not rows:
            return None
        job, name, payload, attempt, max_attempts, crashes, waited = rows[0]
        timeout = next(kind.lease_timeout for kind in kinds if kind.name == name)
        return Lease(job, name, payload, attempt, max_attempts, crashes, waited, token, sent_at, sent_at + timeout)

    def start(self, lease: Lease, timeout: float) -> bool:
        """One more look at the holds for a lease older than 500 ms: may it start? Renews it for `timeout` seconds."""
        return bool(self.value("start_v1", self._worker, lease.id, lease.token, timeout))

    def settle(self, lease: Lease, outcome: Outcome, retention: str) -> bool:
        """End a lease. False if it was lost: then nothing was written."""
        return settle(self, lease, outcome, retention)

    def fate(self, lease: Lease) -> str | None:
        """What became of a lease whose settle got no answer: leased, the outcome that ended it, or None if unknown."""
        fate = self.value("lease_fate_v1", lease.id, lease.token)
        return None if fate is None else str(fate)

    def lost(self, lease: Lease, error: str | None, retention: str) -> None:
        """Write into the history that this worker came too late."""
        self.rows("lost_v1", self._worker, lease.id, lease.kind, lease.attempt, error, retention)

    def kind_holds(self) -> list[Hold]:
        """The pauses of kinds that stand now."""
        return [Hold("kind", target, reason, actor) for target, reason, actor in self.rows("pauses_v1")]

    def sweep(self, *, expired: bool = True) -> list[tuple[int, str, str]]:
        """Put right what nobody else will (sweep_v1), between two jobs: (id, kind, outcome) of each job touched."""
        return [(job, kind, how) for job, kind, how in self.rows("sweep_v1", self._worker, expired)]

    def housekeep(self, *, drop: bool = True) -> list[str]:
        """Make the history's next days, forget dead workers, and drop the days that are over. Returns what was done.

        At most one worker at a time drops (an advisory lock of the session); each step gives up after a second of
        waiting for a reader and is taken up the next time. `drop=False` behind a pooler, which shares sessions.
        """
        try:
            self.value("ensure_history_v1")
            self.value("forget_workers_v1")
            return self._drop_expired() if drop else []
        except psycopg.errors.LockNotAvailable:
            return ["put off: a reader has the history"]

    def _drop_expired(self) -> list[str]:
        connection = self.connection
        locked = "SELECT pg_try_advisory_lock(7302, hashtext(%s))"
        if connection.execute(locked, (self.schema,)).fetchone() != (True,):
            return []
        done: list[str] = []
        (usual,) = connection.execute("SELECT current_setting('lock_timeout')").fetchone() or ("0",)
        try:
            connection.execute("SELECT set_config('lock_timeout', '1s', false)")
            for parent, partition, state in self.rows("expired_history_v1"):
                self._drop(parent, partition, state)
                done.append(f"dropped {partition}")
        except psycopg.errors.ObjectInUse:
            done.append("put off: somebody uses a day that is over")
        finally:
            if not connection.broken:
                connection.execute("SELECT set_config('lock_timeout', %s, false)", (usual,))
                connection.execute("SELECT pg_advisory_unlock(7302, hashtext(%s))", (self.schema,))
        return done

    def _drop(self, parent: str, partition: str, state: str) -> None:
        table = sql.Identifier(self.schema, partition)
        if state != "detached":
            how = "CONCURRENTLY" if state == "attached" else "FINALIZE"
            self.connection.execute(
                sql.SQL("ALTER TABLE {} DETACH PARTITION {} {}").format(
                    sql.Identifier(self.schema, parent), table, sql.SQL(how)
                )
            )
        self.connection.execute(sql.SQL("DROP TABLE {}").format(table))


class Beat(Session):
    """What the control thread of a worker asks: register, beat, renew; and how it settles when it ends the process."""

    def register(self, identity: Identity, kinds: Sequence[str]) -> None:
        """Write the worker's row."""
        who = asdict(identity)
        self.rows("register_v1", *who.values(), __version__, newest_version(), list(kinds))

    def beat(
        self,
        worker: UUID,
        state: str,
        job: int | None,
        kind: str | None,
        running: float | None,
        *,
        busy: bool,
    ) -> list[Hold] | None:
        """Say that the worker lives; learn which drains cover it. None if its row is gone."""
        holds = self.value("beat_v1", worker, state, job, kind, running, busy)
        return None if holds is None else [Hold(**hold) for hold in holds]

    def renew(self, lease: Lease, timeout: float) -> bool:
        """Move the lease's expiry to `timeout` seconds from now. False if it was lost."""
        return bool(self.value("renew_v1", lease.id, lease.token, timeout))

    def settle(self, lease: Lease, outcome: Outcome, retention: str) -> bool:
        """End a lease in place of a main thread that doesn't answer."""
        return settle(self, lease, outcome, retention)

    def housemates(self, identity: Identity) -> list[Identity]:
        """The other workers of this machine, as they registered."""
        rows = self.rows("housemates_v1", identity.id, identity.machine_id)
        return [Identity(*row[:9]) for row in rows]

    def release_worker(self, worker: UUID, why: str) -> list[tuple[int, str, str]]:
        """Return what a dead worker held, and forget it: (id, kind, outcome) of each job."""
        return [(job, kind, how) for job, kind, how in self.rows("release_worker_v1", worker, why)]

    def release_invocation(self, invocation_id: str, why: str) -> list[tuple[int, str, str]]:
        """The same for the process that systemd knows by this id."""
        return [(job, kind, how) for job, kind, how in self.rows("release_invocation_v1", invocation_id, why)]

    def unregister(self, worker: UUID) -> None:
        """Take the worker's row away."""
        self.rows("unregister_v1", worker)


# A handlers' connection that was idle for longer is asked whether it lives before it is handed out.
FRESH_SECONDS = 2.0


class Ledger(Session):
    """The connection that handlers write with, opened when the first one asks for it."""

    def __init__(self, connect: Connect, schema: str) -> None:
        super().__init__(connect, schema)
        self._used = False
        self._used_at = 0.0

    @property
    def connection(self) -> psycopg.Connection:
        """The handlers' connection, looked after: one that broke while nobody used it is no handler's fault."""
        if self.opened and not self._used and time.monotonic() - self._used_at > FRESH_SECONDS:
            try:
                super().connection.execute("SELECT 1")
            except psycopg.Error:
                self.close()
        self._used = True
        return super().connection

    def settle(self, lease: Lease, outcome: Outcome, retention: str) -> bool:
        """End the lease inside the handler's own transaction."""
        return settle(self, lease, outcome, retention)

    @property
    def broken(self) -> bool:
        """Did the connection break under the handler? Then its failure is the database's, not the job's."""
        return self._connection is not None and self._connection.broken

    def tidy(self) -> None:
        """After an attempt: leave nothing of one handler's session to the next."""
        if self._connection is None or not self._used:
            return
        self._used = False
        self._used_at = time.monotonic()
        try:
            self._connection.rollback()
            self._connection.autocommit = True
            self._connection.row_factory = tuple_row
            self._connection.cursor_factory = psycopg.Cursor
            self._connection.execute(_FORGET)
        except psycopg.Error:
            self.close()


def settle(session: Session, lease: Lease, outcome: Outcome, retention: str) -> bool:
    """settle_v1 on whatever connection; fenced by the lease's token."""
    return bool(
        session.value("settle_v1", lease.id, lease.token, outcome.how, outcome.delay_seconds, outcome.error, retention)
    )
