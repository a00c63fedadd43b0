"""Two threads hand jobs to and fro as fast as they can, and every job is accounted for: ended once, none lost.

The tray, the settler and the relief are the real ones. The main thread's turns and the database are a book: it notes
what each job came to, answers no question twice for the same job, and now and then it is away, refuses, or finds a row
locked. Times are such that all that waits is old enough for the control thread to take.
"""

from __future__ import annotations

import itertools
import random
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from types import SimpleNamespace
from uuid import uuid4

import psycopg
import pytest

from shithubd_worker.attempt.attempt import OK
from shithubd_worker.model import NOT_STARTED, Batch, Finished, How, Lease
from shithubd_worker.telemetry import logs
from shithubd_worker.turn import relief, settling, tray
from shithubd_worker.turn.relief import Relief
from shithubd_worker.turn.settling import Settler, told_apart
from shithubd_worker.turn.tray import Ahead, Tray

CHANCE = 0.05
STRAY = "given back by its token"


class Book:
    """What both threads ask. `faults`: what became wrong, if anything did."""

    def __init__(self):
        self._lock = threading.Lock()
        self._dice = random.Random(1)
        self._numbers = itertools.count(1)
        self.tokens = {}  # of each job whose lease stands
        self.started = set()
        self.answered = set()
        self.ended = {}
        self.faults = []
        self.handed_over = Counter()

    def lease(self, token, count):
        """So many jobs by one query."""
        batch = Batch(token, 0.0, 0.0)
        with self._lock:
            leases = [Lease(next(self._numbers), "k", "{}", 1, None, 0, 0, 0.0, batch) for _ in range(count)]
            self.tokens.update((each.id, token) for each in leases)
        return leases

    def start(self, lease):
        """A new token for a lease that stands (start_v1); None: somebody has given it back."""
        with self._lock:
            if lease.id in self.started:
                self.faults.append(f"{lease.id} started twice")
            if self.tokens.get(lease.id) != lease.token:
                return None
            self.started.add(lease.id)
            self.tokens[lease.id] = token = f"second {lease.token}"
            return lease._replace(batch=lease.batch._replace(token=token, again=True))

    def settle(self, finished):
        """As Settling.settle: whose lease is gone, and whose row is locked."""
        with self._lock:
            self.handed_over[threading.current_thread().name] += len(finished)
            for each in finished:
                if each.lease.id in self.answered:
                    self.faults.append(f"{each.lease.id} settled twice")
            dice = self._dice.random()
            if dice < 0.03:
                raise psycopg.OperationalError("away before it did anything")
            if any(each.lease.id % 400 == 0 and each.outcome.how is How.OK for each in finished):
                raise psycopg.errors.CheckViolation("not this one")
            locked = {each.lease.id for each in finished if self._dice.random() < 0.02}
            gone = set()
            for each in finished:
                if each.lease.id not in locked:
                    if self.tokens.pop(each.lease.id, None) == each.lease.token:
                        self.ended[each.lease.id] = each.outcome.how
                    else:
                        gone.add(each.lease.id)
            if dice > 0.97:
                raise psycopg.OperationalError("away before it answered")
            self.answered.update(each.lease.id for each in finished if each.lease.id not in locked)
            return gone, locked

    def release_strays(self, _worker, token):
        """Give back what this query has leased, and nobody has started."""
        with self._lock:
            found = [job for job, its in self.tokens.items() if its == token]
            for job in found:
                del self.tokens[job]
                self.ended[job] = STRAY
            return [(job, "k") for job in found]

    def fate(self, lease):
        """What became of it."""
        with self._lock:
            return self.ended.get(lease.id)

    def rows(self, function, *_):
        """The only other thing that a settler asks: to write down that a lease was lost."""
        self.faults.append(function)


class Metrics:
    """Counts what a settler tells of."""

    def __init__(self):
        self.told = Counter()
        self._lock = threading.Lock()

    def processed(self, ended):
        with self._lock:
            self.told.update(ended)

    def fenced(self, kind):
        self.processed({(kind, "fenced"): 1})

    def refused(self, kind):
        pass


