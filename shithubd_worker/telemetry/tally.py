"""What a worker counted, for the figures that the database keeps of each kind (kind_stats)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shithubd_worker.model import How
from shithubd_worker.telemetry.buckets import MIDDLES

Counts = Mapping[str, Sequence[int]]


class Tally:
    """Takes what was counted since it last took it. The sources only count up.

    `ended` counts by kind and outcome. `waits` and `runs` count by kind in the fine buckets. One thread takes; others
    count meanwhile.
    """

    def __init__(
        self,
        ended: Callable[[], Mapping[tuple[str, How], int]],
        waits: Callable[[], Counts],
        runs: Callable[[], Counts],
    ) -> None:
        self._ended = ended
        self._histograms = {"waits": waits, "runs": runs}
        self._told_ends: dict[tuple[str, How], int] = {}
        self._told: dict[str, dict[str, Sequence[int]]] = {"waits": {}, "runs": {}}
        self._left: deque[str] = deque()  # kinds that this round has not looked at

    @property
    def goes_on(self) -> bool:
        """Are there kinds that this round has not looked at?"""
        return bool(self._left)

    def take(self, most: int) -> list[dict[str, Any]]:
        """The figures of at most so many kinds, as write_stats_v1 wants them. The next call goes on with other
        kinds; when it has looked at all of them, a new round begins."""
        ended = self._ended()
        counted = {name: source() for name, source in self._histograms.items()}
        if not self._left:
            kinds = dict.fromkeys([*(kind for kind, _ in ended), *counted["waits"], *counted["runs"]])
            self._left.extend(kinds)
        found: list[dict[str, Any]] = []
        while self._left and len(found) < most:
            kind = self._left.popleft()
            if news := self._of_kind(kind, ended, counted):
                found.append({"kind": kind, **news})
        return found

    def _of_kind(
        self, kind: str, ended: Mapping[tuple[str, How], int], counted: Mapping[str, Counts]
    ) -> dict[str, object]:
        news: dict[str, object] = {}
        for how in How:
            count = ended.get((kind, how), 0)
            if more := count - self._told_ends.get((kind, how), 0):
                news[how] = more
                self._told_ends[kind, how] = count
        for name, told in self._told.items():
            counts = list(counted[name].get(kind, ()))  # one step: nobody counts meanwhile
            before = told.get(kind, [0] * len(counts))
            if counts != before:
                places = zip(MIDDLES, counts, before, strict=True)
                news[name] = {str(middle): count - old for middle, count, old in places if count != old}
                told[kind] = counts
        return news
