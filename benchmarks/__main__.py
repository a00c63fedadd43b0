"""The command line: what to measure, and the order in which it is measured."""

from __future__ import annotations

import shlex
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
import psycopg

from benchmarks import machine, report, workloads
from benchmarks.cluster import Cluster, running_cluster
from benchmarks.contenders import Contender, all_contenders
from benchmarks.install import install
from benchmarks.paths import PEERS_PYTHON, REPOSITORY
from benchmarks.processes import BenchmarkError, Command, ended_at_the_end
from benchmarks.processes import run as run_to_end
from benchmarks.results import Results, Run, load
from benchmarks.workloads import Size, Workload

QUICK = Size(scale=0.2, seconds=0.25)
# In a quick run the peers show themselves in the first of these only, and what takes long is left out.
QUICK_FOR_ALL = ("w1", "w2")
QUICK_FOR_OURS = ("w3", "w4", "w5", "urgent", "kinds", "startup")
EXIT_ERROR = 1
EXIT_INTERRUPTED = 130


def _chosen(given: str | None, known: Sequence[str], what: str) -> list[str]:
    names = [name.strip() for name in (given or "").split(",") if name.strip()] or list(known)
    if unknown := [name for name in names if name not in known]:
        raise click.UsageError(f"no {what} called {', '.join(unknown)}; there are {', '.join(known)}")
    return [name for name in known if name in names]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--workload", metavar="NAME,…", help="Only these workloads.  [default: all]")
@click.option("--contender", metavar="NAME,…", help="Only these contenders.  [default: all]")
@click.option("--rounds", default=3, show_default=True, help="How often everything is run; ratios are taken per round.")
@click.option("--scale", default=1.0, show_default=True, help="Multiplies the numbers of jobs.")
@click.option("--seconds", default=1.0, show_default=True, help="Multiplies the lengths of time.")
@click.option("--quick", is_flag=True, help="One small round, in under 3 minutes: the peers in w1 and w2 only.")
@click.option(
    "--output", default="benchmarks/results", show_default=True, type=click.Path(path_type=Path, file_okay=False)
)
@click.option("--checkout", type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
              default=REPOSITORY, help="Whose worker is ours: another checkout, with its .venv.")  # fmt: skip
@click.option("--report", "only_report", is_flag=True, help="Write the tables and charts of latest.json anew, no more.")
@click.option("--list", "only_list", is_flag=True, help="Show the workloads and the contenders, and do nothing.")
def main(
    workload: str | None,
    contender: str | None,
    rounds: int,
    scale: float,
    seconds: float,
    output: Path,
    checkout: Path,
    *,
    quick: bool,
    only_report: bool,
    only_list: bool,
) -> int:
    """Measure shithubd-worker beside its peers and beside the limit, all in one run, round by round.

    Installs the peers beside itself, starts a PostgreSQL of its own, and writes latest.json, results.md and the charts.

    \b
    Examples:
      python -m benchmarks
      python -m benchmarks --quick
      python -m benchmarks --workload w1,w4 --contender ours,graphile --rounds 5
      python -m benchmarks --workload w3 --contender ours --scale 0.1 --output /tmp/figures
    """
    contenders = all_contenders(checkout)
    default = ",".join(QUICK_FOR_ALL + QUICK_FOR_OURS) if quick else None
    chosen_workloads = _chosen(workload or default, [w.name for w in workloads.ALL], "workload")
    chosen = _chosen(contender, [c.name for c in contenders], "contender")
    if only_list:
        _show(contenders)
        return 0
    if only_report:
        install([])
        _draw(output)
        report.write(load(output / "latest.json"), output)
        return 0
    plan = [w for w in workloads.ALL if w.name in chosen_workloads]
    field = [c for c in contenders if c.name in chosen]
    size, rounds = (QUICK, 1) if quick else (Size(scale, seconds), rounds)
    for number in (signal.SIGTERM, signal.SIGINT):  # SIGINT too: a shell's background job begins with it ignored
        signal.signal(number, signal.default_int_handler)
    output.mkdir(parents=True, exist_ok=True)
    install(field)
    with ended_at_the_end(), running_cluster() as cluster:
        results = Results(
            machine=machine.describe(cluster, checkout),
            command=shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
            scale=size.scale,
            rounds=rounds,
            contenders={c.name: _description(c) for c in contenders},
            began=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        began = time.monotonic()
        for each in plan:
            present = [c for c in field if _takes_part(c, each, quick=quick)]
            _measure(cluster, each, present, min(rounds, each.rounds), size, results)
            results.seconds = round(time.monotonic() - began, 1)
            results.write(output / "latest.json")
            cluster.forget_templates()
    _draw(output)
    report.write(results, output)
    _say(f"{results.seconds:.0f} s; see {output / 'results.md'}")
    return EXIT_ERROR if any(r.error for r in results.runs) else 0


def _description(contender: Contender) -> dict[str, str | bool]:
    return {name: getattr(contender, name) for name in ("title", "settings", "one_at_a_time")}


def _draw(output: Path) -> None:
    """With the peers' Python: the plotting library lives there."""
    words = (PEERS_PYTHON, "-m", "benchmarks.charts", output.resolve())
    run_to_end(Command(words, {"PYTHONPATH": str(REPOSITORY)}))


def _takes_part(contender: Contender, workload: Workload, *, quick: bool) -> bool:
    if quick and workload.name not in QUICK_FOR_ALL and contender.name != "ours":
        return False
    return not workload.contenders or contender.name in workload.contenders


def _measure(
    cluster: Cluster, workload: Workload, contenders: Sequence[Contender], rounds: int, size: Size, results: Results
) -> None:
    """All contenders of a workload, interleaved: what the machine does meanwhile hits all of them."""
    for number in range(1, rounds + 1):
        # Another one begins each round, so that nobody always follows the same one.
        shift = (number - 1) % len(contenders) if contenders else 0
        for contender in [*contenders[shift:], *contenders[:shift]]:
            began = time.monotonic()
            run = Run(workload.name, contender.name, number)
            try:
                outcome = workload.run(cluster, contender, size)
                run.figures = {name: round(value, 4) for name, value in outcome.figures.items()}
                run.lines, run.checked = outcome.lines, outcome.checked
                told = "  ".join(f"{name} {value:,.4g}" for name, value in run.figures.items())
            except (BenchmarkError, psycopg.Error) as error:
                run.error = told = str(error).strip().splitlines()[0]
                told = f"FAILED: {told}"
            results.runs.append(run)
            took = time.monotonic() - began
            _say(f"{workload.name} {number}/{rounds} {contender.name} ({took:.0f} s): {told}  {run.checked}")


def _show(contenders: Sequence[Contender]) -> None:
    for workload in workloads.ALL:
        click.echo(f"{workload.name:18} {workload.title}: {workload.text}")
    click.echo()
    for contender in contenders:
        click.echo(f"{contender.name:18} {contender.title}: {contender.settings}")


def _say(text: str) -> None:
    click.echo(text, err=True)


if __name__ == "__main__":
    try:
        sys.exit(main(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BenchmarkError as error:
        _say(f"error: {error}")
        sys.exit(EXIT_ERROR)
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted: the server and all workers were ended")
        sys.exit(EXIT_INTERRUPTED)
