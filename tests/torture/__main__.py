"""The torture run, started by hand. The package's docstring says what it is."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from torture.schedule import SORTS
from torture.session import Outcome, judge, torture
from torture.stage import Plan, stop_on_sigterm

EXAMPLES = """
examples, from the folder tests/:
  python -m torture --seconds 60                       a minute, of a new seed, on Debian's PostgreSQL
  python -m torture --seconds 300 --seed 7 --postgres 18
  python -m torture --only kill,barrier                nothing but SIGKILL, and holds with their barriers
  python -m torture --judge /tmp/torture-7-abc         the verdict on logs that were kept

exit code: 0 clean, 1 a promise was broken (the logs stay, and the last lines say where), 130 interrupted
"""


def main() -> int:
    """Run and print. The exit code says whether all promises were kept."""
    parser = argparse.ArgumentParser(
        prog="python -m torture",
        description="Torture workers and their database; an independent checker says whether each promise was kept.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=60, help="how long there are faults (default: 60)")
    parser.add_argument(
        "--seed",
        type=int,
        help="repeats the schedule of the faults, not the interleaving of the processes (default: a new one)",
    )
    parser.add_argument(
        "--postgres",
        default="debian",
        choices=["debian", "embedded", "15", "18"],
        help="which server; the embedded one is PostgreSQL 18, and takes the place of one that isn't there",
    )
    parser.add_argument("--only", default=",".join(SORTS), help=f"which faults, of {', '.join(SORTS)}")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a clean run too")
    parser.add_argument("--judge", type=Path, metavar="LOGS", help="run nothing: judge logs that were kept")
    given = parser.parse_args()
    if given.judge:
        return told(judge(given.judge))
    only = given.only.split(",")
    if unknown := set(only) - set(SORTS):
        parser.error(f"--only: no such faults: {', '.join(sorted(unknown))}")
    seed = random.SystemRandom().randrange(1_000_000) if given.seed is None else given.seed
    stop_on_sigterm()
    try:
        outcome = torture(Plan(given.seconds, seed, given.postgres, only), say, keep=given.keep)
    except KeyboardInterrupt:
        print("interrupted: all that was started is ended", file=sys.stderr)
        return 130
    return told(outcome)


def say(text: str) -> None:
    """Print progress at once."""
    print(text, flush=True)


def told(outcome: Outcome) -> int:
    """Print it. Returns the exit code for it."""
    print(outcome.text)
    return 1 if outcome.verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
