"""Any order of pauses, ramps, leases, ends, deaths and time: a ramp keeps its limits, and tells of each stop once."""

from __future__ import annotations

from uuid import uuid4

import pytest
from drivers import OK, Driver, done, enqueue
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from shithubd_worker.model import How, Outcome

OUTCOMES = {"ok": OK, "failed": Outcome(How.FAILED, "x"), "retry": Outcome(How.RETRY, "x")}
RELEASED = Outcome(How.RELEASED)
WORKERS = 4
OF_A_RAMP = st.sampled_from(
    [
        "p_canary => 1",
        "p_canary => 3, p_steps => '{50,100}', p_every => 60",
        "p_steps => '{25,50}', p_every => 60",
        "p_steps => '{100}', p_every => 60, p_stop_at => 0.5",
        "p_rate => 5",
    ]
)
WORKER = st.integers(0, WORKERS - 1)


class Ramp:
    """What the test knows of the ramp that stands."""

    def __init__(self, canary, stop_at):
        self.canary, self.stop_at = canary, stop_at
        self.leased: set[str] = set()  # tokens of its leases
        self.ok = self.bad = 0
        self.passed = canary is None
        self.stopped = False

    def ended(self, *, well):
        self.ok, self.bad = self.ok + well, self.bad + (not well)

    def looked(self):
        """A lease looked at it."""
        if self.stopped:
            return
        if not self.passed and self.bad == 0 and self.ok >= self.canary:
            self.passed = True
        ended = self.ok + self.bad
        self.stopped = self.bad > 0 and (not self.passed or (ended >= 10 and self.bad >= self.stop_at * ended))


class LifeOfARamp(RuleBasedStateMachine):
    """The product beside what the test knows. `database`: given by the test."""

    database = None

    def __init__(self):
        super().__init__()
        self.database.query("TRUNCATE jobs, job_history, workers, beats, holds, ramps, ramp_ends, audit CASCADE")
        self.workers = [Driver(self.database) for _ in range(WORKERS)]
        self.held = [[] for _ in range(WORKERS)]
        self.ramp, self.paused, self.stops = None, False, 0
        enqueue(self.database, 200)

    def teardown(self):
        for worker in self.workers:
            worker.queue.close()

    def look(self):
        if self.ramp:
            before = self.ramp.stopped
            self.ramp.looked()
            self.stops += self.ramp.stopped and not before

    # One rule: if each were its own, hardly any ramp would live until two leases met it.
    @rule(how=OF_A_RAMP | st.sampled_from(["pause", "resume"]))
    def change(self, how):
        if how in ("pause", "resume"):
            self.database.query(f"SELECT {how}_kind_v1('k')")
            self.ramp, self.paused = None, how == "pause"
            return
        self.database.query(f"SELECT ramp_kind_v1('k', {how})")
        canary = int(how[len("p_canary => ")]) if how.startswith("p_canary") else None
        self.ramp, self.paused = Ramp(canary, 0.5 if "stop_at" in how else 0.2), False

    @rule(turns=st.lists(st.tuples(WORKER, st.integers(1, 4)), min_size=1, max_size=4))
    def lease(self, turns):
        for at, most in turns:
            self.lease_once(at, most)

    def lease_once(self, at, most):
        self.look()
        worker = self.workers[at]
        worker.selection.anew()
        leases = worker.lease(most=most)
        if self.paused or (self.ramp and self.ramp.stopped):
            assert leases == []
        if self.ramp:
            self.ramp.leased |= {(lease.id, lease.token) for lease in leases}
        self.held[at] += leases

    @rule(at=WORKER, how=st.sampled_from(sorted(OUTCOMES)))
    def end(self, at, how):
        if self.held[at]:
            lease = self.held[at].pop()
            self.workers[at].queue.settle(done([lease], OUTCOMES[how], retention="none"))
            if self.ramp and not self.ramp.stopped and (lease.id, lease.token) in self.ramp.leased:
                self.ramp.ended(well=how == "ok")

    @rule(at=WORKER)
    def give_back(self, at):
        self.workers[at].queue.settle(done(self.held[at], RELEASED))
        self.held[at] = []

    @rule(at=WORKER)
    def start_late(self, at):
        begun, token = [], str(uuid4())
        for lease in self.held[at]:
            counted = self.ramp and (lease.id, lease.token) in self.ramp.leased
            (started,) = self.workers[at].queue.start([lease], token, [60.0]) or [None]
            assert (started is None) == bool(self.paused or (self.ramp and (self.ramp.stopped or not counted)))
            if counted and started:
                self.ramp.leased.add((started.id, started.token))
            begun.append(started or lease)
        self.held[at] = begun

    @rule(at=WORKER)
    def die(self, at):
        worker = self.workers[at]
        if self.ramp and not self.ramp.stopped:
            mine = [each for each in self.held[at] if (each.id, each.token) in self.ramp.leased]
            if mine:
                self.ramp.ended(well=False)
        self.database.query("SELECT release_worker_v1(%s, 'it died')", worker.id)
        worker.queue.close()
        self.workers[at], self.held[at] = Driver(self.database), []

    @rule()
    def force(self):
        self.database.query(
            "UPDATE jobs SET leased_at = NULL, leased_by = NULL, state = 'queued'"
            " WHERE id = (SELECT min(id) FROM jobs WHERE state = 'processing')"
        )
        runs = {
            (job, str(token))
            for job, token in self.database.query("SELECT id, lease_token FROM jobs WHERE state = 'processing'")
        }
        self.held = [[each for each in held if (each.id, each.token) in runs] for held in self.held]

    @rule(seconds=st.sampled_from([30, 61]))
    def pass_time(self, seconds):
        self.database.query(
            "UPDATE ramps SET passed_at = passed_at - %s * interval '1 s', over_at = over_at - %s * interval '1 s'"
            " WHERE steps IS NOT NULL",
            seconds,
            seconds,
        )

    @rule()
    def sweep(self):
        self.database.query("SELECT sweep_v1(%s)", self.workers[0].id)
        if self.ramp and not self.database.query("SELECT FROM ramps"):
            self.ramp = None

    @invariant()
    def limits_are_kept(self):
        if self.ramp and not self.ramp.passed:
            runs = {(each.id, each.token) for held in self.held for each in held} & self.ramp.leased
            assert len(runs) + self.ramp.ok <= self.ramp.canary

    @invariant()
    def it_tells_what_happened(self):
        shown = self.database.query("SELECT shown_ramp_v1(hold_id) FROM ramps")
        assert bool(shown) == bool(self.ramp)
        if self.ramp:
            told = shown[0][0]
            assert (told["ok"], told["bad"]) == (self.ramp.ok, self.ramp.bad)
            assert (told["state"] == "stopped") == self.ramp.stopped
        assert self.database.value("SELECT count(*) FROM audit WHERE action = 'stop'") == self.stops


@pytest.mark.drawn
@pytest.mark.parametrize("lives", [40, pytest.param(300, marks=pytest.mark.long)])
def test_a_ramp_keeps_its_limits_in_any_life(database, lives):
    run_state_machine_as_test(
        type("Life", (LifeOfARamp,), {"database": database}),
        settings=settings(
            max_examples=lives, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
