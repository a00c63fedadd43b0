"""What a command adds to a refusal: the missing role, the file to look into, and who on this host may do it."""

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
    """Add to a refused command what to GRANT: the needed role, or its rights where the roles have none. Not if the
    login is a member of the role or has the owner's rights. Also add which user of this host has the role of the
    tables' owner, but not for `migrate --roles`, which needs more.

    If, for example, the application's trigger refused something, no role of ours would help, so nothing is added.
    """
    if isinstance(error, RightsMissing):
        refused, unsaid = True, str(error).startswith(LACKS) and role(command) not in str(error)
    else:
        # psycopg isn't imported here before there was a connection. An error inside a function has a context.
        refused = getattr(error, "sqlstate", None) == "42501" and not error.diag.context  # type: ignore[attr-defined]
        unsaid = refused
    if unsaid:
        _note_role(error, shared, role(command))
    # A refused login: the error is psycopg's, or was raised from it.
    no_entry = any(hasattr(each, "told") for each in (error, error.__cause__))
    if no_entry and (files := host_env.naming()):
        error.add_note(f"see {' and '.join(map(str, files))}")
        if os.geteuid() == 0 and os.environ.get("PGHOST", "").startswith("/"):
            own = host_files.read_by(login(role(command)))[0][-1]
            error.add_note(
                f"a line {RUN_AS}=USER in {own} makes root's command run as a user whom the database accepts"
            )
    if (refused or no_entry) and role(command) == MIGRATE and "--roles" not in command:
        typed = shared.command(*command)
        if (instead := by_admin(typed)) != typed:
            error.add_note(f"on this host: {instead}")


def _note_role(error: Exception, shared: Shared, needed: str) -> None:
    import psycopg

    from shithubd_worker.database import rights

    with suppress(psycopg.Error, ShithubdError), shared.connect("shithubd-worker command", pooled=True)() as connection:
        with rights.in_pg_catalog(connection):
            remedy = rights.remedy(connection, shared.schema_name, needed)
        if remedy:
            error.add_note(remedy)
