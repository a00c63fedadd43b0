"""job.transaction() is the one transaction that ends the job."""

from __future__ import annotations

import pytest
from attempts import NOW, Scene

from shithubd_worker.attempt.outcome import Settle
from shithubd_worker.errors import Permanent
from shithubd_worker.model import How


def test_a_transaction_settles_at_its_end_and_commits_both():
    def handler(job):
        with job.transaction() as connection:
            connection.log.append("write")
        assert scene.attempt.settled

    scene = Scene(handler, retention="90d")
    assert scene.run().how is How.OK
    assert scene.database.log == ["begin", "write", "settle 7 ok 90d", "commit"]


def test_an_error_inside_the_block_rolls_back_and_is_the_outcome():
    def handler(job):
        with job.transaction():
            raise ValueError("inside")

    scene = Scene(handler)
    outcome = scene.run()
    assert (outcome.how, scene.result.settle) == (How.RETRY, Settle.DUE)
    assert scene.database.log == ["begin", "rollback"]


@pytest.mark.parametrize("error", [ValueError("after"), Permanent("after"), SystemExit(1)])
def test_an_error_after_the_block_changes_nothing(error):
    def handler(job):
        with job.transaction():
            pass
        raise error

    scene = Scene(handler)
    assert scene.run().how is How.OK
    assert scene.result.settle is Settle.DONE


def test_a_transaction_ends_the_job_only_once():
    def handler(job):
        with job.transaction():
            pass
        with pytest.raises(RuntimeError, match="only once"), job.transaction():
            pass

    scene = Scene(handler)
    assert scene.run().how is How.OK
    assert scene.database.log.count("begin") == 1


def test_a_job_may_repeat_a_transaction_that_was_rolled_back():
    def handler(job):
        with pytest.raises(ValueError, match="inside"), job.transaction():
            raise ValueError("inside")
        with job.transaction():
            pass

    scene = Scene(handler)
    assert scene.run().how is How.OK
    assert scene.database.log[-1] == "commit"
    assert scene.result.settle is Settle.DONE


def test_a_lost_lease_rolls_the_handlers_writes_back():
    def handler(job):
        with job.transaction() as connection:
            connection.log.append("write")

    scene = Scene(handler)
    scene.database.leased = False
    assert scene.run().how is How.RELEASED
    assert scene.result.settle is Settle.DUE  # the database refuses the settle, so the lease is lost
    assert scene.database.log == ["begin", "write", "settle 7 ok 7d", "rollback"]


def test_a_commit_without_an_answer_has_an_unknown_outcome():
    def handler(job):
        with job.transaction():
            pass

    scene = Scene(handler)
    scene.database.commit_fails = ConnectionError("gone")
    scene.database.broken = True
    assert scene.run().how is How.RETRY
    assert scene.result.if_away.how is How.RELEASED
    assert scene.result.settle is Settle.IN_DOUBT


def test_no_interrupt_falls_between_the_settle_and_the_answer_to_the_commit():
    def handler(job):
        with job.transaction():
            assert not scene.attempt.shielded
            scene.clock.now = NOW + 10_000
        scene.attempt.interrupt_if_due()

    scene = Scene(handler, max_runtime=40)
    settle = scene.database.settle

    def settle_while_the_alarm_rings(*arguments):
        assert scene.attempt.shielded
        scene.attempt.interrupt_if_due()
        return settle(*arguments)

    scene.database.settle = settle_while_the_alarm_rings
    assert scene.run().how is How.OK
    assert scene.database.log[-1] == "commit"


def test_an_interrupt_inside_the_block_rolls_back_and_is_the_outcome():
    def handler(job):
        with job.transaction():
            scene.clock.now = NOW + 40
            scene.attempt.interrupt_if_due()

    scene = Scene(handler, max_runtime=40)
    outcome = scene.run()
    assert "longer than max_runtime" in outcome.error
    assert scene.database.log == ["begin", "rollback"]
