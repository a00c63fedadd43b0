"""The administrative functions change what they say, tell what they changed, and leave running jobs alone."""

from __future__ import annotations

import json

import psycopg
import pytest
from conftest import new_database
from rows import add_job, add_worker

STATES = ("queued", "processing", "paused", "failed")
COLUMNS = "state, priority, run_at::text, attempts, max_attempts, crashes, alone, last_error"
# A job that has been tried: each column differs from its default.
TRIED = {
    "priority": 3,
    "run_at": "2001-01-01Z",
    "attempts": 4,
    "max_attempts": 9,
    "crashes": 2,
    "alone": True,
    "last_error": "e",
}
AT = "2001-01-01 00:00:00+00"


@pytest.fixture(scope="module")
def one(server):
    """One database for the tests that need no other one, which is quicker."""
    yield from new_database(server)


@pytest.fixture
def queue(one):
    for table in ("audit", "jobs", "job_history", "workers"):
        one.query(f"DELETE FROM {table}")
    return one


def text(database, job):
    """The whole row of a job; an empty list if it is gone."""
    return database.query("SELECT jobs::text FROM jobs WHERE id = %s", job)


def returned(database, call, *arguments):
    """The ids that a function returns."""
    return sorted(job for (job,) in database.query(f"SELECT id FROM {call}", *arguments))


@pytest.mark.parametrize(
    ("call", "changes"),
    [
        ("complete_jobs(%s)", {"queued", "paused", "failed"}),
        ("permanently_fail_jobs(%s, 'no')", {"queued", "paused", "failed"}),
        ("reschedule_jobs(%s, run_at := now() + interval '5 minutes')", {"queued", "paused", "failed"}),
        ("retry_jobs(%s)", {"failed"}),  # a queued job that is due is so already
        ("discard_jobs(%s)", {"queued", "paused", "failed"}),
        ("release_jobs(%s)", {"processing"}),
    ],
)
def test_a_function_returns_the_jobs_that_it_changed_and_leaves_the_others(any_database, call, changes):
    jobs = {state: add_job(any_database, state=state) for state in STATES}
    before = {state: text(any_database, job) for state, job in jobs.items()}
    ids = [*jobs.values(), *jobs.values(), None, 10**12, -1, 0]
    assert returned(any_database, call, ids) == sorted(jobs[state] for state in changes)
    for state, job in jobs.items():
        assert (text(any_database, job) == before[state]) == (state not in changes), state
    (recorded,) = any_database.query("SELECT jobs, job_ids, login = session_user FROM audit")
    assert recorded == (len(changes), sorted(jobs[state] for state in changes), True)
    assert returned(any_database, call, [10**12]) == []
    assert any_database.value("SELECT count(*) FROM audit") == 1


# Each action on a job that has been tried (TRIED), in each state: its columns afterwards.
SAME = (3, AT, 4, 9, 2, True, "e")
REVIVED = (3, AT, 4, 9, 0, False, "e")  # its crashes are forgotten
MEANINGS = {
    ("permanently_fail_jobs(%s, 'bug')", "queued"): ("failed", 3, AT, 9, 9, 2, True, "bug"),
    ("permanently_fail_jobs(%s, NULL)", "paused"): ("failed", 3, AT, 9, 9, 2, True, "failed by an operator"),
    ("permanently_fail_jobs(%s, 'bug')", "failed"): ("failed", 3, AT, 9, 9, 2, True, "bug"),
    ("reschedule_jobs(%s, priority := 5)", "queued"): ("queued", 5, *SAME[1:]),
    ("reschedule_jobs(%s, attempts := 0)", "paused"): ("paused", 3, AT, 0, *SAME[3:]),
    ("reschedule_jobs(%s, attempts := -5)", "queued"): ("queued", 3, AT, -5, *SAME[3:]),
    ("reschedule_jobs(%s)", "failed"): ("queued", *REVIVED),
    ("reschedule_jobs(%s, max_attempts := 1)", "failed"): ("queued", 3, AT, 4, 1, 0, False, "e"),
    ("reschedule_jobs(%s, 'infinity')", "queued"): ("queued", 3, "infinity", *SAME[2:]),
    ("reschedule_jobs(%s, '-infinity')", "queued"): ("queued", 3, "-infinity", *SAME[2:]),
    ("reschedule_jobs(%s, '0044-03-15Z BC')", "queued"): ("queued", 3, "0044-03-15 00:00:00+00 BC", *SAME[2:]),
    ("reschedule_jobs(%s, '294000-01-01Z')", "queued"): ("queued", 3, "294000-01-01 00:00:00+00", *SAME[2:]),
    ("retry_jobs(%s)", "failed"): ("queued", 3, AT, 0, 9, 0, False, "e"),
    ("release_jobs(%s)", "processing"): ("queued", 3, AT, 3, *SAME[3:]),
}


