"""Two threads pass jobs to each other as fast as they can, and every job is accounted for: it ends once, and none is
lost.

The exchange, the tray, the settler and the relief are the real ones. The database is a book: it notes how each job
ended, and answers no question twice for the same job. From time to time it is away, refuses, or finds a row locked. The
times are chosen so that everything that waits is old enough for the control thread to take.
"""

from __future__ import annotations

import itertools
import math
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
from shithubd_worker.database.clock import Clock
from shithubd_worker.host.signals import Stop
from shithubd_worker.model import NOT_STARTED, Batch, Finished, How, Lease
from shithubd_worker.telemetry import logs
from shithubd_worker.turn import exchange, relief, settling, tray
from shithubd_worker.turn.exchange import Exchange
from shithubd_worker.turn.relief import Relief
from shithubd_worker.turn.selection import Selection
from shithubd_worker.turn.settling import Settler
from shithubd_worker.turn.tray import Tray
from shithubd_worker.turn.wire import Answer

CHANCE = 0.05
STRAY = "given back by its token"


class Book:
    """The database of both threads. `faults`: what went wrong, if anything did."""

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
        self.leased = 0

    def lease(self, turn, count):
        """This many jobs by one query."""
        token, batch = turn.token, Batch(turn.token, turn.sent_at, 0.0)
        with self._lock:
            self.leased += count
            leases = [Lease(next(self._numbers), "k", "{}", 1, None, 0, 0, 0.0, batch) for _ in range(count)]
            self.tokens.update((each.id, token) for each in leases)
        return leases

    def start(self, lease):
        """A new token for a lease that stands (start_v1); None if somebody has given the lease back."""
        with self._lock:
            if lease.id in self.started:
                self.faults.append(f"{lease.id} started twice")
            if self.tokens.get(lease.id) != lease.token:
                return None
            self.started.add(lease.id)
            self.tokens[lease.id] = token = f"second {lease.token}"
            return lease._replace(batch=lease.batch._replace(token=token, again=True))

    def settle_in_turn(self, finished):
        """The jobs whose lease is gone. A turn that waits for a lock gets none: then nothing is written. Nobody may
        read the answer, so each of these may be settled once more."""
        gone, _ = self.settle(finished, waits=True)
        self.answered.difference_update(each.lease.id for each in finished)
        return gone

    def settle(self, finished, *, waits=False):
        """As Settling.settle: the jobs whose lease is gone, and those whose row is locked."""
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
            locked = self._locked(finished, waits)
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

    def settle_all(self, finished):
        """As QueueSession.settle_all: sometimes it waits for a busy lock in vain."""
        if self._dice.random() < 0.02:
            raise psycopg.errors.LockNotAvailable("somebody has locked a row of the application")
        return self.settle(finished)

    def _locked(self, finished, waits):
        locked = {each.lease.id for each in finished if self._dice.random() < 0.02}
        if waits and len(locked) > 1:
            raise psycopg.errors.LockNotAvailable("somebody has locked a row")
        return set() if waits else locked

    def release_strays(self, _worker, token):
        """Give back the jobs that this query leased and nobody has started."""
        with self._lock:
            found = [job for job, its in self.tokens.items() if its == token]
            for job in found:
                del self.tokens[job]
                self.ended[job] = STRAY
            return [(job, "k") for job in found]

    def fate(self, lease):
        """The outcome of the lease."""
        with self._lock:
            return "leased" if self.tokens.get(lease.id) == lease.token else self.ended.get(lease.id)

    def rows(self, function, *_):
        """The settler's only other question: to record that a lease was lost."""
        self.faults.append(function)


class Metrics:
    """Counts what a settler reports."""

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

    def leased(self, leases, seconds):
        pass


class Line:
    """In place of the wire: turns go to the book. A turn settles and leases when it is sent, or does neither, even if
    nobody reads its answer."""

    def __init__(self, book, count, batch):
        self.queue, self.count, self.batch, self.sent = book, count, batch, None

    def send(self, turn):
        self.sent = turn
        try:
            gone = self.queue.settle_in_turn(turn.settles.finished)
        except psycopg.Error as error:
            self.answer = error
        else:
            leases = self.queue.lease(turn, min(self.batch, self.count - self.queue.leased))
            self.answer = Answer(turn, gone, leases, now=time.time())

    def receive(self):
        if isinstance(self.answer, psycopg.Error):
            raise self.answer
        self.sent, self.answer.received_at = None, time.monotonic()
        return self.answer

    def forget(self):
        turn, self.sent = self.sent, None
        return turn


