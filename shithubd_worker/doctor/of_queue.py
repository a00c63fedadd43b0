"""What a bundle shows of the queue and of its server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from shithubd_worker.database import schema
from shithubd_worker.doctor.bundle import Bundle
from shithubd_worker.doctor.query import looking
from shithubd_worker.doctor.redaction import plain
from shithubd_worker.errors import ShithubdError

_TABLES = """
    SELECT s.relname::text AS "table", s.n_live_tup, s.n_dead_tup, s.n_mod_since_analyze, s.n_ins_since_vacuum,
           s.n_tup_ins, s.n_tup_upd, s.n_tup_hot_upd, s.n_tup_del, s.seq_scan, s.idx_scan, s.last_vacuum,
           s.last_autovacuum, s.last_analyze, s.last_autoanalyze, s.vacuum_count, s.autovacuum_count,
           pg_relation_size(s.relid) AS bytes, pg_total_relation_size(s.relid) AS total_bytes
      FROM pg_stat_all_tables s WHERE s.schemaname = %s ORDER BY s.relname"""
_INDEXES = """
    SELECT s.indexrelname::text AS "index", s.relname::text AS "table", s.idx_scan, s.idx_tup_read, s.idx_tup_fetch,
           pg_relation_size(s.indexrelid) AS bytes, i.indisvalid AND i.indisready AS valid
      FROM pg_stat_all_indexes s JOIN pg_index i ON i.indexrelid = s.indexrelid
     WHERE s.schemaname = %s ORDER BY s.indexrelname"""
# A text may be a password or a path. An extension or somebody may have made other settings.
_SETTINGS = """
    SELECT name AS setting, CASE WHEN vartype <> 'string' THEN setting END AS set_to, unit, source, pending_restart
      FROM pg_settings
     WHERE source NOT IN ('default', 'override', 'session', 'client') AND category <> 'Customized Options'
     ORDER BY name"""
_SERVER = """
    SELECT current_setting('server_version') AS version, current_setting('server_encoding') AS encoding,
           pg_is_in_recovery() AS standby, pg_postmaster_start_time() AS started_at,
           pg_database_size(current_database()) AS bytes,
           (SELECT count(*) FROM pg_stat_activity) AS sessions, (SELECT count(*) FROM pg_replication_slots) AS slots,
           (SELECT d.stats_reset FROM pg_stat_database d WHERE d.datname = current_database()) AS stats_reset,
           clock_timestamp() AS at"""
_SESSIONS = """
    SELECT a.application_name AS program, a.state, a.wait_event_type AS waits_for, count(*) AS sessions
      FROM pg_stat_activity a
     WHERE a.datname = current_database() AND starts_with(a.application_name, 'shithubd-worker')
     GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""
FILES: dict[str, tuple[str, LiteralString]] = {
    "tables.json": ("PostgreSQL's statistics of the queue's tables, and their sizes", _TABLES),
    "indexes.json": ("the same of its indexes", _INDEXES),
    "server-settings.json": ("settings of the server that are not the default; texts are left out", _SETTINGS),
    "server.json": ("the server", _SERVER),
    "sessions.json": ("sessions of this program", _SESSIONS),
}
# Functions of the queue, which may be damaged.
CALLS = {
    "status.json": ("what `status` shows, without errors and reasons", "status_v1"),
    "workers.json": ("what `workers` shows", "workers_v1"),
    "stats.json": ("what `stats` shows", "stats_v1"),
}


def add(bundle: Bundle, connection: psycopg.Connection, name: str) -> None:
    """Add all of it. `name` is the schema of the queue."""
    for file, (about, query) in FILES.items():
        bundle.add(file, about, _asked(connection, sql.SQL(query), [name] if "%s" in query else None))
    for file, (about, function) in CALLS.items():
        call = sql.SQL("SELECT f AS answer FROM {}() AS f").format(sql.Identifier(name, function))
        bundle.add(file, about, _asked(connection, call))
    bundle.add("schema.json", "the schema of the database, and that of this release", lambda: _schema(connection, name))


def leave_out(bundle: Bundle, why: str) -> None:
    """There is no database to ask."""
    for file, (about, _) in {**FILES, **CALLS, "schema.json": ("the schema of the database", "")}.items():
        bundle.leave_out(file, about, why)


def _asked(
    connection: psycopg.Connection, query: sql.SQL | sql.Composed, given: list[str] | None = None
) -> Callable[[], object]:
    def ask() -> object:
        with _refused(), looking(connection), connection.cursor(row_factory=dict_row) as cursor:
            return plain(cursor.execute(query, given).fetchall())

    return ask


@contextmanager
def _refused() -> Iterator[None]:
    """Name an error of the database, without its text: a function that somebody replaced can say anything."""
    try:
        yield
    except psycopg.Error as error:
        raise ShithubdError(f"the database refuses it: {type(error).__name__} ({error.sqlstate})") from error


def _schema(connection: psycopg.Connection, name: str) -> dict[str, Any]:
    with _refused(), looking(connection):
        found = schema.find(connection, name)
    return {
        "database": {"schema_version": found.version, "functions": found.functions},
        "release": {"schema_version": schema.newest_version(), "functions": schema.functions_digest(name)},
    }
