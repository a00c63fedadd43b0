"""What prometheus-client's own types cannot hold: values of others, counts with a last word, many values at once."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from shithubd_worker.host import cgroup
from shithubd_worker.model import How
from shithubd_worker.telemetry import logs
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
    second before its worker. Both threads write here.
    """

    def __init__(self, kinds: Iterable[str], outcomes: Sequence[How]) -> None:
        self._counts = {(kind, how): 0 for kind in kinds for how in outcomes}
        self._told = dict(self._counts)
        self._told_at = time.monotonic()
        self._gone = False
        self._lock = threading.Lock()

    def add(self, ended: Iterable[tuple[tuple[str, How], int]]) -> None:
        """Add so many to each pair of a kind and an outcome."""
        with self._lock:
            for pair, count in ended:
                self._counts[pair] += count

    def last_word(self) -> dict[tuple[str, str], int]:
        """What no scrape has seen; from now on no scrape sees it. The result is empty if nobody scrapes the worker: the
        counts of its whole life would look as if they were of this moment."""
        with self._lock:
            self._gone = True
            if time.monotonic() - self._told_at > UNSCRAPED_SECONDS:
                return {}
            left: dict[tuple[str, str], int] = {pair: count - self._told[pair] for pair, count in self._counts.items()}
        return {pair: count for pair, count in left.items() if count}

    def collect(self) -> Iterable[CounterMetricFamily]:
        """One family, for a scrape. None after the last word."""
        family = CounterMetricFamily(
            "shithub_worker_jobs_processed", "Attempts that ended, by outcome.", labels=["kind", "outcome"]
        )
        with self._lock:
            if self._gone:
                return
            for pair, count in self._counts.items():
                family.add_metric(pair, count)
            self._told, self._told_at = dict(self._counts), time.monotonic()
        yield family


class BulkHistogram(Collector):
    """A histogram by kind that takes hundreds of values at once. prometheus-client's own takes a lock or two for each
    value.

    Only the main thread writes it. A scrape may see a part of a batch.
    """

    def __init__(self, name: str, text: str, bounds: Sequence[float], kinds: Iterable[str]) -> None:
        self._name = name
        self._text = text
        self._bounds = bounds
        self._counts = {kind: [0] * (len(bounds) + 1) for kind in kinds}
        self._sums = dict.fromkeys(self._counts, 0.0)

    def observe(self, kind: str, values: Sequence[float]) -> None:
        """Count values of a kind. One below 0 (a clock was set) counts as 0."""
        counts, bounds = self._counts[kind], self._bounds
        for value in values:
            counts[bisect_left(bounds, value)] += 1
        self._sums[kind] += sum([value for value in values if value > 0.0])

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """One family, cumulated as Prometheus expects it."""
        family = HistogramMetricFamily(self._name, self._text, labels=["kind"])
        edges = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for kind, counts in self._counts.items():
            family.add_metric([kind], list(zip(edges, accumulate(counts), strict=True)), self._sums[kind])
        yield family
