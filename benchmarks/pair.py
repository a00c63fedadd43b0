"""Two checkouts side by side, in turns: one job of the one, one job of the other.

The rounds of the benchmark are minutes apart, and a machine changes meanwhile. Here the two samples of a pair are
milliseconds apart: so a difference of 1 % shows on a machine whose rounds differ by a third.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click

from benchmarks import recordings
from benchmarks.cluster import Cluster, running_cluster
from benchmarks.contenders.ours import Ours, ours
from benchmarks.processes import Command, clean_environment, ended_at_the_end
from benchmarks.stage import Stage, staged

BLOCKS = 20  # the ratio is taken in each: how far they differ says how far to trust it
CHECKOUT = click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True)
Pair = tuple[Sequence[float], Sequence[float]]


def _lone_jobs(cluster: Cluster, pair: Sequence[Ours], jobs: int) -> Pair:
    """Seconds from the answer to a job's COMMIT to its start; the worker is idle before each."""
    dice = random.Random(0)
    with ExitStack() as stack:
        stages = [stack.enter_context(staged(cluster, each)) for each in pair]
        for stage in stages:
            stage.start_worker()
            stage.warm_up()
        connections = [stack.enter_context(stage.connect()) for stage in stages]
        committed: tuple[list[tuple[int, float]], ...] = ([], [])
        for number in range(1, jobs + 1):
            for index in dice.sample((0, 1), 2):
                connections[index].execute(
                    "INSERT INTO jobs (kind, payload) VALUES ('bench.noop', jsonb_build_object('n', %s::int))",
                    (number,),
                    prepare=True,
                )
                committed[index].append((number, time.time()))
                time.sleep(dice.uniform(0.008, 0.016))
        old, new = (_delays(stage, told) for stage, told in zip(stages, committed, strict=True))
        return old, new


def _delays(stage: Stage, committed: Sequence[tuple[int, float]]) -> list[float]:
    stage.settled()
    recorded = stage.end_workers()
    recordings.check_once(recorded, len(committed))
    return recordings.delays(recorded, committed)


def _runs(commands: Sequence[Command], count: int) -> Pair:
    """Seconds that a command takes from its start to its end."""
    taken: tuple[list[float], ...] = ([], [])
    for _ in range(count):
        for index in random.sample((0, 1), 2):
            command = commands[index]
            began = time.perf_counter()
            subprocess.run(
                [str(word) for word in command.argv],
                env={**clean_environment(), **command.env},
                cwd=command.cwd,
                capture_output=True,
                check=True,
            )
            taken[index].append(time.perf_counter() - began)
    return taken[0], taken[1]


def _starts(cluster: Cluster, pair: Sequence[Ours], count: int) -> Pair:
    """A worker that starts, finds no job, and ends."""
    with ExitStack() as stack:
        stages = [stack.enter_context(staged(cluster, each)) for each in pair]
        words = ("run", "--until-empty", "--metrics", "off", "--handlers", "benchmarks.runners.ours_jobs:registry")
        return _runs([each.command(stage.url, *words) for each, stage in zip(pair, stages, strict=True)], count)


def _told(what: str, pair: Pair) -> str:
    """Medians, means, and the ratio new : old over the blocks."""
    size = max(1, len(pair[0]) // BLOCKS)
    blocks = [[values[i : i + size] for i in range(0, len(values), size)] for values in pair]
    ratios = [statistics.median(new) / statistics.median(old) for old, new in zip(*blocks, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    medians, means = ([1000 * of(values) for values in pair] for of in (statistics.median, _mean))
    return (
        f"{what:<34} median {medians[0]:8.3f} {medians[1]:8.3f} ({medians[1] / medians[0]:.3f})"
        f"   mean {means[0]:8.3f} {means[1]:8.3f} ({means[1] / means[0]:.3f})"
        f"   of {len(ratios)} blocks {middle:.3f} ({low:.3f} to {high:.3f})"
    )


def _mean(values: Sequence[float]) -> float:
    """Without the hundredth that took longest: the machine did something else."""
    return statistics.fmean(sorted(values)[: max(1, len(values) * 99 // 100)])


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("old", type=CHECKOUT)
@click.argument("new", type=CHECKOUT)
@click.option("--jobs", default=2000, show_default=True, help="Lone jobs of each.")
@click.option("--starts", default=60, show_default=True, help="Starts of each command.")
def main(old: Path, new: Path, jobs: int, starts: int) -> None:
    """Compare the worker of two checkouts, OLD and NEW, each with its .venv, in turns. Times are in ms.

    \b
    Example:
      python -m benchmarks.pair /tmp/before .
    """
    pair = [replace(ours(checkout)[0], system=name) for checkout, name in ((old, "old"), (new, "new"))]
    for checkout in (old, new):  # a checkout that was just made has nothing compiled
        python = checkout / ".venv" / "bin" / "python"
        subprocess.run([python, "-m", "compileall", "-q", checkout / "shithubd_worker"], check=True)
    measures: dict[str, Callable[[Cluster], Pair]] = {
        "a lone job, COMMIT to its start": lambda cluster: _lone_jobs(cluster, pair, jobs),
        "a worker that finds no job": lambda cluster: _starts(cluster, pair, starts),
        "--help": lambda _: _runs([each.command("", "--help") for each in pair], starts),
    }
    with ended_at_the_end(), running_cluster() as cluster:
        for what, measure in measures.items():
            print(_told(what, measure(cluster)), flush=True)


if __name__ == "__main__":
    main()
