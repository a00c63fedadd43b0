"""stats, kinds, queues: what each kind did lately, who works on it, and how long its backlog will take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from shithubd_worker.cli.common import GroupWithDefault, Shared, check_kind, completed, json_option, with_database
from shithubd_worker.cli.deadline import LOOK_SECONDS, within
from shithubd_worker.cli.screen import emit, line
from shithubd_worker.errors import EXIT_OK

WINDOWS = ("5m", "1h", "24h")
MOST_KINDS = 50
# What comes first, of an object and one of its windows. What has no figure comes last.
ORDERS: dict[str, Callable[[dict[str, Any], dict[str, Any]], float | None]] = {
    "backlog": lambda kind, _: kind["backlog"],
    "done": lambda kind, _: kind["backlog_seconds"],
    "rate": lambda _, window: window["per_second"],
    "failures": lambda _, window: window["failures"],
    "wait": lambda _, window: window["wait"]["p95"],
    "run": lambda _, window: window["run"]["p95"],
    "kind": lambda _kind, _window: 0.0,
}

all_kinds_option = click.option(
    "--all-kinds", is_flag=True, help="Name all kinds. Otherwise only the largest and the most urgent ones."
)
kind_argument = click.argument("kind", required=False, shell_complete=completed("kind"))


@click.command()
@with_database
@within(LOOK_SECONDS)
@kind_argument
@click.option(
    "--window",
    type=click.Choice([*WINDOWS, "all"]),
    default="5m",
    show_default=True,
    help="The last 5 minutes, hour or day, or all three.",
)
@click.option("--sort", type=click.Choice([*ORDERS]), default="backlog", show_default=True, help="What comes first.")
@all_kinds_option
@json_option
def stats(shared: Shared, kind: str | None, window: str, sort: str, *, all_kinds: bool, as_json: bool) -> int:
    """Show what each kind did, and when its backlog is done.

    For each kind the command shows how many jobs ended well per second, and how many runs failed. "wait" is how long
    jobs waited until a worker had them, "run" how long they ran. "backlog" is how many jobs could run now. "done in" is
    how long these take, if nothing arrives. For that it takes the rate of the shortest window in which a job left the
    queue. If 20 or more left in it, the rate counts from the first of them: a worker may have begun a minute ago.
    "unknown" means: none did in 24 hours.

    p50/95/99 means: that part of the jobs took no longer. These times are at most 10 % wrong. A retry, a crash and a
    job that failed for good all count as failed runs. A window begins with a minute, ten minutes or an hour. So "5m"
    has 5 to 6 minutes. Workers write their figures every few seconds: the last 10 s may be missing. Kinds whose
    finished jobs are not kept count, too. A worker that was killed takes the figures of its last seconds with it.

    If there are more than 50 kinds, the command names the largest and the most urgent ones, and sums up the others.
    KIND shows one kind, --all-kinds shows all. The backlog is counted exactly up to two million jobs. Other counts of a
    long queue stop early. A figure with a + is a lower bound, and --json names it in "capped". --json always has all
    three windows, and times in seconds. The command changes nothing.

    \b
    Examples:
      shithubd-worker stats
      shithubd-worker stats search.reindex --window all
      shithubd-worker stats --window 1h --sort failures
      shithubd-worker stats --json | jq '.kinds[] | {kind, backlog_seconds}'
    """
    found = _wanted(shared.operations().stats, kind, all_kinds=all_kinds)
    first = WINDOWS[0] if window == "all" else window
    kinds = _sorted([each for each in found if each["kind"] is not None], sort, first)
    more = next((each for each in found if each["kind"] is None), None)
    if as_json:
        emit({"kinds": kinds, "more_kinds": more})
    else:
        from shithubd_worker.cli import figures

        figures.summary(found)
        figures.stats(kinds, more, WINDOWS if window == "all" else (window,))
        _say_if_none(kind, found)
    return EXIT_OK


@click.group(cls=GroupWithDefault, default="list", no_args_is_help=False)
def kinds() -> None:
    """List the kinds, and who works on them.

    `kinds` is short for `kinds list`.

    \b
    Examples:
      shithubd-worker kinds
      shithubd-worker kinds list search.reindex
    """


@kinds.command("list")
@with_database
@within(LOOK_SECONDS)
@kind_argument
@all_kinds_option
@json_option
def list_kinds(shared: Shared, kind: str | None, *, all_kinds: bool, as_json: bool) -> int:
    """List the kinds, and who works on them.

    For each kind the command shows its living workers and their hosts, and its jobs in each state. "ok/s" is how many
    ended well per second in the last 5 minutes. Below stands who paused a kind and why, and its ramp. `stats` explains
    the figures, and --json has all those of `stats`. The command changes nothing.

    \b
    Examples:
      shithubd-worker kinds
      shithubd-worker kinds list search.reindex
      shithubd-worker kinds --json | jq '.kinds[] | select(.workers == 0) | .kind'
    """
    found = _wanted(shared.operations().kind_list, kind, all_kinds=all_kinds)
    named = [each for each in found if each["kind"] is not None]
    more = next((each for each in found if each["kind"] is None), None)
    if as_json:
        emit({"kinds": named, "more_kinds": more})
    else:
        from shithubd_worker.cli import figures

        figures.kinds(named, more)
        _say_if_none(kind, found)
    return EXIT_OK


@click.group(cls=GroupWithDefault, default="list", no_args_is_help=False)
def queues() -> None:
    """List the serial queues.

    A serial queue is a name whose jobs run one after another. This release has none. `queues` is short for `queues
    list`.

    \b
    Examples:
      shithubd-worker queues
    """


@queues.command("list")
@with_database
@within(LOOK_SECONDS)
@json_option
def list_queues(shared: Shared, *, as_json: bool) -> int:
    """List the serial queues.

    A serial queue is a name whose jobs run one after another. This release has none, so the list is empty, and --json
    prints []. The jobs of all kinds run side by side. To let one kind run one job at a time, start one worker for it.
    The command changes nothing.

    \b
    Examples:
      shithubd-worker queues list
      shithubd-worker kinds
    """
    shared.operations()  # a wrong database is an error all the same
    if as_json:
        emit([])
    else:
        line("no serial queues: this release has none. For the kinds: shithubd-worker kinds")
    return EXIT_OK


COMMANDS = (stats, kinds, queues)


def _wanted(
    ask: Callable[[str | None, int | None], list[dict[str, Any]]], kind: str | None, *, all_kinds: bool
) -> list[dict[str, Any]]:
    if kind is not None:
        check_kind(kind)
        if all_kinds:
            raise click.UsageError("KIND can't be combined with --all-kinds")
    return ask(kind, None if all_kinds or kind is not None else MOST_KINDS)


def _sorted(kinds: list[dict[str, Any]], sort: str, window: str) -> list[dict[str, Any]]:
    def place(kind: dict[str, Any]) -> tuple[float, str]:
        figure = ORDERS[sort](kind, kind["windows"][window])
        return (1.0 if figure is None else -figure, kind["kind"])

    return sorted(kinds, key=place)


def _say_if_none(kind: str | None, found: list[dict[str, Any]]) -> None:
    if not found:
        line(
            "no kinds: no job, no pause and no worker names one"
            if kind is None
            else f"kind {kind}: it has no jobs, no pause and no worker, and it did nothing in 24 hours"
        )
