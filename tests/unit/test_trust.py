"""Until when a run is this worker's. Each renewal and each beat that the database confirms moves the end; a beat that
came too late does not."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from helpers_handlers import NoDatabase
from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.database.clock import Clock
from shithubd_worker.host.signals import Stop
from shithubd_worker.model import Batch, Lease
from shithubd_worker.process.duties.renewal import Renewal
from shithubd_worker.process.duties.trust import Trust
from shithubd_worker.process.shared import Progress
from shithubd_worker.registry import Registry
from shithubd_worker.settings.config import Config
from shithubd_worker.timing import DEAD_MAN_MARGIN, LONG_SECONDS, margin

# Far ahead, so that no answer comes too late, however slowly the test runs.
LEASED = time.monotonic() + 100_000
SILENCE = 100.0


class Scene:
    """One run, the trust in it, and a dead man that only remembers."""

    def __init__(self, lease_timeout=600.0, silence=SILENCE, leased=LEASED):
        registry = Registry()
        registry.handler("k", lease_timeout=lease_timeout)(lambda job: job)
        kind = registry["k"].within(silence)
        lease = Lease(7, "k", "{}", 1, None, 0, 0, 0.0, Batch("token", leased, 0.0))
        stop = Stop(25.0)
        self.attempt = Attempt(kind, lease, config=Config(), database=NoDatabase(), stop=stop, alarm=lambda _at: None)
        self.progress = Progress(stop, attempt=self.attempt)
        self.dead_man = MagicMock()
        self.trust = Trust(self.progress, self.dead_man, silence)

    @property
    def until(self):
        return self.attempt.lease_deadline - LEASED

    def fires_at(self):
        assert self.dead_man.put_off.called
        (at,) = self.dead_man.put_off.call_args.args
        return at - LEASED


def test_a_beat_and_a_renewal_each_move_the_end_as_far_as_the_other_allows():
    scene = Scene(lease_timeout=150.0)
    assert scene.until == SILENCE
    scene.trust.beat(LEASED + 20, scene.attempt)
    assert scene.until == 20 + SILENCE
    scene.trust.beat(LEASED + 80, scene.attempt)
    assert scene.until == 150  # the lease ends before
    scene.trust.renewed(LEASED + 90, scene.attempt)
    assert scene.until == 80 + SILENCE
    scene.trust.beat(LEASED + 110, scene.attempt)
    assert scene.until == 110 + SILENCE


def test_a_lease_that_is_younger_than_the_last_beat_is_a_sign_of_life():
    scene = Scene(leased=LEASED + 50)
    scene.trust.beat(LEASED + 10, None)
    scene.trust.renewed(LEASED + 60, scene.attempt)
    assert scene.until == 50 + SILENCE


def test_a_worker_that_promises_nothing_trusts_its_lease_alone():
    scene = Scene(silence=0.0)
    scene.trust.beat(LEASED + 20, scene.attempt)
    assert scene.until == 600
    assert not scene.dead_man.put_off.called
    scene.trust.renewed(LEASED + 30, scene.attempt)
    assert scene.until == 630


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 50.0)), max_size=20), st.floats(1.0, 900.0))
def test_no_confirmed_answer_ever_brings_the_end_forward_or_exceeds_the_promise(answers, lease_timeout):
    scene, at, before = Scene(lease_timeout=lease_timeout, leased=LEASED + 1000), LEASED + 1000, -math.inf
    beat = renewed = at
    for is_beat, later in answers:
        at += later
        if is_beat:
            scene.trust.beat(at, scene.attempt)
            beat = at
        else:
            scene.trust.renewed(at, scene.attempt)
            renewed = at
        assert before <= scene.attempt.lease_deadline <= min(renewed + lease_timeout, beat + SILENCE)
        before = scene.attempt.lease_deadline


@pytest.mark.parametrize("answer", ["beat", "renewed"])
def test_each_answer_puts_off_the_dead_man_at_once_also_for_a_lease_that_is_far_longer(answer):
    """The next line of the handler may hold the interpreter."""
    scene = Scene(lease_timeout=86_400.0, leased=LEASED)
    scene.trust.beat(LEASED + 40, None)
    getattr(scene.trust, answer)(LEASED + 40, scene.attempt)
    assert scene.fires_at() == pytest.approx(40 + SILENCE - margin(SILENCE) * DEAD_MAN_MARGIN)
    assert scene.attempt.dead_man_at[1] <= SILENCE / 4
    scene.attempt.started_at -= LONG_SECONDS
    assert scene.attempt.dead_man_at[1] == 0.0


def test_a_beat_for_a_run_that_is_over_or_gone_moves_nothing():
    scene = Scene()
    scene.attempt.over = True
    scene.trust.beat(LEASED + 40, scene.attempt)
    assert scene.until == SILENCE
    scene.attempt.over = False
    scene.progress.attempt = None
    scene.trust.beat(LEASED + 40, scene.attempt)
    assert not scene.dead_man.put_off.called


def renewal_of(scene, renews):
    session = SimpleNamespace(renew=lambda _lease, _timeout: renews)
    outage, clock = SimpleNamespace(lost_at=0.0), Clock(lambda _seconds: None)
    return Renewal(session, scene.progress, clock, outage, scene.trust, MagicMock())


@pytest.mark.parametrize("how", ["its answer came too late", "the worker's row was gone"])
@pytest.mark.parametrize("renews", [True, False])
def test_a_beat_after_the_jobs_may_have_been_taken_lets_the_run_go_on_only_after_a_renewal(how, renews, monkeypatch):
    monkeypatch.setattr("shithubd_worker.process.duties.renewal.ring_main", lambda: None)
    now = time.monotonic()
    leased = now - SILENCE - 1 if how == "its answer came too late" else now - 1
    scene = Scene(leased=leased)
    before, sent_at = scene.attempt.lease_deadline, time.monotonic()
    scene.trust.beat(sent_at, scene.attempt, anew=how == "the worker's row was gone")
    scene.trust.beat(sent_at, scene.attempt)  # nor does the next one
    assert scene.attempt.lease_deadline == before
    scene.attempt._armed = True
    renewal_of(scene, renews).tick(time.monotonic(), scene.attempt)
    assert scene.attempt.lost is not renews
    assert (scene.attempt.lease_deadline > before) is renews
