"""Each write of a worker is fenced by its lease's token and by the state, because an UPDATE by hand leaves the
token."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import uuid4

import psycopg
import pytest
from bare import BareWorker

from shithubd_worker.database.connection import connector
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.model import Finished, How, Identity, Outcome, Registration
from shithubd_worker.registry import Registry

OTHER = "00000000-0000-0000-0000-000000000000"
BIG = '{"text": "' + "x" * 4000 + '"}'


@pytest.fixture
def worker(any_database):
    """A registered worker, the session of its control thread, and the kind that it leases."""
    registry = Registry()
    registry.handler("k", lease_timeout=60)(lambda job, text="": None)
    identity = Identity(uuid4(), "web1", 1, "m", "b", 0, 0, None, None)
    beat = ControlSession(connector(any_database.url, "beat"), any_database.schema)
    beat.register(Registration(identity, ["k"]))
    bare = BareWorker(any_database.url, any_database.schema, identity.id)
    yield SimpleNamespace(id=identity.id, bare=bare, queue=bare.queue, beat=beat, kinds=list(registry.values()))
    bare.close()
    beat.close()


def all_of(database):
    return database.query("SELECT * FROM jobs ORDER BY id"), database.query("SELECT * FROM job_history")


def settled(worker, lease, how):
    lost, _ = worker.beat.settle([Finished(lease, Outcome(how, "e", 0.0), "7d", 1.0)])
    return not lost


def refuse_all(worker, lease):
    """All that a worker would write for this lease. Nothing of it is written."""
    assert not worker.beat.renew(lease, 600)
    try:
        assert worker.queue.start([lease], str(uuid4()), [60]) == []
    except psycopg.errors.CheckViolation as error:
        pytest.fail(f"a job that isn't leased was to have a lease: {error}")
    assert worker.queue.payloads([lease]) == {}
    assert worker.beat.release_strays(worker.id, lease.token) == []
    for how in (How.OK, How.RETRY, How.FAILED, How.POISON, How.RELEASED):
        assert not settled(worker, lease, how), how


def test_a_write_under_another_token_changes_nothing(any_database, worker):
    any_database.query("INSERT INTO jobs (kind, payload) VALUES ('k', %s)", BIG)
    first = worker.bare.lease(worker.kinds)
    assert worker.beat.renew(first, 60)
    assert list(worker.queue.payloads([first])) == [first.id]
    assert worker.beat.fate(first) == "leased"
    assert settled(worker, first, How.RELEASED)
    second = worker.bare.lease(worker.kinds)
    assert second.id == first.id
    before = all_of(any_database)
    refuse_all(worker, first)
    assert worker.beat.release_strays(worker.id, OTHER) == []
    assert all_of(any_database) == before
    # The outcome of each of the two leases can be told apart.
    assert (worker.beat.fate(first), worker.beat.fate(second)) == ("released", "leased")
    assert settled(worker, second, How.OK)
    assert (worker.beat.fate(first), worker.beat.fate(second)) == ("released", "ok")


@pytest.mark.parametrize("state", ["queued", "paused", "failed"])
def test_a_token_left_by_an_update_by_hand_allows_no_write(any_database, worker, state):
    any_database.query("INSERT INTO jobs (kind, payload) VALUES ('k', %s)", BIG)
    lease = worker.bare.lease(worker.kinds)
    # As on the drain page: the token stays.
    any_database.query("UPDATE jobs SET leased_at = NULL, leased_by = NULL, state = %s", state)
    before = all_of(any_database)
    refuse_all(worker, lease)
    assert worker.beat.fate(lease) is None
    assert all_of(any_database) == before


def test_jobs_that_are_not_due_are_not_leased_with_those_that_are(any_database, worker):
    any_database.query("INSERT INTO jobs (kind, run_at) VALUES ('k', now()), ('k', now() + interval '1 hour')")
    assert len(worker.bare.lease_all(worker.kinds, most=10)) == 1


def test_a_job_to_pass_over_is_not_leased(any_database, worker):
    (one, other) = (row[0] for row in any_database.query("INSERT INTO jobs (kind) VALUES ('k'), ('k') RETURNING id"))
    leased = any_database.query(
        "SELECT id FROM lease_v1(%s, %s, '{k}', '{0}', '{0}', '{-infinity}', '{0}', '{60}', '{9}', null, %s)"
        " WHERE id IS NOT NULL",
        worker.id,
        uuid4(),
        [one],
    )
    assert leased == [(other,)]


@pytest.mark.parametrize("suspect", ["alone", "crashes > 0"])
def test_a_job_that_may_have_killed_a_worker_is_leased_alone(any_database, worker, suspect):
    any_database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 3)")
    sets = "alone = true" if suspect == "alone" else "crashes = 1"
    (job,) = any_database.query(f"UPDATE jobs SET {sets} WHERE id = (SELECT min(id) FROM jobs) RETURNING id")[0]
    assert [lease.id for lease in worker.bare.lease_all(worker.kinds, most=10)] == [job]
    assert len(worker.bare.lease_all(worker.kinds, most=10)) == 2


def test_a_release_keeps_the_last_error_and_the_mark_alone(any_database, worker):
    any_database.query("INSERT INTO jobs (kind, last_error, alone) VALUES ('k', 'the last one', true)")
    lease = worker.bare.lease(worker.kinds)
    assert worker.bare.settle(lease, Outcome(How.RELEASED))
    assert any_database.query("SELECT attempts, last_error, alone FROM jobs") == [(0, "the last one", True)]
    lease = worker.bare.lease(worker.kinds)
    assert worker.bare.settle(lease, Outcome(How.RETRY, "another one", 60.0))
    assert any_database.query("SELECT attempts, last_error, alone FROM jobs") == [(1, "another one", False)]


@pytest.mark.parametrize("settles", [True, False])
def test_only_a_turn_with_a_settle_waits_for_the_disk(any_database, worker, settles):
    """A settle must survive a crash of the database. A job whose lease is lost is leased again."""
    any_database.query("INSERT INTO jobs (kind) VALUES ('k'), ('k')")
    lease = worker.bare.lease(worker.kinds)
    with any_database.connect() as connection, connection.transaction():
        connection.execute("SET LOCAL synchronous_commit = off")
        if settles:
            connection.execute(
                "SELECT settle_v1(%s, %s::uuid[], '{retry}', '{0}', '{e}', '{7d}')", ([lease.id], [lease.token])
            )
            assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
        else:
            connection.execute("SET LOCAL synchronous_commit = on")
        connection.execute(
            "SELECT * FROM lease_v1(%s, %s, '{k}', '{0}', '{0}', '{-infinity}', '{0}', '{60}', '{1}', null)",
            (worker.id, str(uuid4())),
        )
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on" if settles else "off",)


@pytest.mark.parametrize(
    "word", ["beat_v1(%s, 'running', null, null, null)", "renew_v1(1, %s, 60)"], ids=["beat_v1", "renew_v1"]
)
def test_what_lets_a_run_go_on_waits_for_the_disk(any_database, worker, word):
    """After a crash of the database the others must not count from an earlier beat or renewal than its worker does."""
    with any_database.connect() as connection, connection.transaction():
        connection.execute("SET LOCAL synchronous_commit = off")
        connection.execute(f"SELECT {word}", (worker.id,))
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
