"""Which kind goes first: the one that had the least of this worker's time. Pure arithmetic.

This is fair queueing by start times. Each kind has a clock of its own, which advances by the time that its jobs take.
The kind whose clock is furthest behind goes first. So kinds with a backlog get equal time, no matter how long one of
their jobs takes. The clock of a kind that had nothing to do does not fall behind: it starts where the clock of the last
served kind stood. So the kind gets its share from then on, and nothing for the time before.
"""

from __future__ import annotations


class Shares:
    """The clocks of the kinds, in seconds of this worker's time."""

    def __init__(self) -> None:
        self._clocks: dict[str, float] = {}
        self._served_at = 0.0  # the clock of the kind that was served last

    def start(self, kind: str) -> float:
        """Where the kind's clock stands. The lowest goes first.

        >>> shares = Shares()
        >>> shares.ran("slow", 0.1), shares.ran("fast", 0.02)
        (None, None)
        >>> sorted(["slow", "fast", "idle"], key=shares.start)
        ['idle', 'fast', 'slow']
        """
        return max(self._clocks.get(kind, 0.0), self._served_at)

    def ran(self, kind: str, seconds: float) -> None:
        """Jobs of the kind took `seconds`."""
        self._served_at = self.start(kind)
        self._clocks[kind] = self._served_at + seconds
