"""What is written down once a settle was answered, and what to do about those that were not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from shithubd_worker import logs
from shithubd_worker.model import Finished, How, Outcome
from shithubd_worker.store import Queue, record_lost
from shithubd_worker.tray import Tray

if TYPE_CHECKING:
    from uuid import UUID

    from shithubd_worker.metrics import Metrics
    from shithubd_worker.session import Session

# The outcomes that only the lease's owner writes.
_OURS = (How.OK, How.RETRY, How.FAILED, How.RELEASED)


class Settler:
    """For both threads: the main thread settles by its turns, the control thread while a handler turned slow."""

    def __init__(self, worker: UUID, tray: Tray, metrics: Metrics) -> None:
        self._worker = worker
        self._tray = tray
        self._metrics = metrics

    def answered(self, session: Session, finished: Sequence[Finished], lost: set[int]) -> Sequence[Finished]:
        """What each came to, now that the database has answered: somebody else had ended the leases of `lost` (ids)."""
        if not lost:
            return finished
        # One that never started, and that somebody else gave back as well, is nobody's loss.
        finished = [each for each in finished if each.seconds > 0 or each.lease.id not in lost]
        for each in [each for each in finished if each.lease.id in lost]:
            record_lost(session, self._worker, each)
            self._metrics.fenced(each.lease.kind)
        return [_lost(each) if each.lease.id in lost else each for each in finished]

    def report(self, settled: Sequence[Finished]) -> None:
        """Count and log what is settled. Asks nothing of the database, so that it may work on something else."""
        ended = Counter([(each.lease.kind, each.outcome.how) for each in settled])
        self._metrics.processed(ended)
        logs.report(settled, ended)

    def resolve(self, queue: Queue) -> None:
        """Settle again what got no answer.

        A lease that nobody took meanwhile can still be settled; one that is gone was settled by the first try, or lost.
        """
        doubtful = self._tray.take_doubtful()
        if not doubtful:
            return
        try:
            lost = queue.settle(doubtful)
            settled = [self._told(queue, each) if each.lease.id in lost else each for each in doubtful]
            gone = {each.lease.id for each, told in zip(doubtful, settled, strict=True) if told is None}
            finished = [told or each for each, told in zip(doubtful, settled, strict=True)]
            self.report(self.answered(queue, finished, gone))
        except BaseException:
            self._tray.doubtful.extend(doubtful)
            raise

    def _told(self, queue: Queue, each: Finished) -> Finished | None:
        """What the first try came to, if it did; None if the lease was lost before it."""
        if each.retention == "none":  # nobody wrote down what became of it; most likely that settle
            return each
        fate = queue.fate(each.lease)
        if fate in (*_OURS, each.outcome.how):
            return each._replace(outcome=Outcome(How(fate), each.outcome.error, each.outcome.delay_seconds))
        return None


def _lost(finished: Finished) -> Finished:
    text = f"the lease was lost before it could be settled as {finished.outcome.how}"
    return finished._replace(outcome=Outcome(How.LEASE_LOST, text))
