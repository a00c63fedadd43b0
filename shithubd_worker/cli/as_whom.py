"""As whom root's commands go on, where the host's files name a user: one whom the database knows by his name (peer).

Only commands that speak to the database do that, before they look at the current directory or connect. So root still
reads what only root may, `units install` stays root's, and neither a handler, nor what lies in that directory, nor what
the database answers is dealt with by root.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from shithubd_worker.errors import ConfigError
from shithubd_worker.settings.names import RUN_AS

_OTHERS_WRITE = 0o022
# What the files say, and which one. Never what the environment says: that may be somebody's who isn't root.
_named: list[tuple[str, Path]] = []


def named(user: str, path: Path) -> None:
    """A file names a user, or with '' takes back what one before it said."""
    _named[:] = [(user, path)] if user else []


def go_on() -> None:
    """Be that user from now on, for good. Raises ConfigError. Does nothing for whoever isn't root."""
    if not _named or os.geteuid() != 0:
        return
    name, path = _named[0]
    for each in (path, path.parent):
        found = each.stat()
        if found.st_uid != 0 or found.st_mode & _OTHERS_WRITE:
            mend = f"chown root {each}; chmod go-w {each}"
            raise ConfigError(f"{path} has {RUN_AS}, so nobody but root may write {each}: {mend}")
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"{path}: {RUN_AS}: this host has no user {name!r}") from None
    from shithubd_worker.database.operations import actor

    actor()  # remembered: root, and so sudo's word, is believed only while this process is root's
    os.initgroups(user.pw_name, user.pw_gid)
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    # Where libpq looks for its own files.
    os.environ.update(HOME=user.pw_dir, USER=user.pw_name, LOGNAME=user.pw_name)
