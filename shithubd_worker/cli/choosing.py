"""Which jobs a command means: ids, or a selection. And how a command shows them before it changes them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from shithubd_worker.cli.common import Duration, completed, not_empty
from shithubd_worker.plain import Json, on_one_line

if TYPE_CHECKING:
    from shithubd_worker.admin.change import Preview

F = TypeVar("F", bound=Callable[..., Any])

SHOWN_SQL = 1000  # the statement of 5,000 ids is cut; --json has all of it


class Id(click.IntRange):
    """The id of a job."""

    name = "id"


ID = Id(-(2**63), 2**63 - 1)
# How a preview names the jobs that the change leaves alone.
_LEFT = {"processing": "running", "unchanged": "already so", "missing": "not in the queue"}


def ids_argument(states: Sequence[str]) -> Callable[[F], F]:
    """Any number of ids. A shell completes those of jobs in these states."""
    return click.argument("ids", nargs=-1, type=ID, metavar="[ID...]", shell_complete=completed("job", states))


class Payload(click.ParamType[Json, object]):
    """A JSON object."""

    name = "json"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Json:
        """To its text, checked."""
        from shithubd_worker.payload import check_given

        if isinstance(value, Json):
            return value
        try:
            check_given(str(value))
        except ValueError as error:
            self.fail(str(error))
        return Json(str(value))


def selection_options(states: Sequence[str]) -> Callable[[F], F]:
    """--kind, --state, --error, --older-than and --payload. The command gets them as `where`, a selection
    (job_condition_v1); empty without any of them. `states`: those that --state can name."""

    def decorate(function: F) -> F:
        @click.option(
            "--kind",
            metavar="KIND",
            callback=not_empty,
            shell_complete=completed("kind"),
            help="Only jobs of this kind.",
        )
        @click.option("--state", type=click.Choice(states), help="Only jobs in this state.")
        @click.option(
            "--error", metavar="TEXT", callback=not_empty, help="Only jobs whose last error begins with this text."
        )
        @click.option(
            "--older-than",
            type=Duration(),
            metavar="DURATION",
            help="Only jobs that were created longer ago than this.",
        )
        @click.option(
            "--payload", type=Payload(), metavar="JSON", help="Only jobs whose payload contains this JSON object."
        )
        @wraps(function)
        def wrapped(*given: Any, **options: Any) -> Any:
            where = {name: options.pop(name) for name in ("kind", "state", "error", "older_than", "payload")}
            return function(
                *given, where={name: value for name, value in where.items() if value is not None}, **options
            )

        return wrapped  # type: ignore[return-value]

    return decorate


def selection_words(where: Mapping[str, object]) -> list[str]:
    """The options that give this selection."""
    texts = {name: value.text if isinstance(value, Json) else value for name, value in where.items()}
    if isinstance(seconds := texts.get("older_than"), float):
        texts["older_than"] = f"{seconds:f}".rstrip("0").rstrip(".")
    return [word for name, text in texts.items() for word in (f"--{name.replace('_', '-')}", str(text))]


def job_line(job: dict[str, Any]) -> str:
    """A job on one line: id, state, when it may run, attempts, kind, error. It is cut to the width of the terminal, or
    to 80 columns; `jobs show` shows all of it."""
    error = (job["last_error"] or "").split("\n")[0]
    text = f"{job['id']:>8} {job['state']:<10} {job['run_at'][:19]} {job['attempts']:>3} {job['kind']}  {error}"
    return on_one_line(text)[: shutil.get_terminal_size().columns].rstrip()


def how_many(jobs: int) -> str:
    """A number of jobs, in words."""
    return "1 job" if jobs == 1 else f"{jobs:,} jobs"


def show(found: Preview, done: str, tell: Callable[[str], None]) -> None:
    """Show what a change would do: how many jobs, three of them, what it leaves alone, and the SQL."""
    tell(f"{how_many(len(found.ids))} would be {done}{', for example:' if found.ids else ''}")
    for job in found.examples:
        tell(job_line(job))
    tell_left_alone(found, tell)
    cut = len(found.statement) > SHOWN_SQL
    tell(f"{found.statement[:SHOWN_SQL]} ... (cut: --json has all of it)" if cut else found.statement)


def tell_left_alone(found: Preview, tell: Callable[[str], None]) -> None:
    """Tell how many jobs of the selection a change leaves alone, and why."""
    if found.left_alone:
        parts = (f"{count:,} {_LEFT.get(why, why)}" for why, count in sorted(found.left_alone.items()))
        tell(f"left alone: {', '.join(parts)}")
