"""What the database's errors mean: every SQLSTATE that psycopg knows, and the errors of psycopg's own."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from shithubd_worker.database import failures, sqlstates
from shithubd_worker.database.sqlstates import Meaning
from shithubd_worker.errors import DatabaseUnavailable, RightsMissing, SchemaMismatch, ShithubdError

# Every code that is not named here is REFUSED: the answer of a healthy server to one statement.
CLASSES = {"08": Meaning.LOST, "53": Meaning.SHORT, "40": Meaning.PASSING}
CODES = {
    **dict.fromkeys(["57P01", "57P02", "57P03", "57P04", "57P05", "25006", "25P03", "25P04"], Meaning.LOST),
    "58030": Meaning.SHORT,  # an I/O error
    **dict.fromkeys(["55P03", "55006", "57014"], Meaning.PASSING),
    **dict.fromkeys(["42501", "42883", "42P01", "3F000"], Meaning.OURS),
}
ALL = sorted({code for code in errors._sqlcodes if len(code) == 5 and code.isupper() | code.isdigit()})


def test_psycopg_knows_the_codes_that_are_named_here():
    assert len(ALL) > 200
    known = {*ALL, "25P04", "57P05"}  # newer than some libraries
    assert set(CODES) <= known


@pytest.mark.parametrize("code", ALL)
def test_each_code_means_one_thing_in_any_class_of_psycopg(code):
    error = errors.lookup(code)("said")
    expected = CODES.get(code) or CLASSES.get(code[:2], Meaning.REFUSED)
    assert failures.meaning(error) is expected
    assert failures.lost(error) == (expected is Meaning.LOST)


@pytest.mark.parametrize("code", ALL)
def test_a_command_ends_with_75_only_where_another_attempt_may_help(code):
    told = failures.explained(errors.lookup(code)("said"))
    means = failures.meaning(errors.lookup(code)("said"))
    assert isinstance(told, DatabaseUnavailable) == (means in (Meaning.LOST, Meaning.SHORT, Meaning.PASSING))
    assert isinstance(told, (RightsMissing, SchemaMismatch)) == (means is Meaning.OURS)
    assert isinstance(told, ShithubdError)


@pytest.mark.parametrize("severity", ["FATAL", "PANIC"])
def test_every_error_that_ends_the_session_is_a_lost_connection(severity):
    assert sqlstates.meaning("23505", severity) is Meaning.LOST
    assert sqlstates.meaning("23505", "ERROR") is Meaning.REFUSED


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (psycopg.OperationalError("server closed the connection unexpectedly"), True),
        (psycopg.InterfaceError("the connection is closed"), True),
        (psycopg.DataError("timestamp too large (after year 10K)"), False),
        (psycopg.ProgrammingError("the query has 1 placeholder but 0 parameters were passed"), False),
    ],
)
def test_an_error_of_psycopg_is_a_lost_connection_only_if_it_is_about_one(error, lost):
    assert failures.lost(error) is lost