@pytest.mark.parametrize(("call", "state"), MEANINGS)
def test_an_action_changes_the_columns_that_it_names_and_no_others(queue, call, state):
    job = add_job(queue, state=state, payload='{"a": 1}', **({"run_at": AT} if state == "processing" else {}))
    sets = ", ".join(f"{name} = %s" for name in TRIED)
    queue.query(f"UPDATE jobs SET {sets} WHERE id = %s", *TRIED.values(), job)
    others = "SELECT id, kind, payload, created_at FROM jobs"
    before = queue.query(others)
    (found,) = queue.query(f"SELECT {COLUMNS} FROM {call}", [job])
    assert found == MEANINGS[call, state]
    assert queue.query(f"SELECT {COLUMNS} FROM jobs") == [found]
    assert queue.query(others) == before


@pytest.mark.parametrize(
    ("call", "outcome"),
    [("complete_jobs(%s, 'by hand', 'ada')", "completed"), ("discard_jobs(%s, 'by hand', 'ada')", "discarded")],
)
@pytest.mark.parametrize("state", ["queued", "paused", "failed"])
def test_a_job_that_an_operator_ends_is_kept_for_ninety_days_with_all_that_it_was(queue, call, outcome, state):
    job = add_job(queue, kind="webhook.deliver", state=state, payload='{"a": [1]}', last_error="e", attempts=4)
    whole = text(queue, job)
    assert queue.query(f"SELECT c::text FROM {call} c", [job]) == whole
    error = "completed by ada: by hand" if outcome == "completed" else "e"
    kept = "SELECT kind, outcome, attempts, error, payload, retention, leased_by, lease_token FROM job_history"
    assert queue.query(kept) == [("webhook.deliver", outcome, 4, error, {"a": [1]}, "90d", None, None)]
    recorded = (
        "SELECT action, target, reason, actor, payloads, after FROM audit JOIN audit_chunks ON audit_id = audit.id"
    )
    action = call.partition("_")[0]
    assert queue.query(recorded) == [(action, f"job {job}", "by hand", "ada", [{"a": [1]}], [None])]


NOTHING = ("NULL", "'{}'", "'{NULL}'", "'{{1,2},{3,4}}'", "'[5:6]={1,2}'")


@pytest.mark.parametrize("ids", NOTHING)
def test_ids_of_no_job_change_nothing_and_leave_no_audit_row(queue, ids):
    for name, more in (
        ("complete", ""),
        ("permanently_fail", ", 'no'"),
        ("reschedule", ""),
        ("retry", ""),
        ("release", ""),
    ):
        assert queue.query(f"SELECT FROM {name}_jobs({ids}{more})") == []
    (refused,) = queue.query(f"SELECT refused FROM change_jobs_v1('retry', {ids})")[0]
    assert set(refused.values()) <= {"no such job"}
    assert queue.query("SELECT FROM audit") == []


@pytest.mark.parametrize("ids", ["ARRAY[[{0}],[{1}]]", "'[-3:-2]={{{0},{1}}}'::bigint[]", "ARRAY[{1},NULL,{0},{1}]"])
def test_ids_in_an_array_of_any_shape_are_each_changed_once(queue, ids):
    jobs = [add_job(queue, state="failed") for _ in range(2)]
    assert returned(queue, f"permanently_fail_jobs({ids.format(*jobs)}, 'x')") == jobs
    assert queue.value("SELECT count(*) FROM job_history") == 2
    assert queue.query("SELECT jobs, target FROM audit") == [(2, "jobs")]


BAD = {
    "reschedule_jobs('{%s}', priority := 40000)": '22003.*"40000" is out of range for type smallint',
    "reschedule_jobs('{%s}', priority := -32769)": "22003.*out of range for type smallint",
    "change_jobs_v1('fly', '{%s}')": "22023.*there is no action fly",
    "change_jobs_v1(NULL, '{%s}')": "22023.*there is no action",
    "change_jobs_v1('retry', '{%s}', '{\"priority\": 1}')": "22023.*the action retry takes no priority",
    "change_jobs_v1('reschedule', '{%s}', '{\"runat\": \"now\"}')": "22023.*the action reschedule takes no runat",
    "change_jobs_v1('reschedule', '{%s}', '{\"run_at\": \"soon\"}')": '22007.*timestamp with time zone: "soon"',
    "change_jobs_v1('retry', '{%s}', '{}', '{\"kinds\": \"k\"}')": "22023.*a selection has no member kinds",
    "change_jobs_v1('retry', '{%s}', '{}', '{\"kind\": null}')": "22023.*the member kind of a selection is null",
    "change_jobs_v1('retry', '{%s}', '{}', '{\"state\": \"done\"}')": "22023.*there is no state done",
    "change_jobs_v1('retry', '{%s}', p_faces => '{}')": "22023.*there are 0 faces for 1 ids",
    "change_jobs_v1('retry', '{%s}', p_audit => 10000000)": "22023.*audit row 10000000 is not of this command",
}


