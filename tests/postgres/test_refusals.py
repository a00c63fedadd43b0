"""The database refuses something for one job, because of what the application made on our tables or what somebody
locked.

Only that job fails, or waits. The worker and all other jobs go on.
"""

from __future__ import annotations

import json

import pytest
from conftest import dice, eventually

HANDLERS = "refusal_jobs:registry"
# A batch as wide as possible, so that many jobs share a turn.
WIDE = ("--prefetch", "3600")


def enqueue(database, count=1, *, kind="refused.ends", **members):
    rows = database.query(
        "INSERT INTO jobs (kind, payload) SELECT %s, %s::jsonb FROM generate_series(1, %s) RETURNING id",
        kind,
        json.dumps(members),
        count,
    )
    return [job for (job,) in rows]


def refuse(database, condition, *, on="UPDATE OR DELETE", says="not this one"):
    """A trigger of the application. In the condition, `was` is the row before, `is` the row after, and `to` the state
    after the change, or 'gone'."""
    database.query(
        f"""
        CREATE OR REPLACE FUNCTION application() RETURNS trigger
        LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
        DECLARE
            was jobs := old;
            now jobs := CASE WHEN TG_OP <> 'DELETE' THEN new END;
            dest text := CASE WHEN TG_OP = 'DELETE' THEN 'gone' ELSE new.state END;
        BEGIN
            IF {condition} THEN
                RAISE EXCEPTION '{says}';
            END IF;
            RETURN CASE WHEN TG_OP = 'DELETE' THEN old ELSE new END;
        END $$
        """
    )
    database.query(f"CREATE TRIGGER application BEFORE {on} ON jobs FOR EACH ROW EXECUTE FUNCTION application()")


def states(database, *jobs):
    return dict(database.query("SELECT id, state FROM jobs WHERE id = ANY (%s)", list(jobs)))


def outcomes(database, job):
    return [how for (how,) in database.query("SELECT outcome FROM job_history WHERE id = %s ORDER BY finished_at", job)]


def gone(database, jobs):
    eventually(lambda: not states(database, *jobs), f"the end of {len(jobs)} jobs")


def test_a_retry_that_collides_with_a_unique_index_fails_that_job_alone(database, start_worker, door):
    database.query("CREATE UNIQUE INDEX once ON jobs (payload) WHERE state = 'queued' AND payload ->> 'how' = 'retry'")
    (first,) = enqueue(database, how="retry", door=door.path, text="it is busy")
    worker = start_worker(handlers=HANDLERS)
    eventually(lambda: states(database, first) == {first: "processing"})
    (second,) = enqueue(database, how="retry", door=door.path, text="it is busy")
    others = enqueue(database, 20)
    door.open()
    gone(database, others)
    eventually(lambda: states(database, first, second) == {first: "failed", second: "queued"})
    error = database.value("SELECT last_error FROM jobs WHERE id = %s", first)
    assert "once" in error
    assert "it is busy" in error
    assert outcomes(database, first) == ["failed"]
    assert worker.terminate() == 0


def test_a_job_that_may_not_be_deleted_fails_and_the_rest_of_its_batch_is_done(database, start_worker):
    jobs = enqueue(database, 600)
    refuse(database, f"dest = 'gone' AND was.id = {jobs[550]}", on="UPDATE OR DELETE")
    worker = start_worker(*WIDE, handlers=HANDLERS)
    gone(database, [job for job in jobs if job != jobs[550]])
    eventually(lambda: states(database, jobs[550]) == {jobs[550]: "failed"})
    assert "not this one" in database.value("SELECT last_error FROM jobs")
    assert database.query("SELECT outcome, count(*) FROM job_history GROUP BY 1 ORDER BY 1") == [
        ("failed", 1),
        ("ok", 599),
    ]
    assert worker.terminate() == 0


def test_a_refusal_at_the_commit_is_found_too(database, start_worker):
    jobs = enqueue(database, 100)
    database.query(
        "CREATE TABLE receipts (job bigint REFERENCES jobs DEFERRABLE INITIALLY DEFERRED);"
        f"INSERT INTO receipts VALUES ({jobs[42]})"
    )
    worker = start_worker(*WIDE, handlers=HANDLERS)
    gone(database, [job for job in jobs if job != jobs[42]])
    eventually(lambda: states(database, jobs[42]) == {jobs[42]: "failed"})
    assert "receipts" in database.value("SELECT last_error FROM jobs")
    assert worker.terminate() == 0


def test_a_job_that_may_not_end_or_fail_stays_leased_until_it_may(database, start_worker):
    jobs = enqueue(database, 50)
    refuse(database, f"was.id = {jobs[7]} AND was.state = 'processing'")
    worker = start_worker(*WIDE, handlers=HANDLERS)
    gone(database, [job for job in jobs if job != jobs[7]])
    worker.wait_for(f"job {jobs[7]} refused.ends: the database refuses to settle it as failed: not this one")
    assert states(database, jobs[7]) == {jobs[7]: "processing"}
    database.query("DROP TRIGGER application ON jobs")
    gone(database, [jobs[7]])
    assert outcomes(database, jobs[7]) == ["ok"]
    assert worker.terminate() == 0


