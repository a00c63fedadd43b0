"""What an operator asks the database: holds, their barrier, the state of things, changes to single jobs.

Every change goes through one function of sql/functions, which writes its audit row in the same transaction.
"""

from __future__ import annotations

import os
import pwd
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shithubd_worker.database.connection import Connect
from shithubd_worker.database.leased import briefly, how_many
from shithubd_worker.database.session import Session
from shithubd_worker.model import Scope
from shithubd_worker.plain import json_or_text, json_text

if TYPE_CHECKING:
    from psycopg.errors import Diagnostic

    from shithubd_worker.ramps import Ramp

# The longest single question to barrier_v1, so that progress can be shown. It is longer than the 800 ms that barrier_v1
# waits for young leases. A lease whose leased_at lies in the future counts as young in each question.
SLICE_SECONDS = 2.0
LOOK_SECONDS = 0.1
# A command that waits says so again after this time.
TELL_SECONDS = 10.0

LOGINUID = Path("/proc/self/loginuid")
NO_LOGIN = 2**32 - 1

Say = Callable[[str], None]


@cache
def actor() -> str:
    """Who is asking, for the audit record: the person, even if the process now runs as another user.

    If the process is root's, sudo's variable names the person. Otherwise the kernel does: it keeps the user of a login
    (pam_loginuid) through every su and sudo. Anybody can set a variable, so the variable of a process that isn't root's
    counts only where the kernel knows of no login.
    """
    sudo, logged_in = os.environ.get("SUDO_USER"), _logged_in()
    named = [sudo, logged_in] if os.geteuid() == 0 else [logged_in, sudo]
    name = next(filter(None, named), None) or _user(os.geteuid())
    return f"{name}@{socket.gethostname()}".encode(errors="replace").decode()


def _logged_in() -> str | None:
    """The user as whom the person logged in. None for a service, and where the kernel keeps no such record."""
    with suppress(OSError, ValueError):
        uid = int(LOGINUID.read_text(encoding="utf-8"))
        return None if uid == NO_LOGIN else _user(uid)
    return None


def _user(uid: int) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return f"uid {uid}"  # there is no entry in passwd, as in some containers


@dataclass(frozen=True, slots=True)
class RecordedHold:
    """A hold as the database keeps it, in the order of the columns. Workers know only a part of it: model.Hold."""

    id: int
    scope: str
    target: str
    mode: str
    reason: str | None
    actor: str
    until: datetime | None
    created: datetime

    @property
    def covers(self) -> Scope:
        """What the hold covers."""
        return Scope(self.scope, self.target)


