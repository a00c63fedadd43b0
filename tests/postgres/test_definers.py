"""Only our code and PostgreSQL's own runs with the rights of the owner, or of a login that uses the queue."""

from __future__ import annotations

import re
import uuid
from itertools import product
from pathlib import Path

import psycopg
import pytest
from conftest import eventually, new_database

import shithubd_worker
from shithubd_worker.database import schema
from shithubd_worker.errors import Refused

SAFE_PATH = "search_path=pg_catalog, pg_temp"
# The path of a function that writes where the application may have a trigger, which looks for its own tables.
TRIGGERS_PATH = "search_path=pg_catalog, public, pg_temp"
WRITES = re.compile(
    r'(?:INSERT INTO|UPDATE|DELETE FROM) "public"\.(?:jobs|job_history|holds|audit)\b|(?:CREATE|ALTER) TABLE'
)
UNQUALIFIED = re.compile(r"(?<![.\w])([a-z_0-9]+)\(")
OURS = re.compile(r"\b[a-z_]+_v\d+\b")
TYPES = (
    "oid",
    "text",
    "name",
    "integer",
    "bigint",
    "date",
    "timestamptz",
    "double precision",
    "numeric",
    "boolean",
    "text[]",
)
ALL_TYPES = (*TYPES, "smallint", "interval", "jsonb", "uuid", "inet", "bigint[]", "integer[]")
OPERATORS = ("=", "<>", "<", "<=", ">", ">=", "||", "+", "-", "~")
ALL_OPERATORS = (*OPERATORS, "*", "->", "->>", "@>", "!~", "~~")


def functions(database, where="true"):
    """Our functions by name: the body, the settings, and whether PUBLIC may call the function."""
    rows = database.query(
        "SELECT proname, prosrc, coalesce(proconfig, '{}'), has_function_privilege('public', oid, 'EXECUTE')"
        f" FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND {where}"
    )
    return {name: rest for name, *rest in rows}


def definers_and_what_they_call(database):
    """The functions that run with the rights of the owner, for every login that calls them."""
    everything, found = functions(database), {}
    left = list(functions(database, "prosecdef"))
    while left:
        name = left.pop()
        found[name] = everything[name]
        left += [called for called in OURS.findall(everything[name][0]) if called in everything and called not in found]
    return found


def path_of(settings):
    return next((each for each in settings if each.startswith("search_path=")), None)


def test_every_definer_and_each_function_that_it_calls_searches_in_pg_catalog_first(any_database):
    definers = functions(any_database, "prosecdef")
    assert {"jobs_enqueued_v1", "ensure_history_v1"} <= definers.keys()
    assert [name for name, (_, _, everybody) in definers.items() if everybody] == []
    running = definers_and_what_they_call(any_database)
    assert {"wake_v1", "channel_v1", "flip_v1"} <= running.keys()
    expected = {name: TRIGGERS_PATH if WRITES.search(body) else SAFE_PATH for name, (body, _, _) in running.items()}
    assert {name: path_of(settings) for name, (_, settings, _) in running.items()} == expected
    assert {"hold_v1", "flip_v1", "record_v1"} <= {name for name, path in expected.items() if path == TRIGGERS_PATH}


def test_every_function_searches_in_pg_temp_last(any_database):
    paths = {
        name: [each for each in rest[1] if "search_path" in each] for name, rest in functions(any_database).items()
    }
    assert paths
    safe = (["search_path=public, pg_temp"], [SAFE_PATH], [TRIGGERS_PATH])
    assert {name for name, path in paths.items() if path not in safe} == set()


