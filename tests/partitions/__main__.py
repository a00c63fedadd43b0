"""Cuts by hand, from the folder tests/:  python -m partitions --cuts 200 --workers 26 --at-once 12 --seed 7"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from tempfile import mkdtemp

from partitions.session import cut_off


def main() -> int:
    """Run and print. The exit code is 1 if a promise was broken; then the evidence stays."""
    parser = argparse.ArgumentParser(prog="python -m partitions", description="Cut workers off from their database.")
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--stops", type=int, default=10, help="so many workers are stopped (SIGSTOP) instead")
    parser.add_argument("--workers", type=int, default=26)
    parser.add_argument("--at-once", type=int, default=12)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--evidence", type=Path, help="the folder of what the runs write down (default: a new one)")
    given = parser.parse_args()
    folder = given.evidence or Path(mkdtemp(prefix="shw-partitions-"))
    print(f"seed {given.seed}, evidence in {folder}", flush=True)
    outcome = cut_off(folder, given.cuts, given.stops, given.workers, given.at_once, given.seed)
    print(outcome.text)
    return 1 if outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main())
