"""What a bundle may show of a text. Everything is left out that is not known to be harmless."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path

LEFT_OUT = "(left out)"
# The members of our own JSON whose texts are names of things, or words of ours. A new member is left out until it
# stands here.
_NAMES = frozenset(
    {
        *("name", "severity", "page", "said", "why", "schema"),
        *("kind", "kinds", "state", "states", "scope", "mode", "target", "capped", "window", "backlog_window"),
        *("host", "unit", "leased_by", "worker", "workers", "by", "version", "release", "releases", "id"),
        *("login", "roles", "lacks", "too_much", "program", "type", "database", "table", "index", "setting"),
        *("missing", "changed", "others", "indexes", "constraints", "triggers", "files", "functions"),
        *("set_to", "source", "encoding", "slot", "standby", "wal_status", "sync_state", "waits_for", "has_it"),
    }
)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d(:\d\d)?)?|-?infinity")
_ARGUMENT = re.compile(r"%[-+ #0]*\d*(?:\.\d+)?[a-z]")
_PACKAGE = Path(__file__).parents[1]


def plain(value: object, member: str = "") -> object:
    """A value of JSON: numbers, times, and the texts of the members above.

    >>> plain({"kind": "k", "attempts": 3, "last_error": "no such user: ada"})
    {'kind': 'k', 'attempts': 3, 'last_error': '(left out)'}
    """
    if isinstance(value, Mapping):
        return {str(name): plain(each, str(name)) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each, member) for each in value]
    if isinstance(value, str):
        return value if member in _NAMES or _TIME.fullmatch(value) else LEFT_OUT
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return value if value is None or isinstance(value, (bool, int, float)) else LEFT_OUT


def template(message: str) -> str:
    """The line of ours that a message is, with the marks in place of what was filled in: `%s`. Else LEFT_OUT."""
    return next((text for text, pattern in _templates() if pattern.fullmatch(message)), LEFT_OUT)


@cache
def loggers() -> frozenset[str]:
    """The names of the worker's own loggers."""
    paths = (path.relative_to(_PACKAGE).with_suffix("") for path in _PACKAGE.rglob("*.py"))
    return frozenset(".".join(("shithubd_worker", *path.parts)) for path in paths)


@cache
def _templates() -> tuple[tuple[str, re.Pattern[str]], ...]:
    found = {text for path in _PACKAGE.rglob("*.py") for text in _logged(ast.parse(path.read_text(encoding="utf-8")))}
    # The longest first: it says the most.
    return tuple((text, _pattern(text)) for text in sorted(found, key=len, reverse=True))


def _logged(tree: ast.AST) -> Iterator[str]:
    levels = {"debug", "info", "warning", "error", "critical", "exception", "log"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in levels:
            texts = [each.value for each in node.args[:2] if isinstance(each, ast.Constant)]
            yield from (text for text in texts if isinstance(text, str) and _ARGUMENT.sub("", text).strip())


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, _ARGUMENT.split(text))), re.DOTALL)
