"""A pooler between us and the database.

In transaction mode each transaction may run in another session, which other clients use too. So nothing is left in a
session, and nothing that others left there counts.
"""

from __future__ import annotations

from collections.abc import Callable

import psycopg

from shithubd_worker.errors import ConfigError, DatabaseUnavailable, ShithubdError

_BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED"
# The logged-in user, and the names that it looks up. Each of these settings ends with the transaction.
_AS_LOGGED_IN = (
    b"SET LOCAL SESSION AUTHORIZATION DEFAULT",
    b"SET LOCAL role TO DEFAULT",
    b"SET LOCAL search_path TO DEFAULT",
    b"SET LOCAL synchronous_commit TO DEFAULT",
)
# How a handler's transaction opens: with the settings of the login, the database and the server, and none of ours.
FOR_HANDLERS = (
    _BEGIN,
    b"SET LOCAL statement_timeout TO DEFAULT",
    b"SET LOCAL lock_timeout TO DEFAULT",
    b"SET LOCAL idle_in_transaction_session_timeout TO DEFAULT",
    *_AS_LOGGED_IN,
)
# Others may have left a session read-only. If the login, the database or the server (a standby) says so, it must stay
# read-only, so this only resets the setting. It can't be set for one transaction alone.
MAY_WRITE_AGAIN = b"RESET default_transaction_read_only"
_ROUNDS = 4
# When two clients test whether they share a session, the second waits for one for this long.
SECOND_SECONDS = 2.0

# What PgBouncer itself says, and what it means. All of it has the same SQLSTATE.
_WORDS: dict[str, tuple[type[ShithubdError], str]] = {
    "transaction blocks not allowed in statement pooling mode": (
        ConfigError,
        "the pooler is in statement mode, without transactions: the queue needs pool_mode = transaction or session",
    ),
    "query_wait_timeout": (
        DatabaseUnavailable,
        "the pooler had no free connection to the database within its query_wait_timeout: somebody keeps a"
        " transaction open, or its default_pool_size is too small",
    ),
}


class NoSession(psycopg.OperationalError):
    """The call needs a session of its own, but a pooler gave one that it shares."""

    def __init__(self) -> None:
        super().__init__(
            "this needs a database session of its own, but the pooler shares its sessions (PgBouncer's pool_mode ="
            " transaction): connect to the server directly. A worker needs none with `run --poll-only`"
        )


def ours(lock_seconds: float | None, command: str | None = None) -> tuple[bytes, ...]:
    """How our transactions open. `lock_seconds`: how long to wait for a lock (None: as the login has it). `command`:
    hexadecimal digits, the name of the command that asks."""
    lock = "DEFAULT" if lock_seconds is None else f"{lock_seconds * 1000:.0f}"
    return (
        _BEGIN,
        b"SET LOCAL statement_timeout = 0",
        b"SET LOCAL lock_timeout TO " + lock.encode(),
        b"SET LOCAL idle_in_transaction_session_timeout = 0",
        b"SET LOCAL datestyle = 'ISO, YMD'",
        b"SET LOCAL timezone = 'UTC'",
        *((f"SET LOCAL shithubd_worker.command = '{command}'".encode(),) if command else ()),
        *_AS_LOGGED_IN,
    )


def check_own(connection: psycopg.Connection, another: Callable[[float], psycopg.Connection]) -> None:
    """Raises NoSession, and closes the connection, if a pooler shares its session. See `shared`."""
    if shared(connection, another):
        with connection, connection.transaction():  # in statement mode the pooler refuses this, with its own message
            raise NoSession


def shared(connection: psycopg.Connection, another: Callable[[float], psycopg.Connection]) -> bool:
    """Does a pooler share the session of this connection? `another` opens a second connection, with a limit of seconds
    for each answer.

    A pooler invents the process id that it tells its clients. So where the id is the server's own, there is no pooler.

    In session mode a client keeps its session as long as it is connected: the process id stays, and no other client
    meets it. Where sessions are shared, two clients that ask in turns meet the same one at once if all are free. If
    some are in use, or are given out in rotation, one of the two soon meets another session.
    """
    first = _pid(connection)
    if first == connection.info.backend_pid:
        return False
    try:
        with another(SECOND_SECONDS) as second:
            met = _pid(second)
            for _ in range(_ROUNDS):
                if met == first or _pid(second) != met or {_pid(connection), _pid(connection)} != {first}:
                    return True
            return False
    except psycopg.OperationalError:
        return False  # no session is free for a second client while the first is at rest: the first keeps its own


def words(text: str) -> ShithubdError | None:
    """The error for a message that a pooler sent, not the database. None if it is not one that we know."""
    return next((error(told) for said, (error, told) in _WORDS.items() if said in text), None)


def _pid(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT pg_catalog.pg_backend_pid()").fetchone()
    return int(row[0]) if row else 0
