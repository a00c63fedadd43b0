"""What `audit undo` does: it restores jobs, batch by batch, and ends a hold or sets it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from shithubd_worker.admin import record
from shithubd_worker.cli import drain, resume_kind
from shithubd_worker.cli.certainty import follow, see_through
from shithubd_worker.cli.common import Shared
from shithubd_worker.cli.holding import saying_if_held
from shithubd_worker.cli.screen import emit, line, say
from shithubd_worker.errors import EXIT_DETACHED, EXIT_OK, NoSuchRow, Refused, ShithubdError, TimedOut
from shithubd_worker.model import Scope

if TYPE_CHECKING:
    from shithubd_worker.database.operations import Operations

MOST_LEFT = 10


class Undo:
    """One `audit undo`."""

    def __init__(
        self, shared: Shared, operations: Operations, reason: str | None, *, dry_run: bool, as_json: bool
    ) -> None:
        self._shared = shared
        self._operations = operations
        self._reason = reason
        self._dry_run = dry_run
        self._as_json = as_json

    def all(self, rows: tuple[int, ...]) -> int:
        """Undo these rows, the newest first. If one is refused, the others are still undone."""
        results: list[dict[str, Any]] = []
        refused: list[ShithubdError] = []
        code = EXIT_OK
        try:
            for row in sorted(set(rows), reverse=True):
                try:
                    code = self._one(row, results, alone=len(set(rows)) == 1) or code
                except (Refused, NoSuchRow) as error:
                    refused.append(error)
                if code == EXIT_DETACHED:
                    break
        finally:
            if self._as_json and results:
                emit(results)
        if refused:
            hardest = Refused if any(isinstance(error, Refused) for error in refused) else NoSuchRow
            raise hardest(*(text for error in refused for text in error.args))
        return code

    def _one(self, row: int, results: list[dict[str, Any]], *, alone: bool) -> int:
        found = record.shown(self._operations, row)
        if found is None:
            raise NoSuchRow(no_such(row))
        if found["hold"] is not None:
            if not alone:
                raise Refused(f"audit row {row} ({what(found)}) is about a hold: undo it in a command of its own")
            return self._hold(found)
        if found["final"] is not None:
            raise Refused(f"audit row {row} ({what(found)}) cannot be undone: {found['final']}")
        result: dict[str, Any] = {
            **{"audit": row, "dry_run": self._dry_run, "undo": None, "restored": 0, "unchanged": 0},
            **{"left": {}, "parked": [], "examples": []},
        }
        results.append(result)
        try:
            for _ in follow("restored", self._steps(row, result)):
                if self._shared.deadline.over:
                    raise TimedOut("time is over")
        except KeyboardInterrupt:
            say(f"interrupted; {self._so_far(row, found, result)}")
            return EXIT_DETACHED
        except TimedOut as error:
            error.args = (*error.args, self._so_far(row, found, result))
            raise
        except Exception as error:
            error.add_note(self._so_far(row, found, result))
            raise
        return self._told(found, result)

    def _steps(self, row: int, result: dict[str, Any]) -> Iterator[int]:
        """Each transaction adds to the result. Yields how many jobs are restored so far."""
        steps = (
            record.would_undo(self._operations, row)
            if self._dry_run
            else record.undo(self._operations, row, self._operations.actor, self._reason)
        )
        for step in steps:
            result["undo"] = step.undo or result["undo"]
            result["restored"] += step.restored
            result["unchanged"] += sum(why == record.UNCHANGED for why in step.left.values())
            result["left"] |= {job: why for job, why in step.left.items() if why != record.UNCHANGED}
            result["parked"] = sorted({*result["parked"], *step.parked})
            result["examples"] = [*result["examples"], *step.examples][:3]
            yield result["restored"]

    def _so_far(self, row: int, found: dict[str, Any], result: dict[str, Any]) -> str:
        """A true account after a break, even if nobody knows whether the last batch was committed."""
        if self._dry_run:
            return "nothing was changed"
        again = f"go on with {self._shared.command('audit', 'undo', str(row))}"
        with suppress(Exception):  # the server may be away
            now = record.shown(self._operations, row)
            if now is not None:
                return f"{now['undone']:,} of the {found['jobs']:,} jobs of audit row {row} are undone now: {again}"
        return f"at least {result['restored']:,} of the {found['jobs']:,} jobs of audit row {row} are restored: {again}"

    def _told(self, found: dict[str, Any], result: dict[str, Any]) -> int:
        left = result["left"]
        if not self._as_json:
            would = "would restore" if self._dry_run else "restored"
            line(f"{would} {result['restored']:,} job(s) of audit row {found['id']} ({what(found)})")
            for example in result["examples"]:
                line(f"  job {example['id']}: {example['changes'] or 'as before'}")
            if result["unchanged"]:
                line(f"{result['unchanged']:,} job(s) are already as they were")
            if self._dry_run:
                line(f"SQL: {_statement(self._operations, found['id'])}")
            if result["undo"]:
                line(f"undo: {self._shared.command('audit', 'undo', str(result['undo']))}")
        for kind in result["parked"]:
            say(
                f"some of the jobs were paused, and are so again, but no pause of kind {kind} stands: to queue them,"
                f" {resume_kind.resume_kind_line(self._shared, kind)}"
            )
        if not left:
            return EXIT_OK
        told = [f"job {job} is left alone: {why}" for job, why in list(left.items())[:MOST_LEFT]]
        if len(left) > MOST_LEFT:
            sorts = Counter(why.split(":")[0] for why in left.values())
            of_all = ", ".join(f"{count:,} {sort}" for sort, count in sorts.most_common())
            told.append(f"{len(left):,} jobs are left alone: {of_all}")
        raise Refused(*told)

    def _hold(self, found: dict[str, Any]) -> int:
        """End the hold that a row set, or set the one again that it ended."""
        hold, row = found["hold"], found["id"]
        way = how(self._shared, found)
        if way["undo"] is None and way["over"]:
            return self._say_of_hold(row, f"nothing to undo: {way['final']}", None)
        if way["undo"] is None:
            raise Refused(f"audit row {row} ({what(found)}) cannot be undone: {way['final']}")
        if self._dry_run:
            return self._say_of_hold(row, f"would do the same as: {way['command']}", way["command"])
        scope, reason = Scope(hold["scope"], hold["target"]), self._reason or f"undo of audit row {row}"
        if not hold["set"]:
            return self._set_again(scope, hold, reason)
        ended = self._operations.undo_hold(row, reason)
        if ended is None:
            raise Refused(f"audit row {row} ({what(found)}) is not undone: somebody has just changed or ended the hold")
        if scope.scope == "kind":
            return resume_kind.put_back(self._shared, self._operations, scope.target, ended, as_json=self._as_json)
        drain.tell_ended([ended], as_json=self._as_json)
        return EXIT_OK

    def _say_of_hold(self, row: int, text: str, command: str | None) -> int:
        if self._as_json:
            emit({"audit": row, "dry_run": self._dry_run, "command": command, "told": text})
        else:
            line(text)
        return EXIT_OK

    def _set_again(self, scope: Scope, hold: dict[str, Any], reason: str) -> int:
        reason = hold["reason"] or reason
        until = None if hold["until"] is None else datetime.fromisoformat(hold["until"])
        with saying_if_held(self._operations):
            if scope.scope == "kind":
                made = self._operations.pause_kind(scope.target, reason, until)
            else:
                made = self._operations.drain(scope, reason, until)
        end = _end(self._shared, scope)
        return see_through(self._shared, self._operations, scope, made, wait=False, as_json=self._as_json, undo=end)


def no_such(row: int) -> str:
    """No row has this id."""
    return f"no audit row {row}: see `shithubd-worker audit`"


def what(row: dict[str, Any]) -> str:
    """What a row changed: `discard 3 jobs`, `pause kind search.reindex`, `undo of 7: 3 jobs`."""
    of = f"{row['jobs']:,} jobs" if row["target"] == "jobs" else row["target"]
    return f"undo of {row['undoes']}: {of}" if row["action"] == "undo" else f"{row['action']} {of}"


def how(shared: Shared, found: dict[str, Any]) -> dict[str, Any]:
    """How to undo a row: `undo`, the command; or `final`, why it can't be undone. For a hold also `command`, which does
    the same, and `over`: the hold is already as it was before the row."""
    undo = shared.command("audit", "undo", str(found["id"]))
    if found["hold"] is None:
        return {"undo": None if found["final"] else undo, "final": found["final"]}
    hold, later = found["hold"], found["hold"]["after"]
    scope = Scope(hold["scope"], hold["target"])
    over, why = False, None
    if found["action"] == "expire":
        why = "the hold ended because its time or its ramp was over, or because its worker was gone"
    elif hold["set"] and hold["before"]:
        why = f"it changed the hold of audit row {hold['before']}. To end that hold: {_end(shared, scope)}"
    elif hold["set"] and not hold["stands"]:
        over = later is None or later["action"] in ("resume", "expire")
        why = "the hold is over" if over else f"audit row {later['id']} has changed the hold"
    elif not hold["set"] and hold["stands"]:
        over, why = True, f"{scope} is held again"
    elif not hold["set"] and hold["until"] and datetime.fromisoformat(hold["until"]) <= datetime.now(UTC):
        over, why = True, f"the hold was to end at {hold['until']}"
    command = _end(shared, scope) if hold["set"] else _set(shared, scope, hold)
    return {"undo": None if why else undo, "final": why, "command": command, "over": over}


def _end(shared: Shared, scope: Scope) -> str:
    return (
        resume_kind.resume_kind_line(shared, scope.target)
        if scope.scope == "kind"
        else drain.resume_line(shared, scope)
    )


def _set(shared: Shared, scope: Scope, hold: dict[str, Any]) -> str:
    """The command that sets a hold again."""
    told = [
        *(["--reason", hold["reason"]] if hold["reason"] else []),
        *(["--until", hold["until"]] if hold["until"] else []),
    ]
    if scope.scope == "kind":
        return resume_kind.kind_line(shared, "pause-kind", scope.target, told)
    return shared.command("drain", *([] if scope.scope == "fleet" else [f"--{scope.scope}", scope.target]), *told)


def _statement(operations: Operations, row: int) -> str:
    """The same in SQL."""
    from psycopg import sql

    called = sql.SQL("SELECT * FROM {}({})").format(sql.Identifier(operations.schema, "undo_jobs"), row)
    return called.as_string(operations.connection)
