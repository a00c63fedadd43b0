"""Rows as they would be in the tables, and what the tables have."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from conftest import eventually

EFFECTS = "CREATE TABLE effects (n bigint GENERATED ALWAYS AS IDENTITY, job bigint, pid bigint, attempt integer)"
LONGER = "SELECT 1 FROM jobs WHERE state = 'processing' AND clock_timestamp() > leased_at + %s::interval"


def add_worker(
    database, host="web1", pid=1, *, kinds=("k",), unit=None, invocation=None, machine="m", silent=False, **columns
):
    """A worker as it registers, with other values in some columns. Returns its id."""
    worker = uuid4()
    database.query(
        "SELECT register_v1(p_id => %s, p_host => %s, p_pid => %s, p_machine_id => %s, p_boot_id => 'b',"
        " p_pid_namespace => 0, p_start_ticks => 0, p_unit => %s, p_invocation_id => %s, p_version => '0',"
        " p_schema_version => 1, p_kinds => %s)",
        worker,
        host,
        pid,
        machine,
        unit,
        invocation,
        list(kinds),
    )
    if silent:
        columns["beat_at"] = datetime.now(UTC) - timedelta(minutes=5)
    for name, value in columns.items():
        table, key = ("beats", "worker_id") if name in ("beat_at", "job_since") else ("workers", "id")
        database.query(f"UPDATE {table} SET {name} = %s WHERE {key} = %s", value, worker)
    return worker


def add_job(database, kind="k", state="queued", *, worker=None, leased_by="web1:1", **columns):
    """A row of jobs. A processing one was leased a minute ago."""
    values = {"kind": kind, "state": state, **columns}
    if state == "processing":
        minute_ago = datetime.now(UTC) - timedelta(minutes=1)
        values |= {"leased_by": leased_by, "leased_at": minute_ago, "lease_token": uuid4(), "worker_id": worker}
        values |= {"attempts": 1, "lease_expires_at": minute_ago + timedelta(hours=1)}
    names = ", ".join(values)
    marks = ", ".join(["%s"] * len(values))
    return database.value(f"INSERT INTO jobs ({names}) VALUES ({marks}) RETURNING id", *values.values())


def state(database, job):
    rows = database.query("SELECT state, attempts FROM jobs WHERE id = %s", job)
    return rows[0] if rows else None


def audit(database):
    return database.query("SELECT action, target, reason, actor, job_ids FROM audit ORDER BY id")


def holds(database):
    return database.query("SELECT scope, target, reason FROM holds ORDER BY id")


def enqueue(database, kind, **members):
    return database.value("INSERT INTO jobs (kind, payload) VALUES (%s, %s) RETURNING id", kind, json.dumps(members))


def job(database, job_id):
    rows = database.query("SELECT state, attempts, crashes, last_error, leased_by FROM jobs WHERE id = %s", job_id)
    return rows[0] if rows else None


def history(database, job_id):
    return [
        row[0] for row in database.query("SELECT outcome FROM job_history WHERE id = %s ORDER BY finished_at", job_id)
    ]


def running(database, job_id):
    # Not by the state processing: a signal gives back a leased job that has not started yet at once.
    eventually(lambda: database.query("SELECT 1 FROM beats WHERE job_id = %s", job_id), f"job {job_id}'s handler")
