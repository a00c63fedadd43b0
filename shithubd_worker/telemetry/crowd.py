"""Which jobs get a log line of their own. No journal keeps up with thousands of lines a second.

A job that fails always gets its line. Jobs that end well get theirs while there is room; the rest are counted, and told
in a few lines every ten seconds. The history has each job.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from shithubd_worker.model import Finished, How

log = logging.getLogger(__name__)

# In each second so many jobs that ended well, or were given back, get a line of their own.
FINE_LINES_PER_SECOND = 50
FINE = frozenset({How.OK, How.RELEASED})
# The rest are told so often, with one line for each of the largest kinds, and one for all others.
TOLD_EVERY_SECONDS = 10.0
MOST_KINDS = 20


class Crowd:
    """Counts the lines of this second, and the jobs that got none. For both threads, under a lock: without it, one
    thread could lose what the other counts between its read and its write. No line is written under the lock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._second = 0
        self._lines = 0
        self._left_out: Counter[tuple[str, How]] = Counter()
        self._since = 0.0  # when the first of these ended

    def admit(self, finished: Sequence[Finished], ended: Counter[tuple[str, How]]) -> Sequence[Finished]:
        """The jobs that get a line of their own: all that didn't end well, and others while this second has room. The
        rest are counted."""
        now = self._clock()
        well = {key: count for key, count in ended.items() if key[1] in FINE}
        own: list[Finished] = []
        with self._lock:
            if int(now) != self._second:
                self._second, self._lines = int(now), 0
            room = max(0, FINE_LINES_PER_SECOND - self._lines)
            self._lines += sum(well.values())
            if room or len(well) < len(ended):
                for each in finished:
                    if each.outcome.how not in FINE:
                        own.append(each)
                    elif room:
                        own.append(each)
                        room -= 1
                        well[each.lease.kind, each.outcome.how] -= 1
            if not self._left_out:
                self._since = now
            self._left_out.update({key: count for key, count in well.items() if count})
        self.tell()
        return own

    def tell(self) -> None:
        """Report the jobs that got no line, if it is time."""
        if self._left_out and self._clock() - self._since >= TOLD_EVERY_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Report the jobs that got no line, if there are any."""
        with self._lock:
            left_out, self._left_out = self._left_out, Counter()
            seconds = self._clock() - self._since
        largest = left_out.most_common(MOST_KINDS)
        for (kind, how), count in sorted(largest):
            extra = {"kind": kind, "outcome": str(how)}
            log.info("%s: %d more jobs %s in %.0f s", kind, count, how, seconds, extra=extra)
        if others := left_out.total() - sum(count for _, count in largest):
            kinds = len(left_out) - len(largest)
            log.info("%d more jobs ended well or were released, of %d other kinds, in %.0f s", others, kinds, seconds)
