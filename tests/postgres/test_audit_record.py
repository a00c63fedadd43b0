"""Everybody finds a change in the audit record, and only the functions of the record write it."""

from __future__ import annotations

import psycopg
import pytest
from rows import add_job


def as_operator(database, statement):
    with database.connect() as connection:
        connection.execute("SET ROLE shithub_operator")
        connection.execute(statement)


@pytest.fixture
def roles(any_database):
    """The database with its roles, and a change of an operator."""
    from shithubd_worker.database import schema

    with any_database.connect() as connection:
        schema.migrate(connection, "public", roles=True)
    add_job(any_database)
    as_operator(any_database, "SELECT discard_jobs(ARRAY(SELECT id FROM jobs))")
    return any_database


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO audit (actor, action, target) VALUES ('root', 'undo', 'jobs')",
        "UPDATE audit SET actor = 'somebody else'",
        "DELETE FROM audit",
        "INSERT INTO audit_chunks (audit_id, job_ids, before, after, payloads) SELECT 1, '{7}', '{}', '{}', '{}'",
        "UPDATE audit_chunks SET before = after",
        "DELETE FROM audit_chunks",
        "TRUNCATE audit, audit_chunks",
        "SELECT record_change_v1(1, 'discard', '{}', NULL, 'root', '{7}', '{null}', '{null}', '{null}')",
        "SELECT change_some_v1('discard', '{1}', '{}', '{}', NULL, NULL, 'root', NULL, '{\"planned_by\": \"root\"}')",
        "SELECT undo_slice_v1('{7}', '{null}', '{null}', '{null}', 'completed', '')",
        "SELECT undo_some_v1('{7}', '{null}', '{null}', '{null}', '{}', '', '', 1)",
    ],
)
def test_an_operator_writes_the_record_only_through_the_functions(roles, statement):
    before = roles.query("SELECT a::text, c::text FROM audit a, audit_chunks c")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_operator(roles, statement)
    assert roles.query("SELECT a::text, c::text FROM audit a, audit_chunks c") == before
    as_operator(roles, "SELECT * FROM undo_jobs(1)")
    assert roles.query("SELECT count(*) FROM jobs") == [(1,)]


def test_nobody_adds_an_undo_to_the_row_of_another(roles):
    as_operator(roles, "SELECT * FROM undo_jobs(1)")
    as_operator(roles, "SELECT * FROM discard_jobs(ARRAY(SELECT id FROM jobs))")
    before = roles.query("SELECT a::text, c::text FROM audit a, audit_chunks c")
    for row in (1, 2, 3):  # of a discard, of an undo of another change, of the change itself
        as_operator(roles, f"SELECT undo_chunk_v1(3, p_undo => {row})")
        assert roles.query("SELECT a::text, c::text FROM audit a, audit_chunks c") == before
        assert roles.query("SELECT FROM jobs") == []
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="there is no action undo"):
        as_operator(roles, "SELECT change_jobs_v1('undo', '{1}')")


def test_a_change_is_found_by_its_action_actor_login_job_and_time(any_database):
    database = any_database
    jobs = [add_job(database) for _ in range(4)]
    database.query("SELECT permanently_fail_jobs(%s, 'no', actor := 'alice@web1')", jobs)
    database.query("SELECT retry_jobs(%s, actor := 'al')", jobs[:1])
    database.query("SELECT pause_kind_v1('k', p_actor => 'alice@web2')")
    database.query("SELECT undo_jobs(2)")
    login = database.value("SELECT session_user::text")

    def found(action=None, actor=None, job=None, since=None, until=None, limit=50):
        listed = database.query(
            "SELECT r->>'id' FROM list_audit_v1(%s, %s, %s, %s, %s, %s) r", action, actor, job, since, until, limit
        )
        return [int(row) for (row,) in listed]

    assert found() == [1, 2, 3, 4]
    assert found(limit=2) == [3, 4]
    assert found(action="pause") == [3]
    assert found(actor="alice") == [1, 3]
    assert found(actor="alice@web1") == [1]
    assert found(actor=login) == [1, 2, 3, 4]
    assert found(job=jobs[0]) == [1, 2, 4]
    assert found(job=jobs[3]) == [1]
    assert found(job=10**12) == []
    moment = database.value("SELECT at FROM audit WHERE id = 3")
    assert found(since=moment) == [3, 4]
    assert found(until=moment) == [1, 2]
    assert found(since="infinity") == found(until="-infinity") == []


