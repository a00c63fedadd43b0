"""How a command changes jobs: it finds them, shows them and asks; then it does the work and tells what was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from shithubd_worker.cli.account import Account
from shithubd_worker.cli.certainty import follow
from shithubd_worker.cli.choosing import show, tell_left_alone
from shithubd_worker.cli.planning import write_plan
from shithubd_worker.cli.screen import answer, emit, line, meanwhile, say
from shithubd_worker.errors import EXIT_DETACHED, EXIT_OK, Refused, TimedOut

if TYPE_CHECKING:
    from shithubd_worker.admin.change import Change, Preview
    from shithubd_worker.cli.common import Shared
    from shithubd_worker.database.operations import Operations


class How(NamedTuple):
    """The switches of a command that changes jobs, its --limit, and after how many seconds the wanted plan expires."""

    limit: int | None
    plan_for: float | None
    yes: bool
    dry_run: bool
    as_json: bool


def change_jobs(shared: Shared, operations: Operations, change: Change, ids: Sequence[int], how: How) -> int:
    """Do what the command line says, to these ids or to the jobs of the change's selection."""
    from shithubd_worker.admin.change import DONE

    if how.plan_for is not None:
        return write_plan(shared, operations, change, ids, how.limit, expires_in=how.plan_for, as_json=how.as_json)
    found = choose(operations, change, ids, how.limit, look=how.dry_run)
    if how.dry_run:
        if how.as_json:
            emit(preview_object(found))
        else:
            show(found, DONE[change.action], line)
        return EXIT_OK
    if not ids:
        tell = meanwhile(as_json=how.as_json)
        if found.ids and not how.yes:
            show(found, DONE[change.action], tell)
            _ask()
        else:
            tell_left_alone(found, tell)
    return carry_out(shared, operations, found, named=bool(ids), as_json=how.as_json)


def choose(operations: Operations, change: Change, ids: Sequence[int], limit: int | None, *, look: bool) -> Preview:
    """The jobs that are meant. Given ids are looked at only with `look`; else the change itself says what is wrong with
    them."""
    from shithubd_worker.admin.change import Preview, preview

    if not ids:
        return preview(operations, change, limit)
    if not look:
        return Preview(sorted(ids), [], "", change, {})
    found = preview(operations, replace(change, selection={"ids": [*ids]}))
    if missing := len(ids) - len(found.ids) - sum(found.left_alone.values()):
        found.left_alone["missing"] = missing
    return found


def preview_object(found: Preview) -> dict[str, object]:
    """A preview as JSON."""
    return {
        "action": found.change.action,
        "dry_run": True,
        "count": len(found.ids),
        "examples": found.examples,
        "left_alone": found.left_alone,
        "statement": found.statement,
    }


def carry_out(shared: Shared, operations: Operations, found: Preview, *, named: bool, as_json: bool) -> int:
    """Change these jobs, and tell what was done: also after Ctrl-C, at the end of --timeout, and after a fault."""
    from shithubd_worker.admin.change import DONE, change_batch
    from shithubd_worker.admin.work import Work

    work = Work(operations, partial(change_batch, operations, found.change), found.ids, say)
    account = Account(shared, found.change.action, work, named=named, as_json=as_json)
    try:
        for tried in follow(DONE[found.change.action], work.go_on(), len(found.ids)):
            if shared.deadline.over and tried < len(found.ids):
                raise TimedOut("--timeout is over")
    except KeyboardInterrupt:
        account.tell()
        say(f"interrupted: {account.so_far()}")
        return EXIT_DETACHED
    except TimedOut as error:
        account.tell()
        shared.deadline.note(error, operations.schema)
        raise TimedOut(f"{account.so_far()}: {error.args[0]}", *error.args[1:], *account.refusals()) from error
    except Exception as error:
        if work.sums.last or work.unknown:
            account.tell()
            error.add_note(account.so_far())
        raise
    account.tell()
    return account.judged()


def _ask() -> None:
    said = answer("do it?")
    if said is None:
        raise Refused("nothing is changed: no terminal is there to ask you; --yes does it")
    if not said:
        raise Refused("nothing is changed")
