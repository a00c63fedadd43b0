"""Cuts one worker off after the other, many at once, each at a random moment of a run."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from waiting import eventually

from partitions.fleet import THRESHOLD, Fleet
from partitions.network import CUTS

KINDS = ("sleeps", "computes", "swallows", "holds", "forks", "commits", "asks")
# A worker behind one of these hears nothing of the database, so its job must go on elsewhere.
DEAF = ("both", "to the server", "from the server", "reset")
PATIENCE = 150.0  # seconds; after a second crash, a job rests for 36


@dataclass
class Trial:
    """One cut, and what came of it. Times are on the monotonic clock."""

    kind: str
    sort: str
    seconds: float
    job: int = 0
    host: int = -1
    cut_at: float = 0.0
    healed_at: float = 0.0
    began_again_at: float = 0.0  # on another host
    lives_again: bool = False
    trouble: str = ""
    codes: list[int] = field(default_factory=list)  # exit codes of the worker since the cut

    @property
    def recovery(self) -> float | None:
        """How long after the cut another worker began."""
        return self.began_again_at - self.cut_at if self.began_again_at else None

    @property
    def must_recover(self) -> bool:
        """Was the worker silent for so long that another one had to begin?"""
        return self.sort in (*DEAF, "SIGSTOP") and self.seconds > THRESHOLD + 6


def runs(fleet: Fleet, job: int) -> list[dict[str, Any]]:
    """What the runs of a job have written down."""
    file = fleet.evidence / f"{job}.runs"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


class Trials:
    """Runs them, so many at once. `say`: tells of each one."""

    def __init__(self, fleet: Fleet, seed: object, say: Any = print) -> None:
        self._fleet = fleet
        self._seed = seed
        self._say = say
        self._busy: set[int] = set()
        self._lock = threading.Lock()
        self.done: list[Trial] = []
        self._left: list[tuple[int, Trial]] = []

    def run(self, trials: list[Trial], at_once: int) -> list[Trial]:
        """Run all of them. What a trial raises is its trouble."""
        self._left = list(enumerate(trials))[::-1]
        stop = threading.Event()
        threads = [threading.Thread(target=self._work, name=f"trials {n}") for n in range(at_once)]
        background = threading.Thread(target=self._short_jobs, args=(stop,))
        for thread in (background, *threads):
            thread.start()
        try:
            for thread in threads:
                thread.join()
        finally:  # also when a test ran into its limit
            stop.set()
            with self._lock:
                self._left.clear()
        background.join()
        return trials

    def _short_jobs(self, stop: threading.Event) -> None:
        while not stop.wait(0.5):
            self._fleet.query("INSERT INTO jobs (kind) SELECT 'quick' FROM generate_series(1, 6)")

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._left:
                    return
                number, trial = self._left.pop()
            dice = random.Random(f"{self._seed} {number}")
            try:
                self._try(trial, dice)
            except BaseException as error:
                trial.trouble = f"{type(error).__name__}: {error}"
            self._say(f"{number}: {asdict(trial)}, recovery {trial.recovery}")

    def _try(self, trial: Trial, dice: random.Random) -> None:
        fleet = self._fleet
        while not self._caught(trial):
            self._touch(trial, "door")
        try:
            time.sleep(dice.uniform(0, 3))
            self._touch(trial, f"cut.web{trial.host}")
            ended = len(fleet.ends(trial.host))
            self._cut(trial, dice)
            if trial.must_recover:
                what = f"job {trial.job} begins on another host than {trial.host}"
                eventually(lambda: self._began_again(trial), what, within=PATIENCE)
            time.sleep(dice.uniform(0, 1))
        finally:
            self._touch(trial, "door")
            with self._lock:
                self._busy.discard(trial.host)
        gone = "SELECT id FROM jobs WHERE id = %s"
        eventually(lambda: not fleet.query(gone, trial.job), f"the end of job {trial.job}", within=PATIENCE)
        self._began_again(trial)
        host = f"web{trial.host}"
        eventually(lambda: host in fleet.living(), f"the worker on {host} lives again", within=PATIENCE)
        trial.lives_again = True
        trial.codes = [code for code, _ in fleet.ends(trial.host)[ended:]]

    def _caught(self, trial: Trial) -> bool:
        """Is there a run of it now, on a host that nobody else cuts off?"""
        trial.job = self._fleet.enqueue(trial.kind)
        eventually(lambda: runs(self._fleet, trial.job), f"job {trial.job} begins", within=PATIENCE)
        trial.host = int(runs(self._fleet, trial.job)[-1]["worker"].removeprefix("web"))
        with self._lock:
            if trial.host in self._busy:
                return False
            self._busy.add(trial.host)
        return True

    def _cut(self, trial: Trial, dice: random.Random) -> None:
        """Cut, wait, heal; and note meanwhile when another worker begins."""
        network, host = self._fleet.network, trial.host
        stopped = self._fleet.pid(host) if trial.sort == "SIGSTOP" else 0
        port = self._fleet.control_port(host) if stopped == 0 else 0
        trial.cut_at = time.monotonic()
        until = trial.cut_at + trial.seconds
        try:
            if stopped:
                os.kill(stopped, signal.SIGSTOP)
            else:
                network.cut(host, trial.sort, port)
            while (left := until - time.monotonic()) > 0:
                if trial.sort != "flapping":
                    time.sleep(left)
                    break
                for change in (lambda: network.heal(host), lambda: network.cut(host, "flapping")):
                    time.sleep(dice.uniform(0.1, 3))
                    change()
        finally:
            trial.healed_at = time.monotonic()
            if stopped:
                os.kill(stopped, signal.SIGCONT)
            else:
                network.heal(host)

    def _began_again(self, trial: Trial) -> bool:
        # Also beside another run: that breaks a promise, and nobody needs to wait for more.
        began = [r for r in runs(self._fleet, trial.job) if r["event"] in ("begin", "overlap")]
        later = [r for r in began if r["at"] > trial.cut_at]
        elsewhere = [r["at"] for r in later if r["worker"] != f"web{trial.host}"]
        trial.began_again_at = min(elsewhere, default=0.0)
        return bool(elsewhere)

    def _touch(self, trial: Trial, what: str) -> None:
        Path(self._fleet.evidence / f"{trial.job}.{what}").touch()


def draw(cuts: int, dice: random.Random, stops: int, longest: float) -> list[Trial]:
    """So many cuts: each sort as often as the others, each kind, and times around the threshold."""
    sorts = [list(CUTS)[number % len(CUTS)] for number in range(cuts)] + ["SIGSTOP"] * stops
    trials = []
    for number, sort in enumerate(sorts):
        kind = "steps" if sort == "SIGSTOP" else KINDS[(number + number // len(CUTS)) % len(KINDS)]
        shortest = 1.7 if sort == "SIGSTOP" else 0.5
        trials.append(Trial(kind, sort, THRESHOLD * dice.uniform(shortest, longest)))
    dice.shuffle(trials)
    return trials
