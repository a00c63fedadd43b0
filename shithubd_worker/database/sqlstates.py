"""What an error of the database means for whoever asked, by its SQLSTATE. Pure text: the table stands here alone."""

from __future__ import annotations

from enum import StrEnum


class Meaning(StrEnum):
    """What to do about it."""

    LOST = "lost"  # the connection is gone, or this server can't write: reconnect
    SHORT = "short"  # want of connections, memory or disk: wait, and try the same again
    PASSING = "passing"  # somebody stood in the way, or cancelled: try the same again
    OURS = "ours"  # the role or the schema isn't what this release needs: only an operator can mend it
    REFUSED = "refused"  # the answer of a healthy server about just this statement, and the rows that it is about


class Login(StrEnum):
    """What a refused login means."""

    WAIT = "wait"  # it mends itself, or it isn't known
    RIGHTS = "rights"  # somebody must let this login in
    CONFIG = "config"  # what is asked for isn't there, and the server is healthy


LOCKED = "55P03"  # a lock was waited for in vain
_CHECK_VIOLATION = "23514"
# The server says FATAL to some of these, and to others (08) it is the driver that says it: the connection is over.
_LOST = frozenset({"25006", "25P03", "25P04", "57P01", "57P02", "57P03", "57P04", "57P05"})
_PASSING = frozenset({"55006", LOCKED, "57014"})
_OURS = frozenset({"42501", "42883", "42P01", "3F000"})


def meaning(sqlstate: str | None, severity: str | None = None) -> Meaning:
    """Of an error with this SQLSTATE (None: it never reached the server, or its answer never came back).

    >>> [meaning(each).value for each in (None, "08006", "57014", "53300", "23505")]
    ['lost', 'lost', 'passing', 'short', 'refused']
    """
    if sqlstate is None or sqlstate in _LOST or sqlstate[:2] == "08" or severity in ("FATAL", "PANIC"):
        return Meaning.LOST
    if sqlstate[:2] == "53" or sqlstate == "58030":  # an I/O error is a disk that is full, or ill
        return Meaning.SHORT
    if sqlstate in _PASSING or sqlstate[:2] == "40":
        return Meaning.PASSING
    return Meaning.OURS if sqlstate in _OURS else Meaning.REFUSED


def login(sqlstate: str) -> Login:
    """Of a server that refused a login. What isn't named may pass: a start, a failover, a want of connections, a
    database that lets nobody in for the moment (55000).

    >>> [login(each).value for each in ("28P01", "42501", "3D000", "42704", "53300", "57P03", "55000")]
    ['rights', 'rights', 'config', 'config', 'wait', 'wait', 'wait']
    """
    if sqlstate[:2] == "28" or sqlstate == "42501":
        return Login.RIGHTS
    # A database that isn't there; a setting of the URL's options, or of the client, that the server doesn't take.
    return Login.CONFIG if sqlstate == "3D000" or sqlstate[:2] in ("0A", "22", "42") else Login.WAIT


def no_day(error: BaseException) -> bool:
    """Is it for want of today's history that a settle was refused? The next settle makes the day. What an application's
    CHECK refuses has the same SQLSTATE, and names its constraint; what its trigger refuses names no table of ours."""
    says = getattr(error, "diag", None)  # psycopg's, which is no word of this room
    return (
        says is not None
        and says.sqlstate == _CHECK_VIOLATION
        and says.constraint_name is None
        and (says.table_name or "").startswith("job_history")
    )
