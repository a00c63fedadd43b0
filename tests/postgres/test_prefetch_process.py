"""Workers that lease many jobs at once: the effect of a crash, a stop, a hold or a slow job on the jobs at hand."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter

import pytest
from conftest import eventually
from servers import debian_bindir

# A window so wide that batches grow to their limit on any machine: 1, 4, 16, 64, 256, 500.
WIDE = ("--prefetch", "3600")
PROCESSING = "SELECT id FROM jobs WHERE state = 'processing'"


class Notes:
    """The file that test.notes writes: which jobs began, in which order."""

    def __init__(self, database, path):
        self.database = database
        self.path = path
        path.touch()

    def enqueue(self, count=1, *, priority=0, **members):
        """This many jobs in one statement. Returns their ids."""
        payload = json.dumps({"path": str(self.path), **members})
        text = (
            "INSERT INTO jobs (kind, payload, priority) SELECT 'test.notes', %s::jsonb, %s FROM generate_series(1, %s)"
            " RETURNING id"
        )
        return [job for (job,) in self.database.query(text, payload, priority, count)]

    @property
    def began(self):
        """The ids of the jobs that began, in order. A job that ran twice appears twice."""
        return [int(line.split()[0]) for line in self.path.read_text().splitlines()]

    @property
    def sizes(self):
        """The length of each payload's `pad`, by job."""
        return dict(tuple(map(int, line.split())) for line in self.path.read_text().splitlines())

    def wait_for(self, job):
        eventually(lambda: job in self.began, f"the start of job {job}")


@pytest.fixture
def notes(database, tmp_path):
    return Notes(database, tmp_path / "notes")


@pytest.fixture
def at_the_door(notes, start_worker, door):
    """A worker whose handler waits at the door, with a batch behind it and another one sent ahead; and the id of that
    job."""

    def begin(*arguments, before=400, after=1000):
        notes.enqueue(before)
        (slow,) = notes.enqueue(door=door.path)
        notes.enqueue(after)
        worker = start_worker(*WIDE, *arguments)
        notes.wait_for(slow)
        return worker, slow

    return begin


def outcomes(database):
    return dict(database.query("SELECT outcome, count(*) FROM job_history GROUP BY 1"))


def processing(database):
    return {job for (job,) in database.query(PROCESSING)}


def touched(database):
    """Waiting jobs that show a mark of an earlier lease."""
    return database.query(
        "SELECT id, state, attempts, crashes, alone, last_error FROM jobs"
        " WHERE state NOT IN ('processing') AND (attempts <> 0 OR crashes <> 0 OR alone)"
    )


def all_done(database):
    eventually(lambda: not database.query("SELECT 1 FROM jobs LIMIT 1"), "all jobs done")


@pytest.mark.timeout(900)
def test_workers_that_are_killed_at_full_speed_lose_nothing(database, start_worker, notes):
    jobs = set(notes.enqueue(6000))
    held_by_the_dead = Counter()
    for kill in range(1, 3):
        worker = start_worker()
        eventually(lambda n=kill: len(notes.began) >= 2000 * n, "full speed")
        worker.send(signal.SIGKILL)
        worker.wait()
        held_by_the_dead.update(processing(database))
    assert start_worker("--until-empty", ready=False).wait() == 0
    assert database.query("SELECT count(*) FROM jobs") == [(0,)]
    assert database.query("SELECT count(*), count(DISTINCT id) FROM job_history WHERE outcome = 'ok'") == [
        (len(jobs), len(jobs))
    ]
    runs = Counter(notes.began)
    assert set(runs) == jobs
    # Jobs that ran again were held by a worker when it died: at most two batches for each death.
    assert sum(held_by_the_dead.values()) <= 2 * 2 * 500
    assert {job for job in runs if runs[job] > 1 + held_by_the_dead[job]} == set()
    assert database.value("SELECT count(*) FROM job_history WHERE outcome NOT IN ('ok', 'crashed')") == 0


