"""Which role of the database each command needs, and so which login the host's files give it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from contextlib import suppress

from shithubd_worker.settings.host_files import Login

OPERATOR, MIGRATE = "shithub_operator", "shithub_migrate"
# The user of a host as whom the timer logs in. What only the tables' owner may do is done as this user.
ADMIN = "shithub-admin"
# All other commands need an operator. A command of a group stands here if it needs another role than its group.
NEEDS = {
    "migrate": MIGRATE,
    "history": MIGRATE,
    "run": "shithub_worker",
    "check-config": "shithub_worker",
    "release-dead": "shithub_worker",
    "enqueue": "shithub_enqueue",
    "status": "shithub_metrics",
    "workers": "shithub_metrics",
    "stats": "shithub_metrics",
    "kinds": "shithub_metrics",
    "queues": "shithub_metrics",
    "doctor": "shithub_metrics",
    "workers sweep": OPERATOR,
    "workers unlock": OPERATOR,
}
# What these do stays done, though nobody can read what they say. All other commands only look.
CHANGES = frozenset(
    {
        *("run", "release-dead", "enqueue", "migrate", "drain", "resume", "pause-kind", "resume-kind", "top"),
        *("jobs complete", "jobs fail", "jobs reschedule", "jobs retry", "jobs discard", "jobs release"),
        *("history drop", "units install", "units uninstall", "audit undo", "apply"),
        *("search forget", "init", "workers sweep", "workers unlock", "cleanup"),
    }
)
_TAKES_A_VALUE = ("--database-url", "--schema", "--audit-webhook-file")
_ONLY_SHOWS = {"--help", "-h", "--version", "--dry-run"}


def role(arguments: Sequence[str]) -> str:
    """The least role that a command line's command needs."""
    first, second = _words(arguments)
    return NEEDS.get(f"{first} {second}") or NEEDS.get(first, OPERATOR)


def changes(arguments: Sequence[str]) -> bool:
    """Does a command line change anything?"""
    first, second = _words(arguments)
    return not CHANGES.isdisjoint({first, f"{first} {second}"}) and _ONLY_SHOWS.isdisjoint(arguments)


def _words(arguments: Sequence[str]) -> tuple[str, str]:
    """The first two words that are no options: the command, or its group and its name."""
    words, found = iter(arguments), []
    for word in words:
        if word in _TAKES_A_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            found.append(word)
    return (*found, "", "")[0], (*found, "", "")[1]


def login(role: str) -> Login:
    """How somebody logs in who needs this role."""
    logins: dict[str, Login] = {"shithub_worker": "worker", MIGRATE: "owner"}
    return logins.get(role, "operator")


def by_admin(command: str) -> str:
    """The command as root types it on a host of workers: as the user who owns the tables, if this host has that
    user."""
    with suppress(KeyError):
        if pwd.getpwnam(ADMIN).pw_uid != os.geteuid():
            return f"runuser -u {ADMIN} -- {command}"
    return command
