"""enqueue() refuses what can't work before it sends it, so the caller's transaction stays usable."""

from __future__ import annotations

import asyncio
import gc
import re
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum

import psycopg
import pytest
from commands import one_database  # noqa: F401 (a fixture)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import args_row, class_row, dict_row, namedtuple_row, scalar_row

from shithubd_worker import client, enqueue
from shithubd_worker.errors import RightsMissing, SchemaMismatch
from shithubd_worker.payload import RESERVED

REFUSALS = (TypeError, ValueError, SchemaMismatch)


@pytest.fixture(name="database")
def shared_database(one_database):  # noqa: F811
    """One database for all of these tests: none of them commits."""
    return one_database


@pytest.fixture(name="caller")
def connection_of_the_caller(database):
    """A connection as an application makes it: not in autocommit mode, and with a row of the caller's own."""
    with psycopg.connect(database.url) as connection:
        connection.execute("CREATE TEMP TABLE mine AS SELECT 1 AS row")
        yield connection
        assert connection.execute("SELECT row FROM mine").fetchone() == (1,)
        connection.rollback()


def count(connection):
    return connection.execute("SELECT count(*) FROM public.jobs").fetchone()[0]


class Odd(IntEnum):
    one = 1


def nested(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-(2**15) - 1, -(2**15), 2**15 - 1, 2**15, 2**31 - 1, 2**31, 10**400, Odd.one]),
    st.floats(),
    st.decimals(),
    st.fractions(),
    st.text(st.characters(), max_size=250),
    st.binary(max_size=3),
    st.dates(),
    st.times(),
    st.datetimes(timezones=st.none() | st.timezones() | st.just(timezone(timedelta(hours=-23, minutes=-59)))),
    st.timedeltas(),
    st.builds(object),
)
keys = st.text(st.characters()) | st.integers() | st.floats() | st.none() | st.booleans() | st.binary(max_size=1)
payloads = st.dictionaries(
    st.text(st.characters(), max_size=5).filter(lambda name: name not in RESERVED),
    st.recursive(
        anything,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)
kinds = st.just("k") | anything
arguments = st.fixed_dictionaries(
    {},
    optional={
        "delay": anything,
        "run_at": anything,
        "priority": anything,
        "max_attempts": anything,
        "schema": st.sampled_from(["public", "nope", "", "$user", "public, x", "a%b", "{}", "x" * 64]) | anything,
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=200)
@given(kind=kinds, own=arguments, members=payloads)
def test_each_call_makes_a_row_or_is_refused_with_a_transaction_that_works(caller, kind, own, members):
    before = count(caller)
    try:
        made = enqueue(caller, kind, **own, **members)
    except REFUSALS:
        assert count(caller) == before
    else:
        found = caller.execute("SELECT kind, priority, max_attempts FROM jobs WHERE id = %s", [made]).fetchone()
        assert found == (kind, own.get("priority", 0), own.get("max_attempts"))


REFUSED = {
    "priority too high": ({"priority": 40_000}, "priority must be -32768 to 32767"),
    "priority too low": ({"priority": -32_769}, "priority must be"),
    "a huge priority": ({"priority": 10**5000}, "priority must be"),
    "priority as a word": ({"priority": "1"}, "a whole number, not str"),
    "priority with a fraction": ({"priority": 1.5}, "a whole number, not float"),
    "priority true": ({"priority": True}, "a whole number, not bool"),
    "no priority": ({"priority": None}, "a whole number, not NoneType"),
    "too many attempts": ({"max_attempts": 10**10}, "max_attempts must be 1 to 2147483647"),
    "no attempt": ({"max_attempts": 0}, "max_attempts must be 1 to"),
    "attempts with a fraction": ({"max_attempts": Decimal(3)}, "a whole number, not Decimal"),
    "delay nan": ({"delay": float("nan")}, "delay must be at most a century, not nan s"),
    "delay inf": ({"delay": float("inf")}, "at most a century"),
    "delay of aeons": ({"delay": timedelta.max}, "at most a century"),
    "delay before aeons": ({"delay": timedelta.min}, "at most a century"),
    "delay beyond a float": ({"delay": 10**400}, "delay can't be a number of seconds"),
    "delay as a word": ({"delay": "60"}, "delay must be seconds or a timedelta, not str"),
    "delay true": ({"delay": True}, "not bool"),
    "delay as a moment": ({"delay": datetime.now(UTC)}, "not datetime"),
    "both times": ({"delay": 0, "run_at": datetime.now(UTC)}, "not both"),
    "run_at as text": ({"run_at": "2026-11-27"}, "run_at must be a datetime with a time zone, not str"),
    "run_at as a number": ({"run_at": 1_800_000_000}, "not int"),
    "run_at as a day": ({"run_at": datetime.now(UTC).date()}, "not date"),
    "run_at without a zone": ({"run_at": datetime(2026, 11, 27)}, "run_at needs a time zone"),  # noqa: DTZ001
    "run_at after 9999": (
        {"run_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))},
        "outside of the years 1 to 9999",
    ),
    "run_at before 1": ({"run_at": datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))}, "outside of the years"),
    "a missing schema": ({"schema": "nope"}, "schema 'nope' of database .* has no queue, but schema 'public' has one"),
    "another letter case": ({"schema": "PUBLIC"}, "schema 'PUBLIC' .* has no queue, but schema 'public' has one"),
    "a schema without a name": ({"schema": ""}, "1 to 48 bytes"),
    "a search_path": ({"schema": '"$user", public'}, "a search_path, not a schema"),
    "a schema as bytes": ({"schema": b"public"}, "schema must be a string, not bytes"),
    "a schema of PostgreSQL": ({"schema": "pg_catalog"}, "PostgreSQL keeps this name"),
    "too deep": ({"a": nested(3000)}, "nested too deeply"),
    "too large": ({"a": "x" * (64 * 2**20)}, "bytes of text, and a handler gets at most 67108864"),
    "too many values": ({"a": [1] * 8_960_000}, "values, which may take more than"),
}


@pytest.mark.parametrize(("given_", "says"), REFUSED.values(), ids=REFUSED)
def test_a_fault_of_an_argument_is_named(caller, given_, says):
    with pytest.raises(REFUSALS, match=says):
        enqueue(caller, "k", **given_)


@pytest.mark.parametrize("kind", ["", "k" * 201, "a\nb", "a\0b", "a\x85b", "\ud800", None, 5, b"k"], ids=repr)
def test_a_kind_that_is_no_name_is_refused(caller, kind):
    with pytest.raises((TypeError, ValueError), match=r"a kind (has 1 to 200|must be a string)"):
        enqueue(caller, kind)


def test_what_a_raised_limit_of_python_lets_through_is_refused(caller):
    """Here json.dumps makes a text that no worker could read."""
    depth, digits = sys.getrecursionlimit(), sys.get_int_max_str_digits()
    sys.setrecursionlimit(50_000)
    sys.set_int_max_str_digits(0)
    try:
        with pytest.raises(ValueError, match="more than 1000 levels"):
            enqueue(caller, "k", a=nested(1001))
        with pytest.raises(ValueError, match="more than 4300 digits"):
            enqueue(caller, "k", a=10**4300)
        assert enqueue(caller, "k", a="9" * 5000, b=10**4299, c=nested(990), d="[" * 5000)
    finally:
        sys.setrecursionlimit(depth)
        sys.set_int_max_str_digits(digits)


class Record:
    def __init__(self, *values):
        self.values = values


OWN_WAYS = {
    "dict rows": {"row_factory": dict_row},
    "scalar rows": {"row_factory": scalar_row},
    "named tuples": {"row_factory": namedtuple_row},
    "a class": {"row_factory": class_row(Record)},
    "a function": {"row_factory": args_row(Record)},
    "numbered placeholders": {"cursor_factory": psycopg.RawCursor},
    "arguments in the text": {"cursor_factory": psycopg.ClientCursor},
    "always prepared": {"prepare_threshold": 0},
    "never prepared": {"prepare_threshold": None},
    "autocommit": {"autocommit": True},
    "no path": {"options": "-c search_path="},
    "backslashes that escape": {"options": "-c standard_conforming_strings=off"},
    "dates of another country": {"options": "-c datestyle=german -c timezone=Asia/Tokyo -c extra_float_digits=-15"},
}
TEXT = "it's 100 % \\ \" größe 🚀"


@pytest.mark.parametrize("how", OWN_WAYS.values(), ids=OWN_WAYS)
def test_a_connection_may_be_set_up_in_any_way(database, how):
    with psycopg.connect(database.url, **how) as connection:
        when = datetime(2030, 1, 1, tzinfo=UTC)
        made = [enqueue(connection, "größe", text=TEXT, run_at=when) for _ in range(3)]
        plain = psycopg.Cursor(connection, row_factory=psycopg.rows.tuple_row)
        query = "SELECT kind, payload, run_at = '2030-01-01 00:00:00Z' FROM public.jobs WHERE id = ANY (%s)"
        assert plain.execute(query, [made]).fetchall() == [("größe", {"text": TEXT}, True)] * 3
        plain.execute("DELETE FROM public.jobs")


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "WIN1252", "SJIS", "GBK", "EUC_JP", "KOI8R"])
def test_a_payload_has_all_its_letters_in_any_client_encoding(caller, encoding):
    caller.execute(f"SET client_encoding TO '{encoding}'")
    made = enqueue(caller, "k", **{TEXT: TEXT})
    caller.execute("SET client_encoding TO UTF8")
    assert caller.execute("SELECT payload FROM jobs WHERE id = %s", [made]).fetchone() == ({TEXT: TEXT},)


