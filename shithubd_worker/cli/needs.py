"""Which role of the database each command needs, and so whose login the host's files give it."""

from __future__ import annotations

from collections.abc import Sequence

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
