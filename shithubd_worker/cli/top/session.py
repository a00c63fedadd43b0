"""From the first key to the last: the screen is taken, and given back as it was."""

from __future__ import annotations

import traceback

from shithubd_worker.cli.common import Shared
from shithubd_worker.cli.top.app import Top
from shithubd_worker.cli.top.feed import Feed
from shithubd_worker.cli.top.terminal import Terminal
from shithubd_worker.cli.waiting import explained
from shithubd_worker.errors import EXIT_OK, ShithubdError, TimedOut


def run(shared: Shared, interval: float, reason: str | None) -> int:
    """Run until a key, a signal or the time ends it. The terminal is as before then."""
    feed = Feed(shared, shared.operations(), interval)
    terminal = Terminal()
    app = Top(shared, feed, terminal, reason)
    try:
        code = app.run(mouse=False)
    finally:
        terminal.give_back()
    unfinished = feed.end()
    if app.crash is not None:
        raise _as_ours(app.crash)
    if unfinished:
        raise TimedOut(
            f"top ended before this was complete: {', '.join(unfinished)}",
            "`shithubd-worker status` shows what was done; to complete it, do the same again",
        )
    terminal.end()
    return EXIT_OK if code is None else code


def _as_ours(error: Exception) -> Exception:
    """A fault of this program, in one line. All others speak for themselves."""
    told = explained(error)
    if isinstance(told, ShithubdError):
        return told
    frame = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" ({frame[0].filename.rpartition('/')[2]}:{frame[0].lineno})" if frame else ""
    return ShithubdError(f"top has failed, and changed nothing by that: {type(error).__name__}: {error}{where}")