@pytest.mark.parametrize("names", [("🚀", "public"), ("k", "größe🚀")])
def test_a_name_that_the_client_encoding_lacks_is_refused(caller, names):
    caller.execute("SET client_encoding TO LATIN1")
    with pytest.raises(ValueError, match=r"client_encoding \(iso8859-1\) can't send .*🚀'"):
        enqueue(caller, names[0], schema=names[1])


def test_it_works_in_a_pipeline(caller):
    with caller.pipeline():
        made = [enqueue(caller, "k", n=n) for n in range(3)]
        with pytest.raises(ValueError, match="priority"):
            enqueue(caller, "k", priority=40_000)
    assert caller.execute("SELECT count(*) FROM jobs WHERE id = ANY (%s)", [made]).fetchone() == (3,)


def test_the_first_enqueue_on_a_connection_asks_and_each_later_one_is_one_statement(database):
    with psycopg.connect(database.url, autocommit=True) as connection:
        sent = []
        with pytest.MonkeyPatch.context() as patch:
            execute = psycopg.Cursor.execute
            patch.setattr(psycopg.Cursor, "execute", lambda *a, **k: (sent.append(str(a[1])[:12]), execute(*a, **k))[1])
            for _ in range(3):
                enqueue(connection, "k")
        assert [text.lstrip("b'")[:6] for text in sent] == ["SELECT", "INSERT", "INSERT", "INSERT"]
        connection.execute("DELETE FROM jobs")