class Upkeep:
    """Looks only for leases whose answers were lost."""

    def __init__(self, book):
        self.book, self.strays = book, []

    def lost_answer(self, token):
        self.strays = [*self.strays, token]

    def database_is_back(self):
        pass

    def do_what_is_due(self, *, idle):
        for token in self.strays:
            self.book.release_strays(None, token)
        self.strays = []


class Scene:
    """A worker's two threads."""

    def __init__(self, count, batch):
        self.book, self.tray, self.metrics = Book(), Tray(), Metrics()
        self.settler = Settler("here:1", self.tray, self.metrics)
        self.relief = Relief(self.book, uuid4(), self.tray, self.settler)
        selection = Selection(["k"], Clock(lambda _: None), 3600.0)
        selection.ran("k", jobs=batch, seconds=0.0, too_many=False)
        line, stop = Line(self.book, count, batch), Stop(25.0)
        self.exchange = Exchange(line, self.tray, selection, self.settler, Upkeep(self.book), stop, self.metrics)
        self.count = count
        self.over = False
        self.fell = []

    def control(self):
        """The control thread beside a slow handler. At each tick it looks for strays."""
        slow = SimpleNamespace(started_at=-1.0)
        try:
            for now in itertools.count(time.monotonic() + 1000.0, 2.0):
                if self.over:
                    return
                _ = self.tray.at_hand, self.tray.unanswered, self.settler.waiting, self.settler.unsettled(now)
                with suppress(psycopg.Error):  # the tray has it as doubtful
                    self.relief.tick(now, slow)
        except BaseException as error:
            self.fell.append(error)

    def turn(self):
        """One turn; the loop goes on after any answer of the book."""
        try:
            self.exchange.turn()
        except psycopg.Error:
            self.exchange.give_up()
            self.exchange.database_is_back()

    def main(self):
        """The main thread: it starts each job at hand once more, and runs it."""
        while self.book.leased < self.count:
            self.turn()
            while (lease := self.tray.next()) is not None:
                if (started := self.book.start(lease)) is None:
                    self.tray.finished.append(Finished(lease, NOT_STARTED, "none", 0.0))
                else:
                    self.tray.finished.append(Finished(started, OK, "7d", 0.1))

    def run(self):
        """All jobs through both threads; then one of them puts down what is left."""
        other = threading.Thread(target=self.control, name="control")
        other.start()
        try:
            self.main()
        finally:
            self.over = True
            other.join()
        while self.exchange.unsettled or self.settler.waiting or self.exchange.strays:
            with suppress(psycopg.Error):
                self.exchange.put_down(at_last=True)
            self.turn()

    def faults(self):
        """The faults that the account shows, in words."""
        found = [*map(repr, self.fell), *self.book.faults]
        found += [f"{job} is lost" for job in self.book.tokens]
        # Released jobs are left out: a job that was given back by its token is reported once more if an answer was
        # lost.
        told = Counter({str(how): number for (_, how), number in self.metrics.told.items() if how != How.RELEASED})
        ended = Counter(str(how) for how in self.book.ended.values() if how not in (How.RELEASED, STRAY))
        found += [f"told {told}, ended {ended}"] if told != ended else []
        unsettled = self.settler.unsettled(math.inf)
        found += [f"{unsettled} are said to be unsettled"] if unsettled else []
        return found


@pytest.fixture
def hurried(monkeypatch):
    """Threads take turns as often as they can, and a locked job is tried again at once."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    monkeypatch.setattr(settling, "LOCKED_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(logs, "report", lambda *_: None)
    monkeypatch.setattr(logs, "refused", lambda *_: None)
    yield
    sys.setswitchinterval(usual)


@pytest.fixture
def torn():
    """Threads take turns in the middle of any line of the modules that they share, at one step of Python's in so
    many."""
    shared = {module.__file__ for module in (exchange, tray, settling, relief)}
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
    scene = Scene(count, batch)
    scene.run()
    assert scene.faults() == []
    assert len(scene.book.ended) == count
    by = scene.book.handed_over
    assert min(by["MainThread"], by["control"]) > 0, f"both of them had some in hand: {by}"


@pytest.mark.usefixtures("hurried", "torn")
@pytest.mark.parametrize("count", [1_200, pytest.param(100_000, marks=pytest.mark.long)])
def test_no_job_is_lost_or_ends_twice_at_any_switch_between_the_threads(count):
    account_for(count, batch=4)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("count", [40_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_every_job_between_two_threads_ends_exactly_once(count):
    account_for(count, batch=40)
