"""The user that a command of root's becomes, where a file of the host names one.

The database knows that user by name (peer). Only commands that connect to the database do this, before they connect or
look at the current directory. So root can still read what only root may, and `units install` stays root's. But no
handler, no file of that directory and no answer of the database meets a process of root's.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from shithubd_worker.errors import ConfigError
from shithubd_worker.settings.names import RUN_AS

_OTHERS_WRITE = 0o022
# The user that a file names, and the file. The environment never counts: somebody other than root may have set it.
_named: list[tuple[str, Path]] = []


def named(user: str, path: Path) -> None:
    """Note the user that a file names. '' takes back what an earlier file said."""
    _named[:] = [(user, path)] if user else []


def go_on() -> None:
    """Become that user for good. Raises ConfigError. Does nothing if the process isn't root's."""
    if not _named or os.geteuid() != 0:
        return
    name, path = _named[0]
    for each in (path, path.parent):
        found = each.stat()
        if found.st_uid != 0 or found.st_mode & _OTHERS_WRITE:
            mend = f"chown root {each}; chmod go-w {each}"
            raise ConfigError(f"{path} sets {RUN_AS}, so only root may have the right to write {each}: {mend}")
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"{path}: {RUN_AS}: this host has no user {name!r}") from None
    from shithubd_worker.database.operations import actor

    actor()  # remembered now: sudo's variables count only while this process is root's
    os.initgroups(user.pw_name, user.pw_gid)
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    # libpq looks for its own files there.
    os.environ.update(HOME=user.pw_dir, USER=user.pw_name, LOGNAME=user.pw_name)
