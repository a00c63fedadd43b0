"""audit timeline: what happened, as Markdown for the channel of an incident."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import click

from shithubd_worker.cli import ramping
from shithubd_worker.cli.common import Shared, json_option, moment, with_database
from shithubd_worker.cli.deadline import LOOK_SECONDS, within
from shithubd_worker.cli.markup import code, harmless
from shithubd_worker.cli.screen import emit, line, say
from shithubd_worker.cli.told import how_much, until
from shithubd_worker.errors import EXIT_OK
from shithubd_worker.host import shipped

if TYPE_CHECKING:
    from shithubd_worker.admin.timeline import Event

OLDEST = "2h"
# The alert whose page helps with a sort of event, or with an action of an operator. `resume` and `expire` (the end that
# --until gave, or the end of a ramp) have the page of what they end.
ALERTS = {
    "pause": "KindPausedTooLong",
    "ramp": "KindPausedTooLong",
    "stop": "KindRampStopped",
    "drain": "HoldTooLong",
    "complete": "JobsFailedForGood",
    "fail": "JobsFailedForGood",
    "retry": "JobsFailedForGood",
    "discard": "JobsFailedForGood",
    "reschedule": "QueueOldestAgeHigh",
    "release": "JobOverRuntime",
    "unlock": "ExpiredLeases",
    "sweep": "ExpiredLeases",
    "failed": "JobsFailedForGood",
    "poison": "PoisonJobs",
    "crashed": "WorkerDown",
    "lease_lost": "FencedWrites",
    "started": "WorkerCrashLooping",
    "silent": "WorkerDown",
}
_ENDED = {
    "failed": "failed for good",
    "poison": "failed as poison",
    "crashed": "returned, because their worker died or did not renew the lease",
    "lease_lost": "ended after their lease was lost",
}


@click.command()
@with_database
@within(LOOK_SECONDS)
@click.option(
    "--since",
    metavar="TIME|DURATION",
    default=OLDEST,
    help="Begin at this time, or before this duration: 2026-11-22T18:00:00Z (UTC without a zone), or 2h."
    f"  [default: {OLDEST}]",
)
@click.option(
    "--until", "end", metavar="TIME|DURATION", help="End at this time, or before this duration.  [default: now]"
)
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    metavar="NUMBER",
    default=200,
    show_default=True,
    help="At most this many changes, and as many events of each other sort: the newest.",
)
@json_option
def timeline(shared: Shared, since: str, end: str | None, limit: int, *, as_json: bool) -> int:
    """Print what happened, as Markdown for an incident's channel.

    One line for each change by an operator: when (UTC), who, what, until when, why, and whether it was undone. Between
    them stand jobs that failed for good or lost their worker (how many of each kind, minute by minute) and workers that
    started. Without --until, holds that stand now and workers that are silent now follow.

    An event links to the runbook page of its alert. The name of an alert in a reason is a link, too. Other text of
    people makes no link, and calls nobody. In a longer window, the minutes become hours or days.

    It reads the days of the history that the window touches. If there is more than --limit, it leaves out the oldest
    events, and says so. This changes nothing.

    With --json it prints an array of events. Each has at, sort, alert and runbook.

    \b
    Examples:
      shithubd-worker audit timeline --since 2h
      shithubd-worker audit timeline --since 3h --until 1h
    """
    from shithubd_worker.admin.timeline import look

    operations = shared.operations()
    now = operations.now()
    begins, before = _past(now, since), now if end is None else _past(now, end)
    if begins >= before:
        raise click.UsageError("--since is not before --until")
    found = look(operations, begins, before, limit, now=end is None)
    cut = f"only the newest {limit} events of a sort are shown: more with --limit, or with a later --since"
    if as_json:
        emit([_as_object(event) for event in (*found.events, *found.now)])
        if found.cut:
            say(cut)
        return EXIT_OK
    with_day = begins.date() != before.date()
    line(f"## shithubd-worker: {_time(begins, day=True)} to {_time(before, day=with_day)} UTC")
    line()
    if found.cut:
        line(f"*{cut}*")
        line()
    for event in found.events:
        line(f"- {_time(datetime.fromisoformat(event['at']), day=with_day)} {_told(event)}{_linked(event)}")
    if not found.events:
        line("- nothing that the database knows of")
    if end is None:
        line()
        line("Now:")
        line()
        for event in found.now:
            line(f"- {_told(event)}{_linked(event)}")
        if not found.now:
            line("- nothing is held, and no worker is silent")
    return EXIT_OK


@cache
def pages() -> dict[str, str]:
    """The page of each alert, as the rules of the alerts name it."""
    rules = (shipped.RUNBOOKS / "alerts.rules.yml").read_text(encoding="utf-8")
    return {found[2]: found[1] for found in re.finditer(r"runbook_url: (\S+/(\w+)\.md)$", rules, re.MULTILINE)}


def alert(event: Mapping[str, Any]) -> str | None:
    """The alert whose page helps with an event."""
    sort = event["action"] if event["sort"] == "change" else event["sort"]
    if sort == "held" and event["ramp"] and event["ramp"]["state"] == "stopped":
        sort = "stop"
    if sort in ("drain", "resume", "expire", "held"):
        scope = event["scope"] if sort == "held" else str(event["target"]).partition(" ")[0]
        if scope == "fleet":
            return "FleetHoldTooLong"
        sort = "pause" if scope == "kind" else "drain"
    return ALERTS.get(sort)


def reason(text: str | None) -> str:
    """A reason behind a colon. The name of an alert in it is a link to its page."""
    if not text:
        return ""
    parts = re.split(rf"\b({'|'.join(pages())})\b", harmless(text))
    told = [_page(part) if odd % 2 else code(part) for odd, part in enumerate(parts) if part.strip()]
    return f": {' '.join(told)}"


def _as_object(event: Event) -> Event:
    """An event for --json: the end of a hold in place of the record's `detail`, the alert and its page."""
    ends = {"until": until(event)} if "detail" in event else {}
    rest = {name: value for name, value in event.items() if name != "detail"}
    return {**rest, **ends, "alert": alert(event), "runbook": pages().get(alert(event) or "")}


