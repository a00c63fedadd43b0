"""The result of an attempt, decided here alone from what is known when the attempt ends.

Pure: the caller passes the random number in.
"""

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
_STARTING = "57P03"  # the server lets nobody in: it starts or stops


class Settle(Enum):
    """Must the lease still be ended?"""

    DUE = "due"  # the worker must settle it
    DONE = "done"  # job.transaction() has settled it
    # job.transaction() sent its COMMIT, and no answer came. The worker asks, and settles if that is needed.
    IN_DOUBT = "in doubt"


class Result(NamedTuple):
    """The result of an attempt, and all that the worker does about it.

    - `outcome`: the lease is settled as this, unless `settle` is DONE.
    - `if_away`: if set, it replaces `outcome` if the database went away during the run. Only the worker can find that
      out, once the handlers' connection is put away.
    - `short`: what the handler was refused, if that was connections, memory or disk.
    """

    outcome: Outcome
    settle: Settle = Settle.DUE
    if_away: Outcome | None = None
    short: str | None = None


class Interrupt(NamedTuple):
    """Why a run had to end early, and what was known then. `why` is a word of Deadlines.why_end."""

    why: str
    lost: bool  # a renewal was refused
    unreachable: bool  # the control thread can't reach the database
    silent: bool  # the lease goes on, but a sweep may soon take this worker for gone
    waited: float  # how long it had waited for the database, or had been refused
    ran: float
    extended: bool  # by job.extend()


class Ended(NamedTuple):
    """What is known of a run that has ended."""

    kind: Kind
    lease: Lease
    raised: BaseException | None  # None: the handler returned
    settle: Settle
    interrupt: Interrupt | None = None
    # What the database said when it refused a connection, or the settle of job.transaction().
    refused: BaseException | None = None
    broke: bool = False  # is the handlers' connection broken?


def decide(ended: Ended, chance: float) -> Result:
    """The result of an attempt. It is never How.LEASE_LOST: an attempt that gave up because of its lease may still hold
    it, and then nobody else ran the job. Only a settle that the database refuses shows that the lease is lost."""
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
    away = f"released: the database went away during the run: {outcome.error}"
    return Result(outcome, settle, Outcome(How.RELEASED, away) if ended.broke else None, short)


def interrupted(kind: Kind, lease: Lease, interrupt: Interrupt, stood: str, chance: float) -> Outcome:
    """The outcome of an interrupt. `stood` is the handler's stack at that moment."""
    if interrupt.why == "stop":
        return Outcome(How.RELEASED, "released: the worker stops")
    if interrupt.why == "lost":
        if interrupt.lost:
            return Outcome(How.RELEASED, "given up: the lease was lost")
        # A control thread that got little of the interpreter may have asked only just before this moment.
        if interrupt.unreachable or interrupt.waited > kind.trusted * RENEWAL_AWAITED:
            if interrupt.silent:
                silence = "no word from the database" if interrupt.unreachable else "the database recorded no beat"
                return Outcome(How.RELEASED, f"given up: {silence} for {interrupt.waited:.0f} s")
            because = "the database is away" if interrupt.unreachable else "the database did not renew it in time"
            return Outcome(How.RELEASED, f"given up: the lease could not be renewed, because {because}")
        # The renewal was not refused, and the database was not asked: the control thread got no turn. The handler
        # caused that, so it costs an attempt; else the job would come back for ever.
        until = "its worker was nearly taken for gone" if interrupt.silent else "its lease was nearly over"
        reason = f"interrupted: it held Python's interpreter (the GIL) until {until}"
    else:
        allowed = (
            "it had asked for with job.extend()" if interrupt.extended else f"max_runtime ({kind.max_runtime:g} s)"
        )
        reason = f"interrupted after {interrupt.ran:.1f} s: longer than {allowed}"
    return _failed(kind, lease, storable(f"{reason}\n{stood}".rstrip()), chance)


def unfit(error: BaseException) -> Result:
    """The result if the handler can't be called with the payload."""
    return Result(Outcome(How.POISON, f"the payload doesn't fit the handler: {as_text(error)}"))


def short_delay(chance: float) -> float:
    """For how many seconds a job is left alone after its handler was refused connections, memory or disk."""
    return jittered(SHORT_SECONDS, chance)


def _failed(kind: Kind, lease: Lease, text: str, chance: float, delay: float | None = None) -> Outcome:
    """A failed attempt: the job is tried again later, if an attempt is left."""
    if lease.attempt >= kind.most_attempts(lease):
        return Outcome(How.FAILED, text)
    if delay is None:
        try:
            delay = jittered(max(0.0, float(kind.backoff(lease.attempt))), chance)
        except Exception as error:  # noqa: BLE001 (the backoff is the handler's author's code as well)
            return Outcome(How.FAILED, f"{text}\nand the kind's backoff raised {as_text(error)}")
    return Outcome(How.RETRY, text, min(delay, LONGEST_DELAY_SECONDS))


def _is_short(error: BaseException, refused: BaseException | None) -> bool:
    """Is the job not at fault, because connections, memory or disk are short here or on the server?"""
    sqlstate = getattr(error, "sqlstate", None)
    if error is refused:
        # A connection that can't be opened has no SQLSTATE. A refused settle is the job's fault, unless the refusal
        # passes.
        passes = meaning(sqlstate) in (Meaning.LOST, Meaning.SHORT, Meaning.PASSING)
        return passes or no_day(error)
    if isinstance(error, OSError):
        return error.errno in _SHORT_OF or (error.errno == errno.EAGAIN and came_from_fork(error))
    return sqlstate is not None and (meaning(sqlstate) is Meaning.SHORT or sqlstate == _STARTING)
