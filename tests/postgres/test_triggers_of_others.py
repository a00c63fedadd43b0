"""An application's trigger on our tables, whose function names things without a schema: `migrate` warns of it, and what
it keeps from being paused or resumed is told."""

from __future__ import annotations

import json
import re
from contextlib import closing

import pytest

from shithubd_worker import schema
from shithubd_worker.errors import EXIT_OK, EXIT_REFUSED
from shithubd_worker.operations import Operations
from shithubd_worker.session import connector

NOTE = """
    CREATE TABLE notes (id bigint);
    GRANT INSERT ON notes TO shithub_owner;
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO notes VALUES (coalesce(NEW.id, OLD.id)); RETURN coalesce(NEW, OLD); END $$;
"""
TRIGGER = "CREATE TRIGGER noting AFTER UPDATE OR DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION note()"
MEND = "ALTER FUNCTION public.note() SET search_path = public, pg_temp"
WHY = 'the database refuses to put job {} into the state {}: relation "notes" does not exist'
SILENT = """
    CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$ BEGIN RETURN NULL; END $$;
    CREATE TRIGGER skipping BEFORE UPDATE ON jobs FOR EACH ROW WHEN (OLD.id = 1) EXECUTE FUNCTION skip()
"""


@pytest.fixture
def run(any_database, command):
    """Runs a command: its exit code, stdout and stderr."""

    def run(*arguments):
        done = command(*arguments, env={"SHITHUBD_WORKER_DATABASE_URL": any_database.url})
        return done.returncode, done.stdout, done.stderr

    return run


def states(database):
    return dict(database.query("SELECT id, state FROM jobs ORDER BY id"))


def test_migrate_warns_of_each_trigger_whose_function_has_no_search_path(any_database, run):
    any_database.query(NOTE + TRIGGER)
    any_database.query(
        'CREATE SCHEMA "my forge"; CREATE FUNCTION "my forge"."Kept"() RETURNS trigger LANGUAGE plpgsql'
        " SET work_mem = '1MB' AS 'BEGIN RETURN NULL; END';"
        ' CREATE TRIGGER keeping AFTER INSERT ON job_history FOR EACH ROW EXECUTE FUNCTION "my forge"."Kept"();'
        " CREATE TRIGGER same BEFORE UPDATE ON jobs FOR EACH ROW"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger()"
    )
    day = any_database.value("SELECT min(relid::text) FROM pg_partition_tree('job_history') WHERE isleaf")
    any_database.query(f"CREATE TRIGGER of_a_day AFTER INSERT ON {day} FOR EACH ROW EXECUTE FUNCTION note()")
    there = 'public, "my forge", pg_temp'
    expected = [
        ("keeping on public.job_history", f'ALTER FUNCTION "my forge"."Kept"() SET search_path = {there}'),
        (f"of_a_day on public.{day}", MEND),
        ("noting on public.jobs", MEND),
    ]
    for options in ([], ["--dry-run"], ["--roles"], ["--roles", "--dry-run"]):
        code, out, err = run("migrate", "--json", *options)
        told = err.splitlines()
        assert (code, len(told)) == (EXIT_OK, len(expected)), err
        for line, (trigger, mend) in zip(told, expected, strict=True):
            assert line.startswith(f"warning: the trigger {trigger} calls ")
            assert "runs with the rights of the queue's owner and finds" in line
            assert line.endswith(mend)
        assert [f"warning: {each}" for each in json.loads(out)["warnings"]] == told
    assert run("migrate")[2].splitlines() == told
    for _, mend in expected:
        any_database.query(mend)
    code, out, err = run("migrate", "--json")
    assert (code, json.loads(out)["warnings"], err) == (EXIT_OK, [], "")


def test_migrate_looks_at_every_table_that_a_function_with_the_strict_path_writes():
    strict = [
        text
        for path in (schema.sql_directory() / "functions").glob("*.sql")
        if "SET search_path = pg_catalog, pg_temp" in (text := path.read_text())
    ]
    written = {
        name for text in strict for name in re.findall(r'(?:INSERT INTO|UPDATE|DELETE FROM) :"schema"\.(\w+)', text)
    }
    assert written == set(schema.WRITTEN_BY_DEFINERS)


def test_a_pause_says_how_many_jobs_it_could_not_mark_and_why_and_holds_them_all_the_same(any_database, run):
    any_database.query("INSERT INTO jobs (kind) VALUES ('k'), ('k'), ('k')")
    any_database.query(NOTE + TRIGGER.replace("EXECUTE", "WHEN (OLD.id <> 2) EXECUTE"))
    code, out, err = run("pause-kind", "k")
    assert (code, err) == (EXIT_OK, "")
    assert "1 waiting job(s) marked paused" in out
    assert f"2 more stay queued, and are held too: {WHY.format(1, 'paused')}\n" in out
    assert states(any_database) == {1: "queued", 2: "paused", 3: "queued"}
    assert any_database.query("SELECT scope, target FROM holds") == [("kind", "k")]
    told = json.loads(run("pause-kind", "k", "--json")[1])
    assert (told["paused"], told["refused"], told["refusal"]) == (0, 2, WHY.format(1, "paused"))


def test_a_resume_fails_while_jobs_stay_paused_and_flips_them_once_the_trigger_is_mended(any_database, run):
    any_database.query("INSERT INTO jobs (kind) VALUES ('k'), ('k'), ('other')")
    run("pause-kind", "k")
    any_database.query(NOTE + TRIGGER)
    code, out, err = run("resume-kind", "k")
    assert code == EXIT_REFUSED
    assert "0 paused job(s) back in the queue" in out
    assert err.splitlines() == [
        f"shithubd-worker: 2 job(s) stay paused: {WHY.format(1, 'queued')}",
        "shithubd-worker: mend what refuses them (a trigger or an index of yours on jobs), then again:"
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


def test_jobs_that_a_trigger_skips_in_silence_are_not_told_as_flipped(any_database, run):
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
    any_database.query(NOTE + TRIGGER)
    any_database.query("UPDATE holds SET until = clock_timestamp() - interval '1 s'")
    said = []
    with any_database.connect() as connection:
        connection.add_notice_handler(lambda each: said.append(each.message_primary))
        connection.execute("SELECT end_expired_holds_v1()")
    assert any_database.query("SELECT FROM holds") == []
    assert said[-1] == (
        "the pause of kind k is over, but 2 of its jobs stay paused: mend what refuses them, then resume-kind k"
    )
    any_database.query(MEND)
    assert run("resume-kind", "k")[0] == EXIT_OK
    assert set(states(any_database).values()) == {"queued"}
