"""`migrate`, `release-dead`, and two queues in one database."""

from __future__ import annotations

import signal
from contextlib import closing
from uuid import uuid4

import psycopg
import pytest
from commands import emptied_database, exact_command, handlers_module, one_database  # noqa: F401 (fixtures)
from conftest import PATIENCE, eventually
from rows import add_job, state

from shithubd_worker import enqueue
from shithubd_worker.database import schema
from shithubd_worker.database.connection import connector


def test_a_dead_worker_is_found_by_its_invocation_and_its_jobs_return(database, command, start_worker):
    invocation, other = uuid4().hex, uuid4().hex
    survivor = start_worker("--kind", "test.ok", env={"INVOCATION_ID": other})
    job = add_job(database, "test.sleep")
    worker = start_worker("--kind", "test.sleep", env={"INVOCATION_ID": invocation})
    eventually(lambda: state(database, job)[0] == "processing", "the job runs")
    worker.send(signal.SIGKILL)
    worker.wait()
    env = {"INVOCATION_ID": invocation, "SERVICE_RESULT": "signal", "EXIT_STATUS": "KILL", "EXIT_CODE": "killed"}
    done = command("release-dead", env=env)
    assert f"job {job} test.sleep: crashed" in done.stdout
    rows = database.query("SELECT state, attempts, crashes, last_error FROM jobs WHERE id = %s", job)
    assert rows == [("queued", 0, 1, "its worker died: systemd says signal, status KILL")]
    assert [row["invocation_id"] for row in command.json("workers")] == [other]
    assert command("release-dead", env=env).stdout == f"0 lease(s) of {invocation} returned\n"
    assert command.json("release-dead", "--invocation-id", uuid4().hex) == []
    assert survivor.terminate() == 0


def test_migrate_says_what_it_did_and_a_second_run_does_nothing(database, command):
    try:
        first = command.json("migrate", "--schema", "second home")
        assert (first["schema"], first["version"]) == ("second home", schema.newest_version())
        assert len(first["applied"]) == schema.newest_version() + 1
        assert command.json("migrate", "--schema", "second home")["applied"] == []
        done = command("migrate", "--schema", "second home")
        assert done.stdout == f"schema second home is at version {schema.newest_version()}\n"
    finally:
        database.query('DROP SCHEMA "second home" CASCADE')


ODD = 'odd "schema"; --'


@pytest.fixture
def beside(database, command):
    """A second queue in the same database, in a schema whose name needs quoting."""
    command("migrate", "--schema", ODD)
    yield ODD
    database.query('DROP SCHEMA "odd ""schema""; --" CASCADE')


def test_a_queue_in_a_schema_of_its_own_works_from_end_to_end(database, command, start_worker, beside):
    mine = add_job(database, "test.ok")
    worker = start_worker("--schema", beside, "--poll-interval", "3600", "--kind", "test.ok")
    eventually(database.at_rest, "idle")
    with database.connect() as connection, connection.transaction():
        theirs = [enqueue(connection, "test.ok", schema=beside, name="x") for _ in range(2)]
    ended = f"SELECT id FROM {QUOTED}.job_history WHERE outcome = 'ok' ORDER BY finished_at"
    eventually(lambda: [job for (job,) in database.query(ended)] == theirs, "woken, both ran")
    env = {"SHITHUBD_WORKER_SCHEMA": beside}
    command("pause-kind", "test.ok", env=env)
    command("enqueue", "test.ok", env=env)
    told = command.json("status", env=env)
    assert (told["schema"]["name"], told["held"], len(told["workers"])) == (beside, 1, 1)
    assert worker.terminate() == 0
    # The queue in public noticed nothing of this.
    assert state(database, mine) == ("queued", 0)
    assert command.json("status")["holds"] == []


def test_a_handler_enqueues_into_the_queue_of_its_worker(database, command, module, beside):
    """Whether a flag or a variable named that queue."""
    env = module(
        "chain_jobs",
        "from shithubd_worker import enqueue\n"
        "@registry.handler('first')\n"
        "def first(job):\n"
        "    with job.transaction() as connection:\n"
        "        enqueue(connection, 'second')\n",
    )
    arguments = ("run", "--until-empty", "--metrics", "off", "--kind", "first", "--handlers", "chain_jobs:registry")
    for named in (("--schema", beside), ()):
        variable = {} if named else {"SHITHUBD_WORKER_SCHEMA": beside}
        command("enqueue", "first", *named, env=variable)
        command(*arguments, *named, env=env | variable)
    assert database.query(f"SELECT kind FROM {QUOTED}.jobs") == [("second",), ("second",)]
    assert database.value("SELECT count(*) FROM jobs") == 0


QUOTED = '"odd ""schema""; --"'


def test_two_queues_in_one_database_share_no_wake_ups_and_no_locks(database, command, beside):
    with psycopg.connect(database.url, autocommit=True) as ears:
        for name in ("public", QUOTED):
            ears.execute(f"SELECT pg_advisory_lock_shared(7304, {name}.schema_key_v1())")
        ears.execute('LISTEN "shithubd:public"')
        ears.execute('LISTEN "shithubd:odd ""schema""; --"')
        for name, channel in (("public", "shithubd:public"), (QUOTED, f"shithubd:{ODD}")):
            database.query(f"INSERT INTO {name}.jobs (kind) VALUES ('k')")
            heard = [notify.channel for notify in ears.notifies(timeout=PATIENCE, stop_after=1)]
            heard += [notify.channel for notify in ears.notifies(timeout=0)]
            assert heard == [channel]
    with database.connect() as stuck, stuck.transaction():
        stuck.execute(f"LOCK TABLE {QUOTED}.gate IN ROW SHARE MODE")
        assert "nothing of it starts any more" in command("drain", "--timeout", "30").stdout
        assert "not certain yet" in command("drain", "--timeout", "0.2", "--schema", beside, code=4).stdout


def test_a_command_leaves_no_connection_behind(database, command):
    command("status")
    with closing(connector(database.url, "looking")()) as connection:
        left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'shithubd-worker command'"
        eventually(lambda: connection.execute(left).fetchone() == (0,), "no connection of the command")