class Mallory:
    """A login that may create in the schema public, and makes objects there that could be taken for PostgreSQL's own.
    Each of them fails when it is called, with the word captured."""

    def __init__(self, database):
        self.database = database
        self.name = f"mallory_{database.name}"
        database.query(f"CREATE ROLE {self.name} LOGIN")
        database.query("GRANT CREATE ON SCHEMA public TO PUBLIC")
        with self.connect() as connection:
            connection.execute("CREATE SEQUENCE public.captures; GRANT ALL ON SEQUENCE public.captures TO PUBLIC")

    def connect(self):
        return psycopg.connect(psycopg.conninfo.make_conninfo(self.database.url, user=self.name), autocommit=True)

    def plant(self, *sources):
        """Functions with the names that these texts use, whose arguments fit better, and such operators, too."""
        words = sorted({word for text in sources for word in re.findall(r"\b[a-z_0-9]+\b", text)})
        rows = self.database.query(
            "SELECT DISTINCT proname, coalesce(proallargtypes, proargtypes::oid[])::regtype[]::text[],"
            " proargtypes::regtype[]::text[] FROM pg_proc"
            " WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND proname = ANY (%s)"
            " AND NOT 'internal'::regtype = ANY (proargtypes) AND cardinality(proargtypes::oid[]) <= 4",
            words,
        )
        with self.connect() as connection:
            for name, _, types in rows:
                for signature in signatures(types):
                    self._function(connection, name, signature)
            # has seven arguments, some with defaults
            self._function(connection, "make_interval", ["secs double precision"])
            for types in product(TYPES, repeat=2):
                self._function(connection, "planted", types)
                for operator in OPERATORS:
                    connection.execute(
                        f"CREATE OPERATOR public.{operator} (LEFTARG = {types[0]}, RIGHTARG = {types[1]},"
                        " FUNCTION = public.planted)"
                    )
        return {name for name, _, _ in rows}

    @staticmethod
    def _function(connection, name, types):
        arguments = ", ".join(types)
        connection.execute(
            f'CREATE OR REPLACE FUNCTION public."{name}"({arguments}) RETURNS boolean LANGUAGE plpgsql AS'
            " $$ BEGIN PERFORM pg_catalog.nextval('public.captures');"
            f" RAISE EXCEPTION 'captured: {name}({arguments})'; END $$"
        )

    def captures(self):
        """Has any of them been called? A sequence keeps its value even if the transaction is rolled back."""
        return self.database.value("SELECT is_called FROM public.captures")

    def plant_all(self, *bodies):
        """Functions with each name that these bodies call without a schema, and operators. A function takes one or two
        arguments of any type or of some common types; an operator takes any two."""
        called = sorted({name for body in bodies for name in UNQUALIFIED.findall(body)})
        rows = self.database.query(
            "SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace"
            " AND proname = ANY (%s)",
            called,
        )
        names = {name for (name,) in rows}
        with self.connect() as connection, connection.transaction(), connection.pipeline():
            signatures = [types for n in (1, 2) for types in product(ALL_TYPES, repeat=n)]
            signatures += [types for n in (3, 4, 5) for types in product(("text", "bigint"), repeat=n)]
            for name, types in product(["planted", *names], signatures):
                self._function(connection, name, types)
            for operator, (left, right) in product(ALL_OPERATORS, product(ALL_TYPES, repeat=2)):
                connection.execute(
                    f"CREATE OPERATOR public.{operator} (LEFTARG = {left}, RIGHTARG = {right},"
                    " FUNCTION = public.planted)"
                )
        return names

    def leave(self):
        self.database.query(f"DROP OWNED BY {self.name} CASCADE; DROP ROLE {self.name}")


FOR_UNKNOWN = {"name": ("name", "text"), "oid": ("oid", "text", "integer"), "regclass": ("regclass", "text")}


def signatures(types):
    """The signatures that fit better than this one. Either it accepts any type. Or an argument is a psycopg parameter,
    whose type the server does not know. Then text or a number fits better than a name or an oid."""
    if not any(each.startswith("any") or each == '"any"' for each in types):
        return product(*(FOR_UNKNOWN.get(each, (each,)) for each in types))
    some = ("text", "integer", "name")
    wide = [product(some, repeat=n) for n in (1, 2, 3, 4)] if '"any"' in types else []
    arrays = [("text[]", "integer[]") if each == "anyarray" else some for each in types]
    return [signature for each in (*wide, product(*arrays)) for signature in each]


@pytest.fixture
def mallory(any_database):
    made = Mallory(any_database)
    yield made
    made.leave()


def test_no_code_of_a_stranger_in_our_schema_runs_with_the_owners_rights(any_database, mallory):
    running = definers_and_what_they_call(any_database)
    planted = mallory.plant(*(body for body, _, _ in running.values()))
    assert {"format", "pg_notify", "to_regclass", "generate_series", "current_setting", "hashtext"} <= planted
    any_database.query(f"GRANT INSERT (kind), SELECT (id) ON jobs TO {mallory.name}")
    with any_database.connect() as owner, mallory.connect() as connection:
        owner.execute("SELECT pg_catalog.pg_advisory_lock_shared(7304, public.schema_key_v1())")  # for a worker at rest
        # The stranger's own session also has temporary objects with our names.
        for table in ("jobs", "worker_schema", "job_history", "pg_inherits", "pg_class"):
            connection.execute(f"CREATE TEMP TABLE {table} (id int)")
        connection.execute("SET search_path = public, pg_temp, pg_catalog")
        connection.execute("INSERT INTO public.jobs (kind) VALUES ('k')")
        owner.execute("SET search_path = public, pg_catalog")
        made = owner.execute("SELECT public.ensure_history_v1(16)").fetchone()
        assert made == (4,)


