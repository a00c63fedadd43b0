"""Workers without a process, for tests that count what their turns do."""

from __future__ import annotations

from contextlib import contextmanager

from bare import Turns
from rows import add_worker

from shithubd_worker.database.connection import connector
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.model import Finished, How, Outcome

OK = Outcome(How.OK)


class Driver(Turns):
    """A worker without a process, and what its turns cost the database."""

    def __init__(self, database, *kinds, pooled=False, url=None):
        self.id = add_worker(database, kinds=kinds or ("k",))
        queue = QueueSession(connector(url or database.url, "driver", pooled=pooled), "public", self.id)
        super().__init__(queue, dict.fromkeys(kinds or ("k",), 60.0), pooled=pooled)

    @contextmanager
    def counting(self, database):
        """What happened to jobs during the block. If the worker is alone, it was this worker."""
        before, counts = self._figures(database), {}
        yield counts
        after = self._figures(database)
        counts.update({name: after[name] - before[name] for name in after})

    def _figures(self, database):
        self.queue.connection.execute("SELECT pg_stat_force_next_flush()")
        names = ("entries", "seq_scan", "updated", "deleted", "fetched")
        (row,) = database.query(
            "SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE indexrelname = 'jobs_queue'),"
            " t.seq_scan, t.n_tup_upd, t.n_tup_del, t.idx_tup_fetch FROM pg_stat_user_tables t WHERE t.relname = 'jobs'"
        )
        return dict(zip(names, map(int, row), strict=True))


def done(leases, outcome=OK, retention="7d"):
    return [Finished(lease, outcome, retention, 0.0) for lease in leases]


def enqueue(database, count, *, run_at="now()", kind="k", payload="{}"):
    database.query(
        f"INSERT INTO jobs (kind, payload, run_at) SELECT %s, %s::jsonb, {run_at} FROM generate_series(1, %s) n",
        kind,
        payload,
        count,
    )
