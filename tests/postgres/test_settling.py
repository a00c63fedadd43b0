"""The ways of a settle: all at once, one by one, later, in doubt, too late. Each job is counted and logged once."""

from __future__ import annotations

import time

import psycopg
import pytest
from rooms import Rooms
from rows import add_worker
from test_refusals import outcomes, refuse, states
from test_returning import leased, locked

from shithubd_worker.model import NOT_STARTED, Batch, Finished, How, Lease, Outcome
from shithubd_worker.turn.settling import MOST_PUT_OFF

LOCK = "SELECT FROM jobs WHERE id = ANY (%s) FOR UPDATE"
STEAL = "UPDATE jobs SET state = 'queued', leased_by = NULL, leased_at = NULL WHERE id = ANY (%s)"
# The server ends the connection after it answers a settle and before the worker records a lost lease.
CUT_OFF = """
CREATE OR REPLACE FUNCTION lost_v1(
    p_leased_by text, p_id bigint, p_kind text, p_attempts integer, p_error text, p_retention text
) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); END $$
"""
RETRY, FAILED = Outcome(How.RETRY, "an error", 1000.0), Outcome(How.FAILED, "the end")


class Settling(Rooms):
    """A settler on a real database, and the sessions that use it."""

    def settle(self, finished):
        """As the control thread does it."""
        self.settler.settle(self.queue, finished)

    def turn(self, finished):
        """As the main thread does it."""
        self.tray.finished.extend(finished)
        self.exchange.turn()

    def resolve(self):
        """Settle all that is left."""
        self.settler.resolve(self.queue, at_last=True)

    def ended(self, counter="jobs_processed"):
        """How many jobs were counted, by outcome; without given outcomes, by kind."""
        samples = [each for family in self.metrics.registry.collect() for each in family.samples]
        found = [each for each in samples if each.name == f"shithub_worker_{counter}_total" and each.value]
        return {each.labels.get("outcome", each.labels["kind"]): each.value for each in found}


@pytest.fixture
def settling(any_database):
    made = Settling(any_database.url)
    yield made
    made.close()


def finished(database, count, *outcomes, seconds=1.0, retention="7d"):
    """This many jobs of a worker to be settled, with these outcomes in turn."""
    jobs = leased(database, count, add_worker(database, "here", invocation="abc"), expires="infinity")
    tokens = dict(database.query("SELECT id, lease_token::text FROM jobs"))
    return [
        Finished(
            Lease(job, "k", "{}", 1, None, 0, 0, 0.0, Batch(tokens[job], time.monotonic(), 0.0)),
            outcomes[number % len(outcomes)] if outcomes else Outcome(How.OK),
            retention,
            seconds,
        )
        for number, job in enumerate(jobs)
    ]


def logged(caplog):
    """How each job ended, by the log."""
    return {record.job_id: record.outcome for record in caplog.records if hasattr(record, "outcome")}


def test_all_jobs_are_settled_in_one_call(any_database, settling, caplog):
    caplog.set_level("INFO")
    each = finished(any_database, 6, Outcome(How.OK), RETRY, FAILED)
    settling.settle(each)
    assert {one.lease.id: outcomes(any_database, one.lease.id) for one in each} == {
        one.lease.id: [one.outcome.how] for one in each
    }
    assert settling.ended() == {"ok": 2, "retry": 2, "failed": 2}
    assert logged(caplog) == {one.lease.id: one.outcome.how for one in each}
    assert not settling.settler.waiting


def test_a_refused_job_fails_alone_and_the_others_are_settled_one_by_one(any_database, settling):
    each = finished(any_database, 5)
    refuse(any_database, f"was.id = {each[2].lease.id} AND dest = 'gone'")
    settling.settle(each)
    assert states(any_database, *(one.lease.id for one in each)) == {each[2].lease.id: "failed"}
    assert "not this one" in any_database.value("SELECT last_error FROM jobs")
    assert settling.ended() == {"ok": 4, "failed": 1}
    assert settling.ended("refused_writes") == {"k": 1}


def test_a_job_that_may_not_even_fail_is_put_off_and_counted_once_it_may(any_database, settling):
    each = finished(any_database, 3)
    refuse(any_database, f"was.id = {each[0].lease.id}")
    settling.settle(each)
    assert settling.ended() == {"ok": 2}
    assert (settling.settler.waiting, settling.settler.may_pass, settling.settler.unsettled(0.0)) == (True, False, ())
    any_database.query("DROP TRIGGER application ON jobs")
    settling.resolve()
    assert settling.ended() == {"ok": 3}
    assert not settling.settler.waiting


def test_locked_rows_are_skipped_at_once_and_each_outcome_finds_its_job(any_database, settling):
    each = finished(any_database, 30, Outcome(How.OK), RETRY, FAILED)
    jobs = [one.lease.id for one in each]
    with locked(any_database, LOCK, jobs[::2]):
        settling.settle(each)
        assert any_database.query("SELECT id FROM jobs WHERE state = 'processing' ORDER BY id") == [
            (job,) for job in jobs[::2]
        ]
        assert settling.settler.unsettled(0.0) == tuple(jobs[::2])
        settling.resolve()
        assert settling.ended() == {"ok": 5, "retry": 5, "failed": 5}
    settling.resolve()
    assert settling.ended() == {"ok": 10, "retry": 10, "failed": 10}
    assert settling.settler.unsettled(0.0) == ()
    expected = {one.lease.id: [one.outcome.how] for one in each}
    assert {job: outcomes(any_database, job) for job in jobs} == expected
    errors = dict(any_database.query("SELECT id, error FROM job_history"))
    assert errors == {one.lease.id: one.outcome.error for one in each}


