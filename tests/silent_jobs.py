"""Handlers for tests of silent workers. Each run writes into a file when it lives, by the clock that all processes
share. The second run of a job ends at once."""

from __future__ import annotations

import collections
import itertools
import time
from pathlib import Path

from shithubd_worker.registry import Registry

registry = Registry()
LIVES_EVERY_SECONDS = 0.02


class Run:
    """One run of a job, and whether it is the job's first."""

    def __init__(self, path):
        self._path = Path(path)
        self.first = not self._path.exists()
        self._began = time.monotonic()
        self.lives()

    def lives(self):
        """Write that this run lives now."""
        with self._path.open("a") as file:
            file.write(f"{self._began} {time.monotonic()}\n")

    def live_for(self, seconds):
        """Live for so long, if this is the first run."""
        while self.first and time.monotonic() < self._began + seconds:
            time.sleep(LIVES_EVERY_SECONDS)
            self.lives()


@registry.handler("silent.obeys", lease_timeout=300, max_runtime=600)
def obeys(job, path):
    Run(path).live_for(3600)


@registry.handler("silent.swallows", lease_timeout=300, max_runtime=600)
def swallows(job, path):
    run = Run(path)
    while run.first:
        try:
            run.live_for(3600)
        except KeyboardInterrupt:
            job.log.info("interrupted, and going on")


@registry.handler("silent.holds", lease_timeout=86_400, max_runtime=600)
def holds(job, path, after):
    run = Run(path)
    run.live_for(after)
    if run.first:
        collections.deque(itertools.repeat(0), maxlen=0)  # a loop in C that lets nobody else run
