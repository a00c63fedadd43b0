"""What a worker says of itself is true of both of its threads; what it counted, it leaves to the database once."""

from __future__ import annotations

import itertools
from unittest.mock import MagicMock

import pytest
from test_dead_man_race import attempt, control

from shithubd_worker.host import Stop
from shithubd_worker.progress import Progress

BOTH = (True, False)


@pytest.mark.parametrize(("main", "away", "runs"), list(itertools.product(BOTH, BOTH, BOTH)))
def test_the_database_is_up_if_it_answered_both_threads_whatever_runs(main, away, runs):
    running = attempt(60.0)
    running.kind.name, running.lease, running.started_at = "a", MagicMock(id=1), 0.0
    progress = Progress(database_up=main, away=away, ready=True, attempt=running if runs else None)
    stop = Stop(25.0)
    up = main and not away
    assert progress.is_up() is up
    assert progress.state(stop) == ("reconnecting" if not up else "running" if runs else "idle")
    assert ("database" in progress.sentence(stop, 0.0)) is not up
    # What the control thread tells the database is as it is then: it answers.
    assert (progress.word(stop, answered=True) == "reconnecting") is not main


def test_a_worker_that_is_refused_is_not_ready():
    progress, stop = Progress(ready=True, trouble="the database refuses"), Stop(25.0)
    assert (progress.state(stop), progress.readiness(stop)) == ("idle", "pausing")
    assert (Progress().state(stop), Progress().is_up()) == ("starting", False)


@pytest.mark.parametrize("shielded", BOTH)
def test_a_lease_that_the_main_thread_just_ended_is_not_counted_as_lost(shielded):
    running = attempt(60.0)
    running.shielded, running.asked_at, running.lease_deadline = shielded, None, 0.0
    thread = control(Progress(attempt=running), MagicMock())
    thread._beat.renew.return_value = False
    thread._renew(1.0, running)
    assert thread._metrics.renewed.called is not shielded