def test_an_outcome_that_is_dropped_is_logged(any_database, settling, caplog):
    each = finished(any_database, MOST_PUT_OFF + 1)
    with locked(any_database, LOCK, [one.lease.id for one in each]):
        settling.settle(each)
    dropped = each[0].lease.id
    assert [record.args[0] for record in caplog.records if "could not be written" in record.msg] == [dropped]
    settling.resolve()
    assert any_database.query("SELECT id FROM jobs") == [(dropped,)]


@pytest.mark.parametrize("retention", ["7d", "none"])
def test_a_settle_without_an_answer_counts_once_whether_it_was_committed_or_not(any_database, settling, retention):
    each = finished(any_database, 6, Outcome(How.OK), RETRY, FAILED, retention=retention)
    settling.queue.settle(each[:3])  # whose answer the test ignores
    settling.tray.doubtful.extend(each)
    settling.resolve()
    assert settling.ended() == {"ok": 2, "retry": 2, "failed": 2}
    assert settling.ended("fenced_writes") == {}
    history = [] if retention == "none" else [("failed", 2), ("ok", 2), ("retry", 2)]
    assert any_database.query("SELECT outcome, count(*) FROM job_history GROUP BY 1 ORDER BY 1") == history
    assert not settling.settler.waiting


def test_a_settle_without_an_answer_is_lost_if_the_job_was_leased_again(any_database, settling):
    (late,) = each = finished(any_database, 1)
    any_database.query(STEAL, [late.lease.id])
    settling.tray.doubtful.extend(each)
    settling.resolve()
    assert settling.ended() == {"lease_lost": 1}
    assert outcomes(any_database, late.lease.id) == ["lease_lost"]


def test_a_lost_lease_is_recorded_and_counted_and_the_others_are_settled(any_database, settling, caplog):
    caplog.set_level("INFO")
    each = finished(any_database, 3, RETRY)
    late = each[1].lease.id
    any_database.query(STEAL, [late])
    settling.settle(each)
    assert settling.ended() == {"retry": 2, "lease_lost": 1}
    assert settling.ended("fenced_writes") == {"k": 1}
    assert any_database.query("SELECT id, error FROM job_history WHERE outcome = 'lease_lost'") == [(late, "an error")]
    assert logged(caplog) == {one.lease.id: "lease_lost" if one.lease.id == late else "retry" for one in each}
    assert states(any_database, late) == {late: "queued"}


def test_a_lost_lease_names_its_worker_even_if_the_database_has_forgotten_it(any_database, settling):
    (late,) = each = finished(any_database, 1)
    any_database.query("DELETE FROM workers")
    any_database.query(STEAL, [late.lease.id])
    settling.settle(each)
    assert any_database.query("SELECT outcome, leased_by FROM job_history") == [
        ("lease_lost", settling.identity.leased_by)
    ]


def test_an_unstarted_job_that_was_given_back_twice_is_not_counted_as_lost(any_database, settling):
    each = finished(any_database, 2, NOT_STARTED, seconds=0.0, retention="none")
    any_database.query(STEAL, [each[0].lease.id])
    settling.settle(each)
    assert settling.ended() == {"released": 1}
    assert settling.ended("fenced_writes") == {}


@pytest.mark.parametrize("by", ["a settle", "a turn"])
def test_a_connection_that_ends_before_a_lost_lease_is_recorded_costs_no_job_its_count_or_line(
    any_database, settling, caplog, by
):
    """In either thread: what the database has answered is certain."""
    caplog.set_level("INFO")
    each = finished(any_database, 5, RETRY)
    lost = [each[1].lease.id, each[3].lease.id]
    any_database.query(STEAL, lost)
    any_database.query(CUT_OFF)
    with pytest.raises(psycopg.OperationalError):
        (settling.settle if by == "a settle" else settling.turn)(each)
    assert settling.ended() == {"retry": 3, "lease_lost": 2}
    assert settling.ended("fenced_writes") == {"k": 2}
    assert logged(caplog) == {one.lease.id: "lease_lost" if one.lease.id in lost else "retry" for one in each}
    assert [record.args[0] for record in caplog.records if "not in the history" in record.msg] == lost
    settling.resolve()
    assert settling.ended() == {"retry": 3, "lease_lost": 2}


def test_jobs_settled_one_by_one_are_counted_once_even_if_the_connection_ends_again_and_again(
    any_database, settling, caplog
):
    each = finished(any_database, 5, RETRY)
    any_database.query(STEAL, [each[1].lease.id, each[3].lease.id])
    refuse(any_database, f"was.id = {each[4].lease.id} AND dest = 'queued'")
    any_database.query(CUT_OFF)
    with pytest.raises(psycopg.OperationalError):
        settling.settle(each)
    assert settling.ended() == {"retry": 1, "lease_lost": 1}
    with pytest.raises(psycopg.OperationalError):
        settling.resolve()
    assert settling.ended() == {"retry": 2, "lease_lost": 2}
    settling.resolve()
    assert settling.ended() == {"retry": 2, "lease_lost": 2, "failed": 1}
    assert settling.ended("fenced_writes") == {"k": 2}
    assert not settling.settler.waiting


def test_a_certain_outcome_counts_even_if_the_fate_of_another_job_cannot_be_asked(any_database, settling):
    each = finished(any_database, 3, RETRY)
    settling.queue.settle(each[1:2])  # whose answer the test ignores
    settling.tray.doubtful.extend(each)
    any_database.query("ALTER FUNCTION lease_fate_v1 RENAME TO lease_fate_v0")
    with pytest.raises(psycopg.errors.UndefinedFunction):
        settling.resolve()
    assert settling.ended() == {"retry": 2}
    any_database.query("ALTER FUNCTION lease_fate_v0 RENAME TO lease_fate_v1")
    settling.resolve()
    assert settling.ended() == {"retry": 3}