# Each function that runs with the rights of the owner, on each of its paths.
CALLS = """
    INSERT INTO public.jobs (kind) SELECT 'k' FROM generate_series(1, 6);
    INSERT INTO public.jobs (kind, state, last_error) VALUES ('k', 'failed', 'no'), ('refused', 'paused', NULL);
    INSERT INTO public.jobs (kind, state, leased_by, leased_at, worker_id)
    SELECT 'k', 'processing', 'h:1', now(), gen_random_uuid() FROM generate_series(1, 2);
    SELECT public.hold_v1('kind', 'k', 'why', NULL, 'me');
    SELECT public.hold_v1('kind', 'k', 'why', now() + '1 h', 'me');
    SELECT public.mirror_pause_v1(id) FROM public.holds;
    SELECT public.unhold_v1('kind', 'k', 'why', 'me');
    SELECT public.unpause_v1('k');
    SELECT public.unpause_v1('refused');
    SELECT public.hold_v1('worker', 'gone', 'why', NULL, 'me');
    SELECT public.forget_drains_v1();
    INSERT INTO public.holds (scope, target, actor, until)
    VALUES ('fleet', '', 'me', now()), ('kind', 'k', 'me', now()), ('kind', 'refused', 'me', now());
    UPDATE public.jobs SET state = 'paused' WHERE state = 'queued';
    SELECT public.end_expired_holds_v1();
    SELECT public.change_jobs_v1('retry', ARRAY(SELECT id FROM public.jobs), '{}', '{"kind": "k", "error": "n"}');
    SELECT public.change_jobs_v1('reschedule', ARRAY(SELECT id FROM public.jobs), '{"priority": 1}');
    SELECT public.change_jobs_v1('fail', ARRAY(SELECT id FROM public.jobs WHERE priority = 1), '{"error": "no"}');
    SELECT public.plan_jobs_v1('reschedule', ARRAY[0, 1, 2], '{"error": "n", "older_than": 0}', '{"priority": 2}', 9);
    SELECT public.plan_jobs_v1('retry', ARRAY(SELECT id FROM public.jobs));
    UPDATE public.jobs SET run_at = '2000-01-01' WHERE id = 1;
    SELECT public.plan_changes_v1(name) FROM public.job_plans;
    SELECT public.apply_plan_v1(name, true) FROM public.job_plans WHERE action = 'reschedule';
    SELECT public.apply_chunk_v1(name, 1, false, 'why', 'me') FROM public.job_plans WHERE action = 'retry';
    SELECT public.apply_chunk_v1(name, 1, true, 'why', 'me') FROM public.job_plans WHERE action = 'retry';
    SELECT public.change_jobs_v1('fail', ARRAY(SELECT id FROM public.jobs WHERE kind = 'k'), '{"error": "no"}');
    SELECT public.change_jobs_v1('release', ARRAY(SELECT id FROM public.jobs), '{}', p_reason => 'why');
    SELECT public.change_jobs_v1('complete', ARRAY(SELECT min(id) FROM public.jobs WHERE kind = 'k'));
    SELECT public.change_jobs_v1('discard', ARRAY(SELECT id FROM public.jobs WHERE kind = 'k'));
    SELECT public.undo_chunk_v1((SELECT max(id) FROM public.audit));
    SELECT public.undo_chunk_v1((SELECT max(id) FROM public.audit));
    SELECT public.hold_v1('host', 'a', 'why', NULL, 'me');
    SELECT public.undo_hold_v1((SELECT max(id) FROM public.audit));
    SELECT public.ramp_kind_v1('k', 1, '{10,100}', 1, 1, 0.5, 'why', NULL, 'me');
    UPDATE public.ramps SET bad = 1;
    SELECT public.stop_ramp_v1(hold_id) FROM public.ramps;
    INSERT INTO public.search_repos (repo, ref, commit, files, generation) VALUES ('a.git', 'HEAD', '0', 1, 1);
    SELECT public.forget_index_v1('a.git', 'why');
    SELECT public.forget_kinds_v1('why', 'me');
    INSERT INTO public.workers
        (id, host, pid, machine_id, boot_id, pid_namespace, start_ticks, version, schema_version, kinds)
    SELECT gen_random_uuid(), 'h', pid, '', '', 1, 1, '1', 9, '{handled}' FROM unnest(ARRAY[2, 2, 3, 4, 4, 5]) pid;
    INSERT INTO public.beats (worker_id, state)
        SELECT min(id::text)::uuid, 'idle' FROM public.workers GROUP BY pid HAVING pid IN (3, 4);
    INSERT INTO public.jobs (kind, crashes, state, leased_by, leased_at, lease_expires_at, worker_id)
    SELECT 'dead', pid - 1, 'processing', 'h:' || pid, now(), '2000-01-01', id
      FROM public.workers, generate_series(1, CASE pid WHEN 5 THEN 2 ELSE 1 END);
    SELECT public.sweep_leases_v1('why', 'me', p_limit => 1);
    SELECT public.force_unlock_workers('{h:2,h:5}', reason => 'why', actor => 'me');
    SELECT public.force_unlock_workers('{h:3}', true, 'why', 'me');
    INSERT INTO public.leases_returned (kind, crashed) SELECT 'old' || n, 1 FROM generate_series(1, 102) n;
    SELECT public.forget_kinds_v1('why', 'me');
    SELECT public.record_v1(ARRAY[
        ROW(0, 'k', 'ok', 1, 'h:1', now(), now() + '14 days', NULL, NULL, NULL, '7d')::public.job_history]);
    SELECT public.ensure_history_v1(16)
"""


