"""The settings that an administrator may make for every session of a database change nothing that a worker or a command
does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
from conftest import Database, WorkerProcess, eventually
from psycopg import sql

SETTINGS = {
    "array_nulls": "off",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "client_min_messages": "debug5",
    "cursor_tuple_fraction": "0.0",
    "DateStyle": "SQL, DMY",
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "serializable",
    "enable_indexscan": "off",
    "enable_nestloop": "off",
    "extra_float_digits": "-15",
    "idle_in_transaction_session_timeout": "300ms",
    "idle_session_timeout": "300ms",
    "IntervalStyle": "sql_standard",
    "lock_timeout": "1ms",
    "plan_cache_mode": "force_custom_plan",
    "plpgsql.extra_errors": "all",
    "plpgsql.variable_conflict": "use_column",
    "quote_all_identifiers": "on",
    "row_security": "off",
    "search_path": "pg_temp",
    "session_replication_role": "replica",
    "standard_conforming_strings": "off",
    "statement_timeout": "200ms",  # less than a barrier takes
    "synchronous_commit": "off",
    "temp_file_limit": "0",
    "TimeZone": "Asia/Kathmandu",
    "transform_null_equals": "on",
    "work_mem": "64kB",
}
# For a session that leases: it ends after it was idle for this many seconds, with nothing left to do.
REST = """
SELECT 1 FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'shithubd-worker' AND state = 'idle'
   AND clock_timestamp() - state_change > make_interval(secs => %s) AND NOT EXISTS (SELECT FROM jobs)
"""
COMMANDS = [
    ["status"],
    ["status", "--json"],
    ["pause-kind", "test.ok"],
    ["resume-kind", "test.ok"],
    ["drain", "--reason", "a test"],
    ["resume"],
    ["workers"],
    ["jobs", "list"],
    ["enqueue", "test.ok"],
]


def make_hostile(database: Database) -> None:
    """Make all these settings for every later session."""
    with database.connect() as connection:
        for name, value in SETTINGS.items():
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                    sql.Identifier(database.name), sql.Identifier(*name.split(".")), sql.Literal(value)
                )
            )


def test_no_setting_of_a_database_disturbs_a_worker_or_a_command(any_database: Database, tmp_path: Path) -> None:
    database = any_database
    # A later setting does not reach this session. It enqueues, and its trigger fires.
    with psycopg.connect(database.url, autocommit=True) as untouched:
        make_hostile(database)
        untouched.execute("""INSERT INTO jobs (kind, payload) VALUES ('test.sleep', '{"seconds": 0.5}')""")
        untouched.execute(
            """INSERT INTO jobs (kind, payload) SELECT 'test.ok', '{"number": 1.5, "text": "é"}'"""
            " FROM generate_series(1, 20)"
        )
        for arguments in COMMANDS:
            done = subprocess.run(
                [sys.executable, "-m", "shithubd_worker", *arguments],
                env=database.environment(),
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        worker = WorkerProcess(
            database, tmp_path, "--handlers", "sample_jobs:registry", "--metrics", "off", "--poll-interval", "60"
        )
        try:
            eventually(lambda: untouched.execute(REST, [0.7]).fetchone(), "a worker at rest for longer than a timeout")
            untouched.execute("INSERT INTO jobs (kind) VALUES ('test.ok')")
            eventually(lambda: untouched.execute("SELECT FROM jobs").fetchone() is None, "the last job's end")
            assert worker.terminate() == 0
        finally:
            worker.end()
        rows = untouched.execute("SELECT outcome, count(*) FROM job_history GROUP BY outcome").fetchall()
    assert rows == [("ok", 23)]
    assert "WARNING" not in worker.log
    assert "ERROR" not in worker.log
