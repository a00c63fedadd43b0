"""The files of the functions need no order. `migrate` loads them without a check of the bodies; a test checks the
bodies."""

from __future__ import annotations

import random

import psycopg
import pytest

from shithubd_worker.database import schema

NAME = "a queue of its own"
MADE = """
    SELECT pg_get_functiondef(p.oid), p.proacl::text FROM pg_proc p
     WHERE p.pronamespace = to_regnamespace(quote_ident(%(name)s))
    UNION ALL
    SELECT pg_get_triggerdef(t.oid), NULL FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
     WHERE c.relnamespace = to_regnamespace(quote_ident(%(name)s)) AND NOT t.tgisinternal
    UNION ALL
    SELECT functions, NULL FROM {}.worker_schema
     ORDER BY 1""".format(f'"{NAME}"')


def in_order(number):
    """The files in reverse order, or shuffled."""
    files = [*schema.function_files()]
    files.reverse()
    if number:
        random.Random(number).shuffle(files)
    return tuple(files)


def made(connection):
    """The functions as `migrate` makes them, in a schema that is removed afterwards."""
    with connection.transaction(force_rollback=True):
        schema.migrate(connection, NAME)
        return connection.execute(MADE, {"name": NAME}).fetchall()


def test_the_functions_are_the_same_in_any_order_of_loading(any_database, monkeypatch):
    assert schema.functions_digest()  # loaded in the usual order
    with any_database.connect() as connection:
        usual = made(connection)
        assert len(usual) == len(schema.function_files()) + 2
        for number in range(4):
            text = "\n".join(path.read_text() for path in in_order(number))
            monkeypatch.setattr(schema, "functions", lambda text=text: text)
            assert made(connection) == usual, number


def check(connection):
    """Load the functions once more, with PostgreSQL's check of the bodies: now each finds all others."""
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL search_path TO public, pg_temp")
        connection.execute("SET LOCAL check_function_bodies = on")
        schema._run_file(connection, schema.of_schema(connection, schema.functions(), "public"))


def test_postgresql_finds_no_fault_in_any_body(any_database):
    with any_database.connect() as connection:
        check(connection)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("SELECT hold_v1('kind'", "SELECT hold_v9('kind'"),  # LANGUAGE sql: the names are looked up
        ("RETURN pg_notification_queue_usage() < 0.25;", "RETURN IF pg_notification_queue_usage();"),
        # plpgsql: the syntax and the types are checked
        ('    v_hold     :"schema".holds;', '    v_hold     :"schema".hold;'),
    ],
)
def test_the_check_finds_a_fault_in_a_body_that_migrate_does_not_look_for(any_database, monkeypatch, right, wrong):
    assert schema.functions().count(right) == 1
    text = schema.functions().replace(right, wrong)
    monkeypatch.setattr(schema, "functions", lambda: text)
    with any_database.connect() as connection:
        assert made(connection)
        with pytest.raises(psycopg.Error):
            check(connection)
