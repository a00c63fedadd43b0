"""One session: a network, a server, workers, and cuts."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from partitions.fleet import Fleet, start_server
from partitions.network import Network
from partitions.trial import Trial, Trials, draw
from partitions.verdict import broken, overlaps, report


@dataclass
class Outcome:
    """What came of a session."""

    trials: list[Trial]
    broken: list[str]
    overlaps: list[str]
    text: str


@contextmanager
def fleet(folder: Path, workers: int, handlers: str = "partitions.handlers:registry") -> Iterator[Fleet]:
    """So many workers, each on a host of its own."""
    network = Network(workers)
    try:
        server = start_server(network)
        try:
            made = Fleet(network, range(workers), server, folder / "cuts", handlers)
            try:
                yield made
            finally:
                made.end()
        finally:
            server.remove()
    finally:
        network.end()


def cut_off(
    folder: Path, cuts: int, stops: int, workers: int, at_once: int, seed: object, longest: float = 3.0
) -> Outcome:
    """Cut workers off so many times, stop others, and judge. `longest`: of a cut, in thresholds."""
    dice = random.Random(f"{seed}")
    with fleet(folder, workers) as made:
        began = time.monotonic()
        trials = Trials(made, seed, lambda line: print(line, flush=True)).run(draw(cuts, dice, stops, longest), at_once)
        text = report(made, trials, time.monotonic() - began)
        found = broken(made, trials)
        return Outcome(trials, found, overlaps(made), "\n".join([text, *(found or ["no promise was broken"])]))
