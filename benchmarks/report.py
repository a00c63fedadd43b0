"""results.md: the targets, and a table for each workload."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import workloads
from benchmarks.figures import by_round, ratios, slope, spread, told
from benchmarks.results import Results
from benchmarks.targets import TARGETS
from benchmarks.workloads import Workload

CHARTS = {
    "throughput.svg": "Drain, a backlog of a million, two processes",
    "snapshot.svg": "While another session holds a snapshot",
    "latency.svg": "Latency under load",
    "growth.svg": "What a job costs as things grow",
}
# What is compared with what runs one job at a time, and with everybody else.
OURS, OURS_SINGLE = "ours", "ours-single"


def write(results: Results, output: Path) -> None:
    """Into the directory; links the charts that are there."""
    (output / "results.md").write_text("\n".join(_lines(results, output)) + "\n")


def _lines(results: Results, output: Path) -> Iterator[str]:
    yield "# Benchmark"
    yield ""
    yield f"`{results.command}`, {results.began}, {results.seconds / 60:.0f} minutes, {results.rounds} round(s)."
    if results.scale != 1:
        yield f"**Scaled by {told(results.scale)}: the numbers of jobs are not those of the headings.**"
    yield ""
    yield from _table(("", ""), results.machine.items())
    yield "Figures are the median of the rounds (least–most). A ratio is taken in each round, between two runs shortly"
    yield "after each other; above 1 it says that ours is better. Absolute figures belong to this machine and hour."
    yield ""
    yield "## Targets"
    yield ""
    yield from _table(("", "target", "here", ""), (target.row(results) for target in TARGETS))
    for name, title in CHARTS.items():
        if (output / name).exists():
            yield f"![{title}]({name})"
            yield ""
    for workload in workloads.ALL:
        if any(run.workload == workload.name for run in results.runs):
            yield from _workload(results, workload)
    yield "## Settings"
    yield ""
    rows = [(each["title"], each["settings"]) for each in results.contenders.values()]
    yield from _table(("contender", "settings"), rows)


def _workload(results: Results, workload: Workload) -> Iterator[str]:
    yield f"## {workload.title}"
    yield ""
    yield f"{workload.text[0].upper()}{workload.text[1:]}."
    yield ""
    if len(workload.contenders) == 1:
        yield from _table(("", "shithubd-worker"), _own_rows(results, workload))
    else:
        yield from _table(_heading(results, workload), _contender_rows(results, workload))
    for run in results.runs:
        if run.workload == workload.name and run.error:
            yield f"- {results.contenders[run.contender]['title']}, round {run.round}: {run.error}"
            yield ""
    if workload.name == "growth":
        yield from _growth(results)


def _heading(results: Results, workload: Workload) -> list[str]:
    way = "its ÷ {}" if workload.less_is_better else "{} ÷ it"
    of = f" ({workload.columns[workload.figure]})" if len(workload.columns) > 1 else ""
    bases = [way.format(words) + of for _, words in _bases(results, workload)]
    return ["contender", *workload.columns.values(), *bases]


def _bases(results: Results, workload: Workload) -> list[tuple[str, str]]:
    """Whom the others are compared with."""
    bases = (OURS, "ours"), (OURS_SINGLE, "ours, one at a time")
    return [(name, words) for name, words in bases if results.of(workload.name, name)]


def _contender_rows(results: Results, workload: Workload) -> Iterator[list[str]]:
    for name, contender in results.contenders.items():
        if not any((run.workload, run.contender) == (workload.name, name) for run in results.runs):
            continue
        row = [f"**{contender['title']}**" if name.startswith(OURS) else contender["title"]]
        row += [_cell(list(by_round(results, workload.name, name, figure).values())) for figure in workload.columns]
        theirs = by_round(results, workload.name, name, workload.figure)
        for base, _ in _bases(results, workload):
            ours = by_round(results, workload.name, base, workload.figure)
            # One job at a time is compared with the same only.
            like = base == OURS or contender["one_at_a_time"]
            pair = (theirs, ours) if workload.less_is_better else (ours, theirs)
            row.append(_cell(ratios(*pair)) if like and name != base else "")
        yield row


def _own_rows(results: Results, workload: Workload) -> Iterator[tuple[str, str]]:
    for figure, heading in workload.columns.items():
        yield heading, _cell(list(by_round(results, workload.name, OURS, figure).values()))


def _cell(values: Sequence[float]) -> str:
    return str(spread(values) or "")


def _growth(results: Results) -> Iterator[str]:
    rows = [
        (name, "; ".join(f"{x:,.0f}: {told(y)}" for x, y in points), told(slope(points)))
        for name, points in results.growth().items()
    ]
    yield from _table(("grows", "size: microseconds a job", "× 10 adds"), rows)


def _table(heading: Sequence[str], rows: object) -> Iterator[str]:
    yield f"| {' | '.join(heading)} |"
    yield f"|{'---|' * len(heading)}"
    for row in rows:  # type: ignore[attr-defined]
        yield f"| {' | '.join(row)} |"
    yield ""
