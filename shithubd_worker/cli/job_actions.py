"""jobs complete, fail, reschedule, retry, discard, release: one table, and one function that makes the commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from shithubd_worker.cli.change import How, change_jobs
from shithubd_worker.cli.choosing import ids_argument, selection_options
from shithubd_worker.cli.common import Duration, Shared, due, json_option, reason_option, with_database
from shithubd_worker.cli.deadline import CHANGE_SECONDS, within
from shithubd_worker.cli.planning import plan_for, plan_options
from shithubd_worker.errors import Refused

if TYPE_CHECKING:
    from shithubd_worker.database.operations import Operations

# A selection of a million jobs takes the database longer than another question.
ANSWER_SECONDS = 600.0

Given = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Action:
    """A command that changes jobs. `states` are those that its selection can name; `usual` is what the selection says
    unless the operator says otherwise. `values` makes of the command's own options what the action needs."""

    name: str
    help: str
    states: tuple[str, ...] = ("queued", "paused", "failed")
    usual: Mapping[str, str] = field(default_factory=dict)
    options: tuple[Callable[[Any], Any], ...] = ()
    values: Callable[[Operations, Given], dict[str, object]] = lambda _operations, _given: {}
    check: Callable[[Given], None] = lambda _given: None


def _number(flag: str, least: int, most: int, text: str) -> Callable[[Any], Any]:
    return click.option(flag, type=click.IntRange(least, most), metavar="NUMBER", help=text)


def _reschedule_check(given: Given) -> None:
    due(given["run_at"], given["delay"])
    if all(given[name] is None for name in ("run_at", "delay", "priority", "attempts", "max_attempts")):
        raise click.UsageError("change what? give --run-at, --delay, --priority, --attempts or --max-attempts")


def _reschedule_values(operations: Operations, given: Given) -> dict[str, object]:
    at = due(given["run_at"], given["delay"])
    if given["delay"] is not None:
        at = operations.now() + timedelta(seconds=given["delay"])
    values = {name: given[name] for name in ("priority", "attempts", "max_attempts") if given[name] is not None}
    return values if at is None else {**values, "run_at": at.isoformat()}


def _fail_check(given: Given) -> None:
    if not (given["message"] or given["reason"]):
        raise click.UsageError("why did they fail? give --message TEXT, or --reason TEXT")


def _release_check(given: Given) -> None:
    if given["accept_second_run"] and not given["reason"]:
        raise Refused("releasing a job whose worker may live needs a --reason")


