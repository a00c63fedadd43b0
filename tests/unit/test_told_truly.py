"""What a worker says about itself is true of both its threads. It leaves what it counted to the database once."""

from __future__ import annotations

import itertools
from unittest.mock import MagicMock

import pytest
from test_dead_man_race import attempt, renewal

from shithubd_worker.host.signals import Stop
from shithubd_worker.model import How
from shithubd_worker.process.shared import Progress
from shithubd_worker.telemetry import collectors
from shithubd_worker.telemetry.metrics import Metrics
from shithubd_worker.timing import UNSCRAPED_SECONDS

BOTH = (True, False)


@pytest.mark.parametrize(("main", "away", "runs"), list(itertools.product(BOTH, BOTH, BOTH)))
def test_the_database_is_up_if_it_answered_both_threads(main, away, runs):
    running = attempt(60.0)
    running.kind.name, running.lease, running.started_at = "a", MagicMock(id=1), 0.0
    progress = Progress(Stop(25.0), database_up=main, away=away, ready=True, attempt=running if runs else None)
    up = main and not away
    assert progress.is_up() is up
    assert progress.state() == ("reconnecting" if not up else "running" if runs else "idle")
    assert ("database" in progress.sentence(0.0)) is not up
    # The control thread tells the database this at a moment when the database answers.
    assert (progress.word(answered=True) == "reconnecting") is not main


def test_a_worker_that_is_refused_is_not_ready():
    progress = Progress(Stop(25.0), ready=True, trouble="the database refuses")
    assert progress.state() == "pausing"
    assert (Progress(Stop(25.0)).state(), Progress(Stop(25.0)).is_up()) == ("starting", False)


@pytest.mark.parametrize("shielded", BOTH)
def test_a_lease_that_the_main_thread_just_ended_is_not_counted_as_lost(shielded):
    running = attempt(60.0)
    running.shielded, running.asked_at, running.renewed_at = shielded, None, -60.0
    duty = renewal(Progress(Stop(25.0), attempt=running), MagicMock())
    duty._session.renew.return_value = False
    duty.tick(1.0, running)
    assert duty._metrics.renewed.called is not shielded


@pytest.fixture
def counting():
    return Metrics(["a", "b"], "web1:1")


def told(counting):
    samples = [s for family in counting.registry.collect() for s in family.samples]
    return {(s.labels["kind"], s.labels["outcome"]): s.value for s in samples if "jobs_processed" in s.name and s.value}


def test_the_last_counts_have_what_no_scrape_has_shown_and_no_later_scrape_shows_it(counting):
    counting.processed({("a", How.RETRY): 2, ("b", How.OK): 1})
    assert told(counting) == {("a", "retry"): 2, ("b", "ok"): 1}
    counting.processed({("a", How.RETRY): 3})
    assert counting.last_word() == {("a", How.RETRY): 3}
    assert told(counting) == {}


def test_a_worker_that_nobody_scrapes_leaves_no_counts(counting, monkeypatch):
    counting.processed({("a", How.RETRY): 2})
    now = collectors.time.monotonic() + UNSCRAPED_SECONDS + 1
    monkeypatch.setattr(collectors.time, "monotonic", lambda: now)
    assert counting.last_word() == {}
