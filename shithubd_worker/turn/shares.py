"""Which kind goes first: the one that had the least of this worker's time. Pure arithmetic.

Fair queueing by start times: each kind has a clock of its own, which goes on by what its jobs take. The kind whose
clock is behind the others' goes first, so kinds with a backlog get equal time, whatever one job of theirs takes. The
clock of a kind that had nothing to do is not behind: it starts from where the last one that was served stood. So it
gets its share from then on, and nothing for the time before.
"""

from __future__ import annotations


class Shares:
    """The clocks of the kinds, in seconds of this worker's time."""

    def __init__(self) -> None:
        self._clocks: dict[str, float] = {}
        self._served_at = 0.0  # where the clock of the kind that was served last stood

    def start(self, kind: str) -> float:
        """Where the kind stands. The least goes first.

        >>> shares = Shares()
        >>> shares.ran("slow", 0.1), shares.ran("fast", 0.02)
        (None, None)
        >>> sorted(["slow", "fast", "idle"], key=shares.start)
        ['idle', 'fast', 'slow']
        """
        return max(self._clocks.get(kind, 0.0), self._served_at)

    def ran(self, kind: str, seconds: float) -> None:
        """Jobs of the kind took so long."""
        self._served_at = self.start(kind)
        self._clocks[kind] = self._served_at + seconds