def _told(event: Event) -> str:
    if event["sort"] == "change":
        marks = ", ".join([f"audit {event['id']}", *([_undone(event)] if event["undone_by"] else [])])
        end = f" until {ends:%Y-%m-%d %H:%M}" if (ends := until(event)) else ""
        told = f"{code(event['actor'])} {code(event['action'])} {how_much(event, code)}{end}"
        return f"{told}{reason(event['reason'])} ({marks})"
    if event["sort"] == "held":
        scope = code(" ".join(filter(None, (event["scope"], event["target"]))))
        end = f" until {_time(datetime.fromisoformat(event['until']), day=True)}" if event["until"] else ""
        since = _time(datetime.fromisoformat(event["created"]), day=True)
        steps = f"; ramp: {harmless(ramping.now(event['ramp']))}" if event["ramp"] else ""
        return f"{scope} is held since {since}{end} by {code(event['actor'])}{reason(event['reason'])}{steps}"
    if event["sort"] == "silent":
        return f"worker {_worker(event)} is silent"
    if event["sort"] == "started":
        if event["workers"] == 1:
            return f"worker {_worker(event)} started"
        return f"{event['workers']:,} workers started on {code(str(event['host']))}, the first is {_worker(event)}"
    last = "" if event["jobs"] == 1 else f", the last at {_time(datetime.fromisoformat(event['last']), day=False)}"
    which = f"job {event['job']}" if event["jobs"] == 1 else f"{event['jobs']:,} jobs"
    return f"{which} of {code(event['kind'])} {_ENDED[event['sort']]}{last}"


def _worker(event: Event) -> str:
    unit = f" ({code(event['unit'])})" if event["unit"] else ""
    return f"{code(event['leased_by'])}{unit}"


def _undone(event: Event) -> str:
    by = ", ".join(map(str, event["undone_by"]))
    return f"undone by {by}" if event["undone"] or not event["jobs"] else f"undone by {by}, and done again"


def _linked(event: Event) -> str:
    name = alert(event)
    return f" {_page(name)}" if name else ""


def _page(name: str) -> str:
    return f"[{name}]({pages()[name]})"


def _past(now: datetime, text: str) -> datetime:
    when = moment(text)
    return now - when if isinstance(when, timedelta) else when


def _time(when: datetime, *, day: bool) -> str:
    return f"{when:%Y-%m-%d %H:%M:%S}" if day else f"{when:%H:%M:%S}"
