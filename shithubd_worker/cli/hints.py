"""What a command adds to a refusal: which role its login lacks, which file to look into, who on this host may do it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from shithubd_worker.cli import host_env
from shithubd_worker.cli.needs import MIGRATE, by_admin, login, role
from shithubd_worker.errors import LACKS, RightsMissing, ShithubdError
from shithubd_worker.settings import host_files
from shithubd_worker.settings.names import RUN_AS

if TYPE_CHECKING:
    from shithubd_worker.cli.common import Shared


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
    no_entry = any(hasattr(each, "told") for each in (error, error.__cause__))
    if no_entry and (files := host_env.naming()):
        error.add_note(f"see {' and '.join(map(str, files))}")
        if os.geteuid() == 0 and os.environ.get("PGHOST", "").startswith("/"):
            own = host_files.read_by(login(role(command)))[0][-1]
            error.add_note(f"a line {RUN_AS}=USER in {own} has root go on as a user whom it lets in")
    if (refused or no_entry) and role(command) == MIGRATE and "--roles" not in command:
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