@pytest.mark.parametrize("call", BAD)
def test_a_bad_argument_is_one_clear_error_and_changes_nothing(queue, call):
    job = add_job(queue, state="failed")
    before = text(queue, job)
    with pytest.raises(psycopg.Error) as raised:
        queue.query(f"SELECT {call.replace('%s', str(job))}")
    state, _, message = BAD[call].partition(".*")
    assert raised.value.sqlstate == state
    assert message in raised.value.diag.message_primary
    assert text(queue, job) == before


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_caller_of_any_isolation_level_gets_the_right_result_or_an_error(queue, level):
    job, other = add_job(queue, state="failed"), add_job(queue, state="failed")
    with queue.connect() as caller:
        caller.execute(f"BEGIN ISOLATION LEVEL {level}")
        caller.execute("SELECT FROM jobs")  # the snapshot
        queue.query("UPDATE jobs SET attempts = 7 WHERE id = %s", job)
        assert caller.execute("SELECT id FROM retry_jobs(%s)", ([other],)).fetchall() == [(other,)]
        with pytest.raises(psycopg.errors.SerializationFailure):
            caller.execute("SELECT id FROM retry_jobs(%s)", ([job],))
        caller.execute("ROLLBACK")
    assert queue.query("SELECT state FROM jobs") == [("failed",), ("failed",)]
    assert queue.query("SELECT FROM audit") == []


def test_a_rollback_takes_the_change_and_its_record_back(queue):
    jobs = [add_job(queue, state="failed") for _ in range(3)]
    before = queue.query("TABLE jobs")
    with queue.connect() as caller:
        caller.execute("BEGIN")
        caller.execute("SELECT FROM complete_jobs(%s)", (jobs[:1],))
        caller.execute("SELECT FROM permanently_fail_jobs(%s, 'x')", (jobs[1:],))
        caller.execute("ROLLBACK")
    assert queue.query("TABLE jobs") == before
    for table in ("audit", "audit_chunks", "job_history"):
        assert queue.query(f"SELECT FROM {table}") == [], table


def test_a_read_only_transaction_is_an_error_of_the_call_and_of_no_job(queue):
    job = add_job(queue, state="failed")
    with queue.connect() as caller:
        caller.execute("BEGIN READ ONLY")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            caller.execute("SELECT change_jobs_v1('retry', %s)", ([job, job + 1],))


def test_the_audit_row_names_the_first_hundred_jobs_and_the_chunks_name_all(queue):
    queue.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 6000)")
    ids = [job for (job,) in queue.query("SELECT id FROM jobs ORDER BY id")]
    assert len(returned(queue, "permanently_fail_jobs(%s, 'x')", ids[::-1])) == 6000
    assert queue.query("SELECT job_ids, jobs, target FROM audit") == [(ids[:100], 6000, "jobs")]
    chunks = queue.query("SELECT job_ids FROM audit_chunks ORDER BY id")
    assert [job for (part,) in chunks for job in part] == ids


def test_the_record_has_each_job_before_and_after(queue):
    worker = add_worker(queue)
    job = add_job(queue, state="processing", worker=worker, payload='{"p": 1}')
    for call in ("release_jobs(%s, true)", "reschedule_jobs(%s, priority := 2)", "permanently_fail_jobs(%s, 'x')"):
        before = queue.value("SELECT to_jsonb(j) FROM jobs j")
        assert returned(queue, call, [job]) == [job]
        after = queue.value("SELECT to_jsonb(j) FROM jobs j")
        (found,) = queue.query("SELECT before[1], after[1], payloads FROM audit_chunks ORDER BY audit_id DESC LIMIT 1")
        for face, row in zip(found, (before, after), strict=False):
            told = {name for name in face if name != "payload"}
            assert told >= {"state", "priority", "run_at", "attempts", "crashes", "alone", "last_error", "kind"}
            assert {name: face[name] for name in told} == {name: row[name] for name in told}, json.dumps(face)
        assert "payload" not in found[0] | found[1]  # the change has not even read it
        assert found[2] == [None]
