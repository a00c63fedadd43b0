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
        (lambda queue: queue.pause_kind("k", timeout="5"), TypeError, "timeout must be seconds"),
        (lambda queue: queue.enqueue_many("k", [3]), TypeError, "payload must be a mapping, not int"),
        (lambda queue: queue.job("1"), TypeError, "a job's id must be a whole number, not str"),
        (lambda queue: queue.discard_jobs([1], reason=b"x"), TypeError, "reason must be a string, not bytes"),
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
