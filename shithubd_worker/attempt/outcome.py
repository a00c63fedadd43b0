"""What an attempt came to: decided here alone, from what is known of it when it ended. Pure; chance is passed in."""

from __future__ import annotations

import errno
from enum import Enum
from typing import NamedTuple

from shithubd_worker.attempt.raised import as_text, came_from_fork, chain, interrupt_behind, stood_at, storable
from shithubd_worker.backoff import jittered
from shithubd_worker.database.sqlstates import Meaning, meaning, no_day
from shithubd_worker.errors import LeaseLost, NotNow, Permanent, RetryAfter
from shithubd_worker.model import How, Lease, Outcome
from shithubd_worker.registry import Kind
from shithubd_worker.timing import RENEWAL_AWAITED, SHORT_SECONDS

OK = Outcome(How.OK)
LONGEST_DELAY_SECONDS = 365 * 86400.0
_SHORT_OF = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
_STARTING = "57P03"  # the server lets nobody in yet, or any more


class Settle(Enum):
    """Is the lease still to be ended?"""

    DUE = "due"  # by the worker
    DONE = "done"  # job.transaction() has ended it
    # job.transaction() sent its COMMIT, and no answer came: the worker asks, and settles if need be.
    IN_DOUBT = "in doubt"


class Result(NamedTuple):
    """What an attempt came to, and all that the worker does about it.

    `outcome` is what the lease is settled as, unless `settle` says DONE. In its place comes `if_away`, where there is
    one, if the database went away under the handler: only the worker can ask that, once the handler's connection is
    put away. `short` is what the handler was refused, if that was connections, memory or disk.
    """

    outcome: Outcome
    settle: Settle = Settle.DUE
    if_away: Outcome | None = None
    short: str | None = None


class Interrupt(NamedTuple):
    """Why a run had to end early, and what was known of it then. `why` is a word of Deadlines.why_end."""

    why: str
    lost: bool  # a renewal was refused
    unreachable: bool  # the control thread can't reach the database
    waited: float  # for so long it has waited for the database, or been refused
    ran: float
    extended: bool  # by job.extend()


class Ended(NamedTuple):
    """What is known of a run that has ended."""

    kind: Kind
    lease: Lease
    raised: BaseException | None  # None: the handler returned
    settle: Settle
    interrupt: Interrupt | None = None
    # What the database said to opening a connection, or to job.transaction()'s settle.
    refused: BaseException | None = None
    broke: bool = False  # is the handlers' connection broken?


def decide(ended: Ended, chance: float) -> Result:
    """What it came to. How.LEASE_LOST is no outcome of an attempt: whoever gave up for want of its lease may hold it
    still, and then nobody else ran the job. Only a settle that the database refuses shows that it is lost."""
    raised, settle = ended.raised, ended.settle
    if raised is None or settle is Settle.DONE:
        return Result(OK, settle)
    if ended.interrupt and (interrupt := interrupt_behind(raised)):
        return Result(interrupted(ended.kind, ended.lease, ended.interrupt, stood_at(interrupt), chance), settle)
    if isinstance(raised, LeaseLost):
        return Result(Outcome(How.RELEASED, as_text(raised)), settle)
    short = None
    if isinstance(raised, Permanent):
        outcome = Outcome(How.FAILED, as_text(raised))
    elif isinstance(raised, RetryAfter):
        outcome = _failed(ended.kind, ended.lease, as_text(raised), chance, raised.seconds)
    elif isinstance(raised, NotNow):
        outcome = Outcome(How.RELEASED, as_text(raised), raised.seconds)
    elif not ended.broke and any(_is_short(each, ended.refused) for each in chain(raised)):
        short = as_text(raised)
        outcome = Outcome(How.RELEASED, f"not now: {short}", short_delay(chance))
    else:
        outcome = _failed(ended.kind, ended.lease, as_text(raised, trace=True), chance)
    away = f"released: the database went away under it: {outcome.error}"
    return Result(outcome, settle, Outcome(How.RELEASED, away) if ended.broke else None, short)


def interrupted(kind: Kind, lease: Lease, interrupt: Interrupt, stood: str, chance: float) -> Outcome:
    """What an interrupt comes to. `stood`: the handler's stack at that moment."""
    if interrupt.why == "stop":
        return Outcome(How.RELEASED, "released: the worker stops")
    if interrupt.why == "lost":
        if interrupt.lost:
            return Outcome(How.RELEASED, "given up: the lease was lost")
        # A control thread that was starved of the interpreter may have asked in the last moment before this.
        if interrupt.unreachable or interrupt.waited > kind.lease_timeout * RENEWAL_AWAITED:
            because = "the database is away" if interrupt.unreachable else "the database didn't do it in time"
            return Outcome(How.RELEASED, f"given up: the lease could not be renewed, {because}")
        # Nobody refused and nobody was asked: the control thread got no turn. That is the handler's doing, and costs it
        # an attempt, or it would come back for ever.
        reason = "interrupted: it held the interpreter for so long that its lease nearly ended"
    else:
        allowed = "it had asked for by job.extend()" if interrupt.extended else f"max_runtime ({kind.max_runtime:g} s)"
        reason = f"interrupted after {interrupt.ran:.1f} s: longer than {allowed}"
    return _failed(kind, lease, storable(f"{reason}\n{stood}".rstrip()), chance)


def unfit(error: BaseException) -> Result:
    """What it came to if the handler can't be called with the payload."""
    return Result(Outcome(How.POISON, f"the payload doesn't fit the handler: {as_text(error)}"))


def short_delay(chance: float) -> float:
    """Seconds for which a job is left alone that could not run for want of something."""
    return jittered(SHORT_SECONDS, chance)


def _failed(kind: Kind, lease: Lease, text: str, chance: float, delay: float | None = None) -> Outcome:
    """A failed attempt: another one later, if one is left."""
    most = kind.max_attempts if lease.max_attempts is None else lease.max_attempts
    if lease.attempt >= most:
        return Outcome(How.FAILED, text)
    if delay is None:
        try:
            delay = jittered(max(0.0, float(kind.backoff(lease.attempt))), chance)
        except Exception as error:  # noqa: BLE001 (the backoff is the handler's author's code as well)
            return Outcome(How.FAILED, f"{text}\nand its backoff raised {as_text(error)}")
    return Outcome(How.RETRY, text, min(delay, LONGEST_DELAY_SECONDS))


def _is_short(error: BaseException, refused: BaseException | None) -> bool:
    """Is it no fault of the job: for want of connections, memory or disk, on either side?"""
    sqlstate = getattr(error, "sqlstate", None)
    if error is refused:
        # A connection that can't be opened has no SQLSTATE. A refused settle is a fault, unless that passes.
        passes = meaning(sqlstate) in (Meaning.LOST, Meaning.SHORT, Meaning.PASSING)
        return passes or no_day(error)
    if isinstance(error, OSError):
        return error.errno in _SHORT_OF or (error.errno == errno.EAGAIN and came_from_fork(error))
    return sqlstate is not None and (meaning(sqlstate) is Meaning.SHORT or sqlstate == _STARTING)
