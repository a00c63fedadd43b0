"""This worker, run as its users run it: the command line, defaults, metrics on, the log to a file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.contenders.contender import Contender
from benchmarks.paths import OWN_PYTHON, REPOSITORY
from benchmarks.processes import Command

HANDLERS = "benchmarks.runners.ours_jobs:registry"
# One job at a time: nothing is leased ahead.
ONE_AT_A_TIME = ("--prefetch", "0")


@dataclass(frozen=True)
class Ours(Contender):
    """`shithubd-worker run`, of the checkout that the benchmark lies in, or of another one."""

    arguments: tuple[str, ...] = ()
    checkout: Path = REPOSITORY

    def command(self, url: str, *words: str, **variables: str) -> Command:
        """A command of shithubd-worker."""
        # The checkout's own Python comes first in its virtual environment; the benchmark's handlers by PYTHONPATH.
        python = self.checkout / ".venv" / "bin" / "python"
        env = {
            "SHITHUBD_WORKER_DATABASE_URL": url,
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONFAULTHANDLER": "1",  # as in the unit
            **variables,
        }
        return Command([python if python.exists() else OWN_PYTHON, "-m", "shithubd_worker", *words], env, self.checkout)

    def migrate_command(self, url: str) -> Command:
        """Makes its schema."""
        return self.command(url, "migrate")

    def work_command(self, url: str, *, until_empty: bool = False) -> Command:
        """Runs jobs until SIGTERM, or until there are none."""
        ending = ("--until-empty",) if until_empty else ()
        return self.command(url, "run", "--handlers", HANDLERS, *ending, *self.arguments)


def ours(checkout: Path = REPOSITORY) -> tuple[Ours, Ours]:
    """The worker of a checkout: with its defaults, and one job at a time."""
    defaults = Ours(
        name="ours",
        title="shithubd-worker",
        settings="defaults",
        runner=(),
        enqueue_runner=(OWN_PYTHON, "-m", "benchmarks.runners.enqueuer"),
        unsettled="SELECT count(*) FROM jobs",
        churn=(
            "UPDATE jobs SET state = 'processing', leased_by = 'host:1', leased_at = now(), attempts = 1,"
            " lease_expires_at = now() + interval '300 s', lease_token = gen_random_uuid(),"
            " worker_id = gen_random_uuid()",
            "DELETE FROM jobs",
        ),
        expected=50_000,
        system="ours",
        checkout=checkout,
    )
    single = replace(
        defaults,
        name="ours-single",
        title="shithubd-worker, one job at a time",
        settings=" ".join(ONE_AT_A_TIME),
        arguments=ONE_AT_A_TIME,
        one_at_a_time=True,
        expected=2_000,
    )
    return defaults, single
