"""An undo restores exactly the jobs that nobody has touched since, and names each other one with the reason."""

from __future__ import annotations

import threading
from collections import Counter

import psycopg
import pytest
from conftest import dice, eventually
from rows import add_job, history

ROWS = "SELECT id, to_jsonb(jobs)::text FROM jobs"
ALL = "ARRAY(SELECT id FROM jobs)"
ACTIONS = (
    "complete_jobs(%s)",
    "discard_jobs(%s)",
    "permanently_fail_jobs(%s, 'no')",
    "reschedule_jobs(%s, now() + interval '5 minutes', 7, 3, 4)",
    "retry_jobs(%s)",
)
TIMES = (
    "now",
    "infinity",
    "-infinity",
    "0044-03-15 12:00:00+00 BC",
    "294276-12-31 23:59:59+00",
    "2026-03-29 02:30:00+01",
)
PAYLOADS = ("{}", '{"n": 1.500, "big": 123456789012345678901234567890}', '{"a": ["\\u001b[31m", null, {"b": 1e-9}]}')
# What somebody does to a job after the change, and how its reason begins.
TOUCHES = {
    "UPDATE jobs SET run_at = now() - interval '7 days' WHERE id = %s": "changed: run_at: ",
    "UPDATE jobs SET max_attempts = 77 WHERE id = %s": "changed: max_attempts: ",
    "UPDATE jobs SET state = 'processing', leased_by = 'a:7', leased_at = now() WHERE id = %s": "runs: leased by a:7",
    "DELETE FROM jobs WHERE id = %s": "gone",
}


def rows(database):
    return dict(database.query(ROWS))


def audit_row(database):
    """The newest row of the record."""
    return database.value("SELECT max(id) FROM audit")


def refused(database, audit):
    """Undo by chunks, as the command does. Returns how many jobs were restored, and why the others were left."""
    restored, left, chunk, undo = 0, {}, 0, None
    while True:
        ended, changed, why, undo, _ = database.query(
            "SELECT * FROM undo_change_v1(%s, %s, NULL, 'r', 'a', %s)", audit, chunk, undo
        )[0]
        if ended is None:
            return restored, left
        chunk = ended
        restored += changed
        left |= {int(job): reason for job, reason in why.items()}


def preview(database, audit):
    """What the dry run says of all chunks."""
    restored, left, chunk = 0, {}, 0
    while True:
        chunk, count, why, _ = database.query("SELECT * FROM undo_preview_v1(%s, %s)", audit, chunk)[0]
        if chunk is None:
            return restored, left
        restored += count
        left |= {int(job): reason for job, reason in why.items()}


