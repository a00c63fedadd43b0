"""Client does for a program what the commands do for an operator: on a connection of its own, or in the caller's
transaction."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from rows import add_job, add_worker, audit, state

from shithubd_worker import Client
from shithubd_worker.errors import Refused, SchemaMismatch, TimedOut

LATER = datetime(2030, 1, 2, tzinfo=UTC)


@pytest.fixture(params=["url", "connection"])
def queue(request, database):
    """A Client on a connection of its own, and one on the caller's, which commits each call."""
    if request.param == "url":
        with Client(database.url, actor="ada@forge") as client:
            yield client
    else:
        with psycopg.connect(database.url, autocommit=True) as connection:
            yield Client(connection, actor="ada@forge")


def test_each_change_returns_typed_rows_and_is_recorded(database, queue):
    waits, failed, gone, lost = add_job(database), add_job(database, state="failed"), add_job(database), 10**9
    runs = add_job(database, state="processing")

    (row,) = queue.reschedule_jobs([waits, lost], run_at=LATER, priority=3, max_attempts=5, reason="later")
    assert (row.id, row.run_at, row.priority, row.max_attempts, row.state) == (waits, LATER, 3, 5, "queued")
    assert (row.kind, row.payload, row.leased_at, row.last_error) == ("k", {}, None, None)
    assert row.created_at.tzinfo is not None
    assert [row.id for row in queue.retry_jobs([failed, waits])] == [waits, failed]
    (row,) = queue.permanently_fail_jobs(iter([waits]), "nobody needs it")
    assert (row.state, row.last_error) == ("failed", "nobody needs it")
    assert [row.id for row in queue.complete_jobs({gone})] == [gone]
    assert [row.id for row in queue.discard_jobs((waits, runs))] == [waits]
    assert [row.id for row in queue.release_jobs([runs])] == [runs]
    assert state(database, gone) is state(database, waits) is None
    assert [row[0] for row in audit(database)] == ["reschedule", "retry", "fail", "complete", "discard", "release"]
    assert audit(database)[0][1:] == (f"job {waits}", "later", "ada@forge", [waits])


def test_a_job_is_shown_with_its_history_and_the_status_is_that_of_the_command(database, queue):
    job = queue.enqueue("mail.send", to="ada@example.org", delay=60)
    assert queue.job(job)["payload"] == {"to": "ada@example.org"}
    assert queue.job(10**9) is None
    assert [kind["kind"] for kind in queue.status()["kinds"]] == ["mail.send"]


def test_the_jobs_of_a_dead_worker_come_back_and_one_that_lives_keeps_its_own(database, queue):
    dead, lives = add_worker(database, pid=1, silent=True), add_worker(database, pid=2)
    lost = add_job(database, state="processing", worker=dead)
    kept = add_job(database, state="processing", worker=lives, leased_by="web1:2")
    with pytest.raises(Refused, match=r"a worker lives: web1:2 \(uuid"):
        queue.force_unlock_workers([dead, "web1:2"])
    assert queue.force_unlock_workers(["nobody"]) == []
    (row,) = queue.force_unlock_workers([dead], reason="it burned down")
    assert (row.id, row.state, row.attempts, row.crashes) == (lost, "queued", 0, 1)
    assert state(database, kept) == ("processing", 1)
    (row,) = queue.force_unlock_workers(iter(["web1:2"]), accept_second_run=True)
    assert row.id == kept
    assert [(row[0], row[2], row[3]) for row in audit(database)] == [
        ("unlock", "it burned down", "ada@forge"),
        ("unlock", None, "ada@forge"),
    ]


def test_a_cleanup_removes_failed_jobs_and_an_undo_brings_them_back(database, queue):
    failed, waits = add_job(database, state="failed", payload='{"n": 1}'), add_job(database)
    assert queue.cleanup([]) == queue.cleanup(["GC_JOB_QUEUES", "GC_TASK_IDENTIFIERS"]) == []
    (row,) = queue.cleanup(("DELETE_PERMAFAILED_JOBS",), reason="old")
    assert (row.id, row.state, row.payload) == (failed, "failed", {"n": 1})
    assert (state(database, failed), state(database, waits)) == (None, ("queued", 0))
    number = database.value("SELECT max(id) FROM audit")
    (row,) = queue.undo_jobs(number, reason="not so old")
    assert (row.id, row.state, row.payload) == (failed, "failed", {"n": 1})
    assert audit(database)[-1] == ("undo", f"job {failed}", "not so old", "ada@forge", [failed])
    assert queue.undo_jobs(number) == []
    with pytest.raises(Refused, match="audit row 999 cannot be undone: there is no such row"):
        queue.undo_jobs(999)


