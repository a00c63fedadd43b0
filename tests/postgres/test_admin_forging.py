"""An operator can forge no record, and no text that he gives is run as SQL."""

from __future__ import annotations

import json

import psycopg
import pytest
from rows import add_job

HOSTILE = (
    "it's",
    "\\'; DROP TABLE jobs; --",
    "E'\\\\'",
    "' OR true --",
    '"; $$ $1 %s %I {} \\u0027',
    "\\",
    "%",
    "_",
    "ü\n\t\x1b[31m",
)


@pytest.fixture
def operators(database, login):
    """Sessions of two operators."""
    sessions = [psycopg.connect(login("shithub_operator"), autocommit=True) for _ in range(2)]
    yield sessions
    for session in sessions:
        session.close()


@pytest.mark.parametrize("conforming", ["on", "off"])
def test_the_words_of_a_selection_select_by_their_letters_alone(database, conforming):
    for n, text in enumerate(HOSTILE):
        if text.isprintable():
            add_job(database, kind=text)
        payload = json.dumps({"a": [text, n], text: n})
        add_job(database, state="failed", last_error=f"{n}:{text} and more", payload=payload)
    with database.connect() as connection:
        connection.execute(f"SET standard_conforming_strings = {conforming}")
        connection.execute("SET datestyle = 'SQL, DMY'")
        ids = [job for (job,) in connection.execute("SELECT id FROM jobs").fetchall()]
        for n, text in enumerate(HOSTILE):
            choices = [{"error": f"{n}:{text}"}, {"payload": {"a": [text]}}, {"payload": {text: n}}]
            choices += [{"kind": text}] if text.isprintable() else []
            for where in choices:
                where |= {"created_before": "2999-01-02"}
                (found, statement) = connection.execute(
                    "SELECT ids, statement FROM select_jobs_v1('reschedule', '{\"priority\": 999}', %s)",
                    (json.dumps(where),),
                ).fetchone()
                assert len(found) == 1, where
                assert connection.execute(statement.replace("%", "%%"), ()).fetchall() == [(found[0],)]
                (changed,) = connection.execute(
                    "SELECT array(SELECT id FROM unnest(changed)) FROM change_jobs_v1('reschedule', %s, %s, %s)",
                    (ids, json.dumps({"priority": n + 1, "run_at": None}), json.dumps(where)),
                ).fetchone()
                assert set(changed) <= set(found), where
    assert database.value("SELECT count(*) FROM jobs WHERE priority > 0") == len(ids)


def test_an_operator_adds_to_no_record_but_that_of_his_own_command(database, operators):
    alice, bob = operators
    jobs = [add_job(database) for _ in range(5)]
    call = "SELECT audit_id FROM change_jobs_v1('discard', %s, p_reason => %s, p_actor => 'alice@web1', p_audit => %s)"
    (row,) = alice.execute(call, (jobs[:1], "old", None)).fetchone()
    assert alice.execute(call, (jobs[1:2], "old", row)).fetchone() == (row,)
    for somebody, reason in ((bob, "old"), (alice, "new"), (alice, None)):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match=f"audit row {row} is not of this command"):
            somebody.execute(call, (jobs[2:], reason, row))
    database.query("UPDATE audit SET at = at - interval '25 hours'")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="is not of this command"):
        alice.execute(call, (jobs[2:], "old", row))
    assert database.query("SELECT jobs, job_ids, target FROM audit") == [(2, jobs[:2], "jobs")]
    assert database.value("SELECT count(*) FROM jobs") == 3


def test_a_forged_actor_is_seen_by_the_login_and_the_program(database, operators):
    _, bob = operators
    bob.execute("SET application_name = 'psql'")
    bob.execute("SELECT FROM complete_jobs(%s, 'no reason', 'alice@web1')", ([add_job(database)],))
    login = bob.execute("SELECT session_user::text").fetchone()
    assert database.query("SELECT actor, login, application_name FROM audit") == [("alice@web1", *login, "psql")]


PARTS = (
    "change_slice_v1('discard', '{1}', '{}', 'true', NULL, NULL, 'me', true)",
    "record_change_v1(NULL, 'discard', '{}', 'r', 'root', '{1}', '{}', '{}', '{}')",
    "why_unchanged_v1('discard', '{1}', '{}', 'pg_sleep(9) IS NULL', NULL, '{}', '{}')",
)


@pytest.mark.parametrize("part", PARTS)
def test_an_operator_cannot_call_a_part_that_takes_sql_or_writes_the_record(operators, part):
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for function"):
        operators[0].execute(f"SELECT {part}")