def test_random_changes_are_undone_to_the_letter_and_touched_jobs_are_left_and_named(any_database):
    draw = dice(14)
    for _ in range(12):
        any_database.query("DELETE FROM jobs; DELETE FROM job_history")
        for n in range(draw.randrange(1, 40)):
            any_database.query(
                "INSERT INTO jobs (kind, payload, state, priority, run_at, attempts, max_attempts, crashes, alone,"
                " last_error, created_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                f"k{n % 3}",
                draw.choice(PAYLOADS),
                draw.choice(("queued", "paused", "failed")),
                draw.choice((-32768, 0, 32767)),
                draw.choice(TIMES),
                draw.choice((-(2**31), 0, 5, 2**31 - 1)),
                draw.choice((None, 0, 10)),
                draw.choice((0, 2)),
                draw.choice((False, True)),
                draw.choice((None, "", 'it\'s "x"\\', "\x1b[31mred")),
                draw.choice(TIMES),
            )
        before = rows(any_database)
        changed = [job for (job,) in any_database.query(f"SELECT id FROM {draw.choice(ACTIONS)}", list(before))]
        if not changed:
            continue
        audit, after = audit_row(any_database), rows(any_database)
        expected = {}
        for job in draw.sample(changed, len(changed) // 4):
            touch, why = draw.choice(list(TOUCHES.items()))
            if job in after:  # a job that is gone can't be touched
                any_database.query(touch, job)
                expected[job] = why
        touched = rows(any_database)
        said = preview(any_database, audit)
        assert rows(any_database) == touched
        restored, left = refused(any_database, audit)
        assert said == (restored, left)
        assert restored == len(changed) - len(expected)
        assert left.keys() == expected.keys()
        assert all(left[job].startswith(why) for job, why in expected.items()), (left, expected)
        kept = {job: touched[job] for job in expected if job in touched}
        untouched = {job: row for job, row in before.items() if job not in expected}
        assert rows(any_database) == untouched | kept
        # The undo can be undone itself: so each job is as the change had left it.
        undo = audit_row(any_database)
        assert undo > audit or restored == 0
        if restored:
            assert refused(any_database, undo) == (restored, {})
            assert rows(any_database) == {job: row for job, row in after.items() if job not in expected} | kept


def test_a_hundred_batches_of_one_command_are_undone_whole(database):
    database.query(
        "INSERT INTO jobs (kind, payload) SELECT 'k', jsonb_build_object('n', g) FROM generate_series(1, 1000) g"
    )
    before = rows(database)
    ids, audit = sorted(before), None
    for begin in range(0, 1000, 10):
        audit = database.value(
            "SELECT audit_id FROM change_batch_v1('complete', %s, '{}', '{}', 'r', 'a', %s)",
            ids[begin : begin + 10],
            audit,
        )
    assert database.value("SELECT count(*) FROM audit_chunks") == 100
    assert rows(database) == {}
    assert len(database.query("SELECT id FROM undo_jobs(%s, 'wrong kind')", audit)) == 1000
    assert rows(database) == before
    recorded = database.query("SELECT action, jobs, reason, detail FROM audit ORDER BY id DESC LIMIT 1")
    assert recorded == [("undo", 1000, "wrong kind", {"undoes": audit, "action": "complete"})]
    assert history(database, ids[0]) == ["completed"]  # it says how the job was ended, and stays


def test_a_second_undo_finds_each_job_as_it_was_and_writes_no_row(any_database):
    job = add_job(any_database)
    any_database.query("SELECT permanently_fail_jobs(ARRAY[%s::bigint], 'no')", job)
    audit = audit_row(any_database)
    assert refused(any_database, audit) == (1, {})
    undo = audit_row(any_database)
    assert refused(any_database, audit) == (0, {job: "unchanged"})
    assert audit_row(any_database) == undo


def test_a_restored_job_that_has_ended_is_not_restored_a_second_time(any_database):
    job = add_job(any_database)
    any_database.query("SELECT discard_jobs(ARRAY[%s::bigint])", job)
    audit = audit_row(any_database)
    assert refused(any_database, audit) == (1, {})
    any_database.query("DELETE FROM jobs")  # it ran, and its kind keeps no history
    assert refused(any_database, audit) == (0, {job: f"restored by audit row {audit_row(any_database)}"})
    any_database.query(
        "INSERT INTO job_history (id, kind, outcome, attempts, finished_at, retention)"
        " VALUES (%s, 'k', 'ok', 1, clock_timestamp(), '7d')",
        job,
    )
    restored, left = refused(any_database, audit)
    assert restored == 0
    assert left[job].startswith("ended: ok at 20")
    assert rows(any_database) == {}


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_an_old_snapshot_never_restores_a_job_that_was_restored_and_has_run(database, level):
    job = add_job(database)
    database.query("SELECT discard_jobs(ARRAY[%s::bigint])", job)
    audit = audit_row(database)
    with database.connect() as late:
        late.execute(f"BEGIN ISOLATION LEVEL {level}")
        late.execute("SELECT FROM jobs")  # takes the snapshot
        assert refused(database, audit) == (1, {})
        database.query("DELETE FROM jobs")  # it ran
        with pytest.raises(psycopg.errors.RaiseException, match="undo_jobs needs READ COMMITTED"):
            late.execute("SELECT undo_jobs(%s)", (audit,))
    assert rows(database) == {}


def test_a_job_that_has_the_old_id_is_left_alone(any_database):
    job = add_job(any_database)
    any_database.query("SELECT complete_jobs(ARRAY[%s::bigint])", job)
    audit = audit_row(any_database)
    any_database.query("INSERT INTO jobs (id, kind) VALUES (%s, 'other')", job)
    before = rows(any_database)
    assert refused(any_database, audit) == (0, {job: "taken: another job has this id now"})
    assert rows(any_database) == before


@pytest.mark.parametrize(
    ("trigger", "why"),
    [("RETURN NULL;", "trigger"), ("RAISE EXCEPTION 'no \x1b[31m'; RETURN NEW;", "database: no \x1b[31m")],
)
@pytest.mark.parametrize("call", ["discard_jobs(%s)", "permanently_fail_jobs(%s, 'no')"])
def test_a_job_that_a_trigger_of_the_application_keeps_is_named_and_the_others_are_restored(
    any_database, trigger, why, call
):
    jobs = [add_job(any_database) for _ in range(5)]
    before = rows(any_database)
    any_database.query(f"SELECT {call}", jobs)
    any_database.query(
        f"CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id = {jobs[2]} THEN {trigger} END"
        " IF; RETURN NEW; END $$;"
        "CREATE TRIGGER keep BEFORE INSERT OR UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION keep()"
    )
    assert refused(any_database, audit_row(any_database)) == (4, {jobs[2]: why})
    del before[jobs[2]]
    assert {job: row for job, row in rows(any_database).items() if job != jobs[2]} == before


def test_columns_that_the_application_has_added_are_restored_too(any_database):
    any_database.query(
        'ALTER TABLE jobs ADD "Tenant ""x""" text DEFAULT \'none\','
        " ADD twice integer GENERATED ALWAYS AS (priority * 2) STORED,"
        " ADD number integer GENERATED ALWAYS AS IDENTITY"
    )
    job = add_job(any_database)
    any_database.query('UPDATE jobs SET "Tenant ""x""" = \'alice\'')
    before = rows(any_database)
    for change in ("discard_jobs(ARRAY[%s::bigint])", "permanently_fail_jobs(ARRAY[%s::bigint], 'no')"):
        any_database.query(f"SELECT {change}", job)
        assert refused(any_database, audit_row(any_database)) == (1, {})
        assert rows(any_database) == before


def test_a_batch_skips_locked_jobs_and_a_single_one_waits(database):
    jobs = [add_job(database) for _ in range(3)]
    database.query("SELECT permanently_fail_jobs(%s, 'no')", jobs)
    audit = audit_row(database)
    with database.connect() as other, other.transaction():
        other.execute("SELECT FROM jobs WHERE id = %s FOR UPDATE", (jobs[1],))
        assert refused(database, audit) == (2, {jobs[1]: "locked"})
        assert database.value("SELECT count(*) FROM jobs WHERE state = 'queued'") == 2
        with database.connect() as waiting:
            waiting.execute("SET lock_timeout = '50ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                waiting.execute("SELECT undo_change_v1(%s, 0, %s, 'r', 'a', NULL)", (audit, [jobs[1]]))
    assert database.query("SELECT restored FROM undo_change_v1(%s, 0, %s, 'r', 'a', NULL)", audit, [jobs[1]]) == [(1,)]


def test_restored_jobs_wake_the_workers(any_database):
    job = add_job(any_database)
    any_database.query("SELECT permanently_fail_jobs(ARRAY[%s::bigint], 'no')", job)
    with any_database.connect() as worker:
        worker.execute(f'LISTEN "{any_database.value("SELECT channel_v1()")}"')
        assert refused(any_database, audit_row(any_database)) == (1, {})
        worker.execute("SELECT 1")  # its answer brings what was sent before
        assert [said.payload for said in worker.notifies(timeout=0)] == ["anew"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("SELECT release_jobs({all}, true)", "a lease that was ended cannot be given back to its worker"),
        (
            "UPDATE jobs SET lease_expires_at = '2000-01-01'; SELECT sweep_leases_v1()",
            "a lease that was ended cannot be given back to its worker",
        ),
        (
            "SELECT force_unlock_workers(ARRAY(SELECT leased_by FROM jobs))",
            "a lease that was ended cannot be given back to its worker",
        ),
        ("SELECT pause_kind_v1('k')", "it is about a hold, not about jobs"),
        (
            "INSERT INTO audit (actor, action, target, job_ids) VALUES ('a', 'discard', 'job 7', '{{7}}')",
            "it was written before the record kept how the jobs were",
        ),
        ("SELECT 1", "there is no such row"),
    ],
)
def test_a_row_that_can_not_be_undone_says_why(any_database, change, why):
    add_job(any_database, state="processing")
    any_database.query(change.format(all=ALL))
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=why):
        any_database.query("SELECT undo_jobs(%s)", audit_row(any_database) or 1)


