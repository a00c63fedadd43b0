"""An operator takes back the jobs of workers that are gone.

A worker that beats keeps its jobs, unless the operator accepts a second run. The former owner writes nothing more of
what was taken from it.
"""

from __future__ import annotations

import random
import threading
from uuid import uuid4

import psycopg
import pytest
from conftest import eventually, new_database
from rows import EFFECTS, add_job, add_worker, enqueue, history, job, state
from test_returning import leased, locked

UNLOCK = "SELECT id, state, attempts, crashes, alone, last_error FROM force_unlock_workers(%s, reason => 'fire')"
FOREVER = "2100-01-01"

TABLES = "jobs, job_history, workers, beats, audit, audit_chunks, leases_returned"


@pytest.fixture(scope="module", params=["server", "embedded_server"])
def one_database(request):
    """One database on each of the servers, for all of these tests."""
    yield from new_database(request.getfixturevalue(request.param))


@pytest.fixture
def any_database(one_database):
    """Its tables are empty."""
    one_database.query(f"TRUNCATE {TABLES}")
    return one_database


def holding(database, host="web3", pid=4711, *, jobs=1, silent=True):
    """A worker, and the jobs that it has leased."""
    worker = add_worker(database, host, pid, silent=silent)
    ids = leased(database, jobs, worker, expires=FOREVER)
    database.query("UPDATE jobs SET leased_by = %s WHERE worker_id = %s", f"{host}:{pid}", worker)
    return worker, ids


def everything(database):
    """All that an unlock may change."""
    return [
        database.query(f"SELECT t::text FROM {table} t ORDER BY 1")
        for table in ("jobs", "workers", "audit", "audit_chunks", "job_history", "leases_returned")
    ]


def unlocked(database, *names, accept=False):
    """The ids that came back."""
    call = "SELECT id FROM force_unlock_workers(%s, %s, 'fire', 'alice') ORDER BY id"
    return [job for (job,) in database.query(call, list(names), accept)]


@pytest.mark.parametrize("named", [str, lambda worker: str(worker).upper(), lambda _: "web3:4711"])
def test_the_jobs_of_a_dead_worker_come_back_and_its_row_goes(any_database, named):
    worker, (one,) = holding(any_database)
    _, kept = holding(any_database, "web4", silent=True)
    face = "SELECT job_face_v1(j) FROM jobs j WHERE id = %s"
    before = any_database.value(face, one)
    assert unlocked(any_database, "nobody:1", named(worker), named(worker)) == [one]
    assert job(any_database, one) == ("queued", 0, 1, "its worker was unlocked by alice: fire", None)
    assert history(any_database, one) == ["crashed"]
    assert any_database.value("SELECT crashed FROM leases_returned WHERE kind = 'k'") == 1
    assert state(any_database, kept[0]) == ("processing", 1)
    assert any_database.query("SELECT host FROM workers") == [("web4",)]
    (row,) = any_database.query("SELECT action, actor, reason, jobs, job_ids, detail->'workers'->0->>'id' FROM audit")
    assert row == ("unlock", "alice", "fire", 1, [one], str(worker))
    after = any_database.value(face, one)
    recorded = any_database.query("SELECT job_ids, before, after, payloads FROM audit_chunks")
    assert recorded == [([one], [before], [after], [None])]
    again = everything(any_database)
    assert unlocked(any_database, "nobody:1", named(worker)) == []
    assert everything(any_database) == again


def test_each_of_several_jobs_of_a_worker_runs_alone_the_next_time_and_no_crash_is_counted(any_database):
    _, ids = holding(any_database, jobs=3)
    said = "its worker was unlocked by postgres: fire; it held 3 jobs, so each is leased alone now"
    assert any_database.query(UNLOCK, ["web3:4711"]) == [(one, "queued", 0, 0, True, said) for one in ids]


def test_a_job_that_kills_its_worker_fails_at_the_third_unlock(any_database):
    one = add_job(any_database)
    for crash in (1, 2, 3):
        worker = add_worker(any_database, "web3", 4711, silent=True)
        any_database.query(
            "UPDATE jobs SET state = 'processing', attempts = 1, leased_by = 'web3:4711', leased_at = now(),"
            " lease_token = gen_random_uuid(), lease_expires_at = 'tomorrow', worker_id = %s",
            worker,
        )
        assert unlocked(any_database, str(worker)) == [one]
        assert job(any_database, one)[:3] == ("failed" if crash == 3 else "queued", 0, crash)
    assert job(any_database, one)[3] == "poison: crash number 3: its worker was unlocked by alice: fire"


def test_a_dead_worker_without_jobs_leaves_the_list_and_that_is_recorded(any_database):
    worker = add_worker(any_database, "web3", 4711, silent=True)
    assert unlocked(any_database, "web3:4711") == []
    assert any_database.query("SELECT FROM workers") == []
    assert any_database.query("SELECT action, jobs, detail->'workers'->0->>'id' FROM audit") == [
        ("unlock", 0, str(worker))
    ]