def test_a_plan_is_applied_exactly_or_refused(database, queue):
    first, second = add_job(database, payload='{"to": "ada"}'), add_job(database, payload='{"to": "bob"}')
    plan = queue.plan_jobs(
        "reschedule", [first, second, 10**9], values={"run_at": LATER, "priority": 3}, expires_in=60, reason="later"
    )
    assert (plan.jobs, plan.refused) == (2, {10**9: "no such job"})
    assert timedelta() < plan.expires_at - datetime.now(UTC) <= timedelta(minutes=1)
    assert "run_at" in plan.statement
    assert state(database, first) == ("queued", 0)
    database.query("UPDATE jobs SET priority = 9 WHERE id = %s", second)
    with pytest.raises(Refused, match=f"job {second}: priority was 0, is 9"):
        queue.apply_plan(plan.name)
    (row,) = queue.apply_plan(plan.name, partial=True)
    assert (row.id, row.run_at, row.priority) == (first, LATER, 3)
    assert audit(database) == [("reschedule", f"job {first}", "later", "ada@forge", [first])]
    with pytest.raises(Refused, match="is already applied: by ada@forge"):
        queue.apply_plan(plan.name)
    with pytest.raises(Refused, match="there is no plan 9-none"):
        queue.apply_plan("9-none")
    plan = queue.plan_jobs(
        "fail",
        where={"kind": "k", "state": "queued", "older_than": timedelta(0), "payload": {"to": "bob"}},
        values={"error": "nobody needs it"},
        limit=5,
    )
    assert [(row.id, row.last_error) for row in queue.apply_plan(plan.name)] == [(second, "nobody needs it")]
    nothing = queue.plan_jobs("retry", where={"error": "no such error"})
    assert (nothing.name, nothing.jobs, nothing.expires_at, nothing.refused) == (None, 0, None, {})


def test_many_jobs_are_added_in_order_or_not_at_all(database, queue):
    ids = queue.enqueue_many("mail.send", ({"n": n} for n in range(25_000)), priority=7, run_at=LATER)
    assert len(set(ids)) == 25_000
    assert database.query("SELECT DISTINCT priority, run_at FROM jobs") == [(7, LATER)]
    assert database.query(
        "SELECT payload->'n' FROM unnest(%s::bigint[]) WITH ORDINALITY i (id, n) JOIN jobs USING (id) ORDER BY i.n", ids
    ) == [(n,) for n in range(25_000)]
    assert queue.enqueue_many("mail.send", []) == []
    with pytest.raises(ValueError, match="NUL character"):
        queue.enqueue_many("mail.send", [{"n": 1}, {"text": "\0"}])
    database.query("ALTER TABLE jobs ADD CONSTRAINT small CHECK ((payload->>'n')::int < 20000)  NOT VALID")
    with pytest.raises(psycopg.errors.CheckViolation):
        queue.enqueue_many("mail.send", ({"n": n} for n in range(25_000)))
    assert database.value("SELECT count(*) FROM jobs") == 25_000


def test_a_pause_and_a_drain_are_certain_when_they_return(database, queue):
    job = add_job(database)
    worker = add_worker(database)
    until = datetime.now(UTC) + timedelta(hours=1)
    hold = queue.pause_kind("k", until=until, reason="schema work")
    assert (hold.scope, hold.target, hold.reason, hold.actor, hold.until) == (
        "kind",
        "k",
        "schema work",
        "ada@forge",
        until,
    )
    assert state(database, job) == ("paused", 0)
    assert queue.resume_kind("k").id == hold.id
    assert state(database, job) == ("queued", 0)
    assert queue.resume_kind("k") is None
    assert queue.drain().scope == "fleet"
    assert queue.drain(worker="web1:1").target == str(worker)
    assert {hold.scope for hold in queue.resume()} == {"fleet", "worker"}
    with pytest.raises(Refused, match="no worker called 'web1:2'"):
        queue.drain(worker="web1:2")
    with pytest.raises(ValueError, match="one of host"):
        queue.resume(host="web1", unit="x")


