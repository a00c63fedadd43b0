"""What an error of the database means for its caller, and the error as one line."""

from __future__ import annotations

import psycopg

from shithubd_worker.database import logins, pooled, sqlstates
from shithubd_worker.database.sqlstates import Meaning
from shithubd_worker.errors import LACKS, ConfigError, DatabaseUnavailable, RightsMissing, SchemaMismatch, ShithubdError

DatabaseError = psycopg.Error


def meaning(error: psycopg.Error) -> Meaning:
    """What an error means for its caller."""
    if refusal(error) is not None:
        return Meaning.OURS
    if error.sqlstate is None and not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return Meaning.REFUSED  # psycopg itself says so, about its arguments or about a value that it can't read
    return sqlstates.meaning(error.sqlstate, error.diag.severity_nonlocalized)


def refusal(error: psycopg.Error) -> ShithubdError | None:
    """The error to show, if the login is refused for good; else None."""
    return error.told if isinstance(error, logins.LoginRefused) else logins.of_pooler(error)


def lost(error: psycopg.Error) -> bool:
    """Is the connection gone, or this server unable to write?"""
    return meaning(error) is Meaning.LOST


def read_only(error: psycopg.Error) -> bool:
    """Does this server take no changes, because it is a standby or its settings say so?"""
    return isinstance(error, psycopg.errors.ReadOnlySqlTransaction)


def forbidden(error: psycopg.Error) -> bool:
    """Has the role no right to this call itself? A refusal from inside a function, for example by a trigger, is
    something else."""
    return isinstance(error, psycopg.errors.InsufficientPrivilege) and not error.diag.context


def in_one_line(error: psycopg.Error) -> str:
    """The first line of the error's text."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def refused_in_words(error: psycopg.Error) -> str | None:
    """What a function of ours says if it refuses a call that it understands. None for any other error."""
    return error.diag.message_primary if isinstance(error, psycopg.errors.RaiseException) else None


def explained(error: psycopg.Error) -> ShithubdError:
    """psycopg's error as an error of ours, in one line and with the right exit code."""
    line, text = in_one_line(error), str(error)
    if isinstance(error, pooled.NoSession):
        return ConfigError(line)
    if (told := refusal(error) or pooled.words(line)) is not None:
        return told
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return RightsMissing(f"{LACKS}: {line}")
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return DatabaseUnavailable(f"somebody holds a lock on the queue (see pg_stat_activity): {line}")
    means = meaning(error)
    if read_only(error):
        return DatabaseUnavailable(
            f"the database takes no changes: it is a standby, or default_transaction_read_only is set ({line}):"
            " connect to the primary"
        )
    if means is Meaning.LOST:
        reason = error.diag.message_primary or _last_reason(text)
        return DatabaseUnavailable(f"the database can't be reached: {reason}")
    if means in (Meaning.SHORT, Meaning.PASSING):
        return DatabaseUnavailable(f"the database can't do it now: {line}")
    if isinstance(
        error, (psycopg.errors.UndefinedFunction, psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName)
    ):
        return SchemaMismatch(f"the database's schema doesn't fit this release: {line}: run `shithubd-worker migrate`")
    return ShithubdError(f"the database says: {line}")


def _last_reason(text: str) -> str:
    # libpq lists every address that it tried, and psycopg repeats them. The last line with a reason is enough.
    lines = [line.strip(" -") for line in text.splitlines() if line.strip()]
    return next(
        (line for line in reversed(lines) if "FATAL" in line or "failed" in line),
        lines[-1] if lines else text,
    )
