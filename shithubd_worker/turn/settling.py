"""Settles: what is counted and logged after an answer, and what happens to refused ones and those without an answer."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from shithubd_worker.database.failures import DatabaseError, in_one_line, lost, meaning
from shithubd_worker.database.settles import Settling, make_days, record_lost
from shithubd_worker.database.sqlstates import Meaning, no_day
from shithubd_worker.model import Finished, How, Outcome
from shithubd_worker.telemetry import logs
from shithubd_worker.telemetry.metrics import Metrics
from shithubd_worker.timing import LOCKED_AGAIN_SECONDS, ONE_BY_ONE_SECONDS, SETTLE_AGAIN_SECONDS
from shithubd_worker.turn.tray import Tray

if TYPE_CHECKING:
    from shithubd_worker.database.session import Session

log = logging.getLogger(__name__)

# The outcomes that only the lease's owner writes.
_OURS = (How.OK, How.RETRY, How.FAILED, How.RELEASED)
MOST_PUT_OFF = 1000
LONGEST_ERROR = 8192  # characters
MOST_NAMED = 10  # jobs in a line of the log

# The outcome that an earlier try gave a job whose lease is gone. None if there was no such try, or if it came too late.
_Earlier = Callable[[Finished], Finished | None]


class _PutOff(NamedTuple):
    again_at: float
    finished: Finished
    may_pass: bool  # something stands in the way for now, and may go away


class Settler:
    """For both threads. The main thread settles by its turns; the control thread settles while a handler is slow.

    The thread that comes first tries again what could not be settled. Each job is in the hands of one thread, because
    it is taken from a deque. A job that one thread has in hand is invisible to the other.
    """

    def __init__(self, leased_by: str, tray: Tray, metrics: Metrics) -> None:
        self._leased_by = leased_by
        self._tray = tray
        self._metrics = metrics
        self._put_off: deque[_PutOff] = deque()
        self._unsettled: set[int] = set()  # their jobs, if they may pass; also while a thread has them in hand

    @property
    def waiting(self) -> bool:
        """Must anything be settled again?"""
        return bool(self._put_off or self._tray.doubtful)

    def unsettled(self, now: float) -> tuple[int, ...]:
        """The jobs whose settle something blocks for now, or that got no answer for a while. No sweep takes them while
        this worker's beats name them (beat_v1)."""
        late = {each.lease.id for each in self._tray.sent} if self._tray.overdue(now) else ()
        return tuple(sorted(self._unsettled.union(late)))

    @property
    def may_pass(self) -> bool:
        """Is there one among these that the database does not refuse for good?"""
        return bool(self._tray.doubtful) or any(each.may_pass for each in tuple(self._put_off))

    @property
    def left(self) -> str:
        """Text: how many ended jobs must be settled again, and which."""
        left = [*self._tray.doubtful.copy(), *(each.finished for each in tuple(self._put_off))]
        named = [str(each.lease.id) for each in left[:MOST_NAMED]] + ["..."] * (len(left) > MOST_NAMED)
        return f"{len(left)} job(s) ended ({', '.join(named)})"

    def report(self, settled: Sequence[Finished], late: Sequence[Finished] = ()) -> None:
        """Count and log what is settled, and what came too late for that. Asks the database nothing, so that it can
        work on something else."""
        if not settled and not late:
            return  # most often before the first job of a worker that was idle: it must not wait for this
        for each in late:
            self._metrics.fenced(each.lease.kind)
        over = [*settled, *map(_lost, late)] if late else settled
        ended = Counter([(each.lease.kind, each.outcome.how) for each in over])
        self._metrics.processed(ended)
        logs.report(over, ended)

    def record_lost(self, session: Session, late: Sequence[Finished]) -> None:
        """Write into the history what came too late. What can't be written is logged, and not tried again. Raises what
        psycopg raises if the connection is lost."""
        for number, each in enumerate(late):
            try:
                record_lost(session, self._leased_by, each)
            except DatabaseError as error:
                for unwritten in late[number:] if lost(error) else [each]:
                    why = in_one_line(error)
                    log.warning(
                        "job %d: its lost lease is not in the history: %s",
                        unwritten.lease.id,
                        why,
                        extra=logs.about(unwritten.lease),
                    )
                if lost(error):
                    raise

    def refused(self, kind: str, job: int, what: str, why: str) -> None:
        """Count and log that the database refuses something about one job alone."""
        self._metrics.refused(kind)
        logs.refused(job, kind, what, why)

    def doubt(self, finished: Sequence[Finished]) -> None:
        """Nobody knows whether these are settled. Beats name them until that is known."""
        self._unsettled.update([each.lease.id for each in finished])
        self._tray.doubtful.extend(finished)

    def settle(self, session: Settling, finished: Sequence[Finished]) -> None:
        """Settle these. Jobs without an answer go onto the tray as doubtful. Raises what psycopg raises if the database
        is away or short of something."""
        self._settle(session, finished, lambda _each: None)

    def resolve(self, session: Settling, *, at_last: bool = False) -> None:
        """Settle again what got no answer, or was refused some time ago. With `at_last`, try everything. Raises like
        `settle`.

        A lease that is still there can be settled. A lease that is gone was settled by the first try, or it is lost.
        """
        doubtful = self._tray.take_doubtful()
        if self._put_off:
            doubtful += self._take_put_off(at_last=at_last)
        if doubtful:
            self._settle(session, doubtful, lambda each: _fate(session, each))

    def _settle(self, session: Settling, finished: Sequence[Finished], earlier: _Earlier) -> None:
        """Settle all in one statement. If the database refuses that, settle them one by one."""
        left = deque(finished)  # jobs whose fate is not known yet
        try:
            try:
                gone, locked = session.settle_all(finished)
            except DatabaseError as error:
                if meaning(error) in (Meaning.LOST, Meaning.SHORT):
                    raise
                if no_day(error):
                    make_days(session)
                until = time.monotonic() + ONE_BY_ONE_SECONDS
                while left and time.monotonic() < until:
                    self._settle_first(session, left, earlier)
            else:
                left.clear()
                for each in finished:
                    if each.lease.id in locked:
                        self._later(each, LOCKED_AGAIN_SECONDS)
                self._answered(session, [each for each in finished if each.lease.id not in locked], gone, earlier)
        finally:
            self.doubt(left)

    def _settle_first(self, session: Settling, left: deque[Finished], earlier: _Earlier) -> None:
        """Settle one job as it ended. If that is refused, settle it as failed, with the reason; if that is refused too,
        put it off."""
        each = asked = left[0]
        while True:
            try:
                gone, locked = session.settle([asked])
            except DatabaseError as error:
                means, why = meaning(error), in_one_line(error)
                if means in (Meaning.LOST, Meaning.SHORT):
                    raise
                if means is Meaning.PASSING or no_day(error):
                    self._later(left.popleft(), SETTLE_AGAIN_SECONDS)
                    return
                self.refused(each.lease.kind, each.lease.id, f"to settle it as {asked.outcome.how}", why)
                if asked.outcome.how in (How.FAILED, How.POISON):
                    self._later(left.popleft(), SETTLE_AGAIN_SECONDS, may_pass=False)
                    return
                asked = each._replace(outcome=_failed(each.outcome, why))
            else:
                left.popleft()
                if locked:
                    self._later(each, LOCKED_AGAIN_SECONDS)
                else:
                    self._answered(session, [asked], gone, earlier)
                return

    def _answered(self, session: Session, finished: Sequence[Finished], gone: set[int], earlier: _Earlier) -> None:
        """These leases are over; those of `gone` were over before. From here on each job is either reported once or in
        doubt, no matter what goes wrong."""
        if self._unsettled:
            self._unsettled.difference_update([each.lease.id for each in finished])
        self.report([each for each in finished if each.lease.id not in gone])
        unclear = [each for each in finished if each.lease.id in gone]
        if not unclear:
            return
        until = time.monotonic() + ONE_BY_ONE_SECONDS
        try:
            heard = [earlier(each) for each in unclear if time.monotonic() < until]
        except BaseException:
            self._tray.doubtful.extend(unclear)
            raise
        unclear, left = unclear[: len(heard)], unclear[len(heard) :]
        self._tray.doubtful.extend(left)
        unheard = {each.lease.id for each, known in zip(unclear, heard, strict=True) if known is None}
        known, late = told_apart([known or each for each, known in zip(unclear, heard, strict=True)], unheard)
        self.report(known, late)
        self.record_lost(session, late)

    def _later(self, each: Finished, seconds: float, *, may_pass: bool = True) -> None:
        """Put a job off. If its lease ends before it can be settled, a sweep returns it, and the next try notices
        that."""
        while len(self._put_off) >= MOST_PUT_OFF and (oldest := _pop(self._put_off)):
            dropped = oldest.finished
            self._unsettled.discard(dropped.lease.id)
            log.error(
                "job %d (%s) ended as %s, but that could not be written, and %d more jobs wait to be settled: it stays"
                " leased until its timeout",
                dropped.lease.id,
                dropped.lease.kind,
                dropped.outcome.how,
                MOST_PUT_OFF,
            )
        (self._unsettled.add if may_pass else self._unsettled.discard)(each.lease.id)
        self._put_off.append(_PutOff(time.monotonic() + seconds, each, may_pass))

    def _take_put_off(self, *, at_last: bool) -> list[Finished]:
        now = time.monotonic()
        taken = []
        for _ in range(len(self._put_off)):
            if (each := _pop(self._put_off)) is None:
                break
            if at_last or now >= each.again_at:
                taken.append(each.finished)
            else:
                self._put_off.append(each)
        return taken


