"""A sweep at an operator's word (sweep_leases_v1): what it takes, what it leaves and why, its record, and its locks."""

from __future__ import annotations

import psycopg
import pytest
from conftest import eventually
from test_sweep_silent import Fleet

SWEEP = (
    "SELECT * FROM sweep_leases_v1('a fire', 'alice', p_stale_after => %s, p_accept_second_run => %s, p_delay => %s)"
)


class Word(Fleet):
    def swept(self, stale_after=300.0, accept=False, delay=0.0):
        """The ids that one call returns, the workers that had not expired, and the audit row."""
        ((returned, unexpired, workers, audit),) = self.database.query(SWEEP, stale_after, accept, delay)
        return [each["id"] for each in returned], unexpired, workers, audit


@pytest.fixture
def word(database):
    word = Word(database)
    yield word
    word.close()


def test_below_the_promise_of_a_worker_nothing_is_taken_and_the_list_says_why_and_how_long(word):
    worker, (job,) = word.worker(silent=120.0, gives_up=300.0)
    returned, (kept,), workers, audit = word.swept(60.0)
    assert (returned, workers, audit) == ([], [], None)
    assert (kept["worker"], kept["leases"], kept["gives_up"]) == (str(worker), 1, 300.0)
    assert 120 <= kept["silent"] < 180
    returned, unexpired, (silent,), _ = word.swept(60.0, accept=True)
    assert (returned, unexpired, silent["id"]) == ([job], [], str(worker))
    assert silent["seconds"] == pytest.approx(120, abs=60)
    assert word.database.query("SELECT state, crashes, attempts FROM jobs") == [("queued", 1, 0)]


def test_a_worker_of_a_former_release_is_taken_only_if_a_second_run_is_accepted(word):
    _, jobs = word.worker(silent=4000.0, leased=4000.0, gives_up=None)
    returned, (kept,), *_ = word.swept(60.0)
    assert (returned, kept["gives_up"]) == ([], None)
    assert word.swept(60.0, accept=True)[0] == jobs


def test_what_was_leased_just_now_is_not_taken_even_if_a_second_run_is_accepted(word):
    word.worker(silent=4000.0, leased=10.0)
    assert word.swept(60.0, accept=True)[0] == []


def test_the_record_of_a_sweep_says_how_it_was_asked_for_and_no_undo_gives_a_lease_back(word):
    _, jobs = word.worker(jobs=2)
    returned, _, _, audit = word.swept(60.0, accept=True, delay=90.0)
    assert returned == jobs
    assert word.database.query("SELECT id, action, actor, reason, jobs, detail - 'from' FROM audit") == [
        (audit, "sweep", "alice", "a fire", 2, {"stale_after": 60, "accept_second_run": True, "delay": 90})
    ]
    assert word.database.value("SELECT min(run_at) > clock_timestamp() + interval '60 s' FROM jobs")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="a lease that was ended cannot be given back"):
        word.database.query("SELECT undo_jobs(%s, 'no fire', 'alice')", audit)


def test_a_sweep_of_thousands_of_leases_goes_in_batches_under_one_audit_row(word):
    for _ in range(3):
        word.worker(jobs=1500)
    audit, taken = None, []
    while True:
        ((returned, *_, audit),) = word.database.query(
            "SELECT * FROM sweep_leases_v1('a fire', 'alice', NULL, %s, 2000, 300)", audit
        )
        if not returned:
            break
        taken.append(len(returned))
    assert taken == [3000, 1500]
    assert word.database.query("SELECT jobs FROM audit") == [(4500,)]
    assert word.database.value("SELECT count(*) FROM workers") == 0


def test_a_sweep_by_word_waits_for_another_sweeper_and_no_longer_than_for_any_lock(word):
    _, jobs = word.worker()
    with psycopg.connect(word.database.url) as other, psycopg.connect(word.database.url) as asking:
        other.execute("SELECT FROM sweeper FOR UPDATE")
        asking.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            asking.execute("SELECT sweep_leases_v1()")
    assert word.swept()[0] == jobs


@pytest.mark.parametrize("role", ["shithub_operator", "shithub_enqueue", "shithub_metrics"])
@pytest.mark.parametrize(
    "lock", ["SELECT FROM sweeper FOR UPDATE", "SELECT FROM sweeper FOR SHARE", "LOCK TABLE sweeper IN SHARE MODE"]
)
def test_no_stranger_can_keep_a_sweeper_out(word, login, role, lock):
    with psycopg.connect(login(role)) as stranger, pytest.raises(psycopg.errors.InsufficientPrivilege):
        stranger.execute(lock)


def test_a_worker_of_version_9_registers_and_sweeps_beside_the_new_schema(word):
    """It calls register_v1 with 12 arguments and sweep_v1 with 7. It promises nothing, so no sweep for the silent takes
    its jobs."""
    word.database.query("SELECT register_v1(gen_random_uuid(), 'old', 7, 'm', 'b', 1, 1, NULL, NULL, '0.9', 9, '{k}')")
    assert word.database.query("SELECT gives_up FROM workers") == [(None,)]
    word.database.query("UPDATE beats SET beat_at = clock_timestamp() - interval '1 h'")
    _, jobs = word.worker()
    word.database.query("UPDATE jobs SET lease_expires_at = clock_timestamp() - interval '1 s'")
    taken = "SELECT id, outcome FROM sweep_v1(gen_random_uuid(), NULL, '{}'::uuid[], 2000, 1e12, '{k}', '{300}')"
    assert word.database.query(taken) == [(jobs[0], "crashed")]
    word.sweep(threshold=10.0)
    assert word.database.value("SELECT count(*) FROM workers WHERE host = 'old'") == 1
    eventually(lambda: word.database.value("SELECT run_at <= clock_timestamp() FROM jobs"), "its job is due at once")
