"""The charts, as SVG that is readable on white and on black. Called with the peers' Python, which has matplotlib:

benchmarks/.venv/bin/python -m benchmarks.charts benchmarks/results
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.figures import by_round, spread, told
from benchmarks.results import Point, Results, load

mpl.use("svg")
import matplotlib.pyplot as plt

# Readable on both grounds: middle greys for the peers and all text, one colour for ours.
TEXT, OURS_COLOUR, PEER_COLOUR, LIMIT_COLOUR = "#7d8590", "#2f81f7", "#9a9fa6", "#b98a2f"
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)))
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "shithubd-worker",  # the same figures give the same file
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": TEXT,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlecolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
    "savefig.transparent": True,
}
BARS = (("w1", "W1 drain"), ("w3", "W3 backlog of 1 M"), ("w5", "W5 two processes"))
# The rest lies along the bottom.
SNAPSHOT = ("ours", "limit-plain", "graphile", "graphile-large", "pgboss", "pgqueuer")
LATENCY_RATES = (1, 10, 100, 1000)
GROWTH = {
    "backlog": "jobs queued",
    "history": "finished jobs in the history",
    "kinds": "kinds",
    "workers": "workers",
}


def draw(results: Results, growth: dict[str, list[Point]], output: Path) -> None:
    """All charts that there are figures for."""
    with mpl.rc_context(STYLE):
        _throughput(results, output / "throughput.svg")
        _snapshot(results, output / "snapshot.svg")
        _latency(results, output / "latency.svg")
        _growth(growth, output / "growth.svg")


def _throughput(results: Results, path: Path) -> None:
    measured = [(name, title) for name, title in BARS if any(run.workload == name for run in results.runs)]
    if not measured:
        return
    names = [name for name in results.contenders if any(results.of(workload, name) for workload, _ in measured)]
    names.reverse()  # barh draws upwards
    figure, axes = _panels(len(measured), height=0.6 + 0.24 * len(names), sharey=True)
    for axis, (workload, title) in zip(axes, measured, strict=True):
        for row, name in enumerate(names):
            found = spread(list(by_round(results, workload, name, "rate").values()))
            if found is None:
                continue
            axis.barh(row, found.median, color=_colour(name), height=0.7)
            axis.plot([found.least, found.most], [row, row], color=TEXT, linewidth=1)
            axis.text(found.most, row, f" {told(found.median)}", va="center", fontsize=7)
        axis.set_title(f"{title}, jobs/s", fontsize=9)
        axis.set_yticks(range(len(names)), [results.contenders[name]["title"] for name in names])
        axis.margins(x=0.22)
        axis.xaxis.set_visible(False)
        axis.spines["bottom"].set_visible(False)
    _save(figure, path)


def _snapshot(results: Results, path: Path) -> None:
    lines = [
        (name, runs[len(runs) // 2].lines.get("rate", []))
        for name in results.contenders
        if (runs := results.of("w4", name)) and name in SNAPSHOT
    ]
    if not lines:
        return
    figure, (axis,) = _panels(1, height=3.2)
    _draw_lines(axis, results, lines)
    axis.set_title("A drain while another session holds a snapshot")
    axis.set_xlabel("seconds since the first job")
    axis.set_ylabel("jobs/s")
    axis.set_ylim(bottom=0)
    _save(figure, path)


def _latency(results: Results, path: Path) -> None:
    names = [name for name in results.contenders if results.of("load", name)]
    if not names:
        return
    figure, axes = _panels(2, height=2.8, sharey=True)
    for axis, share in zip(axes, ("p50", "p99"), strict=True):
        lines = []
        for name in names:
            found = [
                spread(list(by_round(results, "load", name, f"{share}_{rate}").values())) for rate in LATENCY_RATES
            ]
            points = [(float(r), max(s.median, 0.01)) for r, s in zip(LATENCY_RATES, found, strict=True) if s]
            lines.append((name, points))
        _draw_lines(axis, results, lines, marker="o", labels=share == "p99")
        axis.set(xscale="log", yscale="log", xlabel="jobs enqueued a second")
        axis.set_title(f"COMMIT → start, {share}, ms")
        axis.set_xticks(LATENCY_RATES, [f"{rate:,}" for rate in LATENCY_RATES])
        axis.minorticks_off()
    _save(figure, path)


def _growth(growth: dict[str, list[Point]], path: Path) -> None:
    lines = [(name, points) for name, points in growth.items() if points and name in GROWTH]
    if not lines:
        return
    figure, axes = _panels(len(lines), height=2.2, sharey=True)
    for axis, (name, points) in zip(axes, lines, strict=True):
        xs, ys = zip(*sorted(points), strict=True)
        axis.plot(xs, ys, color=OURS_COLOUR, marker="o", markersize=3)
        axis.set(xscale="log", xlabel=GROWTH[name])
        axis.set_xticks(xs, [_short(x) for x in xs])
        axis.minorticks_off()
        axis.set_ylim(bottom=0)
    axes[0].set_ylabel("microseconds a job")
    _save(figure, path)


def _draw_lines(
    axis: Any, results: Results, lines: Iterable[tuple[str, Sequence[Point]]], *, marker: str = "", labels: bool = True
) -> None:
    """Ours in colour and in front; the others told apart by dashes, and all named at the side."""
    for number, (name, points) in enumerate(lines):
        if not points:
            continue
        xs, ys = zip(*points, strict=True)
        ours = name.startswith("ours")
        axis.plot(
            xs,
            ys,
            color=_colour(name),
            linestyle="-" if ours else LINE_STYLES[number % len(LINE_STYLES)],
            linewidth=2 if ours else 1.2,
            marker=marker,
            markersize=3,
            zorder=3 if ours else 2,
            label=results.contenders[name]["title"],
        )
    if labels:
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, handlelength=3)


def _panels(count: int, height: float, **settings: Any) -> tuple[Any, Sequence[Any]]:
    figure, axes = plt.subplots(1, count, figsize=(9, height), squeeze=False, layout="constrained", **settings)
    return figure, axes[0]


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _colour(name: str) -> str:
    return OURS_COLOUR if name.startswith("ours") else LIMIT_COLOUR if name.startswith("limit") else PEER_COLOUR


def _short(number: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    found = load(directory / "latest.json")
    draw(found, found.growth(), directory)
