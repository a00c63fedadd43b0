"""Changes of jobs with large payloads, of jobs that are slow to change, and of jobs whose table has got a column since."""

from __future__ import annotations

import json

import pytest
from commands import emptied_database, exact_command, one_database  # noqa: F401 (fixtures)
from rows import add_job

MB = 1 << 20
RANDOM = "(SELECT string_agg(md5((g * 1000000 + n)::text), '') FROM generate_series(1, %s / 32) n)"
ALIKE = "repeat('x', %s)"  # compressed to a hundredth
SUM = "SELECT count(*), sum(jsonb_hash_extended(payload, 0)::numeric) FROM jobs"
CHANGES = {
    "reschedule": '{"priority": 1}',
    "fail": '{"error": "no"}',
    "retry": "{}",
    "release": '{"accept_second_run": true}',
}


@pytest.fixture(autouse=True)
def without_leftovers(database):
    yield
    database.query(
        "DROP FUNCTION IF EXISTS slow CASCADE; ALTER TABLE jobs DROP IF EXISTS old_column, DROP IF EXISTS tags,"
        " DROP IF EXISTS title, DROP IF EXISTS flags, DROP IF EXISTS extra, DROP IF EXISTS more"
    )


def add_large(database, count, text, size):
    made = f"INSERT INTO jobs (kind, payload) SELECT 'big', jsonb_build_object('text', {text})"
    return database.query(f"{made} FROM generate_series(1, {count}) g RETURNING id", size)


@pytest.mark.parametrize("text", [RANDOM, ALIKE])
@pytest.mark.parametrize("words", [("complete",), ("discard",), ("discard", "--plan")])
def test_large_jobs_are_ended_and_restored_a_few_at_a_time(database, command, text, words):
    add_large(database, 12, text, MB)
    before = database.query(SUM)
    told = command.json("jobs", *words, "--kind", "big", *(() if "--plan" in words else ("--yes",)))
    if "--plan" in words:
        command("apply", told["plan"])
    assert database.query("SELECT FROM jobs") == []
    row = database.value("SELECT max(id) FROM audit")
    (undone,) = command.json("audit", "undo", row)
    assert undone["restored"] == 12
    assert database.query(SUM) == before
    (again,) = command.json("audit", "undo", undone["undo"])  # it removes them again
    assert (again["restored"], database.query("SELECT FROM jobs")) == (12, [])
    sizes = "SELECT count(*), max((SELECT sum(octet_length(p::text)) FROM unnest(payloads) p)) FROM audit_chunks"
    for audit in (row, again["undo"]):
        chunks, largest = database.query(f"{sizes} WHERE audit_id = %s", audit)[0]
        assert (chunks >= 2, largest <= 9 * MB) == (True, True), (chunks, largest)


@pytest.mark.parametrize("action", [*CHANGES])
def test_a_change_of_other_columns_reads_no_payload(database, action):
    add_large(database, 20, RANDOM, MB // 8)
    if action == "release":
        database.query("UPDATE jobs SET state = 'processing', leased_by = 'h:1', leased_at = now()")
    if action == "retry":
        database.query("UPDATE jobs SET state = 'failed'")
    read = (
        "SELECT seq_scan + idx_scan FROM pg_stat_xact_all_tables WHERE relid ="
        " (SELECT reltoastrelid FROM pg_class WHERE oid = 'jobs'::regclass)"
    )
    with database.connect() as connection, connection.transaction():
        (before,) = connection.execute(read).fetchone()
        (statement,) = connection.execute(
            "SELECT statement FROM select_statement_v1(%s, %s, '{}', NULL)", (action, CHANGES[action])
        ).fetchone()
        jobs = [job for (job,) in connection.execute(statement.replace("%", "%%"), ()).fetchall()]
        assert (len(jobs), connection.execute(read).fetchone()) == (20, (before,))
        (found,) = connection.execute(
            "SELECT changed FROM change_batch_v1(%s, %s, %s, '{}', 'r', 'a', NULL)", (action, jobs, CHANGES[action])
        ).fetchone()
        (after,) = connection.execute(read).fetchone()
    # The table's own CHECK of each new row reads it once.
    assert (found, after - before <= 20) == (20, True), after - before


def test_a_transaction_ends_soon_if_the_jobs_are_slow_to_change(database, command):
    jobs = [
        job for (job,) in database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 400) RETURNING id")
    ]
    database.query(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.002);"
        " IF OLD.id % 2 = 0 THEN RAISE 'no'; END IF; RETURN NEW; END $$;"
        " CREATE TRIGGER slow BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION slow()"
    )
    call = "SELECT rest, refused FROM change_batch_v1('reschedule', %s, '{\"priority\": 1}', '{}', 'r', 'a', NULL)"
    rest, refused = database.query(call, jobs)[0]
    assert rest == jobs[-len(rest) :]
    assert not {*map(str, rest)} & {*refused}
    told = json.loads(command("jobs", "reschedule", "--kind", "k", "--priority", "2", "--yes", "--json", code=5).stdout)
    assert (told["changed"], len(told["refused"]), told["not_tried"]) == (200, 200, 0)
    assert len(database.query("SELECT FROM reschedule_jobs(%s, priority => 3)", jobs)) == 200


