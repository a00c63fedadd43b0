"""Once a second: which jobs wait although they could run, which leases are over, and which workers are idle."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

import psycopg

from torture.records import AWAY, Log

EVERY_SECONDS = 1.0
# Due jobs that no hold covers; leases that are over; workers that found nothing to lease and may lease.
_LOOK = """
SELECT (SELECT coalesce(jsonb_agg(d.id), '[]') FROM (
            SELECT j.id FROM jobs j
             WHERE j.state = 'queued' AND j.run_at < clock_timestamp()
               AND NOT EXISTS (SELECT FROM holds h WHERE h.scope = 'kind' AND h.target = j.kind)
             ORDER BY j.run_at LIMIT 200) d) AS due,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(j.id,
                   extract(epoch FROM clock_timestamp() - j.lease_expires_at))), '[]')
          FROM jobs j WHERE j.state = 'processing' AND j.lease_expires_at < clock_timestamp()) AS expired,
       (SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
         WHERE d.datname = current_database() AND locktype = 'advisory' AND classid = 7304 AND mode = 'ShareLock'
           AND granted AND NOT EXISTS (SELECT FROM holds h WHERE h.scope <> 'kind')) AS idle,
       (SELECT coalesce(jsonb_object_agg(s.state, s.count), '{}') FROM (
            SELECT state, count(*) FROM jobs GROUP BY state) s) AS states
"""


class Sampler(threading.Thread):
    """Records what it sees, until `finish`. While the database is away it sees nothing."""

    def __init__(self, url: str, log: Log) -> None:
        super().__init__(name="sampler", daemon=True)
        self._url = url
        self._log = log
        self._finished = threading.Event()
        self._connection: psycopg.Connection[Any] | None = None
        self._failure: BaseException | None = None

    def finish(self) -> None:
        """No more looks. Raises the error that ended them, if any."""
        self._finished.set()
        self.join()
        if self._failure is not None:
            raise self._failure

    def run(self) -> None:
        """See the class."""
        try:
            self._sample()
        except BaseException as error:
            self._failure = error
            raise

    def _sample(self) -> None:
        while not self._finished.is_set():
            asked = time.monotonic()
            late = self._nap(EVERY_SECONDS)
            if late > 0.1:  # the whole machine had no processor time
                self._log("late", seconds=round(late, 3), since=asked)
            try:
                self._look()
            except AWAY:
                self._connection = None
        if self._connection is not None:
            self._connection.close()

    def _nap(self, seconds: float) -> float:
        """Sleep in short naps. Returns by how much the worst of them was too long."""
        end, late, piece = time.monotonic() + seconds, 0.0, 0.02
        while (now := time.monotonic()) < end and not self._finished.is_set():
            time.sleep(piece)
            late = max(late, time.monotonic() - now - piece)
        return late

    def _look(self) -> None:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=2)
        with suppress(psycopg.errors.UndefinedTable):
            row = self._connection.execute(_LOOK).fetchone()
            assert row is not None
            due, expired, idle, states = row
            self._log("sample", due=due, expired=expired, idle=idle, states=states)
