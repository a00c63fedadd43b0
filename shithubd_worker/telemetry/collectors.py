"""What prometheus-client's own types cannot hold: values of others, counts with a last word, many values at once."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from shithubd_worker.host import cgroup
from shithubd_worker.model import How
from shithubd_worker.telemetry import logs
from shithubd_worker.telemetry.buckets import BOUNDS, DURATIONS, MIDDLES, PLACES
from shithubd_worker.timing import UNSCRAPED_SECONDS


class LinesLost(Collector):
    """A counter whose value lives where lines are lost."""

    def collect(self) -> Iterable[CounterMetricFamily]:
        """The sum, at the time of a scrape."""
        text = "Log lines that were lost because nobody read them: a journal that stands still, or a full pipe."
        yield CounterMetricFamily("shithub_worker_log_lines_lost", text, value=logs.dropped())


class UnitMemory(Collector):
    """A gauge of the memory that the kernel's limits count. Absent where the kernel doesn't tell."""

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The memory, at the time of a scrape."""
        if (used := cgroup.memory()) is not None:
            text = "Memory of the worker and its children, without files that the kernel can drop."
            yield GaugeMetricFamily("shithub_worker_unit_memory_bytes", text, value=used)


class Processed(Collector):
    """Attempts that ended, by kind and outcome, and which of them no scrape has seen.

    A worker that ends leaves the unseen ones to the database. So each attempt is counted once, even one that ended a
    second before its worker. Both threads write here. `name` gives the name under which a scrape shows a kind; `kinds`
    are these names.
    """

    def __init__(self, kinds: Iterable[str], outcomes: Sequence[How], name: Callable[[str], str]) -> None:
        self._counts: dict[tuple[str, How], int] = {}
        self._told: dict[tuple[str, str], int] = {(kind, how): 0 for kind in kinds for how in outcomes}
        self._name = name
        self._told_at = time.monotonic()
        self._gone = False
        self._lock = threading.Lock()

    def add(self, ended: Mapping[tuple[str, How], int]) -> None:
        """Add so many to each pair of a kind and an outcome."""
        with self._lock:
            for pair, count in ended.items():
                self._counts[pair] = self._counts.get(pair, 0) + count

    def counts(self) -> dict[tuple[str, How], int]:
        """All of them, by the kinds' own names."""
        with self._lock:
            return dict(self._counts)

    def last_word(self) -> dict[tuple[str, str], int]:
        """What no scrape has seen; from now on no scrape sees it. The result is empty if nobody scrapes the worker: the
        counts of its whole life would look as if they were of this moment."""
        with self._lock:
            self._gone = True
            if time.monotonic() - self._told_at > UNSCRAPED_SECONDS:
                return {}
            left = {pair: count - self._told[pair] for pair, count in self._shown().items()}
        return {pair: count for pair, count in left.items() if count}

    def collect(self) -> Iterable[CounterMetricFamily]:
        """One family, for a scrape. None after the last word."""
        family = CounterMetricFamily(
            "shithub_worker_jobs_processed", "Attempts that ended, by outcome.", labels=["kind", "outcome"]
        )
        with self._lock:
            if self._gone:
                return
            self._told, self._told_at = self._shown(), time.monotonic()
            for pair, count in self._told.items():
                family.add_metric(pair, count)
        yield family

    def _shown(self) -> dict[tuple[str, str], int]:
        shown = dict.fromkeys(self._told, 0)
        for (kind, how), count in self._counts.items():
            shown[self._name(kind), how] += count
        return shown


class BulkHistogram(Collector):
    """A histogram by kind that takes hundreds of values at once. prometheus-client's own takes a lock or two for each
    value. It counts in the fine buckets (buckets.py), and shows Prometheus the sums of these.

    Only the main thread writes it. A scrape may see a part of a batch. `names` and `name` are those of Processed.
    """

    def __init__(self, family: str, text: str, names: Iterable[str], name: Callable[[str], str]) -> None:
        self._family = family
        self._text = text
        self._names = list(names)
        self._name = name
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def observe(self, kind: str, values: Sequence[float]) -> None:
        """Count values of a kind. One below 0 (a clock was set) counts as 0."""
        if (counts := self._counts.get(kind)) is None:
            counts, self._sums[kind] = [0] * len(MIDDLES), 0.0
            self._counts[kind] = counts
        for value in values:
            counts[bisect_left(BOUNDS, value)] += 1
        if min(values, default=0.0) < 0.0:
            values = [max(0.0, value) for value in values]
        self._sums[kind] += sum(values)

    def counts(self) -> dict[str, list[int]]:
        """The fine buckets of each kind. They count on."""
        return dict(self._counts)

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """One family, cumulated as Prometheus expects it."""
        buckets = {name: [0] * (len(PLACES) + 1) for name in self._names}
        sums = dict.fromkeys(self._names, 0.0)
        for kind, counts in self.counts().items():
            name, up_to = self._name(kind), list(accumulate(counts))
            for at, place in enumerate((*PLACES, -1)):
                buckets[name][at] += up_to[place]
            sums[name] += self._sums[kind]
        edges = [*(str(float(bound)) for bound in DURATIONS), "+Inf"]
        family = HistogramMetricFamily(self._family, self._text, labels=["kind"])
        for name in self._names:
            family.add_metric([name], list(zip(edges, buckets[name], strict=True)), sums[name])
        yield family