def test_undos_and_workers_race_and_the_record_agrees_with_the_state(database):
    """Two undos of one row, an undo of the undo, and a worker that takes and ends jobs, all at once."""
    database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 600)")
    ids = sorted(rows(database))
    audit = None
    for begin in range(0, 600, 20):
        audit = database.value(
            "SELECT audit_id FROM change_batch_v1('discard', %s, '{}', '{}', 'r', 'a', %s)",
            ids[begin : begin + 20],
            audit,
        )
    ran: Counter[int] = Counter()
    over = threading.Event()
    faults = []

    def work():
        with database.connect() as connection:
            while not over.is_set():
                for (job,) in connection.execute(
                    "DELETE FROM jobs WHERE id IN"
                    " (SELECT id FROM jobs ORDER BY random() LIMIT 3 FOR UPDATE SKIP LOCKED) RETURNING id"
                ).fetchall():
                    ran[job] += 1

    def undo():
        try:
            refused(database, audit)
        except BaseException as error:
            faults.append(error)

    worker = threading.Thread(target=work)
    undos = [threading.Thread(target=undo) for _ in range(3)]
    for thread in (worker, *undos):
        thread.start()
    for thread in undos:
        thread.join()
    eventually(lambda: rows(database) == {}, "the worker has taken all jobs")
    over.set()
    worker.join()
    assert faults == []
    assert ran == Counter(ids)  # each job came back once, and ran once
    undone = database.query(
        "SELECT job FROM audit a JOIN audit_chunks c ON c.audit_id = a.id, unnest(c.job_ids) job"
        " WHERE a.action = 'undo'"
    )
    assert sorted(job for (job,) in undone) == ids
    assert database.value("SELECT sum(jobs) FROM audit WHERE action = 'undo'") == 600


def test_undos_and_their_undos_race_and_the_record_counts_what_the_jobs_show(database):
    database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 300)")
    ids = sorted(rows(database))
    first = None
    for begin in range(0, 300, 30):
        first = database.value(
            "SELECT audit_id FROM change_batch_v1('fail', %s, '{\"error\": \"no\"}', '{}', 'r', 'a', %s)",
            ids[begin : begin + 30],
            first,
        )
    faults = []

    def undo(draw):
        try:
            for _ in range(12):
                refused(database, draw.randint(first, audit_row(database)))
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=undo, args=(dice(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert audit_row(database) > first + 5
    assert database.value("SELECT count(*) FROM jobs WHERE state = 'queued'") == database.value(
        "SELECT undone_v1(%s)", first
    )
    assert database.value(
        "SELECT bool_and(a.jobs = c.count) FROM audit a, LATERAL (SELECT sum(cardinality(c.job_ids)) AS count"
        " FROM audit_chunks c WHERE c.audit_id = a.id) c"
    )
