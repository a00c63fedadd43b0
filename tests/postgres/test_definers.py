"""Nobody's code but ours and PostgreSQL's own runs with the rights of the owner, or of whoever uses the queue."""

from __future__ import annotations

import re
import uuid
from itertools import product
from pathlib import Path

import psycopg
import pytest
from conftest import eventually, new_database

import shithubd_worker
from shithubd_worker import rights, schema
from shithubd_worker.errors import Refused

SAFE_PATH = "search_path=pg_catalog, pg_temp"
OURS = re.compile(r"\b[a-z_]+_v\d+\b")
TYPES = ("text", "name", "integer", "bigint", "date", "timestamptz", "double precision", "numeric", "boolean", "text[]")
OPERATORS = ("=", "<>", "<", "<=", ">", ">=", "||", "+", "-", "~")


def functions(database, where="true"):
    """Of our functions, by name: the body, the settings, and whether everybody may call it."""
    rows = database.query(
        "SELECT proname, prosrc, coalesce(proconfig, '{}'), has_function_privilege('public', oid, 'EXECUTE')"
        f" FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND {where}"
    )
    return {name: rest for name, *rest in rows}


def definers_and_what_they_call(database):
    """What runs with the rights of the owner, whoever asked."""
    everything, found = functions(database), {}
    left = list(functions(database, "prosecdef"))
    while left:
        name = left.pop()
        found[name] = everything[name]
        left += [called for called in OURS.findall(everything[name][0]) if called in everything and called not in found]
    return found


def test_every_definer_searches_in_pg_catalog_alone_and_so_does_what_it_calls(any_database):
    definers = functions(any_database, "prosecdef")
    assert {"jobs_enqueued_v1", "ensure_history_v1"} <= definers.keys()
    assert [name for name, (_, _, everybody) in definers.items() if everybody] == []
    running = definers_and_what_they_call(any_database)
    assert {"wake_v1", "channel_v1"} <= running.keys()
    assert [name for name, (_, settings, _) in running.items() if SAFE_PATH not in settings] == []


def test_every_function_searches_among_a_sessions_temporary_things_last(any_database):
    paths = {
        name: [each for each in rest[1] if "search_path" in each] for name, rest in functions(any_database).items()
    }
    assert paths
    assert {name for name, path in paths.items() if path not in (["search_path=public, pg_temp"], [SAFE_PATH])} == set()


class Mallory:
    """A login that may create in the schema public, and makes there what could be taken for PostgreSQL's own. All of it
    fails when it is called, with the word captured."""

    def __init__(self, database):
        self.database = database
        self.name = f"mallory_{database.name}"
        database.query(f"CREATE ROLE {self.name} LOGIN")
        database.query("GRANT CREATE ON SCHEMA public TO PUBLIC")

    def connect(self):
        return psycopg.connect(psycopg.conninfo.make_conninfo(self.database.url, user=self.name), autocommit=True)

    def plant(self, *sources):
        """Functions with the names that these texts use, and arguments that fit better; operators likewise."""
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
            self._function(connection, "make_interval", ["secs double precision"])  # has seven, with defaults
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
            f" $$ BEGIN RAISE EXCEPTION 'captured: {name}({arguments})'; END $$"
        )

    def leave(self):
        self.database.query(f"DROP OWNED BY {self.name} CASCADE; DROP ROLE {self.name}")


def signatures(types):
    """Those that fit better than this one where it takes any type; else the same."""
    if not any(each.startswith("any") or each == '"any"' for each in types):
        return [types]
    some = ("text", "integer", "name")
    wide = [product(some, repeat=n) for n in (1, 2, 3, 4)] if '"any"' in types else []
    arrays = [("text[]", "integer[]") if each == "anyarray" else some for each in types]
    return [signature for each in (*wide, product(*arrays)) for signature in each]


@pytest.fixture
def mallory(any_database):
    made = Mallory(any_database)
    yield made
    made.leave()


