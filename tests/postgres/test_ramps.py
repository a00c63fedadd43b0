"""Ramps: a paused kind lets some of its jobs through, and stops on its own when they fail."""

from __future__ import annotations

import threading
from uuid import uuid4

import psycopg
import pytest
from conftest import eventually
from drivers import OK, done, enqueue
from rows import audit
from stepped import SteppedClock

from shithubd_worker.model import How, Outcome

RETRY, FAILED, POISON = Outcome(How.RETRY, "x"), Outcome(How.FAILED, "x"), Outcome(How.POISON, "x")
RELEASED = Outcome(How.RELEASED)
FORCED = "UPDATE jobs SET leased_at = NULL, leased_by = NULL, state = 'queued' WHERE id = %s"  # of the drain page
LATER = "UPDATE ramps SET passed_at = passed_at - %s * interval '1 s', over_at = over_at - %s * interval '1 s'"


def ramp(database, kind="k", **options):
    """Set a ramp. Returns nothing."""
    names = ", ".join(f"p_{name} => %s" for name in options)
    database.query(f"SELECT ramp_kind_v1(%s, {names})", kind, *options.values())


def pass_time(database, seconds):
    """Let the steps of all ramps last for so long already."""
    database.query(LATER, seconds, seconds)


def shown(database, kind="k"):
    return database.value("SELECT shown_ramp_v1(hold_id) FROM ramps WHERE kind = %s", kind)


def state(database, kind="k"):
    """The state of the ramp; None: there is none."""
    found = database.query("SELECT shown_ramp_v1(hold_id)->>'state' FROM ramps WHERE kind = %s", kind)
    return found[0][0] if found else None


def test_a_canary_lets_exactly_its_number_through_until_they_ended(database, hire):
    first, second = hire(), hire()
    enqueue(database, 20)
    ramp(database, canary=3)
    leases = first.lease(most=2)
    assert (len(leases), len(second.lease(most=5)), len(first.lease())) == (2, 1, 0)
    answer = second.turn()
    assert (answer.leases, answer.shut, answer.again) == ([], ["k"], 0.5)
    assert first.turn(done(leases)).leases == []
    assert (state(database), shown(database)["ok"]) == ("canary", 2)


@pytest.mark.parametrize("retention", ["none", "7d"])
def test_a_canary_goes_on_when_all_of_its_jobs_ended_well(database, hire, retention):
    driver = hire()
    enqueue(database, 20)
    ramp(database, canary=3, steps=[50, 100], every=60.0)
    leases = driver.lease()
    assert (len(leases), state(database)) == (3, "canary")
    assert len(driver.turn(done(leases, retention=retention)).leases) == 17
    assert state(database) == "steps"


def test_a_canary_alone_ends_the_pause(database, hire):
    driver = hire()
    enqueue(database, 20)
    database.query("UPDATE jobs SET state = 'paused' WHERE id % 2 = 0")
    ramp(database, canary=1)
    assert len(driver.turn(done(driver.lease())).leases) == 9
    database.query("SELECT sweep_v1(%s)", driver.id)
    assert database.query("SELECT FROM holds") == database.query("SELECT FROM ramps") == []
    assert [row[0] for row in audit(database)] == ["ramp", "expire"]
    assert database.value("SELECT count(*) FROM jobs WHERE state = 'queued'") == 10


@pytest.mark.parametrize("outcome", [RETRY, FAILED, POISON], ids=lambda each: each.how.value)
def test_a_canary_job_that_does_not_end_well_stops_the_ramp(database, hire, outcome):
    driver, other = hire(), hire()
    enqueue(database, 20)
    ramp(database, canary=3, until="tomorrow")
    leases = driver.lease()
    driver.turn(done(leases[:2]) + done(leases[2:], outcome))
    assert driver.lease() == other.lease() == []
    told = shown(database)
    assert (told["state"], told["ok"], told["bad"]) == ("stopped", 2, 1)
    assert told["stopped"] == "a canary job did not end ok (3 of 3 ended, 1 of them badly)"
    assert database.value("SELECT until FROM holds") is None
    assert [(row[0], row[1], row[3]) for row in audit(database)][1:] == [("stop", "kind k", "shithubd-worker")]


