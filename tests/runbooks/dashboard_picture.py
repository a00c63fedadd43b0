"""runbooks/dashboard.svg: the dashboard's graphs, drawn from five bad minutes that a real Prometheus saw.

    make dashboard PICTURE=1                                    (needs matplotlib, and installs it)
    python tests/runbooks/dashboard_picture.py --again          draw the last recording again

Prometheus scrapes two workers every second; they have a PostgreSQL of their own. Then come a flood, a receiver that
does not answer, a pause of its kind, and the kill of a worker.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
from conftest import Database, WorkerProcess
from matplotlib import pyplot as plt
from matplotlib import rc_context
from matplotlib.ticker import FuncFormatter, MaxNLocator
from prometheus import Prometheus
from servers import Server, debian_bindir, embedded_bindir, free_port

from benchmarks.charts import STYLE, TEXT
from shithubd_worker.database import schema

REPOSITORY = Path(__file__).parents[2]
BOARD = json.loads((REPOSITORY / "runbooks/dashboard.json").read_text())
PICTURE = REPOSITORY / "runbooks/dashboard.svg"
RECORDING = REPOSITORY / "build/dashboard-recording.json"
CHOSEN = {"$instance": ".*", "$kind": ".*", "$__rate_interval": "30s"}
SECONDS = 320.0
STEP = 3.0  # seconds between two points of a line
COLUMNS = 3
COLOURS = ("#2f81f7", "#d29922", "#3fa34d", "#a371f7", "#db6d28", "#1b9aaa", "#d45b90", "#8c959f")
KINDS = ("search.reindex", "webhook.deliver", "repo.maintenance", "search.reindx")  # each has its colour
RED = "#cf4a42"
DURATIONS = ((86400.0, "d"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"))
LINE_HEIGHT = 2.0  # inches
WIDEST = 50  # letters beside each other below a graph
QUESTION_SIZE, TITLE_SIZE, SMALL = 12, 8, 6.5


class BadDay:
    """The story: `play` it, and then ask what Prometheus has seen between `began` and now."""

    def __init__(self, stack: ExitStack) -> None:
        self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shw-picture-")))
        self.directory.chmod(0o755)
        server = Server(debian_bindir() or embedded_bindir(self.directory))
        stack.callback(server.remove)
        self.database = Database(server, "postgres")
        with self.database.connect() as connection:
            schema.migrate(connection, "public")
        self.connection: psycopg.Connection[Any] = stack.enter_context(self.database.connect())
        self.ports = {name: free_port() for name in ("web1", "web2")}
        self.workers = {name: self.start(name) for name in self.ports}
        stack.callback(lambda: [worker.end() for worker in self.workers.values()])
        addresses = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        self.prometheus = stack.enter_context(Prometheus(addresses, "1s"))
        self.broken = self.directory / "broken"
        self.events: list[tuple[float, str]] = []
        self.began = time.time()

    def start(self, name: str) -> WorkerProcess:
        """A worker with its metrics on the port that Prometheus scrapes."""
        options = ("--handlers", "dashboard_jobs:registry", "--metrics", f"127.0.0.1:{self.ports[name]}")
        worker = WorkerProcess(self.database, self.directory, *options, env={"PYTHONPATH": str(Path(__file__).parent)})
        worker.wait_for(" ready\n")
        return worker

    def play(self) -> None:
        """All of it, over the jobs that come in all the time."""
        ticks = 0
        for second, name, act in self.acts():
            while time.time() < self.began + second:
                self.enqueue("webhook.deliver", 2)
                self.enqueue("search.reindex", 3)
                self.enqueue("repo.maintenance", int(ticks % 50 == 0))
                time.sleep(0.2)
                ticks += 1
            act()
            if name:
                self.events.append((time.time() - self.began, name))

    def acts(self) -> Iterator[tuple[float, str, Callable[[], object]]]:
        """The time, the name in the picture, and what happens."""
        pause = ("pause-kind", "webhook.deliver", "--reason", "the receiver is down")
        yield 40, "a flood", lambda: self.enqueue("search.reindex", 6000)
        yield 120, "a receiver is down", self.broken.touch
        yield 150, "its kind is paused", lambda: self.command(*pause)
        yield 180, "", self.broken.unlink
        yield 185, "resumed", lambda: self.command("resume-kind", "webhook.deliver")
        yield 215, "web2 is killed, and starts again", self.kill
        yield 217, "", self.restart
        yield 235, "an unknown kind", lambda: self.enqueue("search.reindx", 3)
        yield 245, "web2 stays away", self.kill
        yield 285, "and is back", self.restart
        yield SECONDS, "", lambda: None

    def kill(self) -> None:
        """Kill a worker."""
        self.workers["web2"].end()

    def restart(self) -> None:
        """What systemd does after 2 s, or an operator later."""
        self.workers["web2"] = self.start("web2")

    def command(self, *words: str) -> None:
        """A command of the operator."""
        program = [sys.executable, "-m", "shithubd_worker", *words]
        subprocess.run(
            program, env=self.database.environment(), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def enqueue(self, kind: str, count: int) -> None:
        self.connection.execute(
            "INSERT INTO jobs (kind, payload) SELECT %s, %s::jsonb FROM generate_series(1, %s)",
            (kind, json.dumps({"broken": str(self.broken)} if kind == "webhook.deliver" else {}), count),
        )

    def seen(self, expr: str) -> list[dict[str, Any]]:
        """A query's series since the beginning: their labels, and [seconds, value] each."""
        for variable, value in CHOSEN.items():
            expr = expr.replace(variable, value)
        found = self.prometheus.query_range(expr, self.began + STEP, time.time(), STEP)
        return [
            {"labels": one["metric"], "points": [[at - self.began, float(value)] for at, value in one["values"]]}
            for one in found
        ]