def test_nothing_remembers_a_connection_that_is_gone(database):
    gc.collect()
    before = len(client._asked)
    with psycopg.connect(database.url) as connection:
        enqueue(connection, "k")
        connection.rollback()
        assert len(client._asked) == before + 1
    del connection
    gc.collect()
    assert len(client._asked) == before


def test_a_refusal_by_the_database_makes_the_next_call_ask_again(database):
    """A pool keeps its connections. What changed after the first call is told in words, from the second refusal on."""
    with psycopg.connect(database.url) as connection:
        enqueue(connection, "k")
        connection.execute("ALTER SCHEMA public RENAME TO elsewhere")
        with pytest.raises(psycopg.errors.UndefinedTable), connection.transaction():
            enqueue(connection, "k")
        for schema, says in ((None, "'public' .* has no queue, but schema 'elsewhere'"), ("elsewhere", "another name")):
            with pytest.raises(SchemaMismatch, match=says):
                enqueue(connection, "k", schema=schema)
        connection.execute("ALTER SCHEMA elsewhere RENAME TO public")
        assert enqueue(connection, "k")
        connection.rollback()


def test_a_variable_names_the_schema_as_for_the_commands(caller, monkeypatch):
    monkeypatch.setenv("SHITHUBD_WORKER_SCHEMA", "nope")
    with pytest.raises(SchemaMismatch, match=r"schema 'nope' .*: give schema=…, or set SHITHUBD_WORKER_SCHEMA"):
        enqueue(caller, "k")
    assert enqueue(caller, "k", schema="public")
    monkeypatch.setenv("SHITHUBD_WORKER_SCHEMA", "")
    with pytest.raises(ValueError, match="SHITHUBD_WORKER_SCHEMA: schema '': "):
        enqueue(caller, "k")
    monkeypatch.delenv("SHITHUBD_WORKER_SCHEMA")
    assert enqueue(caller, "k")