def test_a_canary_job_whose_worker_dies_stops_the_ramp(database, hire):
    driver, other = hire(), hire()
    enqueue(database, 20)
    ramp(database, canary=3)
    driver.lease()
    database.query("SELECT release_worker_v1(%s, 'it died')", driver.id)
    assert other.lease() == []
    assert (state(database), shown(database)["bad"]) == ("stopped", 1)


def test_a_released_canary_job_is_leased_again(database, hire):
    driver = hire()
    enqueue(database, 20)
    ramp(database, canary=3)
    leases = driver.lease()
    again = driver.turn(done(leases, RELEASED)).leases
    assert (len(again), state(database), shown(database)["bad"]) == (3, "canary", 0)


def test_a_canary_job_that_an_operator_leases_out_again_keeps_no_slot(database, hire):
    driver, other = hire(), hire()
    enqueue(database, 20)
    ramp(database, canary=2)
    leases = driver.lease()
    database.query(FORCED, leases[0].id)
    assert len(other.lease()) == 1
    assert driver.turn(done(leases)).lost == {leases[0].id}
    assert (state(database), shown(database)["ok"]) == ("canary", 1)


def test_a_canary_counts_over_ranges_of_several_priorities(database, hire):
    driver = hire()
    database.query("INSERT INTO jobs (kind, priority) SELECT 'k', n % 3 FROM generate_series(1, 30) n")
    for _ in range(3):  # the worker knows the priorities from then on
        driver.queue.settle(done(driver.lease(most=1)))
    driver.selection.anew()
    ramp(database, canary=4)
    assert sum(len(driver.lease()) for _ in range(6)) == 4


def test_a_job_that_ends_while_a_lease_looks_takes_one_slot(database, hire):
    """A settle commits between what a lease reads first and what it reads last."""
    driver, other = hire(), hire()
    enqueue(database, 20)
    ramp(database, canary=2)
    (lease, _) = driver.lease()
    with database.connect() as slow:
        slow.execute("BEGIN")
        slow.execute(
            "SELECT settle_v1(ARRAY[%s::bigint], ARRAY[%s::uuid], '{ok}', '{0}', '{NULL}', '{7d}')",
            (lease.id, lease.token),
        )
        assert other.lease() == []
        slow.execute("COMMIT")
    assert other.lease() == []
    assert shown(database)["ok"] == 1


def test_a_ramp_counts_only_jobs_that_it_let_through(database, hire):
    driver, other = hire(), hire()
    enqueue(database, 20)
    old = driver.lease(most=2)
    ramp(database, canary=1)
    driver.queue.settle(done(old, FAILED))
    former = other.lease()
    assert (len(former), state(database)) == (1, "canary")
    ramp(database, canary=2)
    other.queue.settle(done(former, FAILED))
    assert len(driver.lease()) == 2
    assert (state(database), shown(database)["bad"]) == ("canary", 0)


def test_an_end_that_is_committed_after_its_ramp_was_replaced_counts_for_nobody(database, hire):
    driver, other = hire(), hire()
    enqueue(database, 20)
    ramp(database, canary=1)
    (lease,) = driver.lease()
    with database.connect() as slow:
        slow.execute("BEGIN")
        slow.execute(
            "SELECT settle_v1(ARRAY[%s::bigint], ARRAY[%s::uuid], '{failed}', '{0}', '{x}', '{7d}')",
            (lease.id, lease.token),
        )
        ramp(database, canary=2)
        slow.execute("COMMIT")
    assert len(other.lease()) == 2
    assert (state(database), shown(database)["bad"]) == ("canary", 0)


def test_a_job_from_before_the_ramp_does_not_start_beside_it(database, hire):
    driver = hire()
    enqueue(database, 20)
    old = driver.lease(most=5)
    ramp(database, canary=1)
    assert driver.queue.start(old, str(uuid4()), [60.0] * 5) == []
    driver.queue.settle(done(old, RELEASED))
    leases = driver.lease()
    assert len(driver.queue.start(leases, str(uuid4()), [60.0])) == 1