def record() -> dict[str, Any]:
    """What each query of the dashboard shows of the bad day, by its expression, and the events."""
    with ExitStack() as stack:
        day = BadDay(stack)
        day.play()
        graphs = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
        exprs = [target["expr"] for graph in graphs for target in graph["targets"]]
        exprs += [annotation["expr"] for annotation in BOARD["annotations"]["list"]]
        return {"events": day.events, "seen": {expr: day.seen(expr) for expr in exprs}}


def draw(recording: dict[str, Any]) -> None:
    """The picture: a band for each row of the dashboard. What happened stands above the graphs of the first."""
    rows: list[tuple[str, list[dict[str, Any]]]] = []
    for panel in BOARD["panels"]:
        if panel["type"] == "row":
            rows.append((panel["title"], []))
        else:
            rows[-1][1].append(panel)
    lines = [-(-len(panels) // COLUMNS) for _, panels in rows]
    with rc_context(STYLE):
        figure = plt.figure(figsize=(11, LINE_HEIGHT * sum(lines) + 0.8), layout="constrained")
        bands = figure.subfigures(len(rows), 1, height_ratios=[count + 0.15 for count in lines])
        for band, (question, panels), count in zip(bands, rows, lines, strict=True):
            band.suptitle(question, x=0.005, ha="left", fontsize=QUESTION_SIZE, fontweight="bold", color=TEXT)
            axes = band.subplots(count, COLUMNS, squeeze=False).flatten()
            for axis in axes[len(panels) :]:
                axis.set_axis_off()  # the last line of a band may have fewer graphs than columns
            for axis, panel in zip(axes, panels, strict=False):
                draw_graph(axis, panel, recording)
                draw_events(axis, recording, named=panel is rows[0][1][0])
        text = io.StringIO()
        figure.savefig(text, metadata={"Date": None})
    # A tenth of a pixel is fine enough, and half the file.
    PICTURE.write_text(re.sub(r"\d+\.\d{2,}", lambda match: f"{float(match[0]):.1f}", text.getvalue()))


def draw_graph(axis: Any, panel: dict[str, Any], recording: dict[str, Any]) -> None:
    """One graph of the dashboard. Of many lines those that are 0 all the time are left out."""
    series = [
        (legend(target["legendFormat"], one["labels"]), one["points"])
        for target in panel["targets"]
        if "unit_memory" not in target["expr"]  # here no worker has a unit of its own
        for one in recording["seen"][target["expr"]]
    ]
    telling = [(name, points) for name, points in series if any(value > 0 for _, value in points)]
    series = telling or series
    defaults = panel["fieldConfig"]["defaults"]
    if defaults["custom"].get("stacking"):
        draw_stacked(axis, series)
    else:
        for number, (name, points) in enumerate(series):
            colour = COLOURS[KINDS.index(name) if name in KINDS else number]
            axis.plot(*zip(*with_gaps(points), strict=True), color=colour, linewidth=1.1, label=name)
    axis.set_ylim(0, max(axis.get_ylim()[1], 1.0 if defaults["unit"] == "short" else 1e-3) * 1.05)
    if (steps := defaults.get("thresholds")) and (alarm := steps["steps"][1]["value"]) <= axis.get_ylim()[1]:
        axis.axhline(alarm, color=RED, linewidth=0.8, linestyle="--")
    axis.set_title(panel["title"], fontsize=TITLE_SIZE)
    axis.set_xlim(0, SECONDS)
    axis.set_xticks(range(0, int(SECONDS), 60))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 60:g} min"))
    axis.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=defaults["unit"] == "short"))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: told(value, defaults["unit"])))
    axis.tick_params(labelsize=SMALL, length=2)
    axis.legend(
        loc="upper left",
        bbox_to_anchor=(-0.05, -0.12),
        ncols=3 if sum(len(name) for name, _ in series[:3]) < WIDEST else 2,
        fontsize=SMALL,
        handlelength=1,
        columnspacing=0.8,
        borderpad=0.1,
        labelspacing=0.2,
    )