def test_no_better_fitting_function_or_operator_runs_with_the_owners_rights(any_database, mallory):
    running = definers_and_what_they_call(any_database)
    uncalled = {name for name in functions(any_database, "prosecdef") if f".{name}(" not in CALLS}
    assert uncalled == {"jobs_enqueued_v1"}  # called by each INSERT
    any_database.query(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;"
        " CREATE TRIGGER refusing BEFORE UPDATE ON jobs FOR EACH ROW WHEN (OLD.kind = 'refused')"
        " EXECUTE FUNCTION refuse()"
    )
    last = "SELECT max(relid::text) FROM pg_partition_tree('job_history_7d') WHERE isleaf"
    any_database.query(f"DROP TABLE {any_database.value(last)}")  # record_v1 makes this day
    assert {"clock_timestamp", "now"} & mallory.plant_all(*(body for body, _, _ in running.values()))
    with any_database.connect() as owner:
        owner.execute("SET search_path = pg_catalog")
        for statement in filter(str.strip, CALLS.split(";")):
            owner.execute(statement)
        for name in ("{h:3}", "{h:4}"):
            with pytest.raises(psycopg.errors.ObjectInUse):
                owner.execute("SELECT public.force_unlock_workers(%s::text[])", [name])
        assert not mallory.captures()
        # Where the arguments do not fit exactly, the planted operator is called.
        owner.execute("SET search_path = pg_catalog, public")
        with pytest.raises(psycopg.errors.RaiseException, match="captured"):
            owner.execute("SELECT 'a'::text || 1::bigint")
        assert mallory.captures()
    outcomes = dict(any_database.query("SELECT outcome, count(*) FROM job_history GROUP BY 1"))
    assert outcomes == {
        "ok": 1,
        "released": 2,
        "failed": 13,
        "completed": 1,
        "discarded": 16,
        "crashed": 4,
        "poison": 1,
    }
    actions = dict(any_database.query("SELECT action, count(*) FROM audit GROUP BY 1"))
    assert actions == {
        "pause": 2,
        "resume": 2,
        "drain": 2,
        "expire": 4,
        "retry": 2,
        "reschedule": 2,
        "fail": 2,
        "release": 1,
        "complete": 1,
        "discard": 1,
        "undo": 2,
        "forget-index": 1,
        "cleanup": 1,
        "sweep": 1,
        "unlock": 2,
    }


def test_a_foreign_table_with_the_name_of_a_day_is_left_alone_and_the_other_days_are_made(any_database, mallory):
    days = "SELECT to_char((clock_timestamp() AT TIME ZONE 'UTC')::date + 15, 'YYYYMMDD')"
    name = f"job_history_7d_{any_database.value(days)}"
    with mallory.connect() as connection:
        connection.execute(f"CREATE TABLE public.{name} (id int)")
    notices = []
    with any_database.connect() as owner:
        owner.add_notice_handler(lambda said: notices.append(said.message_primary))
        assert owner.execute("SELECT ensure_history_v1(16)").fetchone() == (3,)
    assert notices == [
        f"the table {name} is not a partition of the history, and keeps its day from being made: drop or rename it"
    ]
    assert any_database.value("SELECT history_days_ready_v1()") == 14