def test_all_jobs_of_a_killed_worker_return_at_once_when_another_starts(database, start_worker, at_the_door):
    dead, _ = at_the_door()
    dead.send(signal.SIGKILL)
    dead.wait()
    held = processing(database)
    assert len(held) > 100
    # This worker does not know the kind. It returns even jobs that it can't run.
    other = start_worker("--kind", "test.ok")
    assert f"{len(held)} job(s) returned" in other.log
    assert processing(database) == set()
    assert database.query("SELECT DISTINCT attempts, crashes FROM jobs") == [(0, 0)]
    assert database.query("SELECT count(*), count(DISTINCT xmin::text) FROM job_history WHERE outcome = 'crashed'") == [
        (len(held), 1)
    ]


def test_all_jobs_of_a_dead_worker_elsewhere_return_in_one_sweep(database, start_worker, at_the_door):
    dead, _ = at_the_door()
    dead.send(signal.SIGKILL)
    dead.wait()
    held = processing(database)
    database.query("UPDATE workers SET machine_id = 'elsewhere'")
    database.query("UPDATE jobs SET lease_expires_at = now() WHERE state = 'processing'")
    start_worker("--kind", "test.ok")
    eventually(lambda: not processing(database), "the leases returned")
    assert database.query("SELECT DISTINCT attempts, crashes FROM jobs") == [(0, 0)]
    assert database.query("SELECT count(*), count(DISTINCT xmin::text) FROM job_history WHERE outcome = 'crashed'") == [
        (len(held), 1)
    ]


@pytest.mark.timeout(900)
def test_a_segfault_in_a_batch_counts_against_no_other_job(database, start_worker, notes):
    jobs = set(notes.enqueue(400))
    (bad,) = notes.enqueue(then="segfault")
    jobs.update(notes.enqueue(600))
    held, deaths = None, 0
    while database.value("SELECT state FROM jobs WHERE id = %s", bad) != "failed":
        worker = start_worker(*WIDE)  # the worker has returned the jobs of the last one
        database.query("UPDATE jobs SET run_at = now() WHERE id = %s AND run_at > now()", bad)
        eventually(lambda w=worker: w.process.poll() is not None or _states(database) == [("failed",)], "the crash")
        if worker.process.poll() is not None:
            assert worker.wait() == -signal.SIGSEGV
            deaths += 1
            held = held or processing(database)
            assert database.query("SELECT id FROM jobs WHERE crashes > 0 AND id <> %s", bad) == []
        assert deaths <= 4
    assert len(held) > 100
    eventually(lambda: _states(database) == [("failed",)], "all neighbours done")
    assert worker.terminate() == 0
    # The first crash, among other jobs, does not count. The third one after that ends the job.
    assert database.query("SELECT id, crashes FROM jobs") == [(bad, 3)]
    assert database.query("SELECT outcome FROM job_history WHERE id = %s ORDER BY finished_at", bad) == [
        ("crashed",),
        ("crashed",),
        ("crashed",),
        ("poison",),
    ]
    assert "poison: crash number 3" in database.value("SELECT last_error FROM jobs")
    # Each other job was leased once more, and alone.
    ended = database.query("SELECT id, outcome, lease_token FROM job_history WHERE id <> %s ORDER BY finished_at", bad)
    assert Counter(job for job, how, _ in ended if how == "crashed") == Counter(dict.fromkeys(held - {bad}, 1))
    assert Counter(job for job, how, _ in ended if how == "ok") == Counter(dict.fromkeys(jobs, 1))
    company = Counter(token for _, how, token in ended if how == "ok")
    assert {company[token] for job, how, token in ended if how == "ok" and job in held} == {1}
    assert max(Counter(notes.began)[job] for job in jobs) <= 2


def test_a_suspect_job_runs_with_nothing_else_at_hand(database, start_worker, notes):
    """Even finished jobs are settled first. If the suspect kills its worker, they need not run again."""
    notes.enqueue(400)
    (suspect,) = notes.enqueue(then="segfault", priority=1)  # leased while the last batch of the others runs
    database.query("UPDATE jobs SET crashes = 1 WHERE id = %s", suspect)
    worker = start_worker(*WIDE, ready=False)
    assert worker.wait() == -signal.SIGSEGV
    assert notes.began[-1] == suspect
    assert processing(database) == {suspect}


