"""What a worker's registry says of its metrics, for docs/metrics.md. See made_pages.py."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

from made_pages import ROOT, Facts
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from shithubd_worker.database.connection import connector
from shithubd_worker.model import How
from shithubd_worker.telemetry.buckets import DURATIONS
from shithubd_worker.telemetry.gauges import QueueCollector
from shithubd_worker.telemetry.metrics import LEASES, Metrics

KIND = "search.reindex"
BEGAN = "2026-11-27T12:00:00+00:00"
# The holds and the ramps of queue_gauges_v1, with all that it can say of them.
OLDEST_HOLDS = dict.fromkeys(("fleet", "host", "unit", "worker", "kind"), 1.0)
_RAMP = {"began": BEGAN, "stopped_at": None, "state": "steps", "percent": 10, "ok": 9, "bad": 1}
RAMPS = {KIND: _RAMP, "webhook.deliver": {**_RAMP, "stopped_at": BEGAN, "state": "stopped"}}
RULES = ROOT / "runbooks/alerts.rules.yml"
GROUPS = {"worker": "shithub_worker_", "queue": "shithubd_", "process": "process_", "python": "python_"}


class Metric(NamedTuple):
    """One that a scrape shows. `values`: those that each label has from the start."""

    name: str
    type: str
    help: str
    values: dict[str, list[str]]


class _AnsweredQueue(QueueCollector):
    """As with a database that answers."""

    def __init__(self) -> None:
        super().__init__(connector(None, "nobody"), "public", [KIND])

    def _read(self) -> dict[str, Any]:
        kind: dict[str, Any] = dict.fromkeys(("queued", "processing", "paused", "failed", "runnable", "expired"), 0)
        kind |= {"kind": KIND, "workers": 1, "oldest_seconds": 1.0, "capped": [], "kinds": 1}
        counted = {"age": 1.0, "counted_at": 1.0, "kinds": [kind]}
        now: dict[str, Any] = {"paused": {KIND: 1.0}, "paused_more": 0, "holds": {}, "workers": {}}
        now |= {"oldest_holds": OLDEST_HOLDS, "ramps": RAMPS}
        now |= {"history_days": 14, "schema": 6, "dead_rows": 0}
        returned = dict.fromkeys((*How, "forced"), 0) | {"kind": KIND}
        return {**counted, **now, "returned": [returned]}


@cache
def metrics() -> dict[str, Metric]:
    """All that a scrape of a worker shows, by name."""
    registry = Metrics([KIND], "web1:4711", {KIND: 60.0}).registry
    registry.register(_AnsweredQueue())
    return scraped(generate_latest(registry).decode())


def scraped(text: str) -> dict[str, Metric]:
    """The metrics of a scrape, by the names that a query uses; of a histogram its own name."""
    found = {}
    for family in text_string_to_metric_families(text):
        values: dict[str, list[str]] = {}
        for sample in family.samples:
            for label, value in sample.labels.items():
                if label != "le" and value not in values.setdefault(label, []):
                    values[label].append(value)
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = Metric(name, family.type, family.documentation, values)
    return {name: metric for name, metric in found.items() if not _created(name, found)}


def _created(name: str, found: Iterable[str]) -> bool:
    """Is it the time at which the library made another one?"""
    return (
        name.endswith("_created")
        and {name.removesuffix("_created") + end for end in ("", "_total")} & {*found} != set()
    )


@cache
def alerts() -> dict[str, str]:
    """The expression of each alert."""
    text = re.sub(r"^ *#.*\n", "", RULES.read_text(), flags=re.MULTILINE)
    return dict(re.findall(r"- alert: (\w+)\n\s+expr: \|\n(.*?)\n\s+for:", text, re.DOTALL))


def _alerts_of(metric: str) -> Iterator[str]:
    for alert, expression in alerts().items():
        if re.search(rf"\b{metric}(_bucket|_sum|_count)?\b", expression):
            yield f"[{alert}](../runbooks/alerts/{alert}.md)"


def of_group(group: str) -> Facts:
    """A table of the metrics with one beginning."""
    rows = []
    for metric in metrics().values():
        if metric.name.startswith(GROUPS[group]):
            labels = f"{{{', '.join(metric.values)}}}" if metric.values else ""
            text = metric.help if metric.help.endswith(".") else f"{metric.help}."
            rows.append((f"`{metric.name}{labels}`", metric.type, text, ", ".join(_alerts_of(metric.name))))
    return Facts(("metric", "type", "HELP", "alerts"), rows, "unit, and what to know")


def label_values(_: str) -> Facts:
    """The values of each label that has the same in every worker."""
    rows = []
    for metric in metrics().values():
        for label, values in metric.values.items():
            if label in ("state", "outcome", "result", "source", "direction", "thread", "scope", "start", "table"):
                rows.append((f"`{metric.name}`", f"`{label}`", ", ".join(f"`{value}`" for value in values)))
    return Facts(("metric", "label", "values"), rows)


def buckets(_: str) -> Facts:
    """The upper bounds of the histograms."""
    bounds = {"claim": LEASES, "job": DURATIONS}
    rows = [
        (f"`{metric.name}`", ", ".join(f"{bound:g}" for bound in bounds[metric.name.split("_")[2]]))
        for metric in metrics().values()
        if metric.type == "histogram"
    ]
    return Facts(("histogram", "buckets, in seconds"), rows)


MAKERS = {"metrics": of_group, "labels": label_values, "buckets": buckets}
