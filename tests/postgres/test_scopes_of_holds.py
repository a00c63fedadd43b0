"""A hold covers exactly its scope, until exactly its end: for the lease, for a second look, and for a command that
waits."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import uuid4

import pytest
from bare import BareWorker

from shithubd_worker.database.connection import connector
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.model import Identity, Registration
from shithubd_worker.registry import Registry

# Names that are the beginning, the end or a part of one another.
WORKERS = {"one": ("web1", "w@1.service"), "ten": ("web10", "w@10.service"), "my": ("my-web1", "my-w@1.service")}
SCOPES = [
    ("fleet", "", {"one", "ten", "my"}),
    ("host", "web1", {"one"}),
    ("host", "web10", {"ten"}),
    ("host", "WEB1", set()),
    ("host", "web", set()),
    ("unit", "w@1.service", {"one"}),
    ("unit", "w@1", set()),
    ("worker", "one", {"one"}),
    ("kind", "k", {"one", "ten", "my"}),
    ("kind", "k2", set()),
]
STANDING = "UPDATE holds SET until = clock_timestamp() + interval '20 seconds'"
ENDED = "UPDATE holds SET until = clock_timestamp()"


@pytest.fixture
def fleet(database):
    registry = Registry()
    registry.handler("k")(lambda job: None)
    beat = ControlSession(connector(database.url, "beat"), database.schema)
    fleet = {}
    for name, (host, unit) in WORKERS.items():
        identity = Identity(uuid4(), host, 1, "m", "b", 0, 0, unit, None)
        beat.register(Registration(identity, ["k"]))
        bare = BareWorker(database.url, database.schema, identity.id)
        fleet[name] = SimpleNamespace(id=identity.id, bare=bare, lease=lambda bare=bare: bare.lease(registry.values()))
    yield SimpleNamespace(workers=fleet, beat=beat)
    for worker in fleet.values():
        worker.bare.close()
    beat.close()


def hold(database, fleet, scope, target):
    """Set a hold. Returns its target."""
    target = str(fleet.workers[target].id) if scope == "worker" else target
    function = "pause_kind_v1(%s)" if scope == "kind" else "drain_v1(%s, %s)"
    database.query(f"SELECT {function}", *([target] if scope == "kind" else [scope, target]))
    return target


def held(fleet, leases):
    """Which of these workers may not lease, or start the jobs that they have."""
    lease = {name for name, worker in fleet.workers.items() if worker.lease() is None}
    start = {
        name
        for name, worker in fleet.workers.items()
        if not worker.bare.queue.start([leases[name]], leases[name].token, [60.0])
    }
    assert lease == start
    return lease


@pytest.mark.parametrize(("scope", "target", "who"), SCOPES)
def test_a_hold_covers_exactly_its_scope_until_its_end(database, fleet, scope, target, who):
    database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 30)")
    leases = {name: worker.lease() for name, worker in fleet.workers.items()}
    target = hold(database, fleet, scope, target)
    assert held(fleet, leases) == who
    in_scope = {job for (job,) in database.query("SELECT id FROM in_scope_v1(%s, %s)", scope, target)}
    assert {name for name, lease in leases.items() if lease.id in in_scope} == who
    # A hold whose end is still to come holds, and a hold whose end has passed does not.
    database.query(STANDING)
    assert held(fleet, leases) == who
    told = {name for name, worker in fleet.workers.items() if fleet.beat.beat(worker.id, "idle", None, None, None)}
    assert told == (who if scope != "kind" else set())
    database.query(ENDED)
    assert held(fleet, leases) == set()
    assert not any(fleet.beat.beat(worker.id, "idle", None, None, None) for worker in fleet.workers.values())


@pytest.mark.parametrize("scope", ["fleet", "kind"])
def test_every_count_and_list_of_holds_leaves_out_ended_ones(database, fleet, scope):
    database.query("INSERT INTO jobs (kind) VALUES ('k')")
    hold(database, fleet, scope, "k" if scope == "kind" else "")
    for sets, stands in ((STANDING, 1), (ENDED, 0)):
        database.query(sets)
        status = database.value("SELECT status_v1()")
        assert (status["held"], len(status["holds"])) == (stands, stands)
        assert [kind["runnable"] for kind in status["kinds"]] == [1 - stands]
        gauges = database.value("SELECT queue_gauges_v1()")
        assert gauges["holds"] == ({scope: 1} if stands else {})
        assert list(gauges["paused"]) == (["k"] if stands and scope == "kind" else [])
        pauses = database.query("SELECT kind FROM pauses_v1()")
        assert pauses == ([("k",)] if stands and scope == "kind" else [])


def test_a_second_look_takes_the_gate_as_a_lease_does(database, fleet):
    """A barrier waits for the lock of such a look. So the look sees a hold that is set meanwhile, or the barrier waits
    for it."""
    database.query("INSERT INTO jobs (kind) VALUES ('k')")
    worker = fleet.workers["one"]
    lease = worker.lease()
    asks = "SELECT mode FROM pg_locks WHERE relation = 'gate'::regclass AND pid = pg_backend_pid()"
    for call, arguments in (
        ("start_v1(%s, %s, %s, %s, '{60}')", (worker.id, [lease.id], lease.token, str(uuid4()))),
        (
            "lease_v1(%s, %s, '{k}', '{0}', '{0}', '{-infinity}', '{0}', '{60}', '{1}', null)",
            (worker.id, str(uuid4())),
        ),
    ):
        with database.connect() as connection, connection.transaction():
            connection.execute(f"SELECT * FROM {call}", arguments)
            assert connection.execute(asks).fetchall() == [("RowShareLock",)]


def test_a_pause_flips_the_waiting_jobs_and_its_end_flips_no_other_kind(database):
    """Jobs that come later stay queued. The hold keeps them from a lease."""
    database.query(
        "INSERT INTO jobs (kind, state) VALUES ('k', 'queued'), ('k2', 'queued'), ('j', 'paused'), ('k2', 'paused')"
    )
    number = database.value("SELECT id FROM pause_kind_v1('k')")
    database.query("INSERT INTO jobs (kind) VALUES ('k')")
    assert database.query("SELECT flipped, refused FROM mirror_pause_v1(%s)", number) == [(1, 0)]
    states = "SELECT kind, state FROM jobs ORDER BY id"
    after = [("k", "paused"), ("k2", "queued"), ("j", "paused"), ("k2", "paused"), ("k", "queued")]
    assert database.query(states) == after
    database.query("SELECT resume_kind_v1('k')")
    assert database.query("SELECT flipped, refused FROM unpause_v1('k')") == [(1, 0)]
    assert database.query(states) == [("k", "queued"), *after[1:]]
