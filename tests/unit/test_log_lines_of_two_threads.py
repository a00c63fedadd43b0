"""Both threads report what ended, and the main thread reports what was left out: each job is in one line, once."""

from __future__ import annotations

import sys
import threading
from collections import Counter

import pytest

from shithubd_worker.model import Batch, Finished, How, Lease, Outcome
from shithubd_worker.telemetry import crowd as crowds

ROUNDS, KINDS = 1500, 40


@pytest.fixture
def hurried():
    """Threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.fixture
def told(monkeypatch):
    """How many jobs the lines of both threads report, by kind."""
    counts = Counter()

    def info(_text, kind, count, *_, **__):
        counts[kind] += count

    monkeypatch.setattr(crowds, "MOST_KINDS", 10_000)
    monkeypatch.setattr(crowds.log, "info", info)
    return counts


def turn(thread, number):
    """The jobs that one turn ended: one of each of many kinds."""
    batch = Batch("t", 0.0, 0.0)
    kinds = [f"{thread}.{number % 2}.{each}" for each in range(KINDS)]
    return [Finished(Lease(1, kind, "{}", 1, None, 0, 0, 0.0, batch), Outcome(How.OK), "7d", 0.1) for kind in kinds]


@pytest.mark.usefixtures("hurried")
def test_two_threads_that_report_many_jobs_lose_no_line(told):
    crowd = crowds.Crowd()
    singly = {"main": Counter(), "control": Counter()}
    failed = []

    def report(thread):
        try:
            for number in range(ROUNDS):
                finished = turn(thread, number)
                own = crowd.admit(finished, Counter([(each.lease.kind, each.outcome.how) for each in finished]))
                singly[thread].update([each.lease.kind for each in own])
                if thread == "main":
                    crowd.flush()
        except RuntimeError as error:  # a dictionary that changed during an iteration
            failed.append(error)

    other = threading.Thread(target=report, args=("control",))
    other.start()
    report("main")
    other.join()
    crowd.flush()
    assert failed == []
    total = Counter(each.lease.kind for thread in singly for number in range(ROUNDS) for each in turn(thread, number))
    assert told + singly["main"] + singly["control"] == total


def test_a_line_that_waits_for_its_reader_does_not_block_the_other_thread(monkeypatch):
    """A journal that stands still costs the thread that writes 0.2 s. Meanwhile the other thread goes on."""
    crowd = crowds.Crowd()
    finished = turn("main", 0) * 100
    crowd.admit(finished, Counter([(each.lease.kind, each.outcome.how) for each in finished]))
    free = []
    monkeypatch.setattr(crowds.log, "info", lambda *_, **__: free.append(not crowd._lock.locked()))
    crowd.flush()
    assert free
    assert all(free)
