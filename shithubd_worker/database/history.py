"""Drops the days of the history that are over, and old rows of the audit record. Only their owner can do that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import psycopg
from psycopg import sql

from shithubd_worker.database.session import Session

READER = "a reader has the history"


class Dropped(NamedTuple):
    """The result of a drop: the days that were dropped, and why others were left ('': none is left)."""

    days: list[str]
    put_off: str


class Kept(NamedTuple):
    """For how many days the audit record keeps its rows, and how the jobs were before a change."""

    audit_days: int
    undo_days: int


class Pruned(NamedTuple):
    """How many rows of the audit record went. And of how many more the old values of the jobs went."""

    rows: int
    values: int


def expired(session: Session) -> list[tuple[str, str, str]]:
    """The days that are over: each with its partitioned table, its own table, and how far it is detached."""
    return [(parent, partition, state) for parent, partition, state in session.rows("expired_history_v1")]


def drop(session: Session, actor: str) -> Dropped:
    """Drop these days. Once none is left, record who dropped them.

    If two sessions drop at once, one of them waits for the lock that a detach takes on the partitioned table. Or it
    finds that the other was there first. Then it leaves the rest to the other. An advisory lock would keep them apart,
    but anybody could take it. Not for use behind a pooler, which shares sessions.
    """
    connection = session.connection
    days: list[str] = []
    put_off = ""
    (usual,) = connection.execute("SELECT pg_catalog.current_setting('lock_timeout')").fetchone() or ("0",)
    try:
        connection.execute("SET lock_timeout = '1s'")
        for parent, partition, state in expired(session):
            _drop(session, parent, partition, state)
            days.append(partition)
        _leave_word(session, actor)
    except psycopg.errors.LockNotAvailable:
        put_off = READER
    except (psycopg.errors.ObjectInUse, psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.UndefinedTable):
        put_off = "somebody uses a day that is over, or is just dropping it"
    finally:
        if not connection.broken:
            connection.execute(sql.SQL("SET lock_timeout = {}").format(usual))
    return Dropped(days, put_off)


def prune(session: Session, kept: Kept) -> Iterator[Pruned]:
    """Drop old rows of the audit record, a hundred in a transaction. Yields the sums after each."""
    total = Pruned(0, 0)
    while any(done := Pruned(*session.rows("prune_audit_v1", *kept)[0])):
        total = Pruned(total.rows + done.rows, total.values + done.values)
        yield total


def would_prune(session: Session, kept: Kept) -> Pruned:
    """What `prune` would drop now."""
    return Pruned(*session.rows("old_audit_v1", *kept)[0])


def _drop(session: Session, parent: str, partition: str, state: str) -> None:
    table = sql.Identifier(session.schema, partition)
    if state != "detached":
        how = "CONCURRENTLY" if state == "attached" else "FINALIZE"
        session.connection.execute(
            sql.SQL("ALTER TABLE {} DETACH PARTITION {} {}").format(
                sql.Identifier(session.schema, parent), table, sql.SQL(how)
            )
        )
    session.connection.execute(sql.SQL("DROP TABLE {}").format(table))


def _leave_word(session: Session, actor: str) -> None:
    session.connection.execute(
        sql.SQL(
            "INSERT INTO {} (actor) VALUES (%s) ON CONFLICT (only_row) DO UPDATE"
            " SET at = excluded.at, actor = excluded.actor, login = excluded.login"
        ).format(sql.Identifier(session.schema, "history_drops")),
        (actor,),
    )
