"""A run that waits for the database ends before the dead man fires, and ends itself, for any lease timeout."""

from __future__ import annotations

import math
from types import SimpleNamespace
from uuid import uuid4

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.attempt.outcome import Settle
from shithubd_worker.model import Batch, How, Lease
from shithubd_worker.registry import Registry
from shithubd_worker.settings.config import Config
from shithubd_worker.timing import LONG_SECONDS, SETTLE_SECONDS

NOW = 5000.0
leases = st.floats(1.0, 86400.0)


class Silent:
    """A handlers' database that gives no answer to one statement, for as long as its connection may wait."""

    schema = "public"

    def __init__(self, scene, statement):
        self._scene = scene
        self._statement = statement
        self.broken = False
        self.info = SimpleNamespace(transaction_status=SimpleNamespace(name="IDLE"))

    def lend(self, answer_by):
        self.answer_by = answer_by
        return self

    def transaction(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self._wait("ROLLBACK" if kind else "COMMIT")

    def settle(self, *_):
        self._wait("settle")
        return True

    def _wait(self, statement):
        if statement == self._statement and not self.broken:
            while self._scene.now < self.answer_by():
                self._scene.now = self.answer_by()
                self._scene.meanwhile()
            self.broken = True
            if statement != "ROLLBACK":  # psycopg only logs this
                raise psycopg.OperationalError("no answer from the server")


class Scene:
    """One attempt whose handler settles itself."""

    def __init__(self, statement, meanwhile=lambda _attempt: None, **limits):
        registry = Registry()
        registry.handler("k", **limits)(self.handler)
        self.now = NOW
        self.statement = statement
        lease = Lease(7, "k", "{}", 1, None, 0, 0, 0.0, Batch(str(uuid4()), NOW, 0.0))
        self.attempt = Attempt(
            registry["k"],
            lease,
            config=Config(),
            database=Silent(self, statement),
            stop=SimpleNamespace(release_at=math.inf),
            alarm=lambda _at: None,
            clock=lambda: self.now,
        )
        self.meanwhile = lambda: meanwhile(self.attempt)

    def handler(self, job):
        with job.transaction():
            if self.statement == "ROLLBACK":
                self.now = self.attempt.end_at
                self.attempt.interrupt_if_due()

    def run(self):
        self.result = self.attempt.prepare() or self.attempt.run()
        return self.result.outcome


@pytest.mark.parametrize("statement", ["settle", "COMMIT", "ROLLBACK"])
@given(lease=leases)
def test_a_run_without_an_answer_ends_before_the_dead_man_fires_and_costs_no_attempt(statement, lease):
    scene = Scene(statement, lease_timeout=lease, max_runtime=10 * lease)
    scene.attempt.unreachable = True
    outcome = scene.run()
    assert outcome.how is How.RELEASED
    assert scene.result.settle is (Settle.IN_DOUBT if statement == "COMMIT" else Settle.DUE)
    latest, slack = scene.attempt.dead_man_at
    assert scene.now <= latest - slack - scene.attempt.kind.margin / 2 + 1e-6


@pytest.mark.parametrize("statement", ["settle", "COMMIT"])
def test_a_run_waits_for_an_answer_while_its_lease_is_renewed(statement):
    renewals = iter([NOW + 600, NOW + 900])

    def renew(attempt):
        attempt.lease_deadline = next(renewals, attempt.lease_deadline)

    scene = Scene(statement, renew, lease_timeout=300, max_runtime=3600)
    scene.attempt.unreachable = True
    assert scene.run().how is How.RELEASED
    assert scene.now == NOW + 900 - 7.5


@pytest.mark.parametrize("statement", ["settle", "COMMIT", "ROLLBACK"])
def test_renewals_let_a_run_outlast_max_runtime_only_by_a_little(statement):
    def renew(attempt):
        attempt.lease_deadline = scene.now + 300

    scene = Scene(statement, renew, lease_timeout=300, max_runtime=40)
    outcome = scene.run()
    assert "longer than max_runtime" in outcome.error
    assert scene.now == NOW + 40 + SETTLE_SECONDS


def test_a_settled_run_may_wait_without_limit():
    scene = Scene("nothing")
    assert scene.run().how is How.OK
    assert scene.attempt.answer_by() == math.inf


@given(lease=leases, ran=st.floats(LONG_SECONDS, 86400.0))
def test_the_dead_man_never_fires_before_a_long_run_is_interrupted(lease, ran):
    """An earlier arming, for the job before it, must not stand any longer."""
    scene = Scene("nothing", lease_timeout=lease)
    scene.now += ran
    latest, slack = scene.attempt.dead_man_at
    assert latest - slack > scene.attempt.give_up_at
    assert latest < scene.attempt.lease_deadline