def test_a_job_that_may_not_be_leased_is_passed_over_and_those_behind_it_run(database, start_worker):
    jobs = enqueue(database, 40)
    refuse(database, f"was.id IN ({jobs[0]}, {jobs[1]}, {jobs[20]}) AND dest = 'processing'")
    worker = start_worker(*WIDE, "--metrics", "127.0.0.1:0", handlers=HANDLERS)
    gone(database, [job for n, job in enumerate(jobs) if n not in (0, 1, 20)])
    later = enqueue(database, 40)
    gone(database, later)
    assert set(states(database, *jobs).values()) == {"queued"}
    assert worker.log.count("refused.ends: the database refuses to lease it: not this one") >= 3
    assert worker.metric('shithub_worker_refused_writes_total{kind="refused.ends"}') >= 3
    assert worker.terminate() == 0


def test_two_jobs_that_may_not_run_at_the_same_time_run_one_after_the_other(database, start_worker):
    """Each can be leased, but one query cannot lease both."""
    database.query("CREATE UNIQUE INDEX one_at_a_time ON jobs (kind) WHERE state = 'processing'")
    jobs = enqueue(database, 30)
    worker = start_worker(*WIDE, handlers=HANDLERS)
    gone(database, jobs)
    assert database.query("SELECT DISTINCT outcome FROM job_history") == [("ok",)]
    assert worker.terminate() == 0


def test_a_refused_settle_in_the_handlers_transaction_is_a_failed_attempt(database, start_worker):
    (job,) = enqueue(database, how="transaction")
    refuse(database, "dest = 'gone'")
    worker = start_worker(handlers=HANDLERS)
    eventually(lambda: outcomes(database, job) == ["retry"])
    assert "not this one" in database.value("SELECT last_error FROM jobs")
    assert worker.terminate() == 0


def test_the_control_thread_survives_refusals_while_a_handler_runs(database, start_worker, door):
    quick = enqueue(database, 30)
    (slow,) = enqueue(database, door=door.path)
    refuse(database, f"dest = 'gone' AND was.id = {quick[-1]}")
    worker = start_worker(*WIDE, handlers=HANDLERS)
    gone(database, quick[:-1])
    eventually(lambda: states(database, quick[-1], slow) == {quick[-1]: "failed", slow: "processing"})
    assert worker.process.poll() is None
    door.open()
    gone(database, [slow])
    assert worker.terminate() == 0


def test_a_lease_that_may_not_be_renewed_costs_no_attempt_and_ends_no_worker(database, start_worker, door):
    (job,) = enqueue(database, kind="refused.renewed", door=door.path)
    refuse(database, "was.state = 'processing' AND dest = 'processing'")
    worker = start_worker(handlers=HANDLERS)
    eventually(lambda: "released" in outcomes(database, job), "the release of the job")
    door.open()
    gone(database, [job])
    assert set(outcomes(database, job)) == {"released", "ok"}
    assert worker.terminate() == 0


def test_a_locked_job_waits_and_the_others_are_done(database, start_worker, door):
    (locked,) = enqueue(database, door=door.path)
    worker = start_worker(handlers=HANDLERS)
    eventually(lambda: states(database, locked) == {locked: "processing"})
    with database.connect() as somebody, somebody.transaction():
        somebody.execute("SELECT FROM jobs WHERE id = %s FOR UPDATE", (locked,))
        door.open()
        others = enqueue(database, 20)
        gone(database, others)
        assert states(database, locked) == {locked: "processing"}
    gone(database, [locked])
    assert outcomes(database, locked) == ["ok"]
    assert worker.terminate() == 0


@pytest.mark.drawn
@pytest.mark.parametrize("seed", range(3))
def test_everything_that_the_application_does_not_refuse_is_done(database, start_worker, seed):
    """The trigger refuses a random choice of transitions for some jobs. The others end as usual, and the worker
    lives."""
    chance = dice(seed)
    expected, refused = {}, []
    for how, end in chance.choices(
        [("ok", "gone"), ("retry", "queued"), ("transaction", "gone"), ("not now", "queued")], k=60
    ):
        (job,) = enqueue(database, how=how)
        if chance.random() < 0.25:
            refused += [
                (job, step) for step in chance.sample(["processing", "queued", "failed", "gone"], chance.randint(1, 4))
            ]
        else:
            expected[job] = end
    database.query("CREATE TABLE refused (job bigint, step text)")
    for each in refused:
        database.query("INSERT INTO refused VALUES (%s, %s)", *each)
    refuse(database, "EXISTS (SELECT FROM refused r WHERE r.job = was.id AND r.step = dest)")
    worker = start_worker(*WIDE, handlers=HANDLERS)

    def ended():
        rows = database.query("SELECT id, state, attempts, run_at > clock_timestamp() FROM jobs")
        left = {job: (state, later) for job, state, _, later in rows}
        return all(left.get(job, ("gone", True)) == (end, True) for job, end in expected.items())

    eventually(ended, "the ends of those that nothing is refused")
    more = enqueue(database, 20)
    gone(database, more)
    assert worker.process.poll() is None
    code = worker.terminate()
    # A job that ran, and may not end or fail, stays leased, and the worker says so.
    assert code == (75 if database.query("SELECT 1 FROM jobs WHERE state = 'processing'") else 0)
