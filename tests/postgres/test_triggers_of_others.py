"""An application's triggers on our tables: they work in every command, and a command reports what they refuse."""

from __future__ import annotations

import json
from contextlib import closing

import pytest

from shithubd_worker.database.connection import connector
from shithubd_worker.database.operations import Operations
from shithubd_worker.errors import EXIT_OK, EXIT_REFUSED

# The trigger names no schema, as most do.
NOTE = """
    CREATE TABLE notes (what text);
    GRANT INSERT ON notes TO shithub_owner;
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO notes VALUES (concat_ws(' ', TG_OP, substring(TG_TABLE_NAME, '^[a-z]+(?:_history)?')));
            RETURN coalesce(NEW, OLD);
        END $$
"""
REFUSE = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
    CREATE TRIGGER refusing AFTER UPDATE OR DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION refuse()
"""
MEND = "DROP TRIGGER refusing ON jobs"
WHY = "the database refuses to put job {} into the state {}: not now"
SILENT = """
    CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$ BEGIN RETURN NULL; END $$;
    CREATE TRIGGER skipping BEFORE UPDATE ON jobs FOR EACH ROW WHEN (OLD.id = 1) EXECUTE FUNCTION skip()
"""


@pytest.fixture
def run(any_database, command):
    """Runs a command. Returns its exit code, stdout and stderr."""

    def run(*arguments):
        done = command(*arguments, env={"SHITHUBD_WORKER_DATABASE_URL": any_database.url})
        return done.returncode, done.stdout, done.stderr

    return run


def states(database):
    return dict(database.query("SELECT id, state FROM jobs ORDER BY id"))


def test_a_trigger_that_names_no_schema_finds_its_tables_in_every_command(any_database, run):
    any_database.query(NOTE)
    for table in ("jobs", "job_history", "holds", "audit"):
        any_database.query(
            f"CREATE TRIGGER noting AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION note()"
        )
    any_database.query("INSERT INTO jobs (kind) VALUES ('k'); INSERT INTO jobs (kind, state) VALUES ('k', 'failed')")
    any_database.query(
        "INSERT INTO jobs (kind, state, leased_by, leased_at, worker_id)"
        " VALUES ('k', 'processing', 'h:1', '2000-01-01', gen_random_uuid())"
    )

    def noted(*arguments):
        any_database.query("DELETE FROM notes")
        code, _, err = run(*arguments)
        assert (code, err) == (EXIT_OK, "")
        return {what for (what,) in any_database.query("SELECT what FROM notes")}

    assert noted("pause-kind", "k") == {"INSERT holds", "INSERT audit", "UPDATE jobs"}
    assert noted("pause-kind", "k", "--reason", "why") == {"UPDATE holds", "INSERT audit"}
    assert noted("resume-kind", "k") == {"DELETE holds", "INSERT audit", "UPDATE jobs"}
    assert noted("drain", "--host", "h", "--force") == {"INSERT holds", "INSERT audit"}
    assert noted("resume") == {"DELETE holds", "INSERT audit"}
    assert noted("jobs", "retry", "2") == {"UPDATE jobs", "INSERT audit"}
    assert noted("jobs", "release", "3") == {"UPDATE jobs", "INSERT job_history", "INSERT audit"}
    assert noted("jobs", "discard", "1") == {"DELETE jobs", "INSERT job_history", "INSERT audit"}
    any_database.query("INSERT INTO holds (scope, target, actor, until) VALUES ('kind', 'k', 'me', '2000-01-01')")
    any_database.query("UPDATE jobs SET state = 'paused'; DELETE FROM notes; SELECT end_expired_holds_v1()")
    assert {what for (what,) in any_database.query("SELECT what FROM notes")} == {
        "UPDATE jobs",
        "DELETE holds",
        "INSERT audit",
    }


def test_the_days_are_made_with_an_event_trigger_that_names_no_schema(any_database):
    any_database.query(
        "CREATE TABLE ddl (tag text); GRANT INSERT ON ddl TO shithub_owner;"
        " CREATE FUNCTION note_ddl() RETURNS event_trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO ddl VALUES (tg_tag); END $$;"
        " CREATE EVENT TRIGGER noting ON ddl_command_end EXECUTE FUNCTION note_ddl()"
    )
    assert any_database.value("SELECT ensure_history_v1(16)") == 4
    assert any_database.value("SELECT count(*) FROM ddl") == 8


def test_a_pause_holds_the_jobs_that_it_could_not_mark_and_says_how_many_and_why(any_database, run):
    any_database.query("INSERT INTO jobs (kind) VALUES ('k'), ('k'), ('k')")
    any_database.query(REFUSE.replace("ROW EXECUTE", "ROW WHEN (OLD.id <> 2) EXECUTE"))
    code, out, err = run("pause-kind", "k")
    assert (code, err) == (EXIT_OK, "")
    assert "1 waiting job(s) marked paused" in out
    assert f"2 more stay queued, and are held too: {WHY.format(1, 'paused')}\n" in out
    assert states(any_database) == {1: "queued", 2: "paused", 3: "queued"}
    assert any_database.query("SELECT scope, target FROM holds") == [("kind", "k")]
    told = json.loads(run("pause-kind", "k", "--json")[1])
    assert (told["paused"], told["refused"], told["refusal"]) == (0, 2, WHY.format(1, "paused"))


def test_a_resume_fails_while_jobs_stay_paused_and_flips_them_once_the_trigger_is_fixed(any_database, run):
    any_database.query("INSERT INTO jobs (kind) VALUES ('k'), ('k'), ('other')")
    run("pause-kind", "k")
    any_database.query(REFUSE)
    code, out, err = run("resume-kind", "k")
    assert code == EXIT_REFUSED
    assert "0 paused job(s) back in the queue" in out
    assert err.splitlines() == [
        f"shithubd-worker: 2 job(s) stay paused: {WHY.format(1, 'queued')}",
        "shithubd-worker: correct what refuses them (a trigger or an index of yours on jobs), then run:"
        " shithubd-worker resume-kind k",
    ]
    code, out, _ = run("resume-kind", "k", "--json")
    told = json.loads(out)
    assert (code, told["requeued"], told["refused"]) == (EXIT_REFUSED, 0, 2)
    assert any_database.query("SELECT FROM holds") == []
    any_database.query(MEND)
    code, out, _ = run("resume-kind", "k")
    assert (code, "2 paused job(s) back in the queue" in out) == (EXIT_OK, True)
    assert set(states(any_database).values()) == {"queued"}


def test_jobs_that_a_trigger_silently_skips_are_not_reported_as_flipped(any_database, run):
    any_database.query("INSERT INTO jobs (kind, state) VALUES ('k', 'queued'), ('k', 'queued')")
    any_database.query(SILENT)
    _, out, _ = run("pause-kind", "k")
    assert "1 waiting job(s) marked paused" in out
    assert "1 more stay queued, and are held too: the database left them" in out
    any_database.query("ALTER TABLE jobs DISABLE TRIGGER skipping")
    any_database.query("UPDATE jobs SET state = 'paused'")
    any_database.query("ALTER TABLE jobs ENABLE TRIGGER skipping")
    code, out, err = run("resume-kind", "k")
    assert (code, "1 paused job(s) back in the queue" in out) == (EXIT_REFUSED, True)
    assert "1 job(s) stay paused: the database left them" in err


def test_the_end_of_a_pause_says_how_many_jobs_stay_paused_and_resume_kind_flips_them(any_database, run):
    any_database.query("INSERT INTO jobs (kind) VALUES ('k'), ('k')")
    with closing(Operations(connector(any_database.url, "test"), "public")) as operations:
        list(operations.mirror(operations.pause_kind("k", None, None)))
    any_database.query(REFUSE)
    any_database.query("UPDATE holds SET until = clock_timestamp() - interval '1 s'")
    said = []
    with any_database.connect() as connection:
        connection.add_notice_handler(lambda each: said.append(each.message_primary))
        connection.execute("SELECT end_expired_holds_v1()")
    assert any_database.query("SELECT FROM holds") == []
    assert said[-1] == (
        "the pause of kind k is over, but 2 of its jobs stay paused: fix what refuses them, then run resume-kind k"
    )
    any_database.query(MEND)
    assert run("resume-kind", "k")[0] == EXIT_OK
    assert set(states(any_database).values()) == {"queued"}