ACTIONS = (
    Action(
        "complete",
        """End jobs that need not run any more, as done.

        Somebody did by hand what the job was for, for example. The jobs leave the queue, and stand in the history as
        completed, with their payload, for 90 days. A running job is left alone. To undo it: `audit undo`; the command
        prints that line.

        \b
        Exit codes:
          0    all are completed, or the selection found none
          1    there is no job with one of these ids
          4    --timeout is over, or another session holds a lock; the message
               says how far it came
          5    one of them is not completed: it is running, or the database refuses
               it; or a selection needs --yes
          130  you pressed Ctrl-C; the message says how far it came

        \b
        Examples:
          shithubd-worker jobs complete 41 --reason "delivered by hand"
          shithubd-worker jobs complete --kind mail.send --older-than 30d --dry-run
        """,
    ),
    Action(
        "fail",
        """Make jobs failed for good: they will not run.

        The jobs stay in the queue as failed, until somebody retries or discards them. Their attempts are used up. A
        running job is left alone. To undo it: `audit undo`; the command prints that line.

        \b
        Exit codes:
          0    all have failed now, or the selection found none
          1    there is no job with one of these ids
          4    --timeout is over, or another session holds a lock; the message
               says how far it came
          5    one of them has not failed: it is running, or the database refuses
               it; or a selection needs --yes
          130  you pressed Ctrl-C; the message says how far it came

        \b
        Examples:
          shithubd-worker jobs fail 42 --message "the customer is gone"
          shithubd-worker jobs fail --payload '{"to": "ada"}' --message "no" --yes
        """,
        options=(
            click.option(
                "--message", metavar="TEXT", help="The last error of the jobs.  [default: the text of --reason]"
            ),
        ),
        values=lambda _, given: {"error": given["message"] or given["reason"]},
        check=_fail_check,
    ),
    Action(
        "reschedule",
        """Change when and how often jobs run.

        What you do not name stays as it is. A failed job is queued again, and its crashes are forgotten. It keeps its
        attempts: if they are used up, it runs once more. A paused job stays paused, and a running job is left alone. To
        undo it: `audit undo`; the command prints that line.

        \b
        Exit codes:
          0    all are rescheduled, or the selection found none
          1    there is no job with one of these ids
          4    --timeout is over, or another session holds a lock; the message
               says how far it came
          5    one of them is not rescheduled: it is running, or the database
               refuses it; or a selection needs --yes
          130  you pressed Ctrl-C; the message says how far it came

        \b
        Examples:
          shithubd-worker jobs reschedule 43 --delay 2h --priority 5
          shithubd-worker jobs reschedule 44 --run-at 2030-01-01T06:00:00Z
          shithubd-worker jobs reschedule 44 --attempts 0 --max-attempts 5
        """,
        options=(
            click.option("--run-at", metavar="TIME", help="Not before this time (UTC if it names no zone)."),
            click.option(
                "--delay", type=Duration(), metavar="DURATION", help="Not before this time from now: 15m, 2h."
            ),
            _number("--priority", -32768, 32767, "The order within the kind: a lower number runs first."),
            _number("--attempts", 0, 2**31 - 1, "How many attempts they have used."),
            _number("--max-attempts", 1, 2**31 - 1, "After so many attempts they fail for good."),
        ),
        values=_reschedule_values,
        check=_reschedule_check,
    ),
    Action(
        "retry",
        """Retry failed jobs, and run postponed jobs now.

        The jobs go back into the queue, and are due. A failed job starts again with its first attempt, and its crashes
        are forgotten. A selection means failed jobs, unless you give --state. A running or paused job is left alone. To
        undo it before they run: `audit undo`; the command prints that line.

        \b
        Exit codes:
          0    all are retried, or the selection found none
          1    there is no job with one of these ids
          4    --timeout is over, or another session holds a lock; the message
               says how far it came
          5    one of them is not retried: it is running or paused, or the database
               refuses it; or a selection needs --yes
          130  you pressed Ctrl-C; the message says how far it came

        \b
        Examples:
          shithubd-worker jobs retry 42 43
          shithubd-worker jobs retry --kind mail.send --error "503" --limit 10 --yes
        """,
        states=("failed", "queued"),
        usual={"state": "failed"},
    ),
    Action(
        "discard",
        """Remove jobs that must not run: failed, queued or paused ones.

        The history keeps them for 90 days, and `jobs show` shows the payload. A running job is left alone. To undo it:
        `audit undo`; the command prints that line.

        \b
        Exit codes:
          0    all are discarded, or the selection found none
          1    there is no job with one of these ids
          4    --timeout is over, or another session holds a lock; the message
               says how far it came
          5    one of them is not discarded: it is running, or the database refuses
               it; or a selection needs --yes
          130  you pressed Ctrl-C; the message says how far it came

        \b
        Examples:
          shithubd-worker jobs discard 44 --reason "repository was deleted"
          shithubd-worker jobs discard --kind mail.send --older-than 30d --yes
          shithubd-worker jobs discard --kind mail.send --plan --expires 2h
        """,
    ),
    Action(
        "release",
        """Return the jobs of a dead worker to the queue.

        You need not wait until their leases expire. The job can run again at once, and loses no attempt. Its former
        worker is fenced off: it can settle the job no more. While that worker sends heartbeats, the command refuses. A
        selection means only jobs of dead workers. You cannot undo it.

        \b
        Exit codes:
          0    all are released, or the selection found none
          1    there is no job with one of these ids
          4    --timeout is over, or another session holds a lock; the message
               says how far it came
          5    one of them is not released: it is not running, or its worker lives;
               or --accept-second-run has no --reason; or a selection needs
               --yes
          130  you pressed Ctrl-C; the message says how far it came

        \b
        Examples:
          shithubd-worker jobs release 42 --reason "web3 burned down"
          shithubd-worker jobs release --kind search.reindex --dry-run
        """,
        states=("processing",),
        options=(
            click.option(
                "--accept-second-run",
                is_flag=True,
                help="Release the jobs even if their workers live. Such a worker may go on with the effects of its job."
                " Needs --reason.",
            ),
        ),
        values=lambda _, given: {"accept_second_run": True} if given["accept_second_run"] else {},
        check=_release_check,
    ),
)


def command(action: Action) -> click.Command:
    """The command of an action."""

    @with_database
    @within(CHANGE_SECONDS, answer=ANSWER_SECONDS)
    @ids_argument(action.states)
    @selection_options(action.states)
    @click.option(
        "--limit", type=click.IntRange(1, 2**63 - 1), metavar="NUMBER", help="At most so many jobs: the lowest ids."
    )
    @click.option("--yes", is_flag=True, help="Change the selected jobs without a question. Scripts need it.")
    @click.option("--dry-run", is_flag=True, help="Show which jobs it would change, and the SQL. It changes nothing.")
    @plan_options
    @reason_option
    @json_option
    def run(
        shared: Shared,
        ids: tuple[int, ...],
        where: dict[str, object],
        limit: int | None,
        *,
        yes: bool,
        dry_run: bool,
        plan: bool,
        expires: float | None,
        as_json: bool,
        **given: Any,
    ) -> int:
        from shithubd_worker.admin.change import Change

        if ids and (where or limit):
            raise click.UsageError("give ids or a selection, not both")
        if not ids and not where:
            raise click.UsageError("which jobs? give their ids, or --kind, --state, --error, --older-than or --payload")
        until = plan_for(plan=plan, expires=expires, dry_run=dry_run)
        action.check(given)
        operations = shared.operations()
        change = Change(
            action.name,
            operations.actor,
            given["reason"],
            action.values(operations, given),
            {} if ids else {**action.usual, **where},
        )
        how = How(limit, until, yes, dry_run, as_json)
        return change_jobs(shared, operations, change, tuple(dict.fromkeys(ids)), how)

    for option in action.options:
        run = option(run)
    return click.command(action.name, help=action.help)(run)
