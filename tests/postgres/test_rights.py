"""The rights of the roles: each role can do all of its work, and without any one of its rights it cannot."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from uuid import uuid4

import psycopg
import pytest
from bare import BareWorker
from conftest import Database
from rows import add_worker
from test_refusals import HANDLERS, enqueue, gone
from test_returning import leased

from shithubd_worker.admin import plans, record
from shithubd_worker.admin import workers as departed
from shithubd_worker.admin.change import Change, change_batch, preview
from shithubd_worker.client import insert
from shithubd_worker.database import rights, schema
from shithubd_worker.database.connection import connector
from shithubd_worker.database.control_session import FORCED, ControlSession
from shithubd_worker.database.operations import Operations, Scope
from shithubd_worker.database.settles import record_lost
from shithubd_worker.host.identity import identify
from shithubd_worker.model import Finished, How, Outcome, Registration
from shithubd_worker.ramps import Ramp
from shithubd_worker.registry import Registry

registry = Registry()
registry.handler("k")(lambda job: None)
# Rights that only the forge's own handlers need; their tests show it.
HANDLERS_TABLES = ("search_repos", "search_files", "repo_maintenance")


class LeftBehind(Exception):
    """A job of a dead owner was not returned, or a ramp went on."""


def work(database, url):
    """All that a worker asks of the database, once."""
    me = dataclasses.replace(identify(), id=uuid4())
    bare, beat = BareWorker(url, "public", me.id), ControlSession(connector(url, "beat"), "public")
    database.query("DELETE FROM jobs")
    leased(database, 2, add_worker(database, "here", invocation="abc"))
    dead = add_worker(database, "here", invocation="abc")
    leased(database, 1, dead)
    silent = add_worker(database, silent=True, gives_up=60)
    leased(database, 1, silent)
    database.query("UPDATE jobs SET kind = 'd', leased_at = now() - interval '5 min'")
    database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 3)")
    database.query("INSERT INTO jobs (kind, state) VALUES ('p', 'paused')")
    database.query("DELETE FROM holds")
    database.query("INSERT INTO holds (scope, target, actor, until) VALUES ('kind', 'p', 'me', '2000-01-01')")
    database.query("SELECT ramp_kind_v1('k', p_canary => 3, p_rate => 1000000)")
    with closing(bare), closing(beat):
        schema.check(bare.queue.connection, "public")
        beat.register(Registration(me, ["k"]))
        beat.value("statement_time_v1")
        beat.beat(me.id, "idle", None, None, None)
        beat.housemates(me)
        beat.release_worker(dead, "it is dead")
        bare.queue.kind_holds()
        bare.queue.sweep(timeouts={"k": 300.0})
        bare.queue.sweep_silent(60.0, 0.0, 0.0, None, 3600.0)
        if database.value("SELECT count(*) FROM jobs WHERE state = 'processing'"):
            raise LeftBehind  # a refusal for a job of a dead owner is only a warning
        done, retried, lost = bare.lease_all([registry["k"]], most=3)
        beat.renew(done, 300.0)
        bare.queue.start([done], done.token, [300.0])
        bare.queue.payloads([done])
        bare.queue.fate(done)
        bare.settle(done, Outcome(How.OK))
        bare.settle(retried, Outcome(How.RETRY, "no", 1000.0))
        assert bare.lease_all([registry["k"]]) == []
        if not database.value("SELECT stopped FROM ramps"):
            raise LeftBehind
        record_lost(bare.queue, me.leased_by, Finished(lost, Outcome(How.LEASE_LOST, "late"), "7d", 0.0))
        bare.queue.housekeep(drop=bare.queue.may_drop)
        write_figures(database, beat)
        beat.unregister(me.id, [])
        bare.queue.value("enqueues_notify_v1")
        nothing: list[str] = []
        bare.queue.rows("lease_v1", me.id, uuid4(), *[nothing] * 7)  # the worker goes to rest
        beat.wakes_come()
        beat.release_invocation("of nobody", "it is dead")
        counted = bare.queue.value("claim_count_v1", 0.0, 5.0)
        bare.queue.value("recount_v1")
        bare.queue.value("queue_gauges_v1")
        assert counted


def write_figures(database: Database, beat: ControlSession) -> None:
    """What a worker counts, now and then and at its end. Some of it is an hour old, so that it is folded."""
    database.query("INSERT INTO kind_stats (kind, begins) VALUES ('k', now() - interval '1 hour')")
    beat.write_stats([{"kind": "k", "ok": 1}])
    beat.count_ended({("k", FORCED): 1})


def tell_a_channel(operations: Operations) -> None:
    """What the timeline asks, and the line for a chat."""
    now = operations.now()
    for words in (("command_changes_v1", "x"), ("ended_badly_v1", now, now, "1 minute", 1), ("list_holds_v1", 1)):
        operations.rows(*words)


def operate(database: Database, url: str) -> None:
    """All that an operator asks of the database, once."""
    database.query("DELETE FROM jobs; DELETE FROM holds")
    dead = add_worker(database, "here", invocation="abc")
    leased(database, 1, dead)
    database.query("UPDATE jobs SET leased_at = '2000-01-01'")  # began long ago: no barrier waits for it
    with closing(Operations(connector(url, "operations"), "public")) as operations:
        schema.check(operations.connection, "public")
        running = database.value("SELECT id FROM jobs")
        waiting = insert(operations.connection, "public", "k", "{}")
        fleet = Scope("fleet")
        database.query("UPDATE jobs SET attempts = 1, last_error = 'no' WHERE state = 'queued'")
        look_at_kinds(operations)
        operations.drain(fleet, "why", None)
        operations.barrier(fleet, None, print)
        operations.status()
        operations.leases(fleet)
        assert operations.explain(waiting)
        operations.resume(None, None)
        operations.ramp_kind("k", Ramp(None, None, None, 1.0, 0.2), "why", None)
        assert operations.kind_hold("k")
        assert operations.explain(waiting)
        operations.status()
        hold = operations.pause_kind("k", "why", None)
        assert list(operations.mirror(hold)) == [1]
        operations.resume_kind("k", None)
        assert list(operations.unpause("k")) == [1]
        assert operations.known_kind("k")
        tell_a_channel(operations)
        operations.workers()
        operations.jobs({"kind": "k"}, 10)
        operations.jobs({"error": "n"}, 10)
        operations.job(waiting)
        explain(database, operations, waiting)
        assert operations.rows("release_jobs", [running], True)
        assert operations.rows("reschedule_jobs", [running], None, 5)
        assert operations.rows("permanently_fail_jobs", [running], "no")
        assert operations.rows("retry_jobs", [running])
        apply_plans(operations, running)
        for action, job in (("complete", running), ("discard", waiting)):
            found = preview(operations, Change(action, "me", selection={"state": "queued"}), 1)
            batch = change_batch(operations, found.change, [job])
            assert operations.value("batch_fate_v1", batch.transaction, batch.audit) == batch.changed == 1
        assert not [*operations.rows("complete_jobs", [running]), *operations.rows("discard_jobs", [waiting])]
        operations.job(running)
        assert operations.explain(running)["verdict"] == "done"
        operations.forget_index("a.git", "why")
        take_back(operations)
        recover(operations)
        write_sql(operations.connection)


def apply_plans(operations: Operations, job: int) -> None:
    """A plan that is applied in part, and one that is applied at once."""
    change = Change("reschedule", "me", values={"priority": 3})
    name = str(plans.make(operations, change, [job]).name)
    operations.connection.execute("UPDATE jobs SET run_at = now()")
    assert [left.id for left in plans.left(operations, name)] == [job]
    assert [*plans.carry_out(operations, plans.to_apply(operations, name), "me", None, partial=True)] == [1]
    name = str(plans.make(operations, dataclasses.replace(change, values={"priority": 4}), [job]).name)
    assert operations.rows("apply_plan_v1", name)


def explain(database: Database, operations: Operations, job: int) -> None:
    """Why a job does not run: somebody has locked it."""
    with closing(database.connect()) as other, other.transaction():
        other.execute("SELECT FROM jobs FOR UPDATE")
        told = operations.explain(job)
    assert told is not None
    assert "locked" in [each["check"] for each in told["checks"] if not each["ok"]]


def look_at_kinds(operations: Operations) -> None:
    """What is known of kinds, and what they did lately."""
    operations.kinds_like("k")
    operations.kind_list()
    operations.rows("rate_v1", "k")


def write_sql(connection: psycopg.Connection) -> None:
    """The SQL that an operator writes himself."""
    connection.execute(
        "SELECT * FROM audit, audit_chunks, history_drops, leases_returned, queue_counts, beats, sweeper"
    )
    connection.execute("SELECT * FROM ramps, ramp_ends, kind_stats")
    connection.execute("SELECT * FROM search_repos, search_files, repo_maintenance")
    connection.execute("UPDATE jobs SET state = 'paused' WHERE state = 'queued'")
    connection.execute("UPDATE jobs SET leased_at = NULL, leased_by = NULL, state = 'queued'")
    connection.execute("UPDATE jobs SET run_at = now()")


def take_back(operations: Operations) -> None:
    """All that an operator asks of the record of changes, once."""
    connection = operations.connection
    operations.drain(Scope("host", "a"), "why", None)
    newest = {row["action"]: row["id"] for row in record.listed(operations, record.Chosen(), 100)}
    assert record.shown(operations, newest["drain"])
    assert operations.undo_hold(newest["drain"], "why")
    for action in ("complete", "discard"):
        assert [*record.changes(operations, newest[action], None)]
        assert [each.restored for each in record.would_undo(operations, newest[action])] == [1]
    assert [each.restored for each in record.undo(operations, newest["complete"], "me")] == [1]
    assert len(operations.rows("undo_jobs", newest["discard"])) == 1
    assert connection.execute("SELECT * FROM show_plans_v1()").fetchall()


def recover(operations: Operations) -> None:
    """What an operator does about workers that are gone, and about what is left over."""
    assert departed.unlock(operations, ["gone:1"], "why", "me", accept_second_run=True).unknown == ["gone:1"]
    assert [each.returned for each in departed.sweep(operations, "why", "me")] == [[]]
    operations.rows("cleanup", ["GC_JOB_QUEUES", "GC_TASK_IDENTIFIERS", "DELETE_PERMAFAILED_JOBS"])


def look(database: Database, url: str) -> None:
    """All that a monitor asks of the database, once."""
    add_worker(database, "here", invocation="abc")
    database.query("INSERT INTO jobs (kind, attempts, last_error) VALUES ('k', 1, 'no')")
    database.query("SELECT ramp_kind_v1('k', p_canary => 1)")
    with closing(Operations(connector(url, "monitor"), "public")) as operations:
        schema.check(operations.connection, "public")
        told = operations.status()
        assert {kind["last_error"] for kind in told["kinds"]} == {None}  # it sees how many retries wait, and not why
        look_at_kinds(operations)
        operations.workers()
        operations.now()
        database.query("SELECT claim_count_v1(0, 5); SELECT recount_v1()")  # as a worker does
        operations.value("queue_gauges_v1")


def put(database: Database, url: str) -> None:
    """All that an enqueuer does, once."""
    with connector(url, "enqueuer")() as connection:
        schema.check(connection, "public")
        insert(connection, "public", "k", "{}", priority=3, max_attempts=2, delay=3)


@pytest.mark.parametrize(
    ("role", "do"),
    [
        ("shithub_worker", work),
        ("shithub_enqueue", put),
        ("shithub_operator", operate),
        ("shithub_metrics", look),
    ],
)
def test_a_role_can_do_all_of_its_work_and_needs_every_right(database, login, role, do):
    url = login(role)
    do(database, url)
    needless = []
    for grant in rights.grants():
        if grant.role != role or grant.privilege == "EXECUTE":
            continue
        if role == "shithub_worker" and grant.object in HANDLERS_TABLES:
            continue
        for column in grant.columns or ("",):
            what = f"{grant.privilege} {f'({column})' if column else ''} ON {grant.object}"
            database.query(f"REVOKE {what} FROM {role}")
            try:
                do(database, url)
                needless.append(what)
            except (psycopg.errors.InsufficientPrivilege, LeftBehind):
                pass
            database.query(f"GRANT {what} TO {role}")
    assert needless == []


@pytest.mark.parametrize("role", ["shithub_worker", "shithub_operator", "shithub_metrics"])
def test_a_role_may_only_call_functions_that_its_work_calls(database, login, role):
    database.query(f"ALTER DATABASE \"{database.name}\" SET track_functions = 'all'")
    url = login(role)
    {"shithub_worker": work, "shithub_operator": operate, "shithub_metrics": look}[role](database, url)
    called = {name for (name,) in database.query("SELECT funcname FROM pg_stat_user_functions")}
    assert granted(role) - called == {*CALLED_SELDOM.get(role, ())}


# Called after an error, for a handler that asks, or by a process of its own: the tests of those show it.
CALLED_SELDOM = {"shithub_worker": ("lease_refused_v1", "past_v1", "payload_text_v1", "settle_within_v1")}


def granted(role: str) -> set[str]:
    return {grant.object for grant in rights.grants() if grant.role == role and grant.privilege == "EXECUTE"}


def test_a_worker_process_needs_no_more_rights(database, login, start_worker):
    url = login("shithub_worker")
    worker = start_worker("--metrics", "127.0.0.1:0", handlers=HANDLERS, env={"SHITHUBD_WORKER_DATABASE_URL": url})
    gone(database, [*enqueue(database, 20), *enqueue(database, how="transaction")])
    assert worker.metric('shithub_worker_claims_total{result="error"}') == 0
    assert worker.terminate() == 0
    assert database.value("SELECT count(*) FROM workers") == 0
    assert "permission denied" not in worker.log


def test_a_worker_without_its_role_says_at_once_what_it_lacks(database, login, start_worker):
    url = login("shithub_metrics")
    worker = start_worker(ready=False, env={"SHITHUBD_WORKER_DATABASE_URL": url})
    assert worker.wait() == 77
    assert "the database role lacks a right: SELECT on jobs, DELETE on jobs, UPDATE on jobs (" in worker.log
    assert "GRANT shithub_worker TO" in worker.log
    assert "Traceback" not in worker.log


# What is forbidden.

# What changes jobs, workers or the record with the rights of the owner.
OF_OPERATORS = (
    "change_jobs_v1('discard', '{1}')",
    "discard_jobs('{1}')",
    "force_unlock_workers('{x:1}', true)",
    "sweep_leases_v1()",
    "forget_kinds_v1()",
    "cleanup('{DELETE_PERMAFAILED_JOBS}')",
    "plan_jobs_v1('discard', '{1}')",
    "apply_chunk_v1('1-abcdef', 1, true, NULL, 'me')",
    "undo_chunk_v1(1)",
    "undo_jobs(1)",
    "undo_hold_v1(1)",
)

FORBIDDEN = {
    "shithub_enqueue": (
        "INSERT INTO jobs (kind, state, leased_by, leased_at) VALUES ('k', 'processing', 'me:1', now())",
        "INSERT INTO jobs (kind, state) VALUES ('k', 'failed')",
        "INSERT INTO jobs (kind, lease_token) VALUES ('k', gen_random_uuid())",
        "INSERT INTO jobs (kind, attempts) VALUES ('k', -1)",
        "INSERT INTO jobs (kind, crashes) VALUES ('k', 2)",
        "INSERT INTO jobs (kind, alone) VALUES ('k', true)",
        "INSERT INTO jobs (id, kind) VALUES (9223372036854775807, 'k')",
        "SELECT payload FROM jobs",
        "UPDATE jobs SET priority = -1",
        "DELETE FROM jobs",
        *(f"SELECT {call}" for call in OF_OPERATORS),
        "SELECT ensure_history_v1(3000)",
    ),
    "shithub_worker": (
        "INSERT INTO jobs (kind) VALUES ('k')",
        "UPDATE jobs SET payload = '{}'",
        "UPDATE jobs SET kind = 'k'",
        "DELETE FROM job_history",
        "SELECT payload FROM job_history",
        "INSERT INTO holds (scope, target, actor) VALUES ('fleet', '', 'me')",
        "UPDATE holds SET reason = ''",
        "SELECT hold_v1('fleet', '', '', NULL, 'root')",
        *(f"SELECT {call}" for call in OF_OPERATORS),
        "SELECT * FROM job_plans",
        "SELECT payloads FROM audit_chunks",
        "INSERT INTO audit (actor, action, target) VALUES ('root', 'drain', 'fleet')",
    ),
    "shithub_operator": (
        "UPDATE jobs SET payload = '{}'",
        "UPDATE jobs SET lease_token = NULL",
        "DELETE FROM jobs",
        "TRUNCATE jobs",
        "DELETE FROM holds",
        "INSERT INTO holds (scope, target, actor) VALUES ('fleet', '', 'me')",
        "INSERT INTO audit (actor, action, target) VALUES ('root', 'drain', 'fleet')",
        "UPDATE audit SET actor = 'somebody else'",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "INSERT INTO audit_chunks (audit_id, job_ids, before, after, payloads) VALUES (1, '{}', '{}', '{}', '{}')",
        "UPDATE audit_chunks SET before = after",
        "DELETE FROM audit_chunks",
        "COPY audit (actor, action, target) FROM STDIN",
        "SELECT nextval('audit_id_seq')",
        "SELECT setval('job_plans_id_seq', 1)",
        "UPDATE job_plans SET action = 'discard', done = 0",
        "UPDATE job_plan_chunks SET job_ids = '{1}'",
        "DELETE FROM job_plans",
        "DELETE FROM leases_returned",
        "SELECT change_slice_v1('discard', '{1}', '{}', 'true', NULL, NULL, 'me', true)",
        "SELECT return_recorded_v1('{1}', '', 'sweep', '{}', NULL, 'me')",
        "SELECT return_dead_v1('{1}', '')",
        "SELECT remove_workers_v1('{}')",
        "SELECT prune_audit_v1(0, 0)",
        "SELECT count_ended_v1('{k}', '{ok}', '{1}')",
        "INSERT INTO job_history SELECT * FROM job_history",
        "SELECT lease_v1(gen_random_uuid(), gen_random_uuid(), '{}', '{}', '{}', '{}', '{}', '{}', '{}')",
        "SET ROLE shithub_owner",
    ),
    "shithub_metrics": (
        "SELECT payload FROM jobs",
        "SELECT last_error FROM jobs",
        "SELECT * FROM job_history",
        "SELECT * FROM audit",
        "SELECT pause_kind_v1('k')",
        *(f"SELECT {call}" for call in OF_OPERATORS),
        "SELECT * FROM audit_chunks",
        "SELECT * FROM job_plans",
        "SELECT faces FROM job_plan_chunks",
        "SELECT shown_job_v1(NULL, 1)",
        "SELECT list_audit_v1(NULL, NULL, NULL, NULL, NULL, 1)",
        "INSERT INTO jobs (kind) VALUES ('k')",
        "SELECT claim_count_v1(0, 5)",
        "UPDATE queue_counts SET counts = '[]'",
    ),
    "shithub_migrate": ("SELECT * FROM jobs", "DROP TABLE jobs", "SELECT ensure_history_v1()"),
}


@pytest.mark.parametrize("role", FORBIDDEN)
def test_what_a_role_may_not_do_is_refused(database, login, role):
    insert_one = "INSERT INTO jobs (kind) VALUES ('k')"
    database.query(insert_one)
    with connector(login(role), "test")() as connection:
        for statement in FORBIDDEN[role]:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


@pytest.mark.parametrize("role", ["shithub_enqueue", "shithub_operator", "shithub_metrics", "shithub_migrate"])
def test_only_a_worker_can_lock_a_table_against_its_writers(any_database, role):
    tables = any_database.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    with any_database.connect() as connection:
        connection.execute(f"SET ROLE {role}")
        for (table,) in tables:
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(f"LOCK TABLE {table} IN SHARE MODE")
    assert len(tables) > 30


def test_a_plain_insert_is_all_that_an_enqueuer_needs(any_database):
    any_database.query("CREATE ROLE plain LOGIN IN ROLE shithub_enqueue")
    try:
        with connector(psycopg.conninfo.make_conninfo(any_database.url, user="plain"), "test")() as connection:
            connection.execute("INSERT INTO jobs (kind, payload) VALUES ('k', '{}')")
            with connection.cursor().copy("COPY jobs (kind, run_at) FROM STDIN") as copy:
                copy.write_row(("k", "2030-01-01"))
        assert any_database.query("SELECT state, attempts, leased_by FROM jobs") == [("queued", 0, None)] * 2
    finally:
        any_database.query("DROP ROLE plain")


def test_an_audit_row_names_the_login_even_if_the_caller_gives_another_name(database, login):
    url = psycopg.conninfo.make_conninfo(login("shithub_operator"), application_name="a tool")
    with connector(url, "test")() as connection:
        connection.execute("SET ROLE shithub_operator")
        connection.execute("SELECT drain_v1(p_actor => 'ada@web1')")
        connection.execute("SELECT resume_v1(p_actor => 'ada@web1')")
    rows = database.query("SELECT actor, login, application_name FROM audit ORDER BY id")
    assert rows == [("ada@web1", f"shithub_operator_0_{database.name}", "a tool")] * 2
