"""Which role of the database each command needs, and so whose login the host's files give it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from shithubd_worker.cli import as_whom
from shithubd_worker.errors import LACKS, RightsMissing, ShithubdError

if TYPE_CHECKING:
    from shithubd_worker.cli.common import Shared

OPERATOR, MIGRATE = "shithub_operator", "shithub_migrate"
# As whom a host's timer logs in, and what only the tables' owner may is done there.
ADMIN = "shithub-admin"
# All others are an operator's. The first word is enough: no family has commands of two roles.
NEEDS = {
    "migrate": MIGRATE,
    "history": MIGRATE,
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


def by_admin(command: str) -> str:
    """The command as root types it on a host of workers: where there is the user who looks after the tables, as him."""
    with suppress(KeyError):
        if pwd.getpwnam(ADMIN).pw_uid != os.geteuid():
            return f"runuser -u {ADMIN} -- {command}"
    return command


def note(error: Exception, shared: Shared, command: Sequence[str]) -> None:
    """Note on the refusal of a command which role the login lacks: only if the roles have their rights here, and the
    login neither is a member of the one that the command needs nor has the rights of the owner. And which user of this
    host has the role of the tables' owner; not for `migrate --roles`, which wants more.

    What one of the application's triggers was refused, say, that role wouldn't help.
    """
    if isinstance(error, RightsMissing):
        refused, unsaid = True, str(error).startswith(LACKS) and role(command) not in str(error)
    else:
        # Of psycopg, which nothing is known of here until there was a connection: inside a function there is a context.
        refused = getattr(error, "sqlstate", None) == "42501" and not error.diag.context  # type: ignore[attr-defined]
        unsaid = refused
    if unsaid:
        _note_role(error, shared, role(command))
    # A login that was refused: the error itself is psycopg's, or was raised from it.
    if login := any(hasattr(each, "told") for each in (error, error.__cause__)):
        from shithubd_worker.cli import host_env

        if files := host_env.naming():
            error.add_note(f"see {' and '.join(map(str, files))}")
            if os.geteuid() == 0 and os.environ.get("PGHOST", "").startswith("/"):
                own = host_env.env_files(role(command))[-1]
                error.add_note(f"a line {as_whom.RUN_AS}=USER in {own} has root go on as a user whom it lets in")
    if (refused or login) and role(command) == MIGRATE and "--roles" not in command:
        typed = shared.command(*command)
        if (instead := by_admin(typed)) != typed:
            error.add_note(f"on this host: {instead}")


def _note_role(error: Exception, shared: Shared, needed: str) -> None:
    import psycopg

    from shithubd_worker.database import rights

    with suppress(psycopg.Error, ShithubdError), shared.connect("shithubd-worker command", pooled=True)() as connection:
        with rights.in_pg_catalog(connection):
            lacks = rights.lacks(connection, shared.schema_name, needed)
        if lacks:
            error.add_note(f"this needs the role {needed}")