def test_if_one_worker_beats_nothing_changes_also_for_the_dead_ones(any_database):
    worker, _ = holding(any_database, "web1", 1, silent=False)
    holding(any_database)
    before = everything(any_database)
    for named in ("web1:1", str(worker)):
        with pytest.raises(psycopg.errors.ObjectInUse, match=rf"a worker lives: web1:1 \(uuid {worker}\) beat \d"):
            unlocked(any_database, "web3:4711", named)
        assert everything(any_database) == before


def test_a_worker_whose_beat_lies_in_the_future_counts_as_dead_like_everywhere(any_database):
    worker, (one,) = holding(any_database)
    any_database.query("UPDATE beats SET beat_at = now() + interval '1 hour' WHERE worker_id = %s", worker)
    assert unlocked(any_database, "web3:4711") == [one]


def test_who_accepts_a_second_run_gets_the_jobs_of_a_living_worker_and_its_row_stays(any_database):
    worker, (one,) = holding(any_database, silent=False)
    token = any_database.value("SELECT lease_token FROM jobs")
    assert unlocked(any_database, "web3:4711", accept=True) == [one]
    assert any_database.query("SELECT id FROM workers") == [(worker,)]
    lost = "SELECT settle_v1(ARRAY[%s::bigint], ARRAY[%s::uuid], '{ok}', '{0}', '{null}', '{7d}')"
    assert any_database.value(lost, one, token) == one
    assert state(any_database, one) == ("queued", 0)
    assert any_database.value("SELECT detail->'accept_second_run' FROM audit") is True


@pytest.mark.parametrize("accept", [False, True])
def test_a_pid_that_is_used_again_never_takes_the_jobs_of_the_living_worker(any_database, accept):
    dead, (old,) = holding(any_database)
    living, (new,) = holding(any_database, silent=False)
    with pytest.raises(psycopg.errors.ObjectInUse, match="web3:4711 is the name of 2 workers") as refused:
        unlocked(any_database, "web3:4711", accept=accept)
    assert f"{dead} is silent" in str(refused.value)
    assert f"{living} beats" in str(refused.value)
    assert unlocked(any_database, str(dead)) == [old]
    assert state(any_database, new) == ("processing", 1)
    if accept:  # the name is clear again
        assert unlocked(any_database, "web3:4711", accept=True) == [new]


def test_two_dead_workers_of_one_name_are_both_meant(any_database):
    jobs = [one for _ in range(2) for one in holding(any_database)[1]]
    assert unlocked(any_database, "web3:4711") == jobs
    assert any_database.query("SELECT crashes FROM jobs") == [(1,), (1,)]  # each of them held one job


@pytest.mark.parametrize("whose", ["of a worker", "of nobody"])
def test_leases_whose_worker_has_no_row_any_more_are_found_by_their_owners_name(any_database, whose):
    worker, (one,) = holding(any_database)
    any_database.query("DELETE FROM workers")
    if whose == "of nobody":
        any_database.query("UPDATE jobs SET worker_id = NULL")
        living, _ = holding(any_database, silent=False)
        with pytest.raises(psycopg.errors.ObjectInUse, match="none is silent"):
            unlocked(any_database, "web3:4711", accept=True)
        any_database.query("DELETE FROM workers WHERE id = %s", living)
        any_database.query("DELETE FROM jobs WHERE worker_id = %s", living)
    assert unlocked(any_database, "web3:4711" if whose == "of nobody" else str(worker)) == [one]


def test_odd_names_mean_nothing(any_database):
    holding(any_database)
    before = everything(any_database)
    odd = ["", "%", "web3:%", "web3", ":4711", "web3:4711 ", "WEB3:4711", "{}", "\x1b[31m", "0", str(uuid4()), None]
    assert unlocked(any_database, *odd) == []
    assert unlocked(any_database) == []
    assert any_database.query(UNLOCK, None) == []
    assert everything(any_database) == before


def test_a_locked_job_is_left_and_its_workers_row_stays_until_the_next_time(any_database):
    _, (held, free) = holding(any_database, jobs=2)
    with locked(any_database, "SELECT FROM jobs WHERE id = %s FOR UPDATE", held):
        assert unlocked(any_database, "web3:4711") == [free]
        assert any_database.value("SELECT left_over FROM unlock_workers_v1(ARRAY['web3:4711'], false, '', 'a')") == 1
        assert any_database.query("SELECT host FROM workers") == [("web3",)]
    assert unlocked(any_database, "web3:4711") == [held]
    assert any_database.query("SELECT host FROM workers") == []


