"""The tray between two threads: one thread takes each job, once, and no job is left."""

from __future__ import annotations

import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker.model import Batch, Finished, How, Lease, Outcome
from shithubd_worker.turn.tray import Ahead, Tray


def lease(number):
    return Lease(number, "k", "{}", 1, None, 0, 0, 0.0, Batch("t", 0.0, 0.0))


def finished(number):
    return Finished(lease(number), Outcome(How.OK), "7d", 0.0)


@pytest.fixture
def hurried():
    """Threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def test_an_empty_tray_has_nothing():
    tray = Tray()
    assert (tray.next(), tray.take_leased(), tray.take_finished(), tray.take_doubtful()) == (None, [], [], [])
    assert not tray.at_hand


@given(st.lists(st.integers()), st.integers(min_value=0, max_value=10))
def test_jobs_are_taken_in_their_order_one_by_one_or_all(numbers, singly):
    tray = Tray()
    tray.leased.extend(map(lease, numbers))
    taken = [tray.next() for _ in range(min(singly, len(numbers)))]
    assert [each.id for each in taken + tray.take_leased()] == numbers
    assert tray.next() is None


@pytest.mark.parametrize("what", ["leased", "finished", "ahead"])
def test_everything_that_waits_for_a_slow_handler_is_at_hand(what):
    tray = Tray()
    if what == "leased":
        tray.leased.append(lease(1))
    elif what == "finished":
        tray.finished.append(finished(1))
    else:
        tray.ahead = Ahead("token", 0.0)
    assert tray.at_hand


def test_a_doubtful_job_is_not_at_hand():
    tray = Tray()
    tray.doubtful.append(finished(1))
    assert not tray.at_hand
    assert [each.lease.id for each in tray.take_doubtful()] == [1]
    assert tray.take_doubtful() == []


@pytest.mark.usefixtures("hurried")
def test_two_threads_take_each_job_once():
    count, rounds = 500, 20
    for _ in range(rounds):
        tray = Tray()
        tray.leased.extend(map(lease, range(count)))
        given_back = []
        begun = threading.Barrier(2)

        def control(tray=tray, given_back=given_back, begun=begun):
            begun.wait()
            given_back.extend(tray.take_leased())

        other = threading.Thread(target=control)
        other.start()
        begun.wait()
        run = []
        while (each := tray.next()) is not None:
            run.append(each)
        other.join()
        assert sorted(each.id for each in run + given_back) == list(range(count))


@pytest.mark.usefixtures("hurried")
def test_a_job_put_down_while_the_other_thread_takes_is_taken_once():
    tray, count, settled = Tray(), 5000, []
    over = threading.Event()

    def control():
        while not over.is_set() or tray.finished:
            settled.extend(tray.take_finished())

    other = threading.Thread(target=control)
    other.start()
    for number in range(count):
        tray.finished.append(finished(number))
        if number % 500 == 0:
            settled.extend(tray.take_finished())
    over.set()
    other.join()
    assert sorted(each.lease.id for each in settled) == list(range(count))


def test_a_lease_sent_ahead_counts_as_at_hand_until_it_is_given_back():
    tray = Tray()
    tray.ahead = first = Ahead("token", 0.0)
    first.given_back = True
    assert not tray.at_hand
    tray.ahead = Ahead("another token", 1.0)
    assert tray.at_hand
    assert tray.unanswered == ["another token"]
    tray.ahead = None
    assert not tray.at_hand
    assert tray.unanswered == []
