"""What `stats` and `kinds` write on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shithubd_worker.cli import ramping
from shithubd_worker.cli.screen import folded, line, table
from shithubd_worker.database.leased import counted
from shithubd_worker.plain import to_the_second

MOST_HOSTS = 3
PERCENTILES = ("p50", "p95", "p99")
TWO_FIGURES = 10.0
# From how many seconds on, in which unit.
UNITS = ((172_800, 86_400, "d"), (7200, 3600, "h"), (120, 60, "m"), (1, 1, "s"), (0, 0.001, "ms"))


def summary(found: list[dict[str, Any]]) -> None:
    """How many jobs there are, and in which state."""
    capped = {name for kind in found for name in kind["capped"]}

    def figure(count: int, *names: str) -> str:
        return f"{count:,}{'+' if capped & set(names) else ''}"

    total = {name: sum(kind[name] for kind in found) for name in ("queued", "processing", "paused", "failed", "held")}
    ready = sum(kind["backlog"] for kind in found)
    scheduled = total["queued"] - ready - (total["held"] - total["paused"])
    line(
        f"jobs: {figure(ready, 'backlog')} ready, {figure(scheduled, 'queued')} scheduled, {total['processing']:,}"
        f" processing, {figure(total['held'], 'held')} held, {figure(total['failed'], 'failed')} failed;"
        f" {figure(total['queued'] + total['processing'] + total['paused'] + total['failed'], *total)} in all"
    )


def stats(kinds: list[dict[str, Any]], more: dict[str, Any] | None, windows: Sequence[str]) -> None:
    """A row for each kind and window."""
    rows = []
    for kind in kinds + ([more] if more else []):
        for window in windows:
            did = kind["windows"][window]
            first = window == windows[0]
            cells = [
                _name(kind) if first else "",
                *([window] if len(windows) > 1 else []),
                short(did["per_second"]),
                "" if did["failure_ratio"] is None else f"{short(100 * did['failure_ratio'])}%",
                *(" ".join(brief(did[what][part]) for part in PERCENTILES).strip() for what in ("wait", "run")),
                _backlog(kind) if first else "",
                _done(kind) if first else "",
            ]
            rows.append((cells, "red" if did["failures"] else None))
    several = ("window",) if len(windows) > 1 else ()
    columns = ("kind", *several, "ok/s", "failed", "wait p50/95/99", "run p50/95/99", "backlog", "done in")
    table(columns, rows, right=range(1 + len(several), len(columns)))
    if any(kind["backlog"] for kind in kinds):
        folded("done in: at the rate at which jobs left the queue lately, if nothing arrives")
    _others(more, "stats")


def kinds(found: list[dict[str, Any]], more: dict[str, Any] | None) -> None:
    """A row for each kind, and its pause below the table."""
    rows = []
    for kind in found + ([more] if more else []):
        hosts = sorted(kind["hosts"] or {})
        names = " ".join(hosts[:MOST_HOSTS]) + (f" +{len(hosts) - MOST_HOSTS:,}" if len(hosts) > MOST_HOSTS else "")
        unhandled = kind["queued"] and kind["workers"] == 0
        cells = [
            _name(kind),
            "" if kind["workers"] is None else "none" if unhandled else f"{kind['workers']:,}",
            names,
            _figure(kind, "queued"),
            counted(kind["running"], kind["processing"]).removesuffix(" leased"),
            *(_figure(kind, name) for name in ("paused", "failed")),
            short(kind["windows"]["5m"]["per_second"]),
        ]
        rows.append((cells, "red" if kind["failed"] else "yellow" if kind["hold"] or unhandled else None))
    columns = ("kind", "workers", "hosts", "queued", "running", "paused", "failed", "ok/s")
    table(columns, rows, right=(1, *range(3, 8)))
    for kind in found:
        if hold := kind["hold"]:
            why = f": {hold['reason']}" if hold["reason"] else ""
            until = f" until {to_the_second(hold['until'])}" if hold["until"] else ""
            folded(f"{kind['kind']} is paused by {hold['actor']} since {to_the_second(hold['created'])}{until}{why}")
            for told in ramping.standing(hold):
                line(f"  {told}")
    _others(more, "kinds list")


def short(number: float) -> str:
    """A number in two figures, or without its fraction.

    >>> print(short(0), short(0.004), short(3.14159), short(12345.6))
    0 0.004 3.1 12,346
    """
    return f"{number:,.0f}" if number >= TWO_FIGURES else f"{number:.2g}"


def brief(seconds: float | None) -> str:
    """A time in one word.

    >>> print(brief(0), brief(0.00011), brief(0.0123), brief(1.234), brief(600), brief(90_000), brief(None) == "")
    0 0.11ms 12ms 1.2s 10m 25h True
    """
    if not seconds:
        return "" if seconds is None else "0"
    size, unit = next((size, unit) for least, size, unit in UNITS if seconds >= least)
    return f"{short(seconds / size)}{unit}"


def _name(kind: dict[str, Any]) -> str:
    return kind["kind"] or f"and {kind['kinds']:,} more kinds"


def _figure(kind: dict[str, Any], name: str) -> str:
    return f"{kind[name]:,}{'+' if name in kind['capped'] else ''}"


def _backlog(kind: dict[str, Any]) -> str:
    return _figure(kind, "backlog")


def _done(kind: dict[str, Any]) -> str:
    if kind["kind"] is None or not kind["backlog"]:
        return ""
    return "unknown" if kind["backlog_seconds"] is None else brief(kind["backlog_seconds"])


def _others(more: dict[str, Any] | None, command: str) -> None:
    if more:
        line(f"to see the others: shithubd-worker {command} KIND, or --all-kinds")
