"""Each change by an operator leaves one audit row that says what it was, and wakes every worker that has something to
do now."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from conftest import new_database
from rows import add_job, add_worker

LATER = datetime(2100, 1, 1, tzinfo=UTC)
WOKEN, NOT_WOKEN = ["anew"], []


@pytest.fixture(scope="module")
def one_database(server):
    """One database for all of these tests, which is quicker. Each test finds the same rows in it."""
    yield from new_database(server)


@pytest.fixture
def queue(one_database):
    """The database, with holds and jobs in it: their ids by their names."""
    database = one_database
    for table in ("jobs", "job_history", "holds", "workers"):
        database.query(f"DELETE FROM {table}")
    worker = add_worker(database)
    jobs = {
        "processing": add_job(database, state="processing", worker=worker, leased_by="web1:1"),
        "forsaken": add_job(database, state="processing", worker=None, leased_by="web9:9"),
        "failed": add_job(database, state="failed", attempts=7, crashes=2, last_error="no"),
        "queued": add_job(database),
        "later": add_job(database, run_at=LATER),
    }
    database.query("SELECT drain_v1('host', 'web1', 'disk', %s, 'alice')", LATER)
    database.query("SELECT drain_v1('host', 'web2', 'memory', NULL, 'bob')")
    database.query("SELECT pause_kind_v1('k', 'release', NULL, 'carol')")
    database.query("DELETE FROM audit")
    return SimpleNamespace(database=database, jobs=jobs)


def asked(queue, statement, *arguments):
    """The notifications that a listener gets of the change, and the audit rows that it leaves, each as a dict."""
    database = queue.database
    with database.connect() as listener:
        listener.execute('LISTEN "shithubd:public"')
        given = [queue.jobs.get(each, each) for each in arguments]
        database.query(f"SELECT {statement}", *given)
        database.query("SELECT pg_notify('shithubd:public', 'all')")  # notifications come in the order of their commits
        heard = []
        for notify in listener.notifies():
            if notify.payload == "all":
                break
            heard.append(notify.payload)
    rows = database.query("SELECT actor, action, target, reason, job_ids, detail FROM audit")
    names = ("actor", "action", "target", "reason", "job_ids", "detail")
    return heard, [dict(zip(names, row, strict=True)) for row in rows]


CHANGES = {
    "drain": ("drain_v1('fleet', '', 'why', %s, 'me')", [LATER], "drain", "fleet", {"until": LATER}, NOT_WOKEN),
    "drain-again": (
        "drain_v1('host', 'web1', 'why', NULL, 'me')",
        [],
        "drain",
        "host web1",
        {"until": None},
        NOT_WOKEN,
    ),
    "pause": ("pause_kind_v1('k', 'why', %s, 'me')", [LATER], "pause", "kind k", {"until": LATER}, NOT_WOKEN),
    "resume": ("resume_v1('host', 'web1', 'why', 'me')", [], "resume", "host web1", {"set_by": "alice"}, WOKEN),
    "resume-kind": ("resume_kind_v1('k', 'why', 'me')", [], "resume", "kind k", {"set_by": "carol"}, WOKEN),
    "force": (
        "release_jobs(ARRAY[%s::bigint], true, 'why', 'me')",
        ["processing"],
        "release",
        None,
        {"with": {"accept_second_run": True}, "where": {}},
        WOKEN,
    ),
    "release": (
        "release_jobs(ARRAY[%s::bigint], false, 'why', 'me')",
        ["forsaken"],
        "release",
        None,
        {"with": {"accept_second_run": False}},
        WOKEN,
    ),
    "retry": ("retry_jobs(ARRAY[%s::bigint], 'why', 'me')", ["failed"], "retry", None, {"with": {}}, WOKEN),
    "hurry": ("retry_jobs(ARRAY[%s::bigint], 'why', 'me')", ["later"], "retry", None, {"with": {}}, WOKEN),
    "reschedule": (
        "reschedule_jobs(ARRAY[%s::bigint], priority := 5, reason := 'why', actor := 'me')",
        ["queued"],
        "reschedule",
        None,
        {"with": {"priority": 5}},
        WOKEN,
    ),
    "complete": ("complete_jobs(ARRAY[%s::bigint], 'why', 'me')", ["failed"], "complete", None, {}, NOT_WOKEN),
    "discard": ("discard_jobs(ARRAY[%s::bigint], 'why', 'me')", ["failed"], "discard", None, {}, NOT_WOKEN),
    "fail": (
        "permanently_fail_jobs(ARRAY[%s::bigint], 'a bug', 'why', 'me')",
        ["queued"],
        "fail",
        None,
        {"with": {"error": "a bug"}},
        NOT_WOKEN,
    ),
    "many": (
        "discard_jobs(ARRAY[%s, %s]::bigint[], 'why', 'me')",
        ["queued", "later"],
        "discard",
        "jobs",
        {},
        NOT_WOKEN,
    ),
    "nothing": ("unpause_v1('other')", [], None, None, {}, NOT_WOKEN),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_leaves_one_audit_row_and_wakes_workers_with_something_to_do(queue, change):
    statement, arguments, action, target, says, heard = CHANGES[change]
    woken, rows = asked(queue, statement, *arguments)
    assert woken == heard
    if action is None:
        assert rows == []
        return
    assert len(rows) == 1
    row = rows[0]
    jobs = [queue.jobs[name] for name in arguments if name in queue.jobs]
    assert (row["actor"], row["action"], row["reason"]) == ("me", action, "why")
    assert (row["target"], row["job_ids"]) == (target or f"job {jobs[0]}", jobs)
    detail = row["detail"] | {k: datetime.fromisoformat(v) for k, v in row["detail"].items() if says.get(k) is LATER}
    assert detail == detail | says


IN_VAIN = {
    "release": ("release_jobs(ARRAY[%s::bigint], false, 'why', 'me')", "processing"),  # the worker of the job lives
    "force": ("release_jobs(ARRAY[%s::bigint], true, 'why', 'me')", "queued"),
    "retry": ("retry_jobs(ARRAY[%s::bigint], 'why', 'me')", "processing"),
    "retry-due": ("retry_jobs(ARRAY[%s::bigint], 'why', 'me')", "queued"),
    "reschedule": ("reschedule_jobs(ARRAY[%s::bigint], priority := 0)", "queued"),  # it has this priority
    "complete": ("complete_jobs(ARRAY[%s::bigint], 'why', 'me')", "processing"),
    "fail": ("permanently_fail_jobs(ARRAY[%s::bigint], 'a bug')", "processing"),
    "discard": ("discard_jobs(ARRAY[%s::bigint], 'why', 'me')", "processing"),
    "resume": ("resume_v1('host', 'web3', 'why', 'me') WHERE %s IS NULL", "queued"),
}


@pytest.mark.parametrize("change", IN_VAIN)
def test_a_command_that_changes_nothing_leaves_no_audit_row_and_wakes_nobody(queue, change):
    statement, job = IN_VAIN[change]
    before = queue.database.query("SELECT * FROM jobs ORDER BY id")
    assert asked(queue, statement, job) == (NOT_WOKEN, [])
    assert queue.database.query("SELECT * FROM jobs ORDER BY id") == before


def test_a_resume_of_one_host_leaves_the_drain_of_another(queue):
    queue.database.query("SELECT resume_v1('host', 'web1')")
    assert queue.database.query("SELECT scope, target FROM holds ORDER BY id") == [("host", "web2"), ("kind", "k")]


def test_a_repeated_hold_moves_the_end_and_keeps_the_reason_unless_given(queue):
    ends = "SELECT until, reason, actor FROM holds WHERE target = 'web1'"
    queue.database.query("SELECT drain_v1('host', 'web1', NULL, NULL, 'dora')")
    assert queue.database.query(ends) == [(None, "disk", "dora")]
    queue.database.query("SELECT drain_v1('host', 'web1', 'fan', %s, 'emil')", LATER)
    assert queue.database.query(ends) == [(LATER, "fan", "emil")]


def test_a_hold_whose_end_has_passed_is_refused(queue):
    with pytest.raises(Exception, match="until lies in the past"):
        queue.database.query("SELECT drain_v1('fleet', '', NULL, clock_timestamp() - interval '1 second')")
    assert queue.database.query("SELECT FROM audit") == []


def test_a_retry_resets_a_failed_job_and_keeps_the_attempts_of_a_postponed_one(queue):
    queue.database.query("UPDATE jobs SET attempts = 3, crashes = 1, alone = true WHERE id = %s", queue.jobs["later"])
    queue.database.query("SELECT FROM retry_jobs(%s)", [queue.jobs["failed"], queue.jobs["later"]])
    rows = "SELECT attempts, crashes, alone, run_at <= now() FROM jobs WHERE id = %s"
    assert queue.database.query(rows, queue.jobs["failed"]) == [(0, 0, False, True)]
    assert queue.database.query(rows, queue.jobs["later"]) == [(3, 1, True, True)]


def test_a_discarded_job_is_kept_for_ninety_days_with_its_payload(queue):
    queue.database.query("UPDATE jobs SET payload = %s WHERE id = %s", '{"repo": "a"}', queue.jobs["failed"])
    queue.database.query("SELECT FROM discard_jobs(%s)", [queue.jobs["failed"]])
    rows = "SELECT outcome, retention, payload, error FROM job_history WHERE id = %s"
    assert queue.database.query(rows, queue.jobs["failed"]) == [("discarded", "90d", {"repo": "a"}, "no")]
