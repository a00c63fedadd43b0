"""The database's clock is set ahead or back while workers run jobs: no job runs twice, and no job is stuck."""

from __future__ import annotations

import threading
import time
from uuid import uuid4

import pytest
from conftest import PATIENCE, Door, WorkerProcess, eventually, new_database
from stepped import SteppedClock

from shithubd_worker.database.connection import connector
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.database.operations import Operations, Scope
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.model import Identity, Registration

NOTICED = "the database's clock went"
DEAD_LEASE = (
    "INSERT INTO jobs (kind, state, leased_by, leased_at, lease_expires_at, lease_token, worker_id)"
    " VALUES ('test.ok', 'processing', 'gone:1', stepped_clock(), stepped_clock() + interval '5 minutes',"
    " gen_random_uuid(), gen_random_uuid()) RETURNING id"
)


class Fleet:
    """Three workers of one database. Two of them run a job: one with a long lease, one with a short one."""

    def __init__(self, server, directory):
        self._databases = new_database(server)
        self.database = next(self._databases)
        self.clock = SteppedClock(self.database)
        self.directory = directory
        self.door = Door(directory / "door")
        self.workers = []

    def begin(self):
        for _ in range(3):
            self.hire()
        for worker in self.workers:
            worker.wait_for(" ready\n")
        kinds = ("test.waits", "test.five_seconds")
        self.jobs = [self.enqueue(kind, f'{{"door": "{self.door.path}"}}') for kind in kinds]
        at_it = "SELECT count(job_id) = 2 FROM beats"
        eventually(lambda: self.database.value(at_it) and self.database.at_rest() == 1, "two run a job, one has none")

    def hire(self):
        handlers = ("--handlers", "sample_jobs:registry", "--metrics", "off")
        self.workers.append(WorkerProcess(self.database, self.directory, *handlers))
        return self.workers[-1]

    def enqueue(self, kind, payload="{}"):
        return self.database.value("INSERT INTO jobs (kind, payload) VALUES (%s, %s) RETURNING id", kind, payload)

    def outcomes(self, job):
        return [how for (how,) in self.database.query("SELECT outcome FROM job_history WHERE id = %s", job)]

    def step(self, seconds):
        """Set the clock, and start a worker right after that."""
        self.dead = self.database.value(DEAD_LEASE)
        self.clock.step(seconds)
        self.hire()

    def check(self, seconds):
        """No job was taken from its owner, the dead worker's job was returned, and new jobs run."""
        for worker in self.workers[:3]:
            worker.wait_for(f"{NOTICED} {'ahead' if seconds > 0 else 'back'} by")
        self.workers[-1].wait_for(" ready\n")
        soon = self.enqueue("test.ok")
        eventually(lambda: self.outcomes(soon) == ["ok"], "what is enqueued now runs now")
        # Once the workers are sure of the clock: at once, or after the time of a lease.
        returned = (
            "SELECT 1 FROM job_history WHERE id = %s AND outcome = 'crashed'"
            if seconds > 300
            else "SELECT 1 FROM jobs WHERE id = %s AND lease_expires_at < stepped_clock() + interval '301 seconds'"
        )
        eventually(lambda: self.database.query(returned, self.dead), "the lease of the dead ends as it should")
        assert NOTICED not in self.workers[-1].log
        self.door.open()
        for job in self.jobs:
            eventually(lambda job=job: self.outcomes(job), "it ended")
            assert self.outcomes(job) == ["ok"]

    def end(self):
        for worker in self.workers:
            worker.end()
        next(self._databases, None)


@pytest.fixture
def fleet(server, tmp_path):
    fleets = []

    def make(name):
        (tmp_path / name).mkdir()
        fleets.append(Fleet(server, tmp_path / name))
        fleets[-1].begin()
        return fleets[-1]

    yield make
    for each in fleets:
        each.end()


def survive(fleet, *steps):
    """All at the same time, each in a database of its own, because most of the time is spent waiting."""
    fleets = {seconds: fleet(str(seconds)) for seconds in steps}
    for seconds, each in fleets.items():
        each.step(seconds)
    for seconds, each in fleets.items():
        each.check(seconds)


def test_no_job_runs_twice_when_the_clock_is_set_by_an_hour(fleet):
    survive(fleet, 3600, -3600)


