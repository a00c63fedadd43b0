"""The commands that take what explain_job_v1 found out of the way. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from shithubd_worker.model import Scope
from shithubd_worker.plain import shell_word

Check = Mapping[str, Any]
Command = Callable[..., str]  # Shared.command


def changes(name: str, check: Check, job: Mapping[str, Any], command: Command) -> Iterator[str]:
    """The commands that take a check out of the way. What a shell must not read stands behind a #; SQL is for psql."""
    if name == "hold" or check.get("state") == "paused":
        yield command("resume-kind", *_words(job["kind"]))
    elif check.get("state") == "failed" or name == "run_at":
        yield command("jobs retry", *_words(str(job["id"])))
    elif check.get("state") == "processing" and check["silent"]:
        yield command("workers unlock", *_words(check["worker"] or check["leased_by"]))
    elif name == "drains":
        scopes = [Scope(hold["scope"], hold["target"]) for hold in check["holds"]]
        if any(scope.scope == "fleet" for scope in scopes):
            yield f"{command('resume')}  # ends all drains"
        else:
            yield from (command("resume", f"--{scope.scope}", scope.target) for scope in scopes)
    elif name in ("locked", "tables"):
        of = check["locker"]
        if of["pid"] == 0:
            yield f"ROLLBACK PREPARED {_literal(of['prepared'] or '?')}"
        else:
            yield f"SELECT pg_terminate_backend({of['pid']})"
    elif name == "workers":
        yield _start(check)


def _start(check: Check) -> str:
    """How to start a worker that knows the kind."""
    for each in check["who"]:
        if each["unit"] and not each["drained"]:
            host = each["leased_by"].rpartition(":")[0]
            return f"systemctl restart {shell_word(each['unit'])}  # on {shell_word(host)}"
    return "shithubd-worker run --handlers MODULE:REGISTRY  # with a handler of the kind"


def _words(word: str) -> Sequence[str]:
    return ("--", word) if word.startswith("-") else (word,)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