@pytest.mark.parametrize("end", ["stop", "drain", "pause"])
def test_jobs_that_never_started_lose_no_attempt(database, start_worker, notes, at_the_door, door, command, end):
    worker, slow = at_the_door("--grace", "3600")
    assert len(processing(database)) > 100
    database.query("UPDATE jobs SET last_error = 'of an earlier run'")
    if end == "stop":
        worker.send(signal.SIGTERM)
        eventually(lambda: database.value("SELECT state FROM beats") == "stopping", "the signal heard")
    else:
        arguments = ("drain",) if end == "drain" else ("pause-kind", "test.notes")
        done = command(*arguments)
        assert done.returncode == 0, done.stderr
    began = notes.began
    assert began[-1] == slow
    door.open()
    eventually(lambda: not processing(database), "everything given back")
    # A stop ends the current batch early. After a hold nothing more may start.
    assert notes.began == began
    assert touched(database) == []
    assert outcomes(database)["ok"] == len(began)
    assert set(outcomes(database)) == {"ok"}  # a job that never started leaves no row
    assert database.query("SELECT id FROM jobs WHERE last_error IS DISTINCT FROM 'of an earlier run'") == []
    if end == "stop":
        assert worker.wait() == 0
        start_worker(*WIDE)
    else:
        assert command(*(("resume",) if end == "drain" else ("resume-kind", "test.notes"))).returncode == 0
    all_done(database)
    assert set(Counter(notes.began).values()) == {1}


@pytest.mark.parametrize("end", ["stop", "drain", "pause"])
def test_a_stop_or_a_hold_at_full_speed_costs_no_attempt(database, start_worker, notes, command, end):
    jobs = notes.enqueue(5000)
    worker = start_worker()
    eventually(lambda: len(notes.began) > 1000, "full speed")
    if end == "stop":
        assert worker.terminate() == 0
    elif end == "drain":
        assert command("drain").returncode == 0
    else:
        # Not by the command, because that takes longer than the jobs do.
        database.query("SELECT pause_kind_v1('test.notes')")
        assert database.value("SELECT barrier_v1('kind', 'test.notes')")
    began = notes.began
    eventually(lambda: not processing(database), "everything given back")
    assert notes.began == began
    assert touched(database) == []
    assert outcomes(database)["ok"] == len(began) == len(set(began))
    if end != "stop":
        database.query("SELECT resume_v1()" if end == "drain" else "SELECT resume_kind_v1('test.notes')")
    else:
        start_worker()
    all_done(database)
    assert sorted(notes.began) == jobs


def test_a_worker_that_stood_still_during_a_pause_starts_no_prefetched_job(database, at_the_door, notes, door, command):
    worker, slow = at_the_door()
    worker.send(signal.SIGSTOP)
    assert len(processing(database)) > 100
    assert command("pause-kind", "test.notes").returncode == 0
    door.open()
    worker.send(signal.SIGCONT)
    eventually(lambda: not processing(database), "everything given back")
    assert notes.began[-1] == slow
    assert touched(database) == []
    assert worker.terminate() == 0
    assert notes.began[-1] == slow


def test_a_job_that_becomes_slow_delays_no_job_before_or_behind_it(database, start_worker, at_the_door, notes, door):
    slow_worker, slow = at_the_door("--metrics", "127.0.0.1:0")
    before = len(notes.began) - 1
    eventually(lambda: outcomes(database).get("ok") == before, "those before it settled while it runs")
    eventually(lambda: processing(database) == {slow}, "those behind it given back while it runs")
    assert touched(database) == []
    start_worker(*WIDE)
    eventually(lambda: database.query("SELECT id FROM jobs") == [(slow,)], "another worker runs them")
    door.open()
    all_done(database)
    assert set(Counter(notes.began).values()) == {1}
    assert slow_worker.terminate() == 0
    # No lease was lost: the worker knows which jobs it gave back itself.
    assert outcomes(database) == {"ok": before + 1 + 1000}
    assert "lease_lost" not in slow_worker.log