@pytest.mark.parametrize(("percent", "most"), [(1, 1), (25, 1), (26, 2), (50, 2), (75, 3), (99, 4), (100, 4)])
def test_a_step_lets_a_part_of_the_living_workers_work_on_the_kind(database, hire, percent, most):
    workers = [hire() for _ in range(4)]
    hire("other")
    database.query("UPDATE beats SET beat_at = now() - interval '1 h' WHERE worker_id = %s", hire().id)
    enqueue(database, 50)
    ramp(database, steps=[percent], every=60.0)
    held = [worker.lease(most=2) for worker in workers]
    assert [len(each) for each in held] == [2] * most + [0] * (4 - most)
    assert len(workers[0].lease(most=2)) == 2  # it works on the kind already
    workers[0].turn(done(held[0]))
    if most < 4:
        assert workers[3].lease() == []


def test_the_steps_go_on_by_time_beside_a_worker_that_is_busy_or_drained(database, hire):
    workers = [hire() for _ in range(4)]
    enqueue(database, 50)
    database.query("SELECT drain_v1('worker', %s, NULL)", str(workers[3].id))
    ramp(database, steps=[25, 50, 100], every=60.0)
    assert [len(worker.lease(most=1)) for worker in workers] == [1, 0, 0, 0]
    pass_time(database, 61)
    assert (shown(database)["step"], [len(w.lease(most=1)) for w in workers]) == (2, [1, 1, 0, 0])
    pass_time(database, 60)
    assert (shown(database)["step"], [len(w.lease(most=1)) for w in workers]) == (3, [1, 1, 1, 0])
    pass_time(database, 60)
    assert state(database) == "over"
    database.query("SELECT sweep_v1(%s)", workers[1].id)
    assert state(database) is None
    assert [row[0] for row in audit(database)] == ["drain", "ramp", "expire"]


def test_a_ramp_stops_at_the_ratio_when_ten_runs_ended(database, hire):
    driver = hire()
    enqueue(database, 100)
    ramp(database, steps=[100], every=600.0, stop_at=0.3)
    for ended in range(1, 11):
        leases = driver.lease(most=1)
        assert (len(leases), state(database)) == (1, "steps")
        driver.turn(done(leases, FAILED if ended in (1, 2, 3) else OK), most=0)
    assert driver.lease() == []
    assert shown(database)["stopped"] == "3 of 10 runs did not end ok (30 %; the limit is 30 %)"
    database.query("SELECT resume_kind_v1('k')")
    driver.selection.anew()
    assert len(driver.lease()) == 90
    assert database.value("SELECT count(*) FROM ramp_ends") == 0


def test_a_ramp_goes_on_below_the_ratio(database, hire):
    driver = hire()
    enqueue(database, 100)
    ramp(database, steps=[100], every=600.0, stop_at=0.31)
    leases = driver.lease(most=10)
    driver.turn(done(leases[:7]) + done(leases[7:], FAILED), most=0)
    assert len(driver.lease(most=1)) == 1
    assert state(database) == "steps"


def test_the_death_of_a_worker_with_many_jobs_is_one_bad_end(database, hire):
    driver, other = hire(), hire()
    enqueue(database, 100)
    ramp(database, steps=[100], every=600.0)
    other.turn(done(other.lease(most=20)), most=0)
    driver.lease(most=50)
    database.query("SELECT release_worker_v1(%s, 'it died')", driver.id)
    assert other.lease(most=1)
    assert (state(database), shown(database)["bad"]) == ("steps", 1)


def test_a_stopped_ramp_starts_nothing_and_records_no_further_ends(database, hire):
    driver, late = hire(), hire()
    enqueue(database, 100)
    ramp(database, steps=[100], every=600.0)
    leases, unstarted = driver.lease(most=10), late.lease(most=20)
    driver.turn(done(leases, FAILED), most=0)
    assert driver.lease() == late.lease() == []
    assert state(database) == "stopped"
    assert late.queue.start(unstarted, str(uuid4()), [60.0] * 20) == []
    late.turn(done(unstarted))
    assert database.value("SELECT count(*) FROM ramp_ends") == 0
    assert [row[0] for row in audit(database)] == ["ramp", "stop"]


