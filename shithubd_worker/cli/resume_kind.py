"""resume-kind: start one kind again, at once or in steps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from shithubd_worker.cli import ramping
from shithubd_worker.cli.certainty import SKIPPED, as_json_object, follow
from shithubd_worker.cli.common import (
    Duration,
    Shared,
    check_kind,
    completed,
    json_option,
    reason_option,
    with_database,
)
from shithubd_worker.cli.deadline import CHANGE_SECONDS, within
from shithubd_worker.cli.holding import known_kind, saying_if_held, until_moment
from shithubd_worker.cli.screen import emit, line, meanwhile, say
from shithubd_worker.errors import EXIT_DETACHED, EXIT_OK, Refused, TimedOut
from shithubd_worker.ramps import CANARY, checked

if TYPE_CHECKING:
    from shithubd_worker.database.operations import Operations, RecordedHold

_SIZES = {"s": 1, "m": 60, "h": 3600}


class Steps(click.ParamType[list[int], object]):
    """Percentages: 10,50,100."""

    name = "steps"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """To numbers."""
        words = [word.strip().removesuffix("%") for word in str(value).split(",")]
        if not all(re.fullmatch(r"[0-9]{1,9}", word) for word in words):
            self.fail(f"{value!r} are not steps: whole percentages that rise, for example 10,50,100")
        return [int(word) for word in words]


class Rate(click.ParamType[float, object]):
    """Jobs per second, minute or hour: 50/s."""

    name = "rate"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """To jobs per second."""
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)/([smh])", str(value).strip())
        if not match:
            self.fail(f"{value!r} is not a rate: a number of jobs per s, m or h, for example 50/s, 90/m or 0.5/h")
        return float(match[1]) / _SIZES[match[2]]


class Share(click.ParamType[float, object]):
    """A part of the whole: 20% or 0.2."""

    name = "share"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """To a number from 0 to 1."""
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(%?)", str(value).strip())
        if not match:
            self.fail(f"{value!r} is not a part of the runs, for example 20% or 0.2")
        return float(match[1]) / (100 if match[2] else 1)


@click.command("resume-kind")
@with_database
@within(CHANGE_SECONDS)
@click.argument("kind", shell_complete=completed("kind"))
@click.option(
    "--canary",
    type=click.IntRange(*CANARY),
    metavar="NUMBER",
    help="So many jobs first. Go on when all of them ended ok.",
)
@click.option(
    "--ramp",
    "steps",
    type=Steps(),
    metavar="PERCENT,...",
    help="So many percent of the workers at once, step after step: 10,50,100. At least one worker.",
)
@click.option("--every", type=Duration(), metavar="DURATION", help="How long each step of --ramp lasts.  [default: 2m]")
@click.option(
    "--rate", type=Rate(), metavar="NUMBER/UNIT", help="So many jobs at most, on all hosts: 50/s, 90/m or 10/h."
)
@click.option(
    "--stop-at",
    type=Share(),
    metavar="PART",
    help="Stop the ramp when this part of the runs does not end ok: 20% or 0.2. It first looks after 10 runs."
    " Needs --ramp or --rate."
    "  [default: 20%]",
)
@click.option(
    "--until",
    metavar="TIME|DURATION",
    help="End the ramp and its pause at this time, or after this duration: 2026-11-22T18:00:00Z (UTC if it names no"
    " zone), or 2h. The database's clock counts.",
)
@reason_option
@json_option
def resume_kind(
    shared: Shared,
    kind: str,
    canary: int | None,
    steps: list[int] | None,
    every: float | None,
    rate: float | None,
    stop_at: float | None,
    until: str | None,
    reason: str | None,
    *,
    as_json: bool,
) -> int:
    """End the pause of a kind, and requeue its paused jobs.

    It does not matter who set the pause; the command prints who it was. Jobs that somebody paused by an UPDATE go back
    into the queue, too. To undo it: `pause-kind KIND`.

    If many jobs wait, let them go in steps. --canary, --ramp and --rate set a ramp. The pause stays until the ramp is
    over, but it lets some jobs through. First come the jobs of --canary. Without --ramp and --rate, all others follow
    at once. With --ramp, so many percent of the workers may then work on the kind at once. --rate counts all hosts
    together. Without --ramp, a rate has no end: give --until, or end it yourself.

    A ramp stops when a canary job does not end ok, or when too many runs do not (--stop-at). Then nothing of
    the kind starts, and `status` says why. A kind that is not paused is held by its ramp from now on. The same command
    again begins the ramp anew. `pause-kind KIND` ends the ramp and holds everything. `resume-kind KIND` ends the ramp
    and lets everything go.

    \b
    Exit codes:
      0    the pause is over, or there was none; or the ramp has begun
      2    a ramp that cannot be: steps that do not rise, --every without --ramp,
           --stop-at without --ramp and --rate
      4    --timeout is over, or another session holds a lock; run it again
      5    the database refused some jobs, for example by a trigger of yours;
           they stay paused: correct the cause, and run it again. Or nobody
           knows the kind of a ramp; or --until lies in the past
      130  you pressed Ctrl-C; some jobs may still be marked as paused: run it
           again

    \b
    Examples:
      shithubd-worker resume-kind search.reindex
      shithubd-worker resume-kind search.reindex --canary 1 --ramp 10,50,100
      shithubd-worker resume-kind webhook.deliver --ramp 25,100 --every 5m
      shithubd-worker resume-kind webhook.deliver --rate 50/s --until 2h
      shithubd-worker resume-kind webhook.deliver --rate 50/s --stop-at 10%
    """
    check_kind(kind)
    try:
        ramp = checked(canary, steps, every, rate, stop_at, named=lambda name: f"--{name.replace('_', '-')}")
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if ramp is None:
        if until is not None:
            raise click.UsageError("--until is the end of a ramp: it needs --canary, --ramp or --rate")
        operations = shared.operations()
        ended = (operations.kind_hold(kind) or {}).get("ramp")
        return put_back(shared, operations, kind, operations.resume_kind(kind, reason), as_json=as_json, ramp=ended)
    operations = shared.operations()
    if not known_kind(shared, operations, kind):
        raise Refused(
            f"no job, history or worker knows kind {kind!r}, and it is not paused: check its name"
            " (shithubd-worker status)"
        )
    end = until_moment(operations, until)
    before = operations.kind_hold(kind)
    with saying_if_held(operations, "ramp"):
        hold = operations.ramp_kind(kind, ramp, reason, end)
    stands = operations.kind_hold(kind) or {}
    tell = meanwhile(as_json=as_json)
    for each in _begun(kind, hold, before, stands.get("ramp")):
        tell(each)
    words = [*ramping.options(ramp._asdict()), *(["--until", until] if until else [])]
    flipped = _requeue(
        shared,
        operations,
        kind,
        f"to go on, run this again (the ramp begins anew): {resume_kind_line(shared, kind, words)}",
    )
    if flipped is None:
        return EXIT_DETACHED
    stop, let_go = kind_line(shared, "pause-kind", kind), resume_kind_line(shared, kind)
    if as_json:
        emit(
            {
                **{"kind": kind, "hold": as_json_object(hold), "ramp": stands.get("ramp")},
                **{"replaced": (before or {}).get("ramp"), "requeued": flipped, "refused": operations.refused},
                **{"stop": stop, "let_go": let_go},
            }
        )
    else:
        line(f"{flipped} paused job(s) back in the queue")
        line(f"watch it: {kind_line(shared, 'status', kind)} --watch")
        line(f"to hold everything again: {stop}")
        line(f"to let everything go: {let_go}")
    return _judged(operations, resume_kind_line(shared, kind, words))


COMMANDS = (resume_kind,)


def put_back(
    shared: Shared,
    operations: Operations,
    kind: str,
    hold: RecordedHold | None,
    *,
    as_json: bool,
    ramp: dict[str, Any] | None = None,
) -> int:
    """Requeue the paused jobs of a kind, after its pause was ended: `hold`, with its ramp. None: it was not paused."""
    tell = meanwhile(as_json=as_json)
    if hold:
        why = f": {hold.reason}" if hold.reason else ""
        tell(f"resumed {kind}{why}")
        tell(f"it was paused by {hold.actor} at {hold.created:%Y-%m-%d %H:%M:%S%z}")
        if ramp:
            tell(f"its ramp has ended; it was: {ramping.now(ramp)}")
    else:
        tell(f"{kind} was not paused")
    again = resume_kind_line(shared, kind)
    flipped = _requeue(shared, operations, kind, f"go on with {again}")
    if flipped is None:
        return EXIT_DETACHED
    if as_json:
        ended = as_json_object(hold) if hold else None
        found = {"kind": kind, "ended": ended, "ramp": ramp if hold else None}
        emit({**found, "requeued": flipped, "refused": operations.refused})
    else:
        line(f"{flipped} paused job(s) back in the queue")
    return _judged(operations, again)


def resume_kind_line(shared: Shared, kind: str, words: Sequence[str] = ()) -> str:
    """The command that ends the pause of a kind, for any name. With the words of a ramp: the command that sets it."""
    return kind_line(shared, "resume-kind", kind, words)


def kind_line(shared: Shared, command: str, kind: str, words: Sequence[str] = ()) -> str:
    """A command about a kind, for any name."""
    return shared.command(command, *words, *(("--",) if kind.startswith("-") else ()), kind)


def _begun(kind: str, hold: RecordedHold, before: dict[str, Any] | None, ramp: dict[str, Any] | None) -> Iterator[str]:
    """What the ramp does from now on."""
    if before is None:
        yield f"{kind} was not paused: the ramp holds it from now on"
    elif before["ramp"]:
        yield f"the ramp of {kind} begins anew; it was: {ramping.now(before['ramp'])}"
    else:
        why = f": {hold.reason}" if hold.reason else ""
        yield f"{kind} is resumed in steps{why}"
        yield f"it was paused by {hold.actor} at {hold.created:%Y-%m-%d %H:%M:%S%z}"
    if ramp is None:
        yield "somebody has ended the ramp already"
        return
    yield f"the ramp: {ramping.planned(ramp)}"
    yield f"now: {ramping.now(ramp)}"
    if ramp["state"] == "stopped":
        return
    yield from ramping.next_times(ramp, hold.until)
    yield f"it stops {ramping.stops(ramp)}"


def _requeue(shared: Shared, operations: Operations, kind: str, way_on: str) -> int | None:
    """Put the paused jobs of a kind back. Returns how many. None after a Ctrl-C: then it has said how to go on."""
    left = f"some jobs may still be marked paused: {way_on}"
    flipped = 0
    try:
        for flipped in follow("put back", operations.unpause(kind)):
            if shared.deadline.over:
                raise TimedOut(f"time is over: {flipped} put back so far")
    except KeyboardInterrupt:
        say(f"interrupted; {left}")
        return None
    except TimedOut as error:
        error.args = (*error.args, left)
        raise
    return flipped


def _judged(operations: Operations, again: str) -> int:
    """The exit code, if the database refused no job."""
    if operations.refused:
        raise Refused(
            f"{operations.refused} job(s) stay paused: {operations.refusal or SKIPPED}",
            f"correct what refuses them (a trigger or an index of yours on jobs), then run: {again}",
        )
    return EXIT_OK
