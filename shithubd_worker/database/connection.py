"""How a connection is opened: to which database, how long that may take, and how its session is set."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict, timeout_from_conninfo

from shithubd_worker.database import logins
from shithubd_worker.database import pooled as pooler
from shithubd_worker.database.impatient import ImpatientConnection, SharedConnection
from shithubd_worker.model import FIRST, LAST
from shithubd_worker.timing import ANSWER_LOCK, CONNECT_SECONDS, LONGEST_LOCK_SECONDS

if TYPE_CHECKING:
    from psycopg.abc import Buffer

log = logging.getLogger(__name__)


# With libpq's defaults the worker would wait minutes for a host that is gone. A URL or a PG* variable overrides each of
# these settings; the variable's name stands here if libpq has one.
_SETTINGS: dict[str, tuple[str | None, int]] = {
    "connect_timeout": ("PGCONNECT_TIMEOUT", CONNECT_SECONDS),
    "keepalives_idle": (None, 10),
    "keepalives_interval": (None, 5),
    "keepalives_count": (None, 3),
    "tcp_user_timeout": (None, 15_000),  # milliseconds
}


def _server_sets(*names: str) -> str:
    return "; ".join(f"SET tcp_{name.removeprefix('tcp_')} = {_SETTINGS[name][1]}" for name in names)


# The server looks for its client as often, so both ends of a cut network give the connection up. Linux itself would let
# the server wait for two hours. Meanwhile its session would keep the locks of an open transaction, and the next run of
# the same job would wait for them. A pooler must do that itself.
LOOK_FOR_CLIENT = _server_sets("keepalives_idle", "keepalives_interval", "keepalives_count")
# Not for the handlers' connection: with this setting, Linux also ends the connection of a client that lives and reads a
# long answer slowly.
_ANSWERS_ARE_READ = _server_sets("tcp_user_timeout")


# A role or a database may have other defaults. The gate needs READ COMMITTED, and times are read in ISO style. A worker
# at rest is idle between two polls, and answer_seconds decides how long a call may last. Where the session is shared,
# each transaction makes these settings itself: pooled.ours.
_PINNED = (
    "SET default_transaction_isolation = 'read committed'; SET datestyle = 'ISO, YMD'; SET timezone = 'UTC';"
    " SET idle_session_timeout = 0; SET statement_timeout = 0"
)


class TimeLoader(Loader):
    """Reads every time that a table can hold. A time before the year 1 or after 9999, or an infinite one, becomes the
    first or the last time that Python knows, as in readable_v1. psycopg would raise, perhaps after the change was
    committed.

    It expects ISO style, which each of our transactions sets. The loader of psycopg goes by the style that the server
    reported last. Behind a pooler that report may come after the transaction.
    """

    def load(self, data: Buffer) -> datetime:
        """Read PostgreSQL's text."""
        text = bytes(data).decode()
        try:
            return datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            first = text.startswith("-") or text.endswith("BC")
            return FIRST if first else LAST


Connect = Callable[[], ImpatientConnection]


def connector(
    database_url: str | None,
    name: str,
    *,
    pooled: bool = False,
    ours: bool = True,
    answer_seconds: float | None = None,
    command: str | None = None,
    meanwhile: Callable[[ImpatientConnection, float], None] | None = None,
    by: float | None = None,
) -> Connect:
    """A function that opens connections in autocommit mode to the database that libpq finds (URL, PG*, service).

    - `name`: the application_name in pg_stat_activity.
    - `pooled`: leave nothing in the session, because a pooler may share it. Without it, a shared session raises
      NoSession.
    - `ours`: fix the settings that a role or a database may have changed. Not for the handlers' connection.
    - `answer_seconds`: how long a call waits for the server; None means for ever. The server gives up a wait for a lock
      before that, so no backend stays behind.
    - `command`: with `pooled`, the name that the audit record keeps with each change (command_changes_v1).
    - `meanwhile`: for a command, which keeps its own time (see ImpatientConnection).
    - `by`: when an attempt to connect must be over, on the monotonic clock, even if the URL or a variable allows more.
    """
    given = conninfo_to_dict(database_url or "")
    settings: dict[str, Any] = {
        key: value
        for key, (variable, value) in _SETTINGS.items()
        if key not in given and not (variable and variable in os.environ)
    }
    if "application_name" not in given and "PGAPPNAME" not in os.environ:
        settings["application_name"] = name
    lock_seconds = None if answer_seconds is None else min(answer_seconds * ANSWER_LOCK, LONGEST_LOCK_SECONDS)
    pinned = f"{_PINNED}; {LOOK_FOR_CLIENT}; {_ANSWERS_ARE_READ}"
    if lock_seconds is not None:
        pinned += f"; SET lock_timeout = {lock_seconds * 1000:.0f}"

    variables = _variables()

    made = SharedConnection if pooled else ImpatientConnection
    settings["prepare_threshold"] = made.prepare_after

    def another(answer_seconds: float | None) -> ImpatientConnection:
        limits = settings
        if by is not None:
            usual = timeout_from_conninfo(conninfo_to_dict(database_url or "", **settings))
            limits = {**settings, "connect_timeout": min(usual, max(1, math.ceil(by - time.monotonic())))}
        with logins.judged():
            connection = made.connect(database_url or "", autocommit=True, client_encoding="UTF8", **limits)
        connection.answer_seconds = answer_seconds
        return connection

    def connect() -> ImpatientConnection:
        if _variables() != variables:
            _put_back(variables)
        connection = another(answer_seconds)
        connection.meanwhile = meanwhile
        with _closed_by_an_error(connection):
            if pooled:
                connection.opening = pooler.ours(lock_seconds, command) if ours else pooler.FOR_HANDLERS
                connection.execute(pooler.MAY_WRITE_AGAIN)
            elif ours:
                pooler.check_own(connection, another)
                connection.execute(pinned.encode())
            else:
                connection.execute(LOOK_FOR_CLIENT.encode())
        if ours:
            connection.adapters.register_loader("timestamptz", TimeLoader)
        return connection

    return connect


@contextmanager
def _closed_by_an_error(connection: ImpatientConnection) -> Iterator[None]:
    """Close the connection after an error: nobody else has it yet."""
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _variables() -> dict[str, str]:
    """The variables that libpq reads."""
    return {name: value for name, value in os.environ.items() if name.startswith("PG")}


def _put_back(variables: dict[str, str]) -> None:
    """Put back variables that a handler has changed, perhaps for a child. The worker must not connect to another
    database."""
    now = _variables()
    names = sorted(name for name in {*now, *variables} if now.get(name) != variables.get(name))
    for name in names:
        os.environ.pop(name, None)
    os.environ.update(variables)
    log.warning("a handler changed %s, which the worker connects with: the worker put it back", ", ".join(names))