def test_a_kind_is_resumed_in_steps(database, queue):
    job = add_job(database)
    held = queue.pause_kind("k", reason="schema work")
    until = datetime.now(UTC) + timedelta(hours=1)
    steps = {"canary": 1, "ramp": (10, 100), "every": timedelta(minutes=5), "rate": 50, "stop_at": 0.5}
    hold = queue.resume_kind("k", **steps, until=until, reason="slowly")
    assert (hold.id, hold.reason, hold.until) == (held.id, "slowly", until)
    assert state(database, job) == ("queued", 0)
    row = "SELECT canary, steps, every, rate, stop_at FROM ramps"
    assert database.query(row) == [(1, [10, 100], 300, 50, 0.5)]
    assert queue.status()["holds"][0]["ramp"]["state"] == "canary"
    assert queue.job(job)["hold"]["ramp"]["canary"] == 1
    with pytest.raises(Refused, match="until lies in the past"):
        queue.resume_kind("k", rate=1, until=datetime(2020, 1, 1, tzinfo=UTC))
    queue.resume_kind("k", ramp=[50])
    assert database.query(row) == [(None, [50], 120, None, 0.2)]
    assert queue.resume_kind("k").id == held.id
    assert database.query(row) == []


def test_a_pause_that_is_not_certain_in_time_says_so_and_stays(database, queue):
    with database.connect() as other:
        other.execute("BEGIN; LOCK TABLE gate IN ROW SHARE MODE")
        with pytest.raises(TimedOut, match=r"kind k is held, but after 0\.2 s"):
            queue.pause_kind("k", timeout=timedelta(seconds=0.2))
        other.rollback()
    assert database.value("SELECT count(*) FROM holds") == 1


