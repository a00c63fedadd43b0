"""What is written down once a settle was answered, and what to do about those that were not, or were refused."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from shithubd_worker import logs
from shithubd_worker.model import Finished, How, Outcome
from shithubd_worker.session import DatabaseError, in_one_line, lost, meaning
from shithubd_worker.sqlstates import Meaning, no_day
from shithubd_worker.store import Beat, Queue, make_days, record_lost
from shithubd_worker.tray import Tray

if TYPE_CHECKING:
    from uuid import UUID

    from shithubd_worker.metrics import Metrics
    from shithubd_worker.session import Session

log = logging.getLogger(__name__)

# The outcomes that only the lease's owner writes.
_OURS = (How.OK, How.RETRY, How.FAILED, How.RELEASED)
# What the database refuses altogether is tried again after so long, as long as its lease may stand.
AGAIN_SECONDS = 5.0
MOST_PUT_OFF = 1000
# So many in a row that somebody stands in the way of: not of these jobs alone, then.
IN_THE_WAY = 3
LONGEST_ERROR = 8192  # characters


_Told = Callable[[Finished], Finished | None]


class _PutOff(NamedTuple):
    again_at: float
    finished: Finished


class Settler:
    """For both threads: the main thread settles by its turns, the control thread while a handler turned slow.

    `timeouts` are the kinds' lease timeouts in seconds.
    """

    def __init__(self, worker: UUID, tray: Tray, metrics: Metrics, timeouts: Mapping[str, float]) -> None:
        self._worker = worker
        self._tray = tray
        self._metrics = metrics
        self._timeouts = timeouts
        self._put_off: deque[_PutOff] = deque(maxlen=MOST_PUT_OFF)

    def answered(self, session: Session, finished: Sequence[Finished], gone: set[int]) -> Sequence[Finished]:
        """What each came to, now that the database has answered: somebody else had ended the leases of `gone` (ids)."""
        if not gone:
            return finished
        # One that never started, and that somebody else gave back as well, is nobody's loss.
        finished = [each for each in finished if each.seconds > 0 or each.lease.id not in gone]
        for each in [each for each in finished if each.lease.id in gone]:
            self._record_lost(session, each)
            self._metrics.fenced(each.lease.kind)
        return [_lost(each) if each.lease.id in gone else each for each in finished]

    def report(self, settled: Sequence[Finished]) -> None:
        """Count and log what is settled. Asks nothing of the database, so that it may work on something else."""
        ended = Counter([(each.lease.kind, each.outcome.how) for each in settled])
        self._metrics.processed(ended)
        logs.report(settled, ended)

    def refused(self, kind: str, job: int, what: str, why: str) -> None:
        """Count and log that the database refuses what is asked for one job alone."""
        self._metrics.refused(kind)
        logs.refused(job, kind, what, why)

    def settle(self, session: Queue | Beat, finished: Sequence[Finished]) -> None:
        """Settle. What got no answer is on the tray then, as doubtful. Raises what psycopg raises if it is not about a
        single job."""
        self._settle(session, finished, lambda _each: None)

    def resolve(self, queue: Queue, *, at_last: bool = False) -> None:
        """Settle again what got no answer, or was refused some time ago; all of that if `at_last`.

        A lease that nobody took meanwhile can still be settled; one that is gone was settled by the first try, or lost.
        """
        doubtful = self._tray.take_doubtful()
        if self._put_off:
            doubtful += self._take_put_off(at_last=at_last)
        if doubtful:
            self._settle(queue, doubtful, lambda each: self._told(queue, each))

    def _settle(self, session: Queue | Beat, finished: Sequence[Finished], told: _Told) -> None:
        """All in one, and if the database refuses that, one by one. `told` is asked of those whose lease is gone what
        an earlier try came to: None if there was none, or it came too late."""
        left = deque(finished)
        try:
            try:
                gone = session.settle(finished)
            except DatabaseError as error:
                if lost(error) or meaning(error) is Meaning.SHORT:
                    raise
                if no_day(error):
                    make_days(session)
                in_the_way = 0
                while left:
                    passing = self._settle_alone(session, left[0], told)
                    left.popleft()
                    in_the_way = in_the_way + 1 if passing else 0
                    if in_the_way == IN_THE_WAY:
                        raise
            else:
                self._settled(session, finished, gone, told)
        except BaseException:
            self._tray.doubtful.extend(left)
            raise

    def _settle_alone(self, session: Queue | Beat, each: Finished, told: _Told) -> bool:
        """One job: as it ended, or else as failed, with the reason, or else later. True: somebody stood in the way."""
        asked = each
        while True:
            try:
                gone = session.settle([asked])
            except DatabaseError as error:
                means, why = meaning(error), in_one_line(error)
                if means in (Meaning.LOST, Meaning.SHORT):
                    raise
                if means is Meaning.PASSING or no_day(error):
                    self._later(each)
                    return True
                self.refused(each.lease.kind, each.lease.id, f"to settle it as {asked.outcome.how}", why)
                if asked.outcome.how in (How.FAILED, How.POISON):
                    self._later(each)
                    return False
                asked = each._replace(outcome=_failed(each.outcome, why))
            else:
                self._settled(session, [asked], gone, told)
                return False

    def _settled(self, session: Session, finished: Sequence[Finished], gone: set[int], told: _Told) -> None:
        heard = [told(each) if each.lease.id in gone else each for each in finished]
        gone = {each.lease.id for each, known in zip(finished, heard, strict=True) if known is None}
        known = [known or each for each, known in zip(finished, heard, strict=True)]
        self.report(self.answered(session, known, gone))

    def _later(self, each: Finished) -> None:
        """Put off what the database refuses, until its lease is over: then whoever sweeps sees to it."""
        now = time.monotonic()
        until = each.lease.sent_at + each.seconds + self._timeouts[each.lease.kind]
        if now < until:
            self._put_off.append(_PutOff(now + AGAIN_SECONDS, each))

    def _take_put_off(self, *, at_last: bool) -> list[Finished]:
        now = time.monotonic()
        taken = []
        for _ in range(len(self._put_off)):
            each = self._put_off.popleft()
            if at_last or now >= each.again_at:
                taken.append(each.finished)
            else:
                self._put_off.append(each)
        return taken

    def _told(self, queue: Queue, each: Finished) -> Finished | None:
        """What the first try came to, if it did; None if the lease was lost before it."""
        if each.retention == "none":  # nobody wrote down what became of it; most likely that settle
            return each
        fate = queue.fate(each.lease)
        if fate in (*_OURS, each.outcome.how):
            return each._replace(outcome=Outcome(How(fate), each.outcome.error, each.outcome.delay_seconds))
        return None

    def _record_lost(self, session: Session, each: Finished) -> None:
        try:
            record_lost(session, self._worker, each)
        except DatabaseError as error:
            if lost(error):
                raise
            log.warning("job %d: its lost lease is not in the history: %s", each.lease.id, in_one_line(error))


def _failed(outcome: Outcome, why: str) -> Outcome:
    text = f": {outcome.error}" if outcome.error else ""
    return Outcome(How.FAILED, f"the database refuses to settle it as {outcome.how} ({why}){text}"[:LONGEST_ERROR])


def _lost(finished: Finished) -> Finished:
    text = f"the lease was lost before it could be settled as {finished.outcome.how}"
    return finished._replace(outcome=Outcome(How.LEASE_LOST, text))
