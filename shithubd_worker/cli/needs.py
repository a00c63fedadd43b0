"""Which role of the database each command needs, and so whose login the host's files give it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from shithubd_worker.errors import LACKS, RightsMissing, ShithubdError

if TYPE_CHECKING:
    from shithubd_worker.cli.common import Shared

OPERATOR = "shithub_operator"
# All others are an operator's. The first word is enough: no family has commands of two roles.
NEEDS = {
    "migrate": "shithub_migrate",
    "history": "shithub_migrate",
    "run": "shithub_worker",
    "check-config": "shithub_worker",
    "release-dead": "shithub_worker",
    "enqueue": "shithub_enqueue",
    "status": "shithub_metrics",
    "workers": "shithub_metrics",
}
_TAKES_A_VALUE = ("--database-url", "--schema")


def role(arguments: Sequence[str]) -> str:
    """What a command line's command needs: the least."""
    words = iter(arguments)
    for word in words:
        if word in _TAKES_A_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            return NEEDS.get(word, OPERATOR)
    return OPERATOR


def note(error: Exception, shared: Shared, command: Sequence[str]) -> None:
    """Note on the refusal of a command which role the login lacks: only if the roles have their rights here, and the
    login neither is a member of the one that the command needs nor has the rights of the owner.

    What one of the application's triggers was refused, say, that role wouldn't help.
    """
    if isinstance(error, RightsMissing):
        refused = str(error).startswith(LACKS) and "shithub_" not in str(error)  # it doesn't say so itself
    else:
        # Of psycopg, which nothing is known of here until there was a connection: inside a function there is a context.
        refused = getattr(error, "sqlstate", None) == "42501" and not error.diag.context  # type: ignore[attr-defined]
    if not refused:
        return
    import psycopg

    from shithubd_worker import rights

    with suppress(psycopg.Error, ShithubdError), shared.connect("shithubd-worker command")() as connection:
        with rights.in_pg_catalog(connection):
            lacks = rights.lacks(connection, shared.schema_name, role(command))
        if lacks:
            error.add_note(f"this needs the role {role(command)}")
