"""Many priorities of one kind: jobs run in order, in full batches, and no turn takes long."""

from __future__ import annotations

import time

import pytest
from bare import Turns
from conftest import eventually
from rows import add_worker

from shithubd_worker.database.connection import connector
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.model import Finished, How, Outcome
from shithubd_worker.turn.frontier import MOST_POINTS


class Walker(Turns):
    """The turns of a worker without a process, and how many ranges the last turn had."""

    def __init__(self, database):
        session = QueueSession(connector(database.url, "walker"), "public", add_worker(database, "here"))
        super().__init__(session, {"k": 60.0})
        self.ranges = 0

    def send(self, finished=(), most=100):
        turn = super().send(finished, most)
        self.ranges = len(turn.ranges)
        return turn

    def turn(self, finished=(), most=100):
        return super().turn(finished, most)


@pytest.fixture
def walker(any_database):
    walker = Walker(any_database)
    yield walker
    walker.queue.close()


def done(leases):
    return [Finished(lease, Outcome(How.OK), "none", 0.0) for lease in leases]


def enqueue(database, priorities, run_at="now()"):
    database.query(f"INSERT INTO jobs (kind, priority, run_at) SELECT 'k', p, {run_at} FROM {priorities} p")


def test_jobs_of_many_priorities_fill_their_batches_in_strict_order(any_database, walker):
    enqueue(any_database, "generate_series(-1000, 999)")
    order, finished, turns = [], [], 0
    while leases := walker.turn(finished).leases:
        order += [lease.priority for lease in leases]
        finished, turns = done(leases), turns + 1
        assert walker.ranges <= 2 * MOST_POINTS + 1
    assert order == list(range(-1000, 1000))
    assert turns == 20
    # After two looks from the start, the next turns cost what they did before.
    for _ in range(2):
        walker.selection.anew()
        walker.turn()
    walker.turn()
    assert walker.ranges <= 7


def test_many_priorities_without_a_due_job_do_not_hide_one_that_is_due(any_database, walker):
    enqueue(any_database, "generate_series(-1000, 999)", "now() + interval '1 day'")
    enqueue(any_database, "unnest(ARRAY[1000, 1001])")
    found, turns = [], 0
    while not found:
        answer = walker.turn()
        found, turns = answer.leases, turns + 1
        assert bool(answer.walked) != bool(found)  # the turn says where it stopped
    assert [lease.priority for lease in found] == [1000, 1001]
    assert turns == 11  # 2,000 priorities, 199 more in each turn


def test_an_urgent_job_is_found_even_if_a_walk_has_passed_its_priority(any_database, walker):
    enqueue(any_database, "generate_series(-1000, 999)", "now() + interval '1 day'")
    for _ in range(5):
        assert walker.turn().walked
    enqueue(any_database, "unnest(ARRAY[-2000])")
    for _ in range(12):
        if leases := walker.turn().leases:
            break
    assert [lease.priority for lease in leases] == [-2000]


def test_jobs_that_others_are_leasing_are_passed_over_in_short_turns(any_database, walker):
    enqueue(any_database, "generate_series(1, 1000)")
    with any_database.connect() as other, other.transaction():
        other.execute("SELECT FROM jobs FOR UPDATE")
        seen = [walker.turn() for _ in range(3)]
    assert [answer.leases for answer in seen] == [[], [], []]
    assert [bool(answer.walked) for answer in seen] == [True, True, True]


def test_the_cost_of_a_look_is_the_time_of_the_database_alone(any_database, walker):
    """Otherwise 200 times the run of a handler would delay each look from the start."""
    enqueue(any_database, "generate_series(1, 10)")
    walker.turn()
    turn = walker.send()
    pid = walker.queue.connection.info.backend_pid
    ended = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND state = 'idle'"
    eventually(lambda: any_database.query(ended, pid), "the end of the turn")
    at_most = time.monotonic() - turn.sent_at
    time.sleep(0.1)  # a handler runs
    assert 0 < walker.receive().took <= at_most
