"""Dropping the days of the history that are over: what only its owner can do."""

from __future__ import annotations

from typing import NamedTuple

import psycopg
from psycopg import sql

from shithubd_worker.database.session import Session

READER = "a reader has the history"


class Dropped(NamedTuple):
    """What a drop came to: the days that it dropped, and why it left others ('': none is left)."""

    days: list[str]
    put_off: str


def expired(session: Session) -> list[tuple[str, str, str]]:
    """The days that are over: the table that each is a partition of, its own, and how far it is detached."""
    return [(parent, partition, state) for parent, partition, state in session.rows("expired_history_v1")]


def drop(session: Session, actor: str) -> Dropped:
    """Drop them, and leave word of who did once none is left.

    Of two that drop at once, one waits for the lock that a detach takes on its class of the history, or finds that the
    other was there first: it leaves the rest to the other. An advisory lock would keep them apart, and could be taken
    by anybody. Not behind a pooler, which shares sessions.
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
