"""A change to any number of jobs, batch by batch, with a true account of what was done.

It stays true after Ctrl-C, and after a connection that broke during a COMMIT.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from shithubd_worker.admin.change import BATCH, Batch
from shithubd_worker.database.failures import DatabaseError, lost, read_only
from shithubd_worker.database.session import Session

# How long to try again if the database is away.
AWAY_SECONDS = 30.0
AGAIN_SECONDS = 0.5
# After each batch the change rests as long as the batch took, so that the workers have the database for at least half
# of the time. But never longer than this.
LONGEST_REST_SECONDS = 1.0
# A batch keeps its locks as long as it takes. After a longer one the next is half as large.
LONG_BATCH_SECONDS = 0.5
SMALLEST_BATCH = 50


def rest(took: float) -> None:
    """Leave the database to the workers after a batch that took so many seconds."""
    time.sleep(min(took, LONGEST_REST_SECONDS))


class Sums(NamedTuple):
    """How many jobs were tried and changed, and the last batch that counts. Replaced in one step, so that Ctrl-C finds
    either the sums before a batch or those after it."""

    tried: int = 0
    changed: int = 0
    last: Batch | None = None


class Work:
    """`do` changes jobs in the transaction of the session: `partial(change_batch, session, change)`. It is given their
    ids, and the audit row of the batches before. `tell` gets one line if the connection breaks.

    A batch leaves out the jobs that others have locked, because it must not wait while it holds locks itself. They get
    a second try at the end, one by one, with a wait.
    """

    def __init__(
        self,
        session: Session,
        do: Callable[[Sequence[int], int | None], Batch],
        ids: Sequence[int],
        tell: Callable[[str], None],
    ) -> None:
        self.ids = ids
        self.sums = Sums()
        self.refused: dict[int, str] = {}  # why a job was not changed, in the words of change_jobs_v1
        self.unknown: Sequence[int] = ()  # the jobs of a batch that perhaps was committed
        self._session, self._do, self._tell = session, do, tell
        self._away_since: float | None = None
        self._size = BATCH

    @property
    def audit(self) -> int | None:
        """The audit row of the change; None if it has changed nothing."""
        return self.sums.last.audit if self.sums.last else None

    def go_on(self) -> Iterator[int]:
        """Change the jobs. Yields after each batch how many jobs were tried."""
        while (tried := self.sums.tried) < len(self.ids):
            began = time.monotonic()
            self._batch(self.ids[tried : tried + self._size])
            took = time.monotonic() - began
            yield self.sums.tried
            if took > LONG_BATCH_SECONDS:
                self._size = max(SMALLEST_BATCH, self._size // 2)
            elif took < LONG_BATCH_SECONDS / 4:
                self._size = min(BATCH, self._size * 2)
            if self.sums.tried < len(self.ids):
                rest(took)
        if len(self.ids) > 1:  # a single job was waited for
            for job in [job for job, why in self.refused.items() if why == "locked"]:
                self._batch([job], again=True)
                yield self.sums.tried

    def _batch(self, ids: Sequence[int], *, again: bool = False) -> None:
        """One transaction. If it breaks before its COMMIT, it is not done, and is sent anew. If the COMMIT gets no
        answer, the database is asked what became of it."""
        while True:
            batch: Batch | None = None
            try:
                with self._session.connection.transaction():
                    batch = self._do(ids, self.audit)
                    ids = ids[: len(ids) - batch.rest]
                    self.unknown = ids
                self._count(ids, batch, again=again)
            except BaseException as error:
                if batch is not None and self.sums.last is not batch and self._committed(batch, error):
                    self._count(ids, batch, again=again)
                if not (isinstance(error, DatabaseError) and lost(error)):
                    raise
                if read_only(error) and self.sums.last is None:
                    raise  # a standby, named by mistake; later it would be a failover
                if batch is None or self.sums.last is not batch:
                    self._rest(error)
                    continue
            return

    def _count(self, ids: Sequence[int], batch: Batch, *, again: bool) -> None:
        if again:
            self.refused.pop(ids[0], None)
        self.refused |= batch.refused
        tried, changed, _ = self.sums
        self.sums = Sums(tried + (0 if again else len(ids)), changed + batch.changed, batch)
        self.unknown, self._away_since = (), None

    def _committed(self, batch: Batch, error: BaseException) -> bool:
        """Was the transaction of this batch committed? Raises the error if that can't be found out."""
        while True:
            try:
                jobs = self._session.value("batch_fate_v1", batch.transaction, batch.audit)
            except DatabaseError as another:
                if not lost(another):
                    raise error from another
            else:
                if jobs is not None:
                    self.unknown = ()
                    return bool(jobs == self.sums.changed + batch.changed)
            self._rest(error)

    def _rest(self, error: BaseException) -> None:
        """Before another try. Raises the error if the database is away for too long."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
            self._tell(f"the connection broke; the command tries again for {AWAY_SECONDS:g} s")
        if now - self._away_since > AWAY_SECONDS:
            raise error
        time.sleep(AGAIN_SECONDS)
