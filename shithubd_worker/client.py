"""Enqueueing from Python. Any other program uses `INSERT INTO jobs (kind, payload) VALUES (…)`."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

# The escape of a NUL in JSON text. After another backslash the same letters are no escape.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def enqueue(
    connection: psycopg.Connection[Any],
    kind: str,
    /,
    *,
    delay: float | timedelta | None = None,
    run_at: datetime | None = None,
    priority: int = 0,
    max_attempts: int | None = None,
    schema: str = "public",
    **members: object,
) -> int:
    """Add a job in the caller's transaction, and return its id. The job exists once that transaction commits.

    - `members` are the payload, so they become the handler's keyword arguments.
    - `delay` is in seconds (or a timedelta), counted by the database's clock. In its place `run_at` gives an aware
      datetime.
    - `priority`: within a kind, a lower number runs first.
    - `max_attempts`: None means the kind's value.

    Raises ValueError for members that JSON or PostgreSQL can't hold. That happens before anything is sent, so the
    caller's transaction stays usable. An example:

        with connection.transaction():
            number = enqueue(connection, "stars.add", repo="ada/engine", stars=2, delay=60)
        print(f"job {number} waits for a minute")
    """
    if delay is not None and run_at is not None:
        raise ValueError("give delay or run_at, not both")
    if run_at is not None and run_at.tzinfo is None:
        raise ValueError("run_at needs a time zone: datetime.now(timezone.utc) + …")
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else float(delay or 0)
    return insert(connection, schema, kind, payload_text(members), seconds, run_at, priority, max_attempts)


def insert(
    connection: psycopg.Connection[Any],
    schema: str,
    kind: str,
    payload: str,
    delay: float = 0.0,
    run_at: datetime | None = None,
    priority: int = 0,
    max_attempts: int | None = None,
) -> int:
    """The INSERT that enqueues. `payload` is JSON text. `delay` (seconds) counts only without `run_at`. Returns the
    id."""
    from psycopg import sql
    from psycopg.rows import tuple_row

    query = sql.SQL(
        "INSERT INTO {} (kind, payload, priority, max_attempts, run_at) VALUES (%s, %s::jsonb, %s, %s,"
        " coalesce(%s::timestamptz, now() + pg_catalog.make_interval(secs => %s::double precision))) RETURNING id"
    ).format(sql.Identifier(schema, "jobs"))
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(query, (kind, payload, priority, max_attempts, run_at, delay))
        row = cursor.fetchone()
    if row is None:  # a trigger of the application dropped the row
        raise RuntimeError("the database returned no id: a trigger on jobs dropped the row")
    return int(row[0])


def payload_text(members: dict[str, object]) -> str:
    """The members as JSON text that PostgreSQL accepts. Raises ValueError, which names what PostgreSQL can't hold."""
    try:
        text = json.dumps(members, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:  # not a type of JSON, or NaN, or a value that contains itself
        raise ValueError(f"the payload is not JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("the payload is nested too deeply") from error
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("the payload contains a lone surrogate, which is not a character") from error
    if "\\u0000" in text and _NUL.search(text):
        raise ValueError("the payload contains a NUL character, which PostgreSQL can't store")
    return text
