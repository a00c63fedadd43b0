"""Leases at hand that can't start now: too old, without their payload, to be run alone, or to be given back."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from itertools import compress
from operator import not_
from uuid import uuid4

from shithubd_worker.attempt.outcome import short_delay
from shithubd_worker.database.failures import DatabaseError, lost
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.model import Finished, How, Lease, Outcome
from shithubd_worker.registry import Kind
from shithubd_worker.timing import RENEW_AFTER
from shithubd_worker.turn.exchange import Exchange
from shithubd_worker.turn.selection import Selection
from shithubd_worker.turn.settling import Settler
from shithubd_worker.turn.tray import Tray
from shithubd_worker.turn.upkeep import Upkeep


class Unstarted:
    """For the main thread."""

    def __init__(
        self,
        kinds: Mapping[str, Kind],
        *,
        queue: QueueSession,
        tray: Tray,
        exchange: Exchange,
        selection: Selection,
        settler: Settler,
        upkeep: Upkeep,
    ) -> None:
        self._kinds = kinds
        self._queue = queue
        self._tray = tray
        self._exchange = exchange
        self._selection = selection
        self._settler = settler
        self._upkeep = upkeep

    def look_again(self, lease: Lease, *, in_vain: bool) -> None:
        """For a lease that is too old to start: ask for another look at the holds. The question includes as many leases
        after it as will start in time. What may start goes back onto the tray. `in_vain`: nothing ran since the last
        look."""
        self._read_answer(lease)
        waiting = self._tray.take_leased()
        batch = [lease, *(each for each in waiting if each.batch is lease.batch)]
        if in_vain:
            self._selection.pace.stood_still(lease.kind)
        count = self._selection.pace.startable(each.kind for each in batch)
        batch, later = batch[:count], batch[count:]
        later.extend(each for each in waiting if each.batch is not lease.batch)
        # Nobody renews what waits on the tray, so nothing may wait there until its lease ends.
        now = time.monotonic()
        fresh = [now - each.sent_at < self._kinds[each.kind].lease_timeout * RENEW_AFTER for each in later]
        self._tray.leased.extend(compress(later, fresh))
        self._tray.give_back(compress(later, map(not_, fresh)))
        token = str(uuid4())
        try:
            started = self._queue.start(batch, token, [self._kinds[each.kind].lease_timeout for each in batch])
        except BaseException as error:
            if isinstance(error, DatabaseError) and not lost(error):
                self._tray.give_back(batch)  # it is not known which of them is at fault: the next turn is a careful one
            else:
                self._upkeep.lost_answer(token)
                self._tray.leased.extendleft(reversed(batch))
            raise
        may = {each.id for each in started}
        self._tray.give_back(each for each in batch if each.id not in may)
        self._tray.leased.extendleft(reversed(started))

    def fetch(self, lease: Lease) -> None:
        """For a lease whose payload was left out of the answer: ask for its payload and for others, and put all
        back."""
        self._read_answer(lease)
        waiting = [lease, *self._tray.take_leased()]
        try:
            payloads = self._queue.payloads([e for e in waiting if e.payload is None and e.batch is lease.batch])
        except BaseException as error:
            if isinstance(error, DatabaseError) and not lost(error):
                # Most likely the server is short of memory, so this job must wait a while.
                delay = short_delay(random.random())  # noqa: S311
                refused = Outcome(How.RELEASED, f"its payload can't be read now: {error}", delay)
                self._tray.finished.append(Finished(waiting.pop(0), refused, "none", 0.0))
            self._tray.leased.extendleft(reversed(waiting))
            raise
        if lease.id not in payloads:  # the lease is lost
            self._tray.give_back([waiting.pop(0)])
        elif (fault := payloads[lease.id][1]) is not None:
            poison = Outcome(How.POISON, f"the payload can't be given to its handler: {fault}")
            first = waiting.pop(0)
            self._tray.finished.append(Finished(first, poison, self._kinds[first.kind].retention, 0.0))
        for each in reversed(waiting):
            payload, _ = payloads.get(each.id, (each.payload, None))
            self._tray.leased.appendleft(each._replace(payload=payload))

    def _read_answer(self, lease: Lease) -> None:
        """Read the answer to the turn that was sent ahead: until then the connection can't be asked anything else."""
        try:
            self._exchange.finish()
        except BaseException:
            self._tray.leased.appendleft(lease)
            raise

    def clear(self, lease: Lease) -> None:
        """Clear the tray for a job that is leased alone: if it kills this process, no other job may be lost with it."""
        self._read_answer(lease)
        self._tray.give_back(self._tray.take_leased())
        self._settler.doubt(self._tray.take_finished())
        try:
            self._settler.resolve(self._queue)
        except BaseException:
            self._tray.leased.appendleft(lease)
            raise