def test_jobs_given_back_behind_a_slow_job_run_once_when_its_worker_goes_on(database, at_the_door, notes, door):
    worker, slow = at_the_door()
    eventually(lambda: processing(database) == {slow}, "those behind it given back while it runs")
    door.open()
    all_done(database)
    assert set(Counter(notes.began).values()) == {1}
    assert outcomes(database) == {"ok": len(notes.began)}
    assert worker.terminate() == 0
    assert "lease_lost" not in worker.log


def test_an_urgent_job_waits_for_at_most_two_batches(database, start_worker, notes):
    flood = notes.enqueue(10_000)
    start_worker()
    eventually(lambda: len(notes.began) > 500, "full speed")
    (urgent,) = notes.enqueue(priority=-10)
    before = len(notes.began)
    notes.wait_for(urgent)
    assert before < len(flood) - 1500  # otherwise this test would prove nothing
    assert notes.began.index(urgent) - before <= 2 * 500
    all_done(database)


def test_an_urgent_job_does_not_wait_for_jobs_behind_a_slow_one(database, notes, at_the_door, door):
    at_the_door()
    (urgent,) = notes.enqueue(priority=-10)
    eventually(lambda: len(processing(database)) == 1, "those behind it given back")
    began = len(notes.began)
    door.open()
    all_done(database)
    assert notes.began[began:].index(urgent) <= 1


def test_many_kinds_are_served_while_one_kind_floods(database, start_worker):
    """The flood is of the kind that a worker looks for first."""
    database.query("INSERT INTO jobs (kind) SELECT 'test.ok' FROM generate_series(1, 5000)")
    others = [f"test.{name}" for name in ("leaves_a_thread", "dict_rows", "listens", "sleep")]
    database.query(
        "INSERT INTO jobs (kind, payload)"
        " SELECT k, CASE k WHEN 'test.sleep' THEN '{\"seconds\": 0}' ELSE '{}' END::jsonb"
        " FROM unnest(%s::text[]) k, generate_series(1, 5)",
        others,
    )
    start_worker(*WIDE)
    all_done(database)
    # In the order of their leases: five of each kind in two or three turns, and between them at most one turn of the
    # flood.
    rows = database.query("SELECT kind FROM job_history ORDER BY leased_at, finished_at")
    last = max(place for place, (kind,) in enumerate(rows) if kind in others)
    assert last < 2500


def test_jobs_of_new_priorities_run_even_if_scheduled_jobs_come_before_them(database, start_worker):
    database.query(
        "INSERT INTO jobs (kind, priority, run_at) SELECT 'test.ok', p, now() + interval '1 day' * (p & 1)"
        " FROM generate_series(-20, 20) p"
    )
    assert start_worker("--until-empty", ready=False).wait() == 0
    assert database.query("SELECT count(*), count(*) FILTER (WHERE priority % 2 = 0) FROM jobs") == [(20, 0)]
    worker = start_worker()
    eventually(database.at_rest, "idle")
    database.query("INSERT INTO jobs (kind, priority) VALUES ('test.ok', -32768), ('test.ok', 32767), ('test.ok', 3)")
    eventually(lambda: database.value("SELECT count(*) FROM job_history") == 21 + 3, "run")
    assert worker.terminate() == 0


@pytest.mark.parametrize("poll", ["0.1", "3600"])
def test_a_job_that_was_due_long_before_the_last_scan_runs(database, start_worker, notes, poll):
    """Its transaction may have begun before those of others, and ended after them."""
    start_worker("--poll-interval", poll, "--kind", "test.notes")
    late = "INSERT INTO jobs (kind, payload, run_at) VALUES ('test.notes', %s, now() - interval '1 hour')"
    for _ in range(4):
        notes.enqueue()
        all_done(database)
        database.query(late, json.dumps({"path": str(notes.path)}))
        all_done(database)


