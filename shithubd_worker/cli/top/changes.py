"""The changes that top makes: those of pause-kind and resume-kind, by the same functions and with the same record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from shithubd_worker.cli.certainty import SKIPPED
from shithubd_worker.cli.holding import saying_if_held
from shithubd_worker.model import Scope

if TYPE_CHECKING:
    from shithubd_worker.cli.top.feed import Change
    from shithubd_worker.database.operations import Operations

# A lease query that is still under way after this time is told, and the waiting jobs are marked meanwhile.
BARRIER_SECONDS = 10.0


def pause(kind: str, reason: str | None, say: Callable[[str], None]) -> Change:
    """Hold a kind, see that the hold is certain, and mark its waiting jobs."""

    def steps(operations: Operations) -> Iterator[str]:
        yield f"pausing {kind}"
        with saying_if_held(operations):
            hold = operations.pause_kind(kind, reason, None)
        yield f"{kind} is held, but it is not certain yet that nothing of it starts any more"
        certain = operations.barrier(Scope("kind", kind), time.monotonic() + BARRIER_SECONDS, say)
        so_far = f"{kind} is held: nothing of it starts any more"
        if not certain:
            so_far = f"{kind} is held, but a lease query is still under way: it is not certain yet"
        marked = 0
        for marked in operations.mirror(hold):
            yield f"{so_far}; {marked:,} waiting job(s) marked paused"
        yield f"{so_far}; {marked:,} waiting job(s) marked paused{_refused(operations)}"

    return steps


def resume(kind: str, reason: str | None) -> Change:
    """End the pause of a kind, and put its paused jobs back."""

    def steps(operations: Operations) -> Iterator[str]:
        yield f"resuming {kind}"
        hold = operations.resume_kind(kind, reason)
        so_far = f"{kind} was not paused"
        if hold:
            so_far = f"{kind} is resumed; it was paused by {hold.actor} at {hold.created:%Y-%m-%d %H:%M:%S%z}"
        back = 0
        for back in operations.unpause(kind):
            yield f"{so_far}; {back:,} paused job(s) back in the queue"
        yield f"{so_far}; {back:,} paused job(s) back in the queue{_refused(operations)}"

    return steps


def _refused(operations: Operations) -> str:
    return f"; {operations.refused:,} unchanged: {operations.refusal or SKIPPED}" if operations.refused else ""