def test_a_stop_waits_for_nobody_who_has_locked_the_hold(database, hire):
    driver = hire()
    enqueue(database, 20)
    ramp(database, canary=1)
    driver.queue.settle(done(driver.lease(), FAILED))
    with database.connect() as operator:
        operator.execute("BEGIN")
        operator.execute("SELECT FROM holds FOR UPDATE")
        assert driver.lease() == []
        assert state(database) == "canary"
        operator.execute("ROLLBACK")
    assert driver.lease() == []
    assert state(database) == "stopped"


def test_a_pause_of_the_kind_ends_its_ramp(database, hire):
    driver = hire()
    enqueue(database, 20)
    ramp(database, canary=5)
    leases = driver.lease(most=2)
    database.query("SELECT pause_kind_v1('k')")
    assert (driver.lease(), state(database)) == ([], None)
    assert driver.queue.start(leases, str(uuid4()), [60.0] * 2) == []
    driver.turn(done(leases))
    assert database.value("SELECT count(*) FROM ramp_ends") == 0


def test_the_end_of_a_ramp_takes_no_pause_away_that_was_set_meanwhile(database, hire):
    driver = hire()
    ramp(database, steps=[100], every=1.0)
    pass_time(database, 10)
    with database.connect() as operator:
        operator.execute("BEGIN")
        operator.execute("SELECT pause_kind_v1('k')")
        database.query("SELECT sweep_v1(%s)", driver.id)  # it waits for nobody
        operator.execute("COMMIT")
    database.query("SELECT sweep_v1(%s)", driver.id)
    assert database.value("SELECT count(*) FROM holds") == 1


def test_the_end_of_a_ramp_takes_no_pause_away_that_was_set_just_before(database, hire):
    """The pause is committed after the sweep has read the holds, and before it locks this one."""
    driver = hire()
    ramp(database, steps=[100], every=1.0)
    pass_time(database, 10)
    text = database.value("SELECT pg_get_functiondef('end_expired_holds_v1'::regproc)")
    assert "FOR UPDATE SKIP LOCKED LOOP" in text
    with database.connect() as operator, database.connect() as sweeper:
        sweeper.execute("BEGIN")
        operator.execute("BEGIN")
        operator.execute("SELECT pause_kind_v1('k')")
        database.query(text.replace("FOR UPDATE SKIP LOCKED LOOP", "FOR UPDATE LOOP"))  # it waits for the operator
        swept = threading.Thread(target=sweeper.execute, args=("SELECT end_expired_holds_v1()",))
        swept.start()
        eventually(lambda: database.query("SELECT 1 FROM pg_locks WHERE NOT granted"), "the sweep at the lock")
        operator.execute("COMMIT")
        swept.join(60)
        sweeper.execute("COMMIT")
    assert database.query("SELECT scope FROM holds") == [("kind",)]
    assert driver.lease() == []


def test_a_mirror_that_is_still_at_work_flips_nothing_beside_a_ramp(database):
    enqueue(database, 100)
    hold = database.value("SELECT (pause_kind_v1('k')).id")
    after = database.value("SELECT after FROM mirror_pause_v1(%s, p_limit => 10)", hold)
    ramp(database, canary=1)
    assert database.query("SELECT mirror_pause_v1(%s, %s::jsonb)", hold, psycopg.types.json.Jsonb(after)) == []
    assert database.value("SELECT count(*) FROM jobs WHERE state = 'paused'") == 10


def test_two_ramps_beside_each_other_have_their_own_rooms(database, hire):
    driver = hire("a", "b", "c")
    for kind in "abc":
        enqueue(database, 20, kind=kind)
    ramp(database, "a", canary=2)
    ramp(database, "b", canary=3)
    leases = [lease.kind for _ in range(6) for lease in driver.lease()]
    assert (leases.count("a"), leases.count("b"), leases.count("c")) == (2, 3, 20)
    a, b = (database.value("SELECT hold_id FROM ramps WHERE kind = %s", kind) for kind in "ab")
    assert a != b


