"""The limit: the same SQL with no job system around it. What PostgreSQL and Python give at best on this machine.

Same table, same columns written, same token, same row in the history as ours. No holds, no metrics, no log, no
heartbeat, no renewal, no interrupt, one kind. Called as: -m benchmarks.runners.limit work URL JSON with
  batch: how many jobs a lease takes        fused: settle the last batch and lease the next in one statement
  sync: wait for the disk at each commit
"""

from __future__ import annotations

import json
import select
import signal
import sys
import uuid
from typing import Any

import psycopg

from benchmarks.runners.recorder import make_recorder

# Parameters: %(token)s of this lease, %(old)s and %(ids)s of the last one, %(worker)s, %(limit)s.
LEASE = """
    UPDATE jobs j
       SET state = 'processing', leased_by = 'host:1', leased_at = clock_timestamp(), worker_id = %(worker)s,
           lease_token = %(token)s, lease_expires_at = clock_timestamp() + interval '300 s', attempts = j.attempts + 1
      FROM (SELECT id FROM jobs WHERE state = 'queued' AND kind = 'bench.noop' AND run_at <= clock_timestamp()
             ORDER BY priority, run_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED) c
     WHERE j.id = c.id
 RETURNING j.id, j.payload::text, j.attempts"""
GONE = """
    DELETE FROM jobs WHERE id = ANY (%(ids)s::bigint[]) AND lease_token = %(old)s AND state = 'processing'
 RETURNING id, kind, attempts, leased_by, leased_at, payload, lease_token"""
KEEP = """
    INSERT INTO job_history (id, kind, outcome, attempts, leased_by, leased_at, finished_at, payload, lease_token,
                             retention)
    SELECT id, kind, 'ok', attempts, leased_by, leased_at, clock_timestamp(), payload, lease_token, '7d' FROM gone"""
SETTLE = f"WITH gone AS ({GONE}) {KEEP}"
# Both change jobs, but never the same row: what is settled is processing, what is leased is queued.
FUSED = f"WITH gone AS ({GONE}), kept AS ({KEEP}) {LEASE}"


def main(url: str, batch: int, *, fused: bool, sync: bool) -> None:
    """Lease, run, settle, until SIGTERM."""
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    ran = make_recorder()
    worker = uuid.uuid4()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("LISTEN limit_wake")
        if not sync:
            connection.execute("SET synchronous_commit = off")
        old, ids = uuid.uuid4(), []
        while not stopped or ids:
            token = uuid.uuid4()
            given = {"token": token, "old": old, "ids": ids, "worker": worker, "limit": 0 if stopped else batch}
            if fused:
                rows = connection.execute(FUSED, given, prepare=True).fetchall()
            else:
                if ids:
                    connection.execute(SETTLE, given, prepare=True)
                rows = connection.execute(LEASE, given, prepare=True).fetchall()
            old, ids = token, []
            for identity, payload, _ in rows:
                ran(json.loads(payload)["n"])
                ids.append(identity)
            if not rows and not stopped:
                select.select([connection], [], [], 0.05)
                connection.execute("SELECT")  # reads what woke it


if __name__ == "__main__":
    settings: dict[str, Any] = json.loads(sys.argv[3])
    main(sys.argv[2], settings["batch"], fused=settings["fused"], sync=settings["sync"])
