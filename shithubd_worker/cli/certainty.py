"""What makes a hold certain after it is set: the barrier, the mirror of a pause, and the end of running jobs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shithubd_worker.cli.screen import bar, emit, line, meanwhile, say
from shithubd_worker.errors import EXIT_DETACHED, EXIT_OK, EXIT_TIMEOUT, TimedOut

if TYPE_CHECKING:
    from shithubd_worker.cli.common import Shared
    from shithubd_worker.cli.deadline import Deadline
    from shithubd_worker.database.operations import Operations, RecordedHold
    from shithubd_worker.model import Scope

_TELL_EVERY = 100_000
SKIPPED = "the database left them unchanged without an error: a trigger on jobs skips them"


@dataclass
class _Held:
    """How far a hold has got."""

    scope: Scope
    hold: RecordedHold
    began: float
    certain: bool = False
    idle: bool = False
    mirrored: int = 0
    leases: list[dict[str, Any]] | None = None  # None: not known
    gave_up: tuple[str, ...] = ()  # the reason


def see_through(
    shared: Shared, operations: Operations, scope: Scope, hold: RecordedHold, *, wait: bool, as_json: bool, undo: str
) -> int:
    """Make a hold certain and report it step by step: the barrier, the mirror of a pause, and the wait."""
    if shared.announcer:
        shared.announcer.now()  # the wait may take hours
    held = _Held(scope, hold, time.monotonic())
    shared.deadline.so_far = f"{scope} is held; "
    if wait:
        shared.deadline.patience = math.inf
    tell = meanwhile(as_json=as_json)
    try:
        _make_certain(shared.deadline, operations, held, wait=wait, tell=tell)
    except KeyboardInterrupt:
        say(f"interrupted; the hold stays: undo with {undo}")
        return EXIT_DETACHED
    except TimedOut as error:
        shared.deadline.note(error, operations.schema)
        held.gave_up = error.args
        if not held.certain:
            tell(f"{scope} is held, but it is not certain yet that nothing of it starts any more")
    except Exception as error:
        error.add_note(f"{scope} is held anyway: undo with {undo}")
        raise
    timed_out = bool(held.gave_up) or not held.certain or (wait and not held.idle)
    if as_json:
        emit(
            {
                "hold": as_json_object(hold),
                "barrier": held.certain,
                "drained": None if held.leases is None else not held.leases,
                "running": None if held.leases is None else [each for each in held.leases if each["runs"] is not False],
                "leased": None if held.leases is None else len(held.leases),
                "paused": held.mirrored,
                "refused": operations.refused,
                "refusal": (operations.refusal or SKIPPED) if operations.refused else None,
                "gave_up": held.gave_up[0] if held.gave_up else None,
                "seconds": round(time.monotonic() - held.began, 3),
                "undo": undo,
            }
        )
    else:
        _show(operations, held, timed_out=timed_out)
        line(f"undo: {undo}")
    return EXIT_TIMEOUT if timed_out else EXIT_OK


def _make_certain(
    deadline: Deadline, operations: Operations, held: _Held, *, wait: bool, tell: Callable[[str], None]
) -> None:
    scope = held.scope
    held.certain = operations.barrier(scope, deadline.at, say)
    seconds = time.monotonic() - held.began
    if not held.certain:
        tell(f"{scope} is held, but after {seconds:.1f} s a lease query is still under way: not certain yet")
    else:
        until = f" until {held.hold.until:%Y-%m-%d %H:%M:%S%z}" if held.hold.until else ""
        tell(f"{scope} is held{until}: nothing of it starts any more ({seconds:.1f} s)")
    if held.hold.scope == "kind":
        for total in follow("marked paused", operations.mirror(held.hold)):
            held.mirrored = total
            if deadline.over:
                held.gave_up = ("time is over: waiting jobs that are not marked paused yet are held too",)
                break
    held.idle = held.certain and wait and operations.wait_until_idle(scope, deadline.at, say)
    held.leases = operations.leases(scope)


def _show(operations: Operations, held: _Held, *, timed_out: bool) -> None:
    if held.hold.scope == "kind" and (held.mirrored or not held.gave_up):
        line(f"{held.mirrored} waiting job(s) marked paused; what comes later is held too")
        if operations.refused:
            line(f"{operations.refused} more stay queued, and are held too: {operations.refusal or SKIPPED}")
    for each in held.gave_up:
        line(each)
    if held.leases:
        from shithubd_worker.database.leased import describe, how_many, running

        line(f"{'timeout: ' if timed_out else ''}still running: {how_many(held.leases)}")
        for one in running(held.leases)[:10]:
            line(f"  {describe(one)}")
    elif held.leases is not None:
        line("nothing of it is running" if held.hold.mode == "pause" else "drained: nothing of it is running")


def follow(verb: str, totals: Iterator[int], of: int | None = None) -> Iterator[int]:
    """Work through batches. If `of` says how many there are, a terminal shows a bar. Else report each hundred
    thousand."""
    told = 0
    with bar(verb, of) if of else nullcontext() as advance:
        for total in totals:
            if advance is not None:
                advance(total)
            elif total - told >= _TELL_EVERY:
                told = total
                say(f"{total:,} {verb} so far")
            yield total


def as_json_object(hold: RecordedHold) -> dict[str, object]:
    return {name: getattr(hold, name) for name in hold.__slots__}