def test_in_the_callers_transaction_nothing_is_left_after_a_rollback(database):
    job = add_job(database, state="failed")
    with psycopg.connect(database.url) as connection:
        # What the caller may have set counts for the caller alone.
        connection.execute("SET datestyle = 'German'; SET timezone = 'Asia/Tokyo'; SET search_path = pg_temp")
        connection.row_factory = psycopg.rows.dict_row
        connection.cursor_factory = psycopg.ClientCursor
        queue = Client(connection)
        added = queue.enqueue("k")
        (row,) = queue.retry_jobs([job])
        assert (row.state, row.run_at.utcoffset()) == ("queued", timedelta())
        assert queue.job(added)["state"] == "queued"
        for hold in (queue.drain, lambda: queue.pause_kind("k")):
            with pytest.raises(RuntimeError, match="certain only once it is committed"):
                hold()
        connection.rollback()
        queue.close()
        assert connection.execute("SELECT 1 AS one").fetchone() == {"one": 1}
    assert database.query("SELECT id, state FROM jobs") == [(job, "failed")]
    assert audit(database) == []


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (lambda queue: queue.complete_jobs("12"), TypeError, "numbers, not text"),
        (lambda queue: queue.complete_jobs([1.5]), TypeError, "a job's id must be a whole number, not float"),
        (lambda queue: queue.complete_jobs([2**63]), ValueError, "a job's id must be"),
        (lambda queue: queue.reschedule_jobs([1], priority=40_000), ValueError, "priority must be -32768 to 32767"),
        (lambda queue: queue.reschedule_jobs([1], run_at=LATER.replace(tzinfo=None)), ValueError, "needs a time zone"),
        (lambda queue: queue.reschedule_jobs([1], max_attempts=0), ValueError, "max_attempts must be 1 to"),
        (lambda queue: queue.pause_kind(""), ValueError, "a kind has 1 to 200 characters"),
        (lambda queue: queue.resume_kind("k", ramp=[10, 5]), ValueError, "and 5 comes after 10"),
        (lambda queue: queue.resume_kind("k", ramp="10,50"), TypeError, "ramp must be several percentages"),
        (lambda queue: queue.resume_kind("k", every=60), ValueError, "it needs ramp"),
        (lambda queue: queue.resume_kind("k", until=LATER), ValueError, "until is the end of a ramp"),
        (lambda queue: queue.resume_kind("k", rate="50/s"), TypeError, "rate must be a number, not str"),
        (lambda queue: queue.pause_kind("k", timeout="5"), TypeError, "timeout must be seconds"),
        (lambda queue: queue.enqueue_many("k", [3]), TypeError, "payload must be a mapping, not int"),
        (lambda queue: queue.job("1"), TypeError, "a job's id must be a whole number, not str"),
        (lambda queue: queue.jobs(state="done"), ValueError, "there is no state 'done': there are queued, ready, "),
        (lambda queue: queue.jobs(kind=""), ValueError, "1 to 200 characters"),
        (lambda queue: queue.jobs(limit=0), ValueError, "limit"),
        (lambda queue: queue.jobs(after="1"), TypeError, "after must be a whole number, not str"),
        (lambda queue: queue.discard_jobs([1], reason=b"x"), TypeError, "reason must be a string, not bytes"),
        (lambda queue: queue.discard_jobs([1], reason="\0"), ValueError, "reason contains a NUL"),
        (lambda queue: queue.discard_jobs([1], reason="\ud800"), ValueError, "reason contains a lone surrogate"),
        (lambda queue: queue.retry_jobs(7), TypeError, r"write \[7\] for one job"),
        (lambda queue: queue.release_jobs([1], accept_second_run="no"), TypeError, "must be True or False, not str"),
        (lambda queue: queue.enqueue("k", schema="x"), TypeError, r"give it to Client\(schema"),
        (lambda queue: queue.enqueue_many("k", [{"n": 1}, {1: 2}]), TypeError, "a string, not int"),
        (lambda queue: queue.enqueue_many("k", [{"delay": 5}]), TypeError, "payload can't have 'delay'"),
        (lambda queue: queue.force_unlock_workers("web1:1"), TypeError, "must be several names"),
        (lambda queue: queue.force_unlock_workers([7]), TypeError, "a worker's id must be a string, not int"),
        (lambda queue: queue.force_unlock_workers([], accept_second_run=1), TypeError, "True or False, not int"),
        (lambda queue: queue.cleanup("GC_JOB_QUEUES"), TypeError, "must be several names"),
        (lambda queue: queue.cleanup(["gc"]), ValueError, "there is no cleanup task 'gc': there are DELETE"),
        (lambda queue: queue.undo_jobs("1"), TypeError, "audit_id must be a whole number, not str"),
        (lambda queue: queue.apply_plan(""), ValueError, "name must not be empty"),
        (lambda queue: queue.apply_plan("1-2", partial=1), TypeError, "partial must be True or False"),
        (lambda queue: queue.plan_jobs("retry"), ValueError, "where={} means every job"),
        (lambda queue: queue.plan_jobs("kill", [1]), ValueError, "no action 'kill': there are complete, fail,"),
        (lambda queue: queue.plan_jobs("retry", [1], values={"run_at": LATER}), ValueError, "there is no 'run_at'"),
        (lambda queue: queue.plan_jobs("reschedule", [1], values={"priority": 1.5}), TypeError, "not float"),
        (lambda queue: queue.plan_jobs("retry", where={"status": "x"}), ValueError, "there is no 'status', only kind,"),
        (lambda queue: queue.plan_jobs("retry", where={"state": None}), ValueError, "there is no state None"),
        (lambda queue: queue.plan_jobs("retry", where={"payload": {"n": {1}}}), ValueError, "payload is not JSON"),
        (lambda queue: queue.plan_jobs("retry", [1], expires_in=8 * 86_400), ValueError, "in at most 7 days"),
        (lambda queue: queue.plan_jobs("retry", [1], limit=-1), ValueError, "limit must be 0 to"),
        (lambda queue: queue.drain(host=""), ValueError, "host must not be empty"),
        (lambda queue: queue.resume(host=""), ValueError, "host must not be empty"),
        (lambda queue: queue.resume(worker=7), TypeError, "worker must be a string, not int"),
        (lambda queue: queue.drain(until=LATER.replace(tzinfo=None)), ValueError, "until needs a time zone"),
        (lambda queue: Client(queue._operations.connection, actor=7), TypeError, "actor must be a string, not int"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_sent(database, wrong, error, words):
    with psycopg.connect(database.url) as connection:
        client = Client(connection)
        with pytest.raises(error, match=words):
            wrong(client)
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert database.query("SELECT count(*) FROM holds UNION ALL SELECT count(*) FROM audit") == [(0,), (0,)]


def test_a_client_without_a_queue_or_with_another_schema_says_so(database):
    with pytest.raises(TypeError, match=r"must be a URL or a psycopg\.Connection, not int"):
        Client(3)
    with pytest.raises(ValueError, match="schema ''"):
        Client(schema="")
    with Client(database.url, schema="elsewhere") as queue, pytest.raises(SchemaMismatch, match="has no queue"):
        queue.status()


def test_a_function_of_the_application_with_the_same_name_is_not_called(database, queue):
    database.query(
        "CREATE FUNCTION retry_jobs(smallint[], text, text) RETURNS SETOF jobs LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE 'not ours'; END $$"
    )
    assert queue.retry_jobs([1]) == []