class Scene:
    """A worker's two threads."""

    def __init__(self):
        self.book, self.tray, self.metrics = Book(), Tray(), Metrics()
        self.settler = Settler("here:1", self.tray, self.metrics)
        self.relief = Relief(self.book, uuid4(), self.tray, self.settler)
        self.over = False
        self.fell = []

    def control(self):
        """As the control thread beside a slow handler. Its looks for strays come at each tick."""
        slow = SimpleNamespace(started_at=-1.0)
        try:
            for now in itertools.count(10.0, 2.0):
                if self.over:
                    return
                _ = self.tray.at_hand, self.tray.unanswered, self.settler.waiting, self.settler.unsettled
                with suppress(psycopg.Error):  # the tray has it, in doubt
                    self.relief.tick(now, slow)
        except BaseException as error:
            self.fell.append(error)

    def turn(self):
        """As Exchange.turn: settle what is finished, take what was leased ahead, settle what could not be settled."""
        settles = self.tray.take_settles()
        try:
            gone, locked = self.book.settle(settles.finished)
        except psycopg.Error:
            self.tray.doubtful.extend(settles.finished)
        else:
            self.tray.doubtful.extend(each for each in settles.finished if each.lease.id in locked)
            settled = [each for each in settles.finished if each.lease.id not in locked]
            settled, late = told_apart(settled, gone)
            self.settler.record_lost(self.book, late)
            self.settler.report(settled, late)
        with suppress(psycopg.Error):
            self.settler.resolve(self.book)

    def main(self, count, batch):
        """As the main thread: each job at hand is started once more, run, and put down."""
        for number in range(count // batch):
            token = f"query {number}"
            self.tray.ahead = Ahead(token, 0.0)
            answer = self.book.lease(token, batch)
            self.turn()
            self.tray.ahead = None
            self.tray.leased.extend(answer)
            while (lease := self.tray.next()) is not None:
                if (started := self.book.start(lease)) is None:
                    self.tray.finished.append(Finished(lease, NOT_STARTED, "none", 0.0))
                else:
                    self.tray.finished.append(Finished(started, OK, "7d", 0.1))
            if number % 3:
                self.tray.write_out()

    def run(self, count, batch):
        """So many jobs through both threads; then what is left is put down by one of them."""
        other = threading.Thread(target=self.control, name="control")
        other.start()
        try:
            self.main(count, batch)
        finally:
            self.over = True
            other.join()
        while self.tray.at_hand or self.settler.waiting:
            self.turn()
            with suppress(psycopg.Error):
                self.settler.resolve(self.book, at_last=True)

    def faults(self):
        """What the account finds, in words."""
        found = [*map(repr, self.fell), *self.book.faults]
        found += [f"{job} is lost" for job in self.book.tokens]
        # Not of those given back: one whose token was given back before may be told of as well, if an answer was lost.
        told = Counter({str(how): number for (_, how), number in self.metrics.told.items() if how != How.RELEASED})
        ended = Counter(str(how) for how in self.book.ended.values() if how not in (How.RELEASED, STRAY))
        found += [f"told {told}, ended {ended}"] if told != ended else []
        found += [f"{self.settler.unsettled} are said to be unsettled"] if self.settler.unsettled else []
        return found


@pytest.fixture
def hurried(monkeypatch):
    """Threads take turns as often as they can, and what is locked is tried again at once."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    monkeypatch.setattr(settling, "LOCKED_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(logs, "report", lambda *_: None)
    monkeypatch.setattr(logs, "refused", lambda *_: None)
    yield
    sys.setswitchinterval(usual)


@pytest.fixture
def torn():
    """Threads take turns in the midst of any line of the rooms that they share: at one step of Python's in so many."""
    shared = {module.__file__ for module in (tray, settling, relief)}
    dice, before = random.Random(2), (sys.gettrace(), threading.gettrace())

    def enters(frame, _event, _argument):
        if frame.f_code.co_filename not in shared:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return steps

    def steps(_frame, event, _argument):
        if event == "opcode" and dice.random() < CHANCE:
            time.sleep(1e-6)
        return steps

    threading.settrace(enters)
    sys.settrace(enters)
    yield
    sys.settrace(before[0])
    threading.settrace(before[1])


def account_for(count, batch):
    scene = Scene()
    scene.run(count, batch)
    assert scene.faults() == []
    assert len(scene.book.ended) == count
    by = scene.book.handed_over
    assert min(by["MainThread"], by["control"]) > 0, f"both of them had some in hand: {by}"


@pytest.mark.usefixtures("hurried", "torn")
@pytest.mark.parametrize("count", [1_200, pytest.param(100_000, marks=pytest.mark.long)])
def test_no_job_is_lost_or_ended_twice_wherever_one_thread_stops_for_the_other(count):
    account_for(count, batch=4)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("count", [40_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_each_job_between_two_threads_ends_once_and_none_is_lost(count):
    account_for(count, batch=40)
