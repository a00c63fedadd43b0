"""Who may do what: docs/rights.md lists every role with every table, column, sequence and function."""

from __future__ import annotations

import rights_page
from conftest import Database

from shithubd_worker.database import rights, schema

# Functions that no role may call: a trigger, and what others call with the rights of the owner.
FOR_NOBODY = {
    "jobs_enqueued_v1",
    "idle_kinds_v1",
    "return_recorded_v1",
    "end_ramp_v1",
    "batch_end_v1",
    "change_slice_v1",
    "change_some_v1",
    "record_change_v1",
    "why_unchanged_v1",
    "undo_slice_v1",
    "undo_some_v1",
    "old_audit_v1",
    "prune_audit_v1",
}


def test_every_role_has_the_rights_of_the_page_and_no_others(any_database: Database) -> None:
    with any_database.connect() as connection:
        assert rights_page.page(connection) == rights_page.PAGE.read_text()
        assert rights_page.days_with_rights(connection) == []


def test_a_right_without_a_line_in_the_page_is_found(database: Database) -> None:
    database.query(
        "CREATE TABLE added (x int); CREATE SEQUENCE added_seq; ALTER TABLE beats ADD added text;"
        " GRANT SELECT (added) ON beats TO shithub_enqueue; CREATE FUNCTION added_v1() RETURNS int RETURN 1"
    )
    with database.connect() as connection:
        found = set(rights_page.page(connection).splitlines()) - set(rights_page.PAGE.read_text().splitlines())
    assert found == {
        "| `added` |  |  |  |  |  |  |",
        "| `added_seq` |  |  |  |  |  |  |",
        "| `beats` | SELECT, INSERT, UPDATE | SELECT (added) | SELECT | SELECT |  |  |",
        "| `added_v1` | x | x | x | x | x | x |",
    }


def test_the_owner_owns_everything_and_has_all_rights(any_database: Database) -> None:
    others = any_database.query(
        "SELECT relname FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relowner <> 'shithub_owner'::regrole"
        " UNION ALL SELECT proname FROM pg_proc"
        " WHERE pronamespace = 'public'::regnamespace AND proowner <> 'shithub_owner'::regrole"
    )
    assert others == []
    assert any_database.query("SELECT rolname FROM pg_roles WHERE rolname LIKE 'shithub%' AND rolcanlogin") == []


def test_every_function_and_every_granted_name_is_in_the_schema(database: Database) -> None:
    tables = {
        name
        for (name,) in database.query("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    }
    granted = {(grant.privilege == "EXECUTE", grant.object) for grant in rights.grants()}
    assert {name for function, name in granted if not function} <= tables
    assert {name for function, name in granted if function} == {*schema.function_names()} - FOR_NOBODY
    assert {grant.role for grant in rights.grants()} == {*rights.GRANTED}