def told_apart(finished: Sequence[Finished], gone: Collection[int]) -> tuple[Sequence[Finished], Sequence[Finished]]:
    """What is settled, and what came too late because its lease was over (its id is in `gone`). A lease that never
    started and was given back by others as well is no loss, so it is in neither list."""
    if not gone:
        return finished, ()
    late = [each for each in finished if each.lease.id in gone and each.seconds > 0]
    return [each for each in finished if each.lease.id not in gone], late


def _pop(put_off: deque[_PutOff]) -> _PutOff | None:
    try:
        return put_off.popleft()
    except IndexError:  # the other thread had the last one
        return None


def _fate(session: Settling, each: Finished) -> Finished | None:
    """The outcome that the first try gave this job, if it did. None if the lease was lost before that."""
    if each.retention == "none":  # the history has no row of it; most likely that settle worked
        return each
    fate = session.fate(each.lease)
    if fate in (*_OURS, each.outcome.how):
        error = None if fate == How.OK else each.outcome.error
        return each._replace(outcome=Outcome(How(fate), error, each.outcome.delay_seconds))
    return None


def _failed(outcome: Outcome, why: str) -> Outcome:
    text = f": {outcome.error}" if outcome.error else ""
    return Outcome(How.FAILED, f"the database refuses to settle it as {outcome.how} ({why}){text}"[:LONGEST_ERROR])


def _lost(finished: Finished) -> Finished:
    text = f"the lease was lost before it could be settled as {finished.outcome.how}"
    return finished._replace(outcome=Outcome(How.LEASE_LOST, text))
