"""What ramps cost the turns of all workers: counted, not measured."""

from __future__ import annotations

import time

import pytest
from drivers import done, enqueue

MANY_ENDS = "UPDATE ramps SET ok = 1000, filled_at = clock_timestamp()"


def blocks_of(connection, call, *arguments):
    """How many blocks a call of a function reads, in the tables and in memory."""
    plan = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT {call}", arguments).fetchone()[0]
    return plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]


@pytest.fixture
def snapshot(database):
    """Somebody holds a snapshot, as a dump does. So vacuum removes no dead row."""
    with database.connect() as holder:
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT FROM jobs")
        yield
        holder.execute("ROLLBACK")


def test_the_ends_of_many_runs_cost_a_lease_nothing_beside_a_held_snapshot(database, hire, snapshot):
    driver = hire()
    database.query("SELECT ramp_kind_v1('k', p_steps => '{100}', p_every => 600)")
    with database.connect() as leasing:
        costs = []
        for ends in (1, 50000, 1, 1):
            insert = "INSERT INTO ramp_ends (ramp, ok, bad) SELECT id, 1, 0 FROM ramps, generate_series(1, %s)"
            database.query(insert, ends)
            database.query("UPDATE ramps SET filled_at = now() - interval '1 s'")
            costs.append(blocks_of(leasing, "ramp_rooms_v1(%s, '{k}')", driver.id))
    assert costs[-1] < 150
    assert database.value("SELECT (shown_ramp_v1(hold_id)->>'ok')::integer FROM ramps") == 50003


def test_a_settle_of_another_kind_reads_no_ramp_that_changed_often_beside_a_held_snapshot(database, hire, snapshot):
    other = hire("other")
    enqueue(database, 30, kind="other")
    first, second, third = [lease for _ in range(3) for lease in other.lease(most=1)]
    database.query("SELECT ramp_kind_v1('k', p_rate => 1000)")
    settle = "settle_v1(ARRAY[%s::bigint], ARRAY[%s::uuid], '{ok}', '{0}', '{NULL}', '{7d}')"
    with database.connect() as session:
        costs = [blocks_of(session, settle, each.id, each.token) for each in (first, second)]
        session.execute("DO $$ BEGIN FOR n IN 1 .. 4000 LOOP UPDATE ramps SET tokens = 1; COMMIT; END LOOP; END $$")
        costs.append(blocks_of(session, settle, third.id, third.token))
    assert costs[2] <= costs[1] + 10


def test_a_ramp_with_many_ends_is_changed_ten_times_a_second(database):
    """Each change leaves a dead row."""
    database.query("SELECT ramp_kind_v1('k', p_steps => '{100}', p_every => 600)")
    database.query(MANY_ENDS)
    forward = "INSERT INTO ramp_ends (ramp, ok, bad) SELECT id, 1, 0 FROM ramps; PERFORM ramp_forward_v1(id) FROM ramps"
    with database.connect() as worker:
        began = time.monotonic()
        worker.execute(f"DO $$ BEGIN FOR n IN 1 .. 500 LOOP {forward}; COMMIT; END LOOP; END $$")
        seconds = time.monotonic() - began
        worker.execute("SELECT pg_stat_force_next_flush()")
    assert database.value("SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'ramps'") <= 10 * seconds + 3
    assert database.value("SELECT (shown_ramp_v1(hold_id)->>'ok')::integer FROM ramps") == 1500


@pytest.mark.parametrize(("how", "room"), [("rate", 1), ("canary", 1), ("canary", 3)])
def test_a_ramp_with_little_room_leaves_the_rest_of_a_batch_to_other_kinds(database, hire, how, room):
    driver = hire("k", "other")
    enqueue(database, 50)
    enqueue(database, 50, kind="other")
    database.query(f"SELECT ramp_kind_v1('k', p_{how} => %s)", 0.01 if how == "rate" else room)
    kinds = [lease.kind for lease in driver.lease(most=10)]
    assert (kinds.count("k"), kinds.count("other")) == (room, 10 - room)
    assert [lease.kind for lease in driver.lease(most=10)] == ["other"] * 10


def test_jobs_behind_the_room_of_a_ramp_are_found_in_their_order(database, hire):
    driver = hire("k", "other")
    enqueue(database, 12, run_at="now() - interval '1 minute'")
    database.query("SELECT ramp_kind_v1('k', p_canary => 2)")
    found = []
    leases = driver.lease(most=5)
    found += leases
    driver.turn(done(leases), most=0)
    for _ in range(2):
        leases = driver.lease(most=5)
        found += leases
        driver.queue.settle(done(leases))
    assert [lease.id for lease in found] == sorted(lease.id for lease in found)
    assert len(found) == 12


def test_a_ramp_stops_though_no_worker_of_its_kind_is_left(database, hire):
    driver, other = hire(), hire("other")
    enqueue(database, 20)
    database.query("SELECT ramp_kind_v1('k', p_canary => 1)")
    driver.lease()
    database.query("SELECT release_worker_v1(%s, 'it died')", driver.id)
    database.query("SELECT sweep_v1(%s, p_back => 0)", other.id)
    assert database.value("SELECT stopped FROM ramps") == "a canary job did not end ok (1 of 1 ended, 1 of them badly)"
    assert database.value("SELECT count(*) FROM audit WHERE action = 'stop'") == 1
