"""Ramps under load: real turns of many workers at once, and whatever happens beside them."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from uuid import uuid4

import pytest
from conftest import dice, eventually
from drivers import OK, Driver, done, enqueue

from shithubd_worker.database.connection import connector
from shithubd_worker.database.operations import Operations, Scope
from shithubd_worker.model import How, Outcome

FAILED, RELEASED = Outcome(How.FAILED, "x"), Outcome(How.RELEASED)
FORCED = (
    "UPDATE jobs SET leased_at = NULL, leased_by = NULL, state = 'queued' WHERE id IN (SELECT id FROM jobs"
    " WHERE state = 'processing' LIMIT 1)"
)
RAMPED = "SELECT count(*) FROM ramps WHERE stopped_at IS NULL AND passed_at IS NULL"


class Crowd:
    """Workers in threads. Each leases, rests as its answer says, and ends what it has as `ending` says."""

    def __init__(self, database, workers, ending, kinds=("k",), seed=0, most=500):
        self.database, self.ending, self.kinds, self.most = database, ending, kinds, most
        self.leased: list[tuple[float, str, int]] = []  # when an answer came, its kind, and how many jobs
        self.faults: list[BaseException] = []
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(dice(seed + number),), daemon=True) for number in range(workers)
        ]

    def _work(self, chance):
        try:
            driver = Driver(self.database, *self.kinds)
            finished = []
            while not self._over.is_set():
                driver.selection.anew()
                answer = driver.turn(finished, most=self.most)
                if answer.leases:
                    self.leased.append((time.monotonic(), answer.leases[0].kind, len(answer.leases)))
                finished = self.ending(driver, answer.leases, chance)
                if not answer.leases:
                    self._over.wait(min(answer.again, 0.05))
            driver.queue.settle(finished) if finished else None
            driver.queue.close()
        except BaseException as error:
            self.faults.append(error)

    @contextmanager
    def at_work(self):
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join(60)
        assert self.faults == []


def all_well(driver, leases, chance):
    """Each job takes a moment, and ends well."""
    time.sleep(chance.random() * 0.02)
    return done(leases)


def or_given_back(driver, leases, chance):
    """Some jobs are given back, by their worker or by plain SQL."""
    time.sleep(chance.random() * 0.01)
    if leases and chance.random() < 0.2:
        driver.queue.connection.execute(FORCED)
    back = [lease for lease in leases if chance.random() < 0.3]
    kept = [lease for lease in leases if lease not in back]
    return done(kept) + done(back, RELEASED)


SLOTS = (
    "SELECT r.canary, r.ok + coalesce((SELECT sum(e.ok) FROM ramp_ends e WHERE e.ramp = r.id), 0),"
    " (SELECT count(*) FROM jobs j WHERE j.state = 'processing' AND j.kind = r.kind)"
    " FROM ramps r WHERE r.passed_at IS NULL"
)


@pytest.mark.parametrize("ending", [all_well, or_given_back])
def test_a_canary_never_lets_one_job_too_many_through(database, ending):
    """Sampled in one snapshot, all the time: what ended well and what runs are never more than the canary."""
    enqueue(database, 400)
    database.query("SELECT ramp_kind_v1('k', p_canary => 60)")
    most = 0
    with Crowd(database, 6, ending, most=7).at_work(), database.connect() as watcher:

        def passed():
            nonlocal most
            for canary, ended, runs in watcher.execute(SLOTS).fetchall():
                most = max(most, ended + runs)
                assert ended + runs <= canary
            return not watcher.execute(RAMPED).fetchone()[0]

        eventually(passed, "the end of the canary", within=120)
    assert 30 < most <= 60
    assert database.value("SELECT min(ok) FROM ramps") >= 60


def test_the_steps_let_no_further_worker_in(database):
    enqueue(database, 5000)
    database.query("SELECT ramp_kind_v1('k', p_steps => '{10,50,100}', p_every => 600)")
    seen: dict[int, int] = {}
    owners = "SELECT count(DISTINCT worker_id) FROM jobs WHERE state = 'processing'"

    def slow(driver, leases, chance):
        time.sleep(0.03)
        return done(leases)

    with Crowd(database, 8, slow, most=2).at_work(), database.connect() as watcher:
        eventually(lambda: database.value("SELECT count(*) FROM workers") == 8, "all workers")
        for step, most in ((1, 1), (2, 4), (3, 8)):
            for _ in range(150):
                seen[step] = max(seen.get(step, 0), watcher.execute(owners).fetchone()[0])
                assert seen[step] <= most
                time.sleep(0.005)
            # Those who work at the end of a step go on in the next one.
            database.query(
                "UPDATE ramps SET passed_at = passed_at - interval '600 s', over_at = over_at - interval '1 s'"
            )
    assert seen[1] == 1
    assert 2 <= seen[2] <= 4 < seen[3]


@pytest.mark.parametrize("rate", [20, 200])
def test_the_fleet_takes_no_more_than_the_rate_and_nearly_all_of_it(database, rate):
    enqueue(database, 6000)
    database.query("SELECT ramp_kind_v1('k', p_rate => %s)", float(rate))
    with Crowd(database, 4, all_well).at_work() as crowd:
        eventually(lambda: crowd.leased, "a lease")
        began = time.monotonic()
        already = sum(count for _, _, count in list(crowd.leased))
        eventually(lambda: time.monotonic() > began + 5, "some seconds of work")
        seconds = time.monotonic() - began
        taken = sum(count for _, _, count in list(crowd.leased)) - already
    assert taken <= rate * (seconds + 1) + 1
    assert taken >= 0.8 * rate * seconds - rate


def test_nothing_is_leased_after_a_stop_and_it_is_told_once(database):
    enqueue(database, 2000)
    database.query("SELECT ramp_kind_v1('k', p_steps => '{100}', p_every => 600, p_stop_at => 0.5)")

    def half(driver, leases, chance):
        return [each for lease in leases for each in done([lease], FAILED if chance.random() < 0.7 else OK)]

    stopped = "SELECT stopped_at FROM ramps WHERE stopped_at IS NOT NULL"
    with Crowd(database, 6, half, most=5).at_work():
        eventually(lambda: database.query(stopped), "the stop", within=60)
        time.sleep(0.3)  # give a late lease the time to show
    assert database.value("SELECT count(*) FROM audit WHERE action = 'stop'") == 1
    assert database.value("SELECT max(leased_at) < (SELECT stopped_at FROM ramps) FROM job_history")
    assert database.value("SELECT count(*) FROM ramp_ends") <= 60
    assert 10 <= database.value("SELECT count(*) FROM job_history") <= 10 + 2 * 6 * 5


@pytest.mark.drawn
def test_nothing_starts_after_the_barrier_of_a_pause_beside_ramps(database):
    enqueue(database, 20000)
    operations = Operations(connector(database.url, "operator"), "public")
    windows = []
    chance = dice(7)

    def started(driver, leases, chance):
        """Half of the leases look at the holds once more, as those that could not start in time. The rest goes back."""
        if not leases or chance.random() < 0.5:
            return done(leases)
        begun = driver.queue.start(leases, str(uuid4()), [60.0] * len(leases))
        ids = {lease.id for lease in begun}
        return done(begun) + done([lease for lease in leases if lease.id not in ids], RELEASED)

    with Crowd(database, 4, started, most=10).at_work() as crowd:
        for _ in range(25):
            how = chance.choice(["p_canary => 5", "p_rate => 1000", "p_steps => '{50,100}', p_every => 60"])
            database.query(f"SELECT ramp_kind_v1('k', {how})")
            already = len(crowd.leased)
            eventually(lambda already=already: len(crowd.leased) > already, "a lease under the ramp")
            operations.pause_kind("k", None, None)
            assert operations.barrier(Scope("kind", "k"), None, lambda text: None)
            began = operations.now()
            time.sleep(chance.random() * 0.02)
            windows.append((began, operations.now()))
            if chance.random() < 0.5:
                operations.resume_kind("k", None)
    operations.close()
    for began, ended in windows:
        late = "SELECT count(*) FROM job_history WHERE leased_at BETWEEN %s AND %s"
        assert database.value(late, began, ended) == 0


def test_another_kind_is_leased_as_quickly_beside_a_ramp_that_is_shut(database):
    """Counted, not measured: a turn reads no more of the queue while a ramp shuts a kind out."""
    database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 20000)")
    enqueue(database, 400, kind="other")
    driver, holder = Driver(database, "k", "other"), Driver(database, "k")
    database.query("SELECT ramp_kind_v1('k', p_canary => 1)")
    assert len(holder.lease()) == 1
    reads = []
    for _ in range(2):
        with driver.counting(database) as counts:
            for _ in range(10):
                driver.queue.settle(done(driver.lease(most=10)))
        reads.append(counts["entries"])
        database.query("DELETE FROM jobs WHERE kind = 'k' AND state = 'queued'")
    assert reads[0] <= reads[1] + 100
    driver.queue.close()
    holder.queue.close()