def test_functions_return_whole_rows(database):
    job = add_job(database, payload='{"p": 1}', state="failed")
    for call in ("retry_jobs(%s)", "reschedule_jobs(%s, priority => 2)", "permanently_fail_jobs(%s, 'x')"):
        assert database.query(f"SELECT payload FROM {call}", [job]) == [({"p": 1},)], call
    row = database.value("SELECT max(id) FROM audit")
    assert database.query("SELECT payload, state FROM undo_jobs(%s)", row) == [({"p": 1}, "queued")]
    plan = database.value("SELECT plan FROM plan_jobs_v1('reschedule', %s, p_with => '{\"priority\": 4}')", [job])
    assert database.query("SELECT payload, priority FROM apply_plan_v1(%s)", plan) == [({"p": 1}, 4)]


@pytest.mark.parametrize("action", ["reschedule", "discard", "fail"])
@pytest.mark.parametrize(
    ("alter", "back"),
    [
        ("ADD title text NOT NULL DEFAULT 'none'", "DROP title"),
        ("ADD flags text[] DEFAULT '{}', ADD extra jsonb DEFAULT '{}'", "DROP flags, DROP extra"),
        ("DROP old_column", "ADD old_column integer DEFAULT 7"),
    ],
)
def test_a_column_that_an_upgrade_adds_or_drops_changes_no_job(database, action, alter, back):
    database.query("ALTER TABLE jobs ADD old_column integer DEFAULT 7")
    given = CHANGES.get(action, "{}")
    jobs = [add_job(database, payload=json.dumps({"n": n})) for n in range(3)]
    before = "SELECT array_agg(to_jsonb(j) - '{old_column,title,flags,extra}'::text[] ORDER BY id) FROM jobs j"
    were = database.value(before)
    plan = database.value("SELECT plan FROM plan_jobs_v1(%s, %s, p_with => %s)", action, jobs, given)
    database.query(f"ALTER TABLE jobs {alter}")
    assert database.query("SELECT * FROM plan_changes_v1(%s)", plan) == []
    assert len(database.query("SELECT FROM apply_plan_v1(%s)", plan)) == 3
    row = database.value("SELECT max(id) FROM audit")
    database.query(f"ALTER TABLE jobs {back}")
    assert len(database.query("SELECT FROM undo_jobs(%s)", row)) == 3
    assert database.value(before) == were
    undo = database.value("SELECT max(id) FROM audit")
    database.query(f"ALTER TABLE jobs {alter}")
    assert len(database.query("SELECT FROM undo_jobs(%s)", undo)) == 3


def test_a_change_of_a_column_of_the_application_is_still_seen(database):
    database.query("ALTER TABLE jobs ADD tags jsonb DEFAULT '{\"a\": 1}'")
    jobs = [add_job(database), add_job(database)]
    plan = database.value("SELECT plan FROM plan_jobs_v1('reschedule', %s, p_with => '{\"priority\": 1}')", jobs)
    database.query("ALTER TABLE jobs ADD more text")
    database.query('UPDATE jobs SET tags = \'{"a": 1, "b": 2}\' WHERE id = %s', jobs[0])
    database.query("UPDATE jobs SET payload = '{\"new\": 1}' WHERE id = %s", jobs[1])
    assert database.query("SELECT job_id, change FROM plan_changes_v1(%s)", plan) == [
        (jobs[0], 'tags was {"a": 1}, is {"a": 1, "b": 2}'),
        (jobs[1], "its payload is another"),
    ]