def with_gaps(points: list[list[float]]) -> Iterator[list[float]]:
    """A line ends where there is no sample."""
    last = points[0][0]
    for at, value in points:
        if at - last > 1.5 * STEP:
            yield [last, math.nan]
        yield [at, value]
        last = at


def draw_events(axis: Any, recording: dict[str, Any], *, named: bool) -> None:
    """Behind a graph: a line where something happened, an area where something was held."""
    for annotation in BOARD["annotations"]["list"]:
        for one in recording["seen"][annotation["expr"]]:
            axis.axvspan(one["points"][0][0], one["points"][-1][0], color=RED, alpha=0.1, linewidth=0)
    for second, name in recording["events"]:
        axis.axvline(second, color=TEXT, linewidth=0.5, linestyle=":")
        if named:
            at = {"x": second - 1, "y": axis.get_ylim()[1], "rotation": 90, "ha": "right", "va": "top"}
            axis.text(s=name, fontsize=SMALL - 1, **at)


def draw_stacked(axis: Any, series: list[tuple[str, list[list[float]]]]) -> None:
    """Areas on top of each other; a series counts as 0 where it has no sample."""
    moments = sorted({at for _, points in series for at, _ in points})
    values = [[dict(map(tuple, points)).get(at, 0.0) for at in moments] for _, points in series]
    axis.stackplot(moments, values, labels=[name for name, _ in series], colors=COLOURS, alpha=0.6, linewidth=0)


def legend(text: str, labels: dict[str, str]) -> str:
    """The name of a series, with its labels in place of {{label}}."""
    for name, value in labels.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text


def told(value: float, unit: str) -> str:
    """A value on an axis, in what Grafana's unit stands for."""
    if unit == "s":
        size, letter = next((size, letter) for size, letter in DURATIONS if value >= size or size == DURATIONS[-1][0])
        return f"{value / size:.3g} {letter}" if value else "0"
    if unit == "bytes":
        return f"{value / 1024**2:.0f} MiB"
    if unit == "percentunit":
        return f"{value:.0%}"
    return f"{value:,.6g}" + ("/s" if unit == "ops" and value else "")


def main() -> None:
    """Record, unless --again uses the last recording, and draw."""
    parser = argparse.ArgumentParser(description="Draw runbooks/dashboard.svg from five real minutes.")
    parser.add_argument("--again", action="store_true", help=f"draw {RECORDING.relative_to(REPOSITORY)} anew")
    if not parser.parse_args().again:
        RECORDING.parent.mkdir(exist_ok=True)
        RECORDING.write_text(json.dumps(record()))
    draw(json.loads(RECORDING.read_text()))


if __name__ == "__main__":
    main()