def test_jobs_of_a_ramp_are_found_as_soon_as_there_is_room(database, hire):
    """A worker that was shut out moves no point past the jobs that wait."""
    driver, other = hire("a", "k"), hire("a", "k")
    enqueue(database, 20)
    driver.queue.settle(done(driver.lease(most=1)))
    ramp(database, canary=1)
    (canary,) = other.lease()
    for _ in range(3):
        assert driver.lease() == []
    enqueue(database, 3, kind="a")
    assert {lease.kind for lease in driver.lease()} == {"a"}
    other.turn(done([canary]), most=0)
    assert len(driver.lease()) == 18


def test_a_worker_that_is_shut_out_ends_its_walk_over_other_priorities(database, hire):
    driver, other = hire("k", "a"), hire("k", "a")
    enqueue(database, 5)
    ramp(database, canary=1)
    assert len(other.lease()) == 1
    database.query("INSERT INTO jobs (kind, priority, run_at) SELECT 'a', n, 'infinity' FROM generate_series(1, 300) n")
    assert driver.lease() == []
    database.query("INSERT INTO jobs (kind, priority) VALUES ('a', 0)")
    assert len(driver.lease()) == 1


@pytest.mark.parametrize("step", [-7200, 7200])
def test_a_canary_stays_exact_when_the_clock_is_set(database, hire, step):
    clock = SteppedClock(database)
    driver, other = hire(), hire()
    enqueue(database, 50, run_at="now() - interval '1 day'")
    ramp(database, canary=3)
    first = driver.lease(most=1)
    clock.step(step)
    driver.selection.anew()
    other.selection.anew()
    more = driver.lease(most=1) + other.lease()
    assert len(more) == 2
    assert driver.lease() == other.lease() == []
    driver.turn(done(first + more), most=0)
    assert driver.lease(most=1)
    assert state(database) == "over"


def test_a_clock_that_is_set_back_lets_the_steps_begin_again(database, hire):
    clock = SteppedClock(database)
    workers = [hire() for _ in range(4)]
    enqueue(database, 50, run_at="now() - interval '1 day'")
    ramp(database, steps=[25, 100], every=60.0)
    pass_time(database, 61)
    workers[0].turn(done(workers[0].lease(most=1)), most=0)
    clock.step(-7200)
    database.query("UPDATE beats SET beat_at = stepped_clock()")
    for worker in workers:
        worker.selection.anew()
    assert [len(worker.lease(most=1)) for worker in workers] == [1, 0, 0, 0]
    assert shown(database)["step"] == 1
    clock.step(61)
    assert len(workers[1].lease(most=1)) == 1


REFUSED = [
    {},
    {"canary": 0},
    {"canary": 1001},
    {"steps": [10]},
    {"steps": [], "every": 1.0},
    {"steps": [10, 10], "every": 1.0},
    pytest.param({"steps": [50, 10], "every": 1.0}, id="falling"),
    {"steps": [0, 10], "every": 1.0},
    {"steps": [101], "every": 1.0},
    {"steps": [10, None], "every": 1.0},
    {"steps": [10], "every": 0.5},
    {"steps": [10], "every": -1e300},
    {"steps": [10], "every": float("nan")},
    {"steps": [10], "every": float("inf")},
    {"rate": 0.0},
    {"rate": 1000001.0},
    {"rate": float("nan")},
    {"canary": 1, "stop_at": 0.0},
    {"canary": 1, "stop_at": 1.1},
    {"canary": 1, "stop_at": None},
    {"canary": 1, "until": "yesterday"},
]


@pytest.mark.parametrize("options", REFUSED, ids=str)
def test_a_ramp_that_makes_no_sense_is_refused(database, options):
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        ramp(database, **(options or {"canary": None}))
    assert database.query("SELECT FROM holds") == []


def test_a_lease_waits_for_no_ramp_whose_pause_is_over(database, hire):
    driver = hire("k", "over")
    for kind in ("k", "over"):
        enqueue(database, 1, kind=kind)
        ramp(database, kind, rate=100.0)
    database.query("UPDATE holds SET until = now() - interval '1 s' WHERE target = 'over'")
    driver.queue.connection.execute("SET lock_timeout = '1s'")
    with database.connect() as other, other.transaction():
        other.execute("SELECT FROM ramps WHERE kind = 'over' FOR UPDATE")
        assert {each.kind for each in driver.lease()} == {"k", "over"}