def test_a_resume_wakes_a_sleeping_worker_even_if_the_jobs_are_behind_its_last_scan(
    database, start_worker, notes, command
):
    worker = start_worker("--poll-interval", "3600", "--kind", "test.notes", "--kind", "test.ok")
    notes.enqueue(10)
    all_done(database)
    assert command("pause-kind", "test.notes").returncode == 0
    held = notes.enqueue(10)
    (other,) = database.query("INSERT INTO jobs (kind) VALUES ('test.ok') RETURNING id")[0]
    eventually(lambda: database.query("SELECT 1 FROM job_history WHERE id = %s", other), "a scan beyond the held ones")
    eventually(database.at_rest, "idle")
    assert command("resume-kind", "test.notes").returncode == 0
    all_done(database)
    assert notes.began[-10:] == held
    assert worker.terminate() == 0


@pytest.mark.parametrize("via", ["tcp", "unix"])
def test_no_transaction_is_open_while_handlers_run_and_500_big_jobs_are_leased_ahead(
    database, start_worker, notes, via
):
    database.query("CREATE TABLE effects (job bigint, pid bigint, attempt integer)")
    notes.enqueue(341)
    for _ in range(2):
        notes.enqueue(then="look", pad="x" * 5000)
        notes.enqueue(499, pad="x" * 5000)
    url = database.url if via == "tcp" else _unix_url(database)
    start_worker(*WIDE, "--until-empty", ready=False, env={"SHITHUBD_WORKER_DATABASE_URL": url})
    all_done(database)
    assert database.query("SELECT count(*), max(pid) FROM effects") == [(2, 0)]


def test_payloads_larger_than_the_answers_bound_are_fetched_when_their_turn_comes(database, start_worker, notes):
    notes.enqueue(400)
    sizes = {}
    for size in (10, 40_000, 20, 5_000_000, 32_000, 32_768, 30):
        sizes[notes.enqueue(pad="x" * size)[0]] = size
    notes.enqueue(100)
    start_worker(*WIDE, "--until-empty", ready=False)
    all_done(database)
    assert {job: notes.sizes[job] for job in sizes} == sizes
    assert set(Counter(notes.began).values()) == {1}


@pytest.mark.parametrize("prefetch", ["0", "0.000001"])
def test_without_a_window_jobs_are_leased_one_by_one(database, start_worker, notes, prefetch):
    notes.enqueue(200)
    start_worker("--prefetch", prefetch, "--until-empty", ready=False)
    all_done(database)
    tokens = database.query("SELECT count(*), count(DISTINCT lease_token) FROM job_history")
    assert tokens == [(200, 200)]


@pytest.mark.skipif(os.geteuid() != 0 and debian_bindir() is not None, reason="the server is another user's")
def test_a_batch_whose_answer_never_came_is_given_back_and_runs_once(database, start_worker, notes):
    worker = start_worker(*WIDE)
    notes.enqueue(2000)
    eventually(lambda: len(notes.began) > 341, "full batches")
    database.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'shithubd-worker'"
    )
    all_done(database)
    assert set(outcomes(database)) == {"ok"}
    assert set(Counter(notes.began).values()) == {1}
    assert worker.terminate() == 0


def test_a_worker_makes_the_history_of_today_when_it_is_missing_and_loses_nothing(database, start_worker, notes):
    worker = start_worker(*WIDE)
    days = database.query(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'job_history_7d'::regclass"
    )
    with database.connect() as connection, connection.transaction():
        for (day,) in days:
            connection.execute(f"DROP TABLE {day}")
    jobs = notes.enqueue(1000)
    all_done(database)
    assert notes.began == jobs
    assert outcomes(database) == {"ok": 1000}
    assert worker.terminate() == 0


def _states(database):
    return database.query("SELECT state FROM jobs")


def _unix_url(database):
    return f"postgresql://postgres@/{database.name}?host={database.server.directory}&port={database.server.port}"
