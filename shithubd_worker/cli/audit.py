"""audit list, show, undo: what operators changed, and how to take it back. `audit timeline` is in a file of its own."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from shithubd_worker.cli.common import GroupWithDefault, Shared, json_option, moment, reason_option, with_database
from shithubd_worker.cli.deadline import CHANGE_SECONDS, LOOK_SECONDS, within
from shithubd_worker.cli.screen import emit, field, line, say
from shithubd_worker.cli.timeline import timeline
from shithubd_worker.errors import EXIT_OK, NoSuchRow
from shithubd_worker.plain import Json, json_text

if TYPE_CHECKING:
    from shithubd_worker.admin.record import JobChange
    from shithubd_worker.database.operations import Operations

LIST = "list"
FEW = 10
LONGEST_REASON = 100
_id_type = click.IntRange(-(2**63), 2**63 - 1)


@click.group(cls=GroupWithDefault, default=LIST, no_args_is_help=False)
def audit() -> None:
    """See who changed what, and take changes back.

    `audit` alone is short for `audit list`.

    \b
    Examples:
      shithubd-worker audit
      shithubd-worker audit --job 42
      shithubd-worker audit show 7
      shithubd-worker audit undo 7 --dry-run
      shithubd-worker audit timeline --since 2h
    """


@audit.command(LIST)
@with_database
@within(LOOK_SECONDS)
@click.option("--action", metavar="NAME", help="Only this action: complete, undo, pause, drain, resume, ...")
@click.option("--actor", metavar="NAME", help="Only changes by this person, with or without @HOST, or by this login.")
@click.option("--job", type=_id_type, metavar="ID", help="Only changes of this job.")
@click.option(
    "--since",
    metavar="TIME|DURATION",
    help="Only changes since this time, or of this last duration: 2026-11-22T18:00:00Z (UTC without a zone), or 2h.",
)
@click.option("--until", metavar="TIME|DURATION", help="Only changes before this time, or older than this duration.")
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    metavar="NUMBER",
    default=50,
    show_default=True,
    help="At most this many: the newest.",
)
@json_option
def list_rows(
    shared: Shared,
    action: str | None,
    actor: str | None,
    job: int | None,
    since: str | None,
    until: str | None,
    limit: int,
    *,
    as_json: bool,
) -> int:
    """List the changes that operators made. The newest comes last.

    A line has the id, the time (UTC), the actor, the action, what it changed, the reason, and whether it was undone.
    This changes nothing.

    With --json it prints an array. Each row has the columns of the table `audit`. `undone` counts its jobs that are
    undone now, and `undone_by` has the ids of the undos.

    \b
    Examples:
      shithubd-worker audit list --since 2h
      shithubd-worker audit --job 42
      shithubd-worker audit --actor alice --action discard --json
    """
    from shithubd_worker.admin.record import Chosen, listed
    from shithubd_worker.cli.told import steps
    from shithubd_worker.cli.undo import what

    operations = shared.operations()
    chosen = Chosen(action, actor, job, _past(operations, since), _past(operations, until))
    found = listed(operations, chosen, limit)
    if as_json:
        emit(found)
        return EXIT_OK
    for row in found:
        why = f": {row['reason'][:LONGEST_REASON]}" if row["reason"] else ""
        line(f"{row['id']:>6}  {_time(row['at'])}  {row['actor']}  {what(row)}{steps(row)}{why}{_undone(row)}")
    if not found:
        line("no such changes")
    elif len(found) == limit:
        say(f"the newest {limit}: more with --limit")
    return EXIT_OK


@audit.command()
@with_database
@within(LOOK_SECONDS)
@click.argument("row", type=_id_type, metavar="ID")
@click.option("--all", "everything", is_flag=True, help=f"Show all jobs of the change, not only the first {FEW}.")
@json_option
def show(shared: Shared, row: int, *, everything: bool, as_json: bool) -> int:
    """Show one change, its jobs, and how to undo it.

    `actor` is what the caller said. `login`, `application_name` and `client_addr` are what the database itself knows of
    the session. Of each job it shows the columns that the change wrote: the value before and the value after. This
    changes nothing.

    \b
    Exit codes:
      1    the audit record has no row with this id

    \b
    Example:
      shithubd-worker audit show 7
    """
    from shithubd_worker.admin.record import changes, shown
    from shithubd_worker.cli.undo import how, no_such, what

    operations = shared.operations()
    found = shown(operations, row)
    if found is None:
        raise NoSuchRow(no_such(row))
    jobs = changes(operations, row, None if everything else FEW)
    way = how(shared, found)
    if as_json:
        emit({**found, "changes": [_as_object(each) for each in jobs], **way})
        return EXIT_OK
    field("id", found["id"])
    field("at", _time(found["at"]))
    for name in ("actor", "login", "application_name", "client_addr"):
        field(name, found[name] or "")
    field("what", what(found))
    field("reason", found["reason"] or "")
    field("detail", json_text(found["detail"]) if isinstance(found["detail"], Json) else found["detail"])
    count = 0
    for count, job in enumerate(jobs, 1):  # noqa: B007 (the number of the last)
        line(f"  job {job.job}: {job.text or 'as before'}")
    if not count and found["job_ids"]:
        line(f"  jobs {', '.join(map(str, found['job_ids']))}")
    elif count < found["jobs"] and not everything:
        line(f"  ... and {found['jobs'] - count:,} more: --all shows them")
    for name, value in ("undone", _undone(found).strip(" []")), *way.items():
        if value:
            field(name, value)
    return EXIT_OK


@audit.command()
@with_database
@within(CHANGE_SECONDS)
@click.argument("rows", nargs=-1, required=True, type=_id_type, metavar="ID...")
@click.option(
    "--dry-run", is_flag=True, help="Say what would be restored, and why each other job is left. Change nothing."
)
@reason_option
@json_option
def undo(shared: Shared, rows: tuple[int, ...], reason: str | None, *, dry_run: bool, as_json: bool) -> int:
    """Take back a change: restore each untouched job.

    ID is a row of `audit`. A restored job is as it was before the change. A job that was completed or discarded is in
    the queue again, whole, with its old id. The history keeps the row that says how it was ended.

    The command leaves a job alone if it runs now, has run, was changed, or is locked. It says why of each job. A job
    that already is as it was needs nothing, so a second undo changes nothing. The undo has an audit row of its own. To
    undo the undo, give its id.

    Several ids are undone one after the other, the newest first. Large changes are undone in batches. Of a command that
    still runs, the undo takes back what is done so far: stop that command first.

    A row of a pause or a drain: the command ends that hold, if it still stands as the row set it. A row of a resume:
    the command sets the hold again. It then waits until that is certain, as `pause-kind` and `drain` do. A ramp has no
    undo: `pause-kind` holds everything again. The lease that `jobs release` ended cannot be given back.

    \b
    Exit codes:
      0    all of it is restored, or was so already
      1    the audit record has no row with this id
      4    --timeout is over, or another session holds a lock; what is restored
           stays, and the message says how much that is
      5    some jobs are left alone, or the row cannot be undone; the message
           says why
      130  you pressed Ctrl-C; what is restored stays: run it again to go on

    \b
    Examples:
      shithubd-worker audit undo 7 --dry-run
      shithubd-worker audit undo 7 --reason "wrong kind"
    """
    from shithubd_worker.cli.undo import Undo

    return Undo(shared, shared.operations(), reason, dry_run=dry_run, as_json=as_json).all(rows)


audit.add_command(timeline)
COMMANDS = (audit,)


def _undone(row: dict[str, Any]) -> str:
    """Whether the change was undone: wholly, in part, or undone and then done again."""
    if not row["undone_by"]:
        return ""
    by = ", ".join(map(str, row["undone_by"]))
    if row["undone"] == 0:
        return f"  [undone by {by}, and done again]"
    much = "" if row["undone"] >= row["jobs"] else f"{row['undone']:,} of {row['jobs']:,} "
    return f"  [{much}undone by {by}]"


def _as_object(change: JobChange) -> dict[str, Any]:
    return {"id": change.job, "before": change.before, "after": change.after, "changes": change.text}


def _past(operations: Operations, text: str | None) -> datetime | None:
    if text is None:
        return None
    when = moment(text)
    return operations.now() - when if isinstance(when, timedelta) else when


def _time(text: str) -> str:
    return text[:19].replace("T", " ")
