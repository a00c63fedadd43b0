"""What an error of the database means for its caller, by its SQLSTATE. Pure. No other file has this table."""

from __future__ import annotations

from enum import StrEnum


class Meaning(StrEnum):
    """What a caller should do about it."""

    LOST = "lost"  # the connection is gone, or this server can't write: reconnect
    SHORT = "short"  # connections, memory or disk are short: wait, and try the same again
    PASSING = "passing"  # something stood in the way, or somebody cancelled: try the same again
    OURS = "ours"  # the role or the schema isn't what this release needs: only an operator can put it right
    REFUSED = "refused"  # the answer of a healthy server about this statement alone, and the rows that it is about


class Login(StrEnum):
    """What a refused login means."""

    WAIT = "wait"  # it may pass, or it isn't known
    RIGHTS = "rights"  # somebody must let this login in
    CONFIG = "config"  # the server is healthy, but what the login asks for isn't there


LOCKED = "55P03"  # a wait for a lock was in vain
_CHECK_VIOLATION = "23514"
# The server sends some of these as FATAL. Others (class 08) come from the driver: the connection is over.
_LOST = frozenset({"25006", "25P03", "25P04", "57P01", "57P02", "57P03", "57P04", "57P05"})
_PASSING = frozenset({"55006", LOCKED, "57014"})
_OURS = frozenset({"42501", "42883", "42P01", "3F000"})


def meaning(sqlstate: str | None, severity: str | None = None) -> Meaning:
    """The meaning of an error with this SQLSTATE. None: it never reached the server, or its answer never came back.

    >>> [meaning(each).value for each in (None, "08006", "57014", "53300", "23505")]
    ['lost', 'lost', 'passing', 'short', 'refused']
    """
    if sqlstate is None or sqlstate in _LOST or sqlstate[:2] == "08" or severity in ("FATAL", "PANIC"):
        return Meaning.LOST
    if sqlstate[:2] == "53" or sqlstate == "58030":  # an I/O error means a disk that is full or broken
        return Meaning.SHORT
    if sqlstate in _PASSING or sqlstate[:2] == "40":
        return Meaning.PASSING
    return Meaning.OURS if sqlstate in _OURS else Meaning.REFUSED


def login(sqlstate: str) -> Login:
    """The meaning of a refused login. What isn't named here may pass: a start, a failover, a lack of connections, a
    database that lets nobody in at the moment (55000).

    >>> [login(each).value for each in ("28P01", "42501", "3D000", "42704", "53300", "57P03", "55000")]
    ['rights', 'rights', 'config', 'config', 'wait', 'wait', 'wait']
    """
    if sqlstate[:2] == "28" or sqlstate == "42501":
        return Login.RIGHTS
    # A database that doesn't exist, or a setting in the URL or of the client that the server doesn't accept.
    return Login.CONFIG if sqlstate == "3D000" or sqlstate[:2] in ("0A", "22", "42") else Login.WAIT


def no_day(error: BaseException) -> bool:
    """Was a settle refused because today's history is missing? The next settle makes the day. The CHECK of an
    application has the same SQLSTATE, but names its constraint. The trigger of an application names no table of
    ours."""
    says = getattr(error, "diag", None)  # psycopg's diagnostics, which this file doesn't import
    return (
        says is not None
        and says.sqlstate == _CHECK_VIOLATION
        and says.constraint_name is None
        and (says.table_name or "").startswith("job_history")
    )