def test_a_stranger_who_may_create_in_our_schema_gets_no_code_of_his_run_with_the_owners_rights(any_database, mallory):
    running = definers_and_what_they_call(any_database)
    planted = mallory.plant(*(body for body, _, _ in running.values()))
    assert {"format", "pg_notify", "to_regclass", "generate_series", "current_setting", "hashtext"} <= planted
    any_database.query(f"GRANT INSERT (kind), SELECT (id) ON jobs TO {mallory.name}")
    with any_database.connect() as owner, mallory.connect() as connection:
        owner.execute("SELECT pg_catalog.pg_advisory_lock_shared(7304, public.schema_key_v1())")  # as a worker at rest
        # In his own session there are things of his with our names, too.
        for table in ("jobs", "worker_schema", "job_history", "pg_inherits", "pg_class"):
            connection.execute(f"CREATE TEMP TABLE {table} (id int)")
        connection.execute("SET search_path = public, pg_temp, pg_catalog")
        connection.execute("INSERT INTO public.jobs (kind) VALUES ('k')")
        owner.execute("SET search_path = public, pg_catalog")
        made = owner.execute("SELECT public.ensure_history_v1(16)").fetchone()
        assert made == (4,)


def test_a_table_with_the_name_of_a_day_is_left_alone_and_the_other_days_are_made(any_database, mallory):
    days = "SELECT to_char((clock_timestamp() AT TIME ZONE 'UTC')::date + 15, 'YYYYMMDD')"
    name = f"job_history_7d_{any_database.value(days)}"
    with mallory.connect() as connection:
        connection.execute(f"CREATE TABLE public.{name} (id int)")
    notices = []
    with any_database.connect() as owner:
        owner.add_notice_handler(lambda said: notices.append(said.message_primary))
        assert owner.execute("SELECT ensure_history_v1(16)").fetchone() == (3,)
    assert notices == [f"the table {name} is none of the history: it keeps its day from being made"]
    assert any_database.value("SELECT history_days_ready_v1()") == 14


def test_migrate_refuses_a_schema_in_which_strangers_create_or_have_created(any_database, mallory):
    with any_database.connect() as connection:
        with pytest.raises(Refused, match=r'everybody may create .* REVOKE CREATE ON SCHEMA "public" FROM PUBLIC; or'):
            schema.migrate(connection, "public")
        with mallory.connect() as theirs:
            Mallory._function(theirs, "format", ("text", "text", "text"))
            theirs.execute("CREATE FUNCTION public.harmless() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        connection.execute('REVOKE CREATE ON SCHEMA "public" FROM PUBLIC')
        with pytest.raises(Refused, match=f"the function format in schema 'public' belongs to '{mallory.name}'"):
            schema.migrate(connection, "public")
        connection.execute(f"GRANT CREATE ON SCHEMA public TO {mallory.name}")  # now he is trusted with it
        assert schema.migrate(connection, "public") == []
        connection.execute(f"REVOKE CREATE ON SCHEMA public FROM {mallory.name}")
        connection.execute("DROP FUNCTION public.format(text, text, text)")
        assert schema.migrate(connection, "public") == []


def test_where_everybody_may_create_in_public_a_queue_beside_it_runs_no_code_of_theirs(
    any_database, mallory, start_worker, command
):
    package = Path(shithubd_worker.__file__).parent
    planted = mallory.plant(schema.functions(), *(path.read_text() for path in package.rglob("*.py")))
    assert {"unnest", "format", "has_table_privilege", "set_config"} <= planted
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
    with any_database.connect() as connection:
        rights.check(connection, "queue", "shithub_worker")
        bare = shithubd_worker.store.Queue(lambda: connection, "queue", uuid.uuid4())
        assert bare.housekeep() == []
    assert worker.terminate() == 0
    assert "captured" not in worker.log


def test_a_worker_says_at_its_start_that_everybody_may_create_where_its_queue_is(server, start_worker, command):
    for database in new_database(server):
        env = {"SHITHUBD_WORKER_DATABASE_URL": database.url}
        worker = start_worker(env=env)
        assert "everybody may create" not in worker.log
        database.query("GRANT CREATE ON SCHEMA public TO PUBLIC")
        assert "everybody may create in schema public" in start_worker(env=env).log
        done = command("migrate", env=env)
        assert done.returncode == 5
        assert "REVOKE CREATE ON SCHEMA" in done.stderr