class Operations(Session):
    """A connection for one command of an operator."""

    def __init__(self, connect: Connect, schema: str) -> None:
        super().__init__(connect, schema)
        self.actor = actor()
        # For the last `mirror` or `unpause`: how many jobs the database refused to change, and what it said about the
        # first.
        self.refused = 0
        self.refusal: str | None = None
        self._flipping = False

    def drain(self, scope: Scope, reason: str | None, until: datetime | None) -> RecordedHold:
        """Hold a scope. The hold is certain only after `barrier`."""
        return RecordedHold(*self.rows("drain_v1", scope.scope, scope.target, reason, until, self.actor)[0])

    def pause_kind(self, kind: str, reason: str | None, until: datetime | None) -> RecordedHold:
        """Hold a kind. The hold is certain only after `barrier`."""
        return RecordedHold(*self.rows("pause_kind_v1", kind, reason, until, self.actor)[0])

    def barrier(self, scope: Scope, deadline: float | None, say: Say) -> bool:
        """Wait until nothing of the scope can start any more. False at `deadline` (on the monotonic clock; None: no
        limit)."""
        tell_at = 0.0
        while True:
            left = SLICE_SECONDS if deadline is None else min(SLICE_SECONDS, deadline - time.monotonic())
            if self.value("barrier_v1", scope.scope, scope.target, max(0.0, left)):
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False
            if (now := time.monotonic()) >= tell_at:
                tell_at = now + TELL_SECONDS
                say("waiting for lease queries that are still under way")

    def mirror(self, hold: RecordedHold) -> Iterator[int]:
        """Mark the waiting jobs of a paused kind as paused, in batches. Yields how many so far. See `refused`."""
        return self._batches("mirror_pause_v1", hold.id, None, _json)

    def unpause(self, kind: str) -> Iterator[int]:
        """Put the paused jobs of a kind back to queued, in batches. Yields how many so far. See `refused`."""
        return self._batches("unpause_v1", kind, -(2**63), int)

    def _batches(self, function: str, what: object, after: object, place: Callable[[Any], object]) -> Iterator[int]:
        """Each batch begins where the one before ended."""
        total = 0
        self.refused, self.refusal = 0, None
        while rows := self._flip(function, what, after):
            flipped, ended, refused = rows[0]
            total += flipped
            self.refused += refused
            after = place(ended)
            yield total

    def _flip(self, function: str, *arguments: object) -> list[tuple[Any, ...]]:
        self._flipping = True
        try:
            return self.rows(function, *arguments)
        finally:
            self._flipping = False

    def _hear(self, said: Diagnostic) -> None:
        # A batch warns about each job that it could not change. There may be a million, so the command shows their
        # number.
        if self._flipping and said.severity_nonlocalized == "WARNING":
            self.refusal = self.refusal or said.message_primary
        else:
            super()._hear(said)

    def wait_until_idle(self, scope: Scope, deadline: float | None, say: Say) -> bool:
        """Wait until no job of the scope is running. False at `deadline`. Shows what it waits for when that changes,
        and again after a while."""
        said: object = None
        tell_at = 0.0
        while leases := self.leases(scope):
            if deadline is not None and time.monotonic() >= deadline:
                return False
            ids, now = [lease["id"] for lease in leases], time.monotonic()
            if ids != said or now >= tell_at:
                said, tell_at = ids, now + TELL_SECONDS
                say(f"waiting for {how_many(leases)}: {briefly(leases)}")
            time.sleep(LOOK_SECONDS)
        return True

    def resume(self, scope: Scope | None, reason: str | None) -> list[RecordedHold]:
        """End the drains of a scope, or all drains. Returns those that ended."""
        name, target = (scope.scope, scope.target) if scope else (None, "")
        return [RecordedHold(*row) for row in self.rows("resume_v1", name, target, reason, self.actor)]

    def resume_kind(self, kind: str, reason: str | None) -> RecordedHold | None:
        """End the pause of a kind. None if there was none. Call `unpause` after it."""
        rows = self.rows("resume_kind_v1", kind, reason, self.actor)
        return RecordedHold(*rows[0]) if rows else None

    def ramp_kind(self, kind: str, ramp: Ramp, reason: str | None, until: datetime | None) -> RecordedHold:
        """Resume a kind in steps. Returns the hold, which stays until the ramp is over. Call `unpause` after it."""
        return RecordedHold(*self.rows("ramp_kind_v1", kind, *ramp, reason, until, self.actor)[0])

    def kind_hold(self, kind: str) -> dict[str, Any] | None:
        """The pause of a kind, with its ramp. None if the kind is not held."""
        return self.value("kind_hold_v1", kind)  # type: ignore[no-any-return]

    def undo_hold(self, audit: int, reason: str | None) -> RecordedHold | None:
        """End the hold that an audit row set, if it still stands as that row set it; else None. After a pause call
        `unpause`."""
        rows = self.rows("undo_hold_v1", audit, reason, self.actor)
        return RecordedHold(*rows[0]) if rows else None

    def known_kind(self, kind: str) -> bool:
        """Does any job, history row, hold or worker name this kind?"""
        return bool(self.value("known_kind_v1", kind))

    def now(self) -> datetime:
        """The database's clock."""
        return self.value("statement_time_v1")  # type: ignore[no-any-return]

    def status(self) -> dict[str, Any]:
        """The state of the queue and its workers."""
        return self.value("status_v1")  # type: ignore[no-any-return]

    def kinds(self, kind: str | None = None) -> list[dict[str, Any]]:
        """All kinds as in `status`, none of them left out; or one kind."""
        return [row[0] for row in self.rows("named_kinds_v1", None, kind)]

    def stats(self, kind: str | None = None, most: int | None = 50) -> list[dict[str, Any]]:
        """What the kinds did lately, and how long their backlogs will take. Of more than `most` kinds, the object
        without a kind has the sums of those that are not named."""
        return [row[0] for row in self.rows("stats_v1", kind, most)]

    def kind_list(self, kind: str | None = None, most: int | None = 50) -> list[dict[str, Any]]:
        """The same, and for each kind its hosts and its pause."""
        return [row[0] for row in self.rows("list_kinds_v1", kind, most)]

    def kinds_like(self, prefix: str) -> list[str]:
        """Some kinds whose names begin so, for a shell that completes a word."""
        return [row[0] for row in self.rows("kinds_named_like_v1", prefix)]

    def leases(self, scope: Scope) -> list[dict[str, Any]]:
        """The leases in a scope, with their owners."""
        return [row[0] for row in self.rows("leases_v1", scope.scope, scope.target)]

    def workers(self) -> list[dict[str, Any]]:
        """The workers."""
        return [row[0] for row in self.rows("workers_v1")]

    def jobs(self, where: Mapping[str, object], limit: int, after: int | None = None) -> list[dict[str, Any]]:
        """Jobs by id, those above `after`. `where` is a selection of job_condition_v1, perhaps with older_than in
        seconds."""
        if where.keys() <= {"state", "kind"}:  # these have an index
            rows = self.rows("list_jobs_v1", where.get("state"), where.get("kind"), limit, after)
        else:
            rows = self.rows("find_jobs_v1", json_text({**where, **({} if after is None else {"after": after})}), limit)
        return [with_payload(row[0]) for row in rows]

    def job(self, job: int) -> dict[str, Any] | None:
        """One job with its history, or None."""
        found = self.value("show_job_v1", job)
        return None if found is None else with_payload(found)

    def explain(self, job: int) -> dict[str, Any] | None:
        """Why a job does not run (explain_job_v1), or None if there is no such job."""
        return self.value("explain_job_v1", job)  # type: ignore[no-any-return]

    def forget_index(self, repo: str, reason: str | None) -> dict[str, Any] | None:
        """Take the index of a repository away. Returns its ref and its files, or None if there was none."""
        rows = self.rows("forget_index_v1", repo, reason, self.actor)
        return dict(zip(("ref", "files"), rows[0], strict=True)) if rows else None


def with_payload(job: dict[str, Any]) -> dict[str, Any]:
    """The job with its payload as JSON. The payload stays text if Python can't read it, or if it was cut."""
    if job["payload"] is not None and "payload_cut" not in job:
        job["payload"] = json_or_text(job["payload"])
    return job


def _json(value: object) -> object:
    from psycopg.types.json import Jsonb

    return Jsonb(value)
