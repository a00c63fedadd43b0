"""When a run must end: its deadlines, its alarm, and the outcome of its interrupt."""

from __future__ import annotations

import math
import signal
import time
from types import SimpleNamespace

import pytest
from attempts import NOW, HandlersDatabase, Scene

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.errors import Interrupted
from shithubd_worker.host.signals import Alarm
from shithubd_worker.model import Batch, How, Lease
from shithubd_worker.registry import Registry
from shithubd_worker.settings.config import Config
from shithubd_worker.timing import INTERRUPT_AGAIN_SECONDS


def test_the_alarm_is_set_to_the_first_deadline_and_taken_back_at_the_end():
    scene = Scene(lease_timeout=300, max_runtime=40)
    assert scene.run().how is How.OK
    assert scene.alarms == [40]
    scene = Scene(lease_timeout=300, max_runtime=3600)
    scene.run()
    assert scene.alarms == [290]  # the lease, minus the time that a worker needs to give it up
    scene = Scene(lease_timeout=300)
    scene.stop.release_at = NOW + 5
    scene.run()
    assert scene.alarms == [5]


@pytest.mark.parametrize(("timeout", "margin"), [(1, 0.2), (10, 2), (50, 10), (300, 10), (86400, 10)])
def test_a_lease_is_given_up_a_fifth_or_at_most_ten_seconds_before_its_end(timeout, margin):
    registry = Registry()
    registry.handler("k", lease_timeout=timeout)(lambda job: None)
    assert registry["k"].margin == pytest.approx(margin)


def interrupted_at(seconds, scene_of=lambda scene: None, **limits):
    """A handler. During its run the clock moves on, and then the alarm rings."""

    def handler(job):
        scene.clock.now = NOW + seconds
        scene.attempt.interrupt_if_due()

    scene = Scene(handler, **limits)
    scene_of(scene)
    return scene, scene.run()


def test_the_end_of_max_runtime_is_a_failed_attempt():
    scene, outcome = interrupted_at(40, lease_timeout=300, max_runtime=40, backoff=100)
    assert outcome.how is How.RETRY
    reason, *stack = outcome.error.splitlines()
    assert reason == "interrupted after 40.0 s: longer than max_runtime (40 s)"
    assert stack[-2].endswith("in handler")  # the place where it stood
    assert scene.alarms == [40, INTERRUPT_AGAIN_SECONDS]
    _, outcome = interrupted_at(40, max_runtime=40, max_attempts=1)
    assert outcome.how is How.FAILED


def test_an_alarm_that_rings_too_early_is_set_again():
    scene, outcome = interrupted_at(39, lease_timeout=300, max_runtime=40)
    assert outcome.how is How.OK
    assert scene.alarms == [40, 1]


def test_a_stop_releases_the_job():
    def stop(scene):
        scene.stop.release_at = NOW + 25

    _, outcome = interrupted_at(25, stop, attempt=10)
    assert outcome.how is How.RELEASED


def test_a_refused_lease_is_lost_even_if_another_deadline_is_due():
    def lost(scene):
        scene.attempt.lost = True
        scene.stop.release_at = NOW

    _, outcome = interrupted_at(1, lost)
    assert (outcome.how, outcome.error) == (How.RELEASED, "given up: the lease was lost")


def test_a_lease_that_could_not_be_renewed_is_given_up_before_others_can_take_it():
    def away(scene):
        scene.attempt.unreachable = True

    scene, outcome = interrupted_at(290, away, lease_timeout=300, max_runtime=3600)
    assert outcome.how is How.RELEASED
    assert outcome.error == "given up: the lease could not be renewed, because the database is away"
    assert scene.clock.now < NOW + 300


def test_a_renewal_moves_the_deadline_of_the_lease():
    def renewed(scene):
        scene.attempt.lease_deadline = NOW + 600

    scene, outcome = interrupted_at(400, renewed, lease_timeout=300, max_runtime=3600)
    assert outcome.how is How.OK
    assert scene.alarms == [590, 190]


def test_extend_moves_the_end_of_max_runtime_and_sets_the_alarm():
    def handler(job):
        scene.clock.now = NOW + 30
        job.extend(100)
        scene.clock.now = NOW + 129
        scene.attempt.interrupt_if_due()
        job.extend()
        scene.clock.now = NOW + 168
        scene.attempt.interrupt_if_due()
        scene.clock.now = NOW + 169
        scene.attempt.interrupt_if_due()

    scene = Scene(handler, lease_timeout=3600, max_runtime=40)
    outcome = scene.run()
    assert outcome.error.startswith("interrupted after 169.0 s")
    assert scene.alarms == [40, 100, 1, 40, 1, INTERRUPT_AGAIN_SECONDS]


def test_a_handler_that_swallows_its_interrupt_is_interrupted_again_and_may_still_succeed():
    swallowed = []

    def handler(job):
        scene.clock.now = NOW + 100
        for _ in range(3):
            try:
                scene.attempt.interrupt_if_due()
            except Interrupted as error:
                swallowed.append(str(error))
            scene.clock.now += INTERRUPT_AGAIN_SECONDS

    scene = Scene(handler, max_runtime=40)
    assert scene.run().how is How.OK
    assert swallowed == ["runtime"] * 3


def test_a_handler_that_cleans_up_after_its_interrupt_is_left_alone_for_a_while():
    """The control thread may ring right after the alarm rang. Then the second interrupt would break the cleaning up."""
    cleaned_up = []

    def handler(job):
        scene.clock.now = NOW + 100
        try:
            scene.attempt.interrupt_if_due()
        finally:
            scene.clock.now += INTERRUPT_AGAIN_SECONDS - 0.125
            scene.attempt.interrupt_if_due()
            cleaned_up.append(True)

    scene = Scene(handler, max_runtime=40)
    assert scene.run().how is How.RETRY
    assert cleaned_up
    assert scene.alarms == [40, INTERRUPT_AGAIN_SECONDS, 0.125]


def test_nothing_interrupts_code_outside_of_the_handler():
    scene = Scene()
    scene.clock.now = NOW + 10_000
    scene.attempt.interrupt_if_due()  # the run has not started
    scene.clock.now = NOW
    assert scene.run().how is How.OK
    scene.attempt.interrupt_if_due()  # the run is over: its settle is under way
    assert scene.attempt.shielded
    assert scene.attempt.over


def test_a_real_alarm_ends_a_real_sleep():
    """With the process's own clock, timer and signal, wired as in the worker."""
    registry = Registry()
    registry.handler("some.kind", max_runtime=1, backoff=1000)(lambda job: time.sleep(3600))
    lease = Lease(1, "some.kind", "{}", 1, None, 0, 0, 0.0, Batch("t", time.monotonic() + 60, 0.0))
    alarm = Alarm()
    attempt = Attempt(
        registry["some.kind"],
        lease,
        config=Config(),
        database=HandlersDatabase(),
        stop=SimpleNamespace(release_at=math.inf),
        alarm=alarm,
    )
    attempt.runtime_deadline = attempt.started_at + 0.05
    before = signal.signal(signal.SIGALRM, lambda number, frame: (alarm.rang(), attempt.interrupt_if_due()))
    try:
        result = attempt.prepare() or attempt.run()
    finally:
        alarm.mute()  # the runner of the tests has a use of its own for this signal
        signal.signal(signal.SIGALRM, before)
    assert result.outcome.how is How.RETRY
    assert "interrupted after" in result.outcome.error
