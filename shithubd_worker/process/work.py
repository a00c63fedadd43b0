"""The jobs at hand, one after the other: the worker runs each of them, or first looks at it again."""

from __future__ import annotations

from collections.abc import Callable

from shithubd_worker.attempt.outcome import Result, Settle
from shithubd_worker.model import Finished, Lease
from shithubd_worker.process.lessons import Lessons
from shithubd_worker.process.runner import Runner
from shithubd_worker.process.shared import Progress
from shithubd_worker.turn.exchange import Exchange
from shithubd_worker.turn.tray import Tray
from shithubd_worker.turn.unstarted import Unstarted


class Work:
    """For the main thread. `wake_control` wakes the control thread, so that it looks at the tray often."""

    def __init__(
        self,
        tray: Tray,
        runner: Runner,
        exchange: Exchange,
        unstarted: Unstarted,
        lessons: Lessons,
        progress: Progress,
        wake_control: Callable[[], None],
    ) -> None:
        self._tray = tray
        self._runner = runner
        self._exchange = exchange
        self._unstarted = unstarted
        self._lessons = lessons
        self._progress = progress
        self._wake_control = wake_control

    def do(self) -> str | None:
        """Run the jobs on the tray until a stop, or until a handler was refused connections, memory or disk. Returns
        what was refused, or None."""
        if (len(self._tray.leased) > 1 or self._tray.ahead) and not self._progress.watched:
            self._wake_control()
        short = None
        self._lessons.begin()
        while not (self._progress.stop.wanted or short) and (lease := self._tray.next()) is not None:
            if lease.crashes > 0:
                self._unstarted.clear(lease)
            if lease.payload is None:
                self._unstarted.fetch(lease)
                continue
            ended = self._runner.run(lease)
            if ended is not None:
                self._lessons.seconds[lease.kind].append(ended[1])
                short = self._put(lease, *ended)
            else:
                learnt = self._lessons.learn()
                self._unstarted.look_again(lease, in_vain=not learnt)
                self._lessons.begin()
        self._lessons.learn(short=short is not None)
        return short

    def _put(self, lease: Lease, result: Result, seconds: float, retention: str) -> str | None:
        """Put a finished job where it is settled from, or report it if its handler settled it. Returns what its handler
        was refused, or None."""
        outcome, settle, if_away, short = result
        if if_away and self._exchange.database_went_away():
            outcome = if_away
        finished = Finished(lease, outcome, retention, seconds)
        if settle is Settle.DUE:
            self._tray.finished.append(finished)
        elif settle is Settle.IN_DOUBT:
            self._tray.doubtful.append(finished)
        else:
            self._exchange.report(finished)
        return short