def test_a_job_that_the_application_refuses_to_queue_keeps_no_other_from_returning(any_database):
    _, (refused, free) = holding(any_database, jobs=2)
    any_database.query(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;"
        f"CREATE TRIGGER no BEFORE UPDATE ON jobs FOR EACH ROW WHEN (old.id = {refused}) EXECUTE FUNCTION no()"
    )
    try:
        assert unlocked(any_database, "web3:4711") == [free]
    finally:
        any_database.query("DROP FUNCTION no CASCADE")
    assert state(any_database, refused) == ("processing", 1)
    assert any_database.query("SELECT jobs, job_ids FROM audit") == [(1, [free])]
    assert any_database.query("SELECT host FROM workers") == [("web3",)]


def test_an_old_snapshot_that_may_not_show_the_last_beats_is_refused(any_database):
    holding(any_database)
    with any_database.connect() as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        with pytest.raises(psycopg.errors.RaiseException):
            connection.execute("SELECT * FROM force_unlock_workers(ARRAY['web3:4711'])")


def test_it_takes_part_in_the_callers_transaction(any_database):
    holding(any_database)
    before = everything(any_database)
    with any_database.connect() as connection, connection.transaction(force_rollback=True):
        assert connection.execute(UNLOCK, [["web3:4711"]]).fetchall() != []
    assert everything(any_database) == before


def test_a_running_worker_writes_nothing_of_the_jobs_that_were_taken_from_it(database, start_worker, door):
    database.query(EFFECTS)
    one = enqueue(database, "test.transaction", door=door.path)
    worker = start_worker()
    eventually(lambda: state(database, one) == ("processing", 1))
    (name,) = database.query("SELECT leased_by FROM jobs")[0]
    with pytest.raises(psycopg.errors.ObjectInUse):
        unlocked(database, name)
    database.query("INSERT INTO holds (scope, target, actor) VALUES ('fleet', '', 'a test')")
    assert unlocked(database, name, accept=True) == [one]
    door.open()
    eventually(lambda: "lost" in worker.log, "the fence")
    assert state(database, one) == ("queued", 0)
    assert database.query("SELECT FROM effects") == []
    database.query("DELETE FROM holds")
    eventually(lambda: state(database, one) is None, "the second run")
    assert database.value("SELECT count(*) FROM effects") == 1
    assert worker.terminate() == 0


RIVALS = {
    "its own settle": "SELECT settle_v1({jobs}, {tokens}, '{{ok}}', '{{0}}', '{{null}}', '{{7d}}')",
    "its own retry": "SELECT settle_v1({jobs}, {tokens}, '{{retry}}', '{{0}}', '{{x}}', '{{7d}}')",
    "its own beat": "SELECT beat_v1('{worker}', 'running', NULL, NULL, NULL)",
    "a sweep": "SELECT sweep_v1(NULL)",
    "its host": "SELECT release_worker_v1('{worker}', 'its pid is gone')",
    "another unlock": "SELECT force_unlock_workers(ARRAY['{worker}'])",
    "its goodbye": "SELECT unregister_v1('{worker}', '{{}}')",
}


@pytest.mark.parametrize("rival", RIVALS)
def test_of_two_who_take_the_same_jobs_at_once_each_job_has_one(any_database, rival):
    """No matter who comes first: each lease ends once, record and state agree, and nothing fails."""
    dice = random.Random(rival)
    for _ in range(12):
        any_database.query(f"TRUNCATE {TABLES}")
        worker, ids = holding(any_database, jobs=dice.choice([1, 3]))
        any_database.query("UPDATE jobs SET lease_expires_at = now()")
        tokens = any_database.query("SELECT lease_token FROM jobs ORDER BY id")
        text = RIVALS[rival].format(
            jobs=f"ARRAY{ids}::bigint[]", tokens=f"ARRAY{[str(t) for (t,) in tokens]}::uuid[]", worker=worker
        )
        took: list[int] = []
        failed: list[BaseException] = []
        start = threading.Barrier(2)

        def unlock(worker=worker, took=took, failed=failed, start=start):
            try:
                start.wait()
                took += unlocked(any_database, str(worker))
            except psycopg.errors.ObjectInUse:
                pass
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=unlock)
        thread.start()
        start.wait()
        any_database.query(text)
        thread.join()
        assert failed == []
        ended = any_database.query("SELECT id, count(*) FROM job_history GROUP BY id ORDER BY id")
        if rival in ("its own beat", "its goodbye"):
            assert ended == ([(one, 1) for one in ids] if took else [])
        else:
            assert ended == [(one, 1) for one in ids]
        mine = any_database.query("SELECT DISTINCT unnest(job_ids) FROM audit WHERE reason = 'fire' ORDER BY 1")
        assert mine == [(one,) for one in took]
        assert any_database.value("SELECT count(*) FROM jobs WHERE state = 'processing'") == len(ids) - len(ended)
        if not took and rival == "its own beat":
            assert any_database.query("SELECT id FROM workers") == [(worker,)]