@pytest.mark.long
@pytest.mark.parametrize("seconds", [600, -600, 2, -2, 40_000_000, -86_400])
def test_no_job_runs_twice_when_the_clock_is_set_by_any_amount(fleet, seconds):
    survive(fleet, seconds)


# What the sweep itself goes by.


@pytest.fixture
def clock(any_database):
    return SteppedClock(any_database)


@pytest.fixture
def queue(any_database):
    queue = QueueSession(connector(any_database.url, "test"), "public", uuid4())
    yield queue
    queue.close()


def earliest(database):
    return database.value("SELECT date_part('epoch', stepped_clock())")


def test_a_sweep_returns_no_lease_that_expired_by_a_step_that_the_sweeper_has_not_seen(any_database, clock, queue):
    any_database.query(DEAD_LEASE)
    seen = earliest(any_database)
    clock.step(3600)
    assert queue.sweep(earliest=seen) == []
    assert [how for *_, how in queue.sweep(earliest=earliest(any_database))] == ["crashed"]


@pytest.mark.parametrize("expires", ["stepped_clock() + interval '1 hour'", "'infinity'"])
@pytest.mark.parametrize(
    ("step", "shortened"),
    [
        pytest.param(0, False, id="its owner beats"),
        # The owner may be cut off, and of a release in which leases last longer.
        pytest.param(3600, False, id="its owner was silent for less than a day"),
        pytest.param(-31, True, id="its owner beat before the clock was set back"),
        pytest.param(86401, True, id="its owner was silent for a day"),
        pytest.param(None, True, id="its owner has no beat"),
    ],
)
def test_a_lease_that_ends_too_late_is_shortened_unless_its_owner_has_a_valid_beat(
    any_database, clock, queue, expires, step, shortened
):
    job = any_database.value(DEAD_LEASE)
    owner = Identity(uuid4(), "h", 1, "m", "b", 0, 0, None, None)
    beat = ControlSession(connector(any_database.url, "beat"), "public")
    beat.register(Registration(owner, ["test.ok"]))
    beat.close()
    if step is None:
        any_database.query("DELETE FROM beats")
    else:
        clock.step(step)
    any_database.query(f"UPDATE jobs SET worker_id = %s, lease_expires_at = {expires}", owner.id)
    left = "SELECT lease_expires_at > stepped_clock() + interval '301 seconds' FROM jobs WHERE id = %s"
    queue.sweep(timeouts={"test.waits": 300.0})  # the lease of another kind
    assert any_database.value(left, job)
    queue.sweep(timeouts={"test.ok": 300.0})
    assert any_database.value(left, job) is not shortened


@pytest.mark.parametrize("how", ["crashed", "stray", "by an operator", "settled"])
def test_a_job_leased_before_the_clock_was_set_back_is_due_when_it_is_given_back(any_database, clock, queue, how):
    job = any_database.value(DEAD_LEASE)
    clock.step(-3600)
    worker, token = any_database.query("SELECT worker_id, lease_token FROM jobs")[0]
    given_back = {
        "crashed": ("SELECT count(*) FROM return_dead_v1(ARRAY[%s::bigint], 'dead')", job),
        "stray": ("SELECT count(*) FROM release_strays_v1(%s, ARRAY[%s::uuid])", worker, token),
        "by an operator": ("SELECT count(*) FROM release_jobs(ARRAY[%s::bigint])", job),
        "settled": (
            "SELECT count(*) FROM settle_v1(ARRAY[%s::bigint], ARRAY[%s::uuid], '{released}', '{0}', '{x}', '{7d}')",
            *(job, token),
        ),
    }
    any_database.query(*given_back[how])
    assert any_database.query("SELECT state, run_at <= stepped_clock() FROM jobs") == [("queued", True)]


# The barrier.


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_step_of_the_clock_during_a_barrier_does_not_change_its_length(any_database, clock, seconds):
    operations = Operations(connector(any_database.url, "asking"), "public")
    operations.drain(Scope("fleet"), None, None)
    began = time.monotonic()
    any_database.query(DEAD_LEASE)
    certain = []
    asking = threading.Thread(target=lambda: certain.append(operations.value("barrier_v1", "fleet", "", 60.0)))
    asking.start()
    waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'asking' AND wait_event = 'PgSleep'"
    eventually(lambda: any_database.query(waits) or certain, "it waits")
    clock.step(seconds)
    asking.join(timeout=PATIENCE)
    assert certain == [True]
    assert time.monotonic() - began >= 0.5
    operations.close()
