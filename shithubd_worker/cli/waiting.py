"""What a command that shows figures again and again says while there are none."""

from __future__ import annotations

from shithubd_worker.errors import DatabaseUnavailable, TimedOut
from shithubd_worker.plain import lasting


def no_figures(seconds: float, error: Exception) -> str:
    """For how long there have been none, and why. Raises the error again if it isn't one that passes."""
    told = explained(error)
    if not isinstance(told, (DatabaseUnavailable, TimedOut)):
        raise error
    return f"no figures for {lasting(seconds)}: {told.args[0]}"


def explained(error: Exception) -> Exception:
    """An error of psycopg as one of ours; another one as it is."""
    import psycopg

    from shithubd_worker.database import failures

    return failures.explained(error) if isinstance(error, psycopg.Error) else error


def in_words(error: Exception) -> str:
    """An error in one line."""
    told = explained(error)
    return ": ".join([str(each) for each in told.args] or [type(told).__name__])