def test_the_record_says_how_much_of_a_change_is_undone_now_and_by_which_rows(any_database):
    jobs = [add_job(any_database) for _ in range(3)]
    any_database.query("SELECT permanently_fail_jobs(%s, 'no')", jobs)

    def undone():
        return any_database.query(
            "SELECT r->'undone', r->'undone_by' FROM list_audit_v1(NULL, NULL, NULL, NULL, NULL, 50) r"
        )

    assert undone() == [(0, [])]
    any_database.query("UPDATE jobs SET last_error = 'other' WHERE id = %s", jobs[0])
    any_database.query("SELECT undo_jobs(1)")
    assert undone() == [(2, [2]), (0, [])]
    any_database.query("SELECT undo_jobs(2)")
    assert undone() == [(0, [2]), (2, [3]), (0, [])]


def test_a_chunk_holds_the_jobs_in_order_and_at_most_500(database):
    database.query("INSERT INTO jobs (id, kind) SELECT -g, 'k' FROM generate_series(1, 6000) g")
    database.query("INSERT INTO jobs (id, kind) VALUES (9223372036854775807, 'k'), (-9223372036854775808, 'k')")
    database.query("SELECT discard_jobs(ARRAY(SELECT id FROM jobs))")
    chunks = database.query("SELECT job_ids FROM audit_chunks ORDER BY id")
    jobs = [job for (chunk,) in chunks for job in chunk]
    assert jobs == sorted(jobs)
    assert len(jobs) == 6002
    assert max(len(chunk) for (chunk,) in chunks) == 500
    assert database.query("SELECT r->'jobs' FROM list_audit_v1(NULL, NULL, 9223372036854775807, NULL, NULL, 1) r") == [
        (6002,)
    ]
    assert len(database.query("SELECT id FROM undo_jobs(1)")) == 6002


def test_the_changes_of_one_job_are_found_among_a_thousand_chunks_by_few_reads(database):
    database.query(
        "INSERT INTO audit (actor, action, target, jobs) VALUES ('a', 'discard', 'jobs', 200000);"
        "INSERT INTO audit_chunks (audit_id, job_ids, before, after, payloads)"
        " SELECT 1, f.ids, f.faces, f.faces, f.faces FROM generate_series(0, 999) c,"
        " LATERAL (SELECT array_agg(c * 200 + n) AS ids, array_agg(to_jsonb(md5((c * 200 + n)::text))) AS faces"
        " FROM generate_series(1, 200) n) f;"
        "ANALYZE audit_chunks"
    )
    with database.connect() as connection:
        for _ in range(2):  # the first call also reads the catalogs
            (plan,) = connection.execute(
                "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT list_audit_v1(NULL, NULL, 100042, NULL, NULL, 50)"
            ).fetchone()
    assert plan[0]["Plan"]["Actual Rows"] == 1
    reads = plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]
    whole = database.value("SELECT pg_table_size('audit_chunks') / 8192")
    assert reads < 40, reads
    assert whole > 1000


def test_undos_of_undos_without_end_do_not_stop_the_list(any_database):
    any_database.query("SELECT discard_jobs(ARRAY[%s::bigint])", add_job(any_database))
    first = any_database.value("SELECT max(id) FROM audit")
    any_database.query(
        "INSERT INTO audit (actor, action, target, jobs, detail)"
        " SELECT 'a', 'undo', 'jobs', 1, jsonb_build_object('undoes', %s + g - 1) FROM generate_series(1, 2001) g",
        first,
    )
    assert any_database.value("SELECT max(id) FROM audit") == first + 2001
    undone = "SELECT l->'undone' FROM list_audit_v1(%s, NULL, NULL, NULL, NULL, 1) l"
    assert (any_database.value(undone, "discard"), any_database.value(undone, "undo")) == (1, 0)
