"""The audit record has a retention of its own: only the owner's `history drop` prunes it, and an undo says what is
gone."""

from __future__ import annotations

import psycopg
import pytest
from commands import emptied_database, exact_command, one_database  # noqa: F401 (fixtures)
from rows import add_job

WORKERS = ("shithub_worker", "shithub_operator", "shithub_enqueue", "shithub_metrics")
ROWS = "SELECT id FROM audit ORDER BY id"


def changed(database, days, jobs=1):
    """The audit row of a change that was made so many days ago, to jobs that are gone since."""
    ids = [add_job(database) for _ in range(jobs)]
    database.query("SELECT discard_jobs(%s, reason := 'r')", ids)
    audit = database.value("SELECT max(id) FROM audit")
    database.query("UPDATE audit SET at = clock_timestamp() - make_interval(days => %s) WHERE id = %s", days, audit)
    return audit


def test_old_rows_go_and_of_younger_ones_the_old_values_go(database, command):
    old, middle, young = changed(database, 401), changed(database, 91, jobs=3), changed(database, 89)
    would = command.json("history", "drop", "--dry-run")
    assert (would["audit_rows"], would["undo_values"]) == (1, 1)
    assert database.query(ROWS) == [(old,), (middle,), (young,)]
    assert command("history", "drop").stdout.endswith(
        "dropped 1 rows of the audit record, and how the jobs were before 1 more changes\n"
    )
    assert database.query(ROWS) == [(middle,), (young,)]
    assert database.query("SELECT audit_id FROM audit_chunks") == [(young,)]
    again = command.json("history", "drop")
    assert (again["audit_rows"], again["undo_values"]) == (0, 0)
    refused = command.refused("audit", "undo", middle, code=5)
    assert "cannot be undone: the old values of its jobs were dropped on 20" in refused
    assert "(history drop --undo-days)" in command("audit", "show", middle).stdout
    assert "discard 3 jobs" in command("audit").stdout, "who did what stays"
    assert command("audit", "undo", young).returncode == 0


@pytest.mark.parametrize(
    ("words", "left"),
    [(("--audit-days", 5), 1), (("--audit-days", "7", "--undo-days", "1"), 2), (("--undo-days", "36500"), 3)],
)
def test_the_flags_say_for_how_long(database, command, words, left):
    for days in (2, 6, 8):
        changed(database, days)
    command("history", "drop", *words)
    assert database.value("SELECT count(*) FROM audit") == left
    chunks = 0 if "1" in words else left
    assert database.value("SELECT count(*) FROM audit_chunks") == chunks


def test_the_variables_say_so_too(database, command):
    changed(database, 6)
    env = {"SHITHUBD_WORKER_AUDIT_DAYS": "5", "SHITHUBD_WORKER_UNDO_DAYS": ""}
    assert command.json("history", "drop", env=env)["audit_rows"] == 1


@pytest.mark.parametrize("days", ["0", "-1", "soon", "36501", "1.5", "9" * 400, "\u0663"])
def test_days_that_make_no_sense_are_refused_and_nothing_is_dropped(database, command, days):
    audit = changed(database, 1000)
    told = command.refused("history", "drop", "--audit-days", days, code=78)
    assert "is not a number of days from 1 to 36500" in told
    assert database.query(ROWS) == [(audit,)]


def test_many_rows_go_in_batches(database, command):
    database.query(
        "INSERT INTO audit (at, actor, action, target) SELECT clock_timestamp() - interval '401 days', 'a', 'b', 'c'"
        " FROM generate_series(1, 250)"
    )
    assert database.query("SELECT * FROM prune_audit_v1(400, 90)") == [(100, 0)]
    assert command.json("history", "drop")["audit_rows"] == 150


def test_a_row_that_somebody_undoes_now_is_left_to_the_next_run(database, command):
    busy, other = changed(database, 100), changed(database, 100)
    with database.connect() as undoing, undoing.transaction():
        undoing.execute("SELECT undo_jobs(%s)", (busy,))
        done = command.json("history", "drop")
        assert done["undo_values"] == 1
        assert database.query("SELECT audit_id FROM audit_chunks WHERE audit_id IN (%s, %s)", busy, other) == [(busy,)]
    assert command.json("history", "drop")["undo_values"] == 1


def test_a_reader_of_the_history_does_not_hold_up_the_record(database, command):
    changed(database, 401)
    day = "job_history_7d_20200101"
    database.query(f"CREATE TABLE {day} PARTITION OF job_history_7d FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')")
    database.query(f"ALTER TABLE {day} OWNER TO shithub_owner")
    with database.connect() as reader, reader.transaction():
        reader.execute(f"SELECT FROM {day}".encode())
        assert "put off: a reader has the history" in command("history", "drop", code=75).stderr
    assert database.query(ROWS) == []
    command("history", "drop")


@pytest.mark.parametrize("role", WORKERS)
def test_nobody_but_the_owner_can_prune(database, login, command, role):
    audit = changed(database, 1000)
    url = login(role)
    with psycopg.connect(url, autocommit=True) as connection:
        for query in (
            "SELECT prune_audit_v1(1, 1)",
            "DELETE FROM audit",
            "DELETE FROM audit_chunks",
            "UPDATE audit SET forgotten_at = now()",
            "TRUNCATE audit CASCADE",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(query)
    command("history", "drop", code=77, env={"SHITHUBD_WORKER_DATABASE_URL": url})
    assert database.query(ROWS) == [(audit,)]