def test_migrate_refuses_a_schema_in_which_strangers_create_or_created(any_database, mallory):
    with any_database.connect() as connection:
        with pytest.raises(Refused, match=r'everybody may create .* REVOKE CREATE ON SCHEMA "public" FROM PUBLIC; or'):
            schema.migrate(connection, "public")
        with mallory.connect() as theirs:
            Mallory._function(theirs, "format", ("text", "text", "text"))
            theirs.execute("CREATE FUNCTION public.harmless() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        connection.execute('REVOKE CREATE ON SCHEMA "public" FROM PUBLIC')
        with pytest.raises(
            Refused, match=rf"the function format\(text, text, text\) in schema 'public' belongs to '{mallory.name}'"
        ):
            schema.migrate(connection, "public")
        # now the schema's owner trusts this login
        connection.execute(f"GRANT CREATE ON SCHEMA public TO {mallory.name}")
        assert schema.migrate(connection, "public") == []
        connection.execute(f"REVOKE CREATE ON SCHEMA public FROM {mallory.name}")
        connection.execute("DROP FUNCTION public.format(text, text, text)")
        assert schema.migrate(connection, "public") == []


def test_a_queue_beside_an_open_schema_public_runs_no_code_from_there(any_database, mallory, start_worker, command):
    package = Path(shithubd_worker.__file__).parent
    planted = mallory.plant(schema.functions(), *(path.read_text() for path in package.rglob("*.py")))
    assert {"unnest", "format", "has_table_privilege", "pg_has_role"} <= planted
    env = {"SHITHUBD_WORKER_DATABASE_URL": any_database.url, "SHITHUBD_WORKER_SCHEMA": "queue"}

    def run(*arguments):
        done = command(*arguments, env=env)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout

    run("migrate")
    run("migrate", "--roles")
    worker = start_worker("--metrics", "127.0.0.1:0", env=env)
    run("enqueue", "test.ok", '{"name": "x"}', "--delay", "0.1")
    run("pause-kind", "test.ok")
    run("resume-kind", "test.ok")
    ended = "SELECT count(*) FROM queue.job_history WHERE outcome = 'ok'"
    eventually(lambda: any_database.value(ended) == 1, "the job ran")
    for arguments in (("status",), ("workers",), ("jobs", "list"), ("jobs", "show", "1"), ("drain",), ("resume",)):
        run(*arguments)
    assert "shithubd_schema_version" in worker.metrics()
    run("search", "anything")
    run("history", "drop")
    with any_database.connect() as connection:
        bare = shithubd_worker.database.queue_session.QueueSession(lambda: connection, "queue", uuid.uuid4())
        assert bare.may_drop
        assert bare.housekeep() == []
    assert worker.terminate() == 0
    # By logins that are not superusers: one that may become the owner, and one that is refused.
    any_database.query(f"CREATE ROLE owning_{mallory.name} LOGIN IN ROLE shithub_migrate")
    try:
        for name, code in ((f"owning_{mallory.name}", 0), (mallory.name, 77)):
            url = psycopg.conninfo.make_conninfo(any_database.url, user=name)
            for arguments in (("history", "drop"), ("migrate",), ("drain",)):
                done = command(*arguments, env={**env, "SHITHUBD_WORKER_DATABASE_URL": url})
                expected = 77 if arguments == ("drain",) else code
                assert done.returncode == expected, (name, arguments, done.stderr)
    finally:
        any_database.query(f"DROP ROLE owning_{mallory.name}")
    assert "captured" not in worker.log
    assert not mallory.captures()


def test_a_worker_warns_at_its_start_if_everybody_may_create_in_its_schema(server, start_worker, command):
    for database in new_database(server):
        env = {"SHITHUBD_WORKER_DATABASE_URL": database.url}
        worker = start_worker(env=env)
        assert "everybody may create" not in worker.log
        database.query("GRANT CREATE ON SCHEMA public TO PUBLIC")
        assert "everybody may create in schema public" in start_worker(env=env).log
        done = command("migrate", env=env)
        assert done.returncode == 5
        assert "REVOKE CREATE ON SCHEMA" in done.stderr