def test_what_is_no_connection_is_refused_by_its_name(database):
    async def given_an_async_one():
        async with await psycopg.AsyncConnection.connect(database.url) as connection:
            enqueue(connection, "k")

    with pytest.raises(TypeError, match=r"psycopg\.Connection, not AsyncConnection: .*docs/sql\.md"):
        asyncio.run(given_an_async_one())
    with psycopg.connect(database.url) as connection:
        for wrong in (None, database.url, connection.cursor(), psycopg.connect):
            with pytest.raises(TypeError, match=f"psycopg.Connection, not {type(wrong).__name__}"):
                enqueue(wrong, "k")


def test_a_table_that_is_no_queue_is_not_written_to(caller):
    caller.execute("CREATE SCHEMA theirs; CREATE TABLE theirs.jobs (id int, kind text)")
    with pytest.raises(SchemaMismatch, match=r"schema 'theirs' .* has no queue, but schema 'public' has one"):
        enqueue(caller, "k", schema="theirs")


RIGHTS = {
    "none": "",
    "only INSERT": "GRANT INSERT ON jobs TO {role}",
    "no id": "GRANT INSERT (kind, payload, priority, run_at, max_attempts) ON jobs TO {role}",
    "two columns": "GRANT INSERT (kind, payload), SELECT (id) ON jobs TO {role}",
}


@pytest.mark.parametrize("rights", RIGHTS.values(), ids=RIGHTS)
@pytest.mark.parametrize("with_roles", [True, False])
def test_a_role_without_a_right_is_told_what_to_grant(database, rights, with_roles):
    """RETURNING id needs SELECT (id), too. What the message says to grant is enough."""
    with psycopg.connect(database.url) as connection:
        role = f"app_{database.name}"
        connection.execute(
            f"CREATE ROLE {role}; ALTER TABLE jobs OWNER TO {'shithub_owner' if with_roles else 'postgres'}"
        )
        connection.execute(rights.format(role=role) or "SELECT 1")
        connection.execute(f"SET ROLE {role}")
        with pytest.raises(RightsMissing, match="may not enqueue in schema 'public'") as caught:
            enqueue(connection, "k")
        [grant] = re.findall(r"\. As (?:a superuser|its owner 'postgres'): (.*)$", str(caught.value))
        assert ("shithub_enqueue" in grant) is with_roles
        connection.execute(f"SET ROLE NONE; {grant}; SET ROLE {role}")
        assert enqueue(connection, "k")
        connection.rollback()
