"""Operators: they pause and drain, wait for the barrier and resume; they also release, retry and discard single jobs.

What they record is on the careful side. A barrier counts from the moment at which its answer arrived until the moment
before the resume is sent.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from shithubd_worker.admin.change import Change, change_batch
from shithubd_worker.database.connection import connector
from shithubd_worker.database.operations import Operations, Scope
from shithubd_worker.ramps import Ramp
from torture.records import AWAY, Log
from torture.supervisor import PATIENCE, TESTS, clean_environment

# The kinds that run most, so that a pause has jobs to stop. Each operator has other kinds.
PAUSED_KINDS = (("torture.quick.a", "torture.works_on"), ("torture.effect", "torture.slow"))
# Jobs of the first one fail, so that ramps stop. The others are leased in large batches.
RAMPED_KINDS = ("torture.flaky", "torture.uneven", "torture.external", "torture.quick.b")
BARRIER_SECONDS = 20.0
IDLE_SECONDS = 3.0
REASON = "the torture run"


class Operator(threading.Thread):
    """Makes one change after the other, until `finish`. It waits for a database that is away."""

    def __init__(self, name: str, url: str, log: Log, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self._url = url
        self.log = log
        self.dice = random.Random(f"{seed} {name}")
        self._finished = threading.Event()
        self._operations: Operations | None = None
        self.failure: BaseException | None = None

    def act(self) -> None:
        """One change."""
        raise NotImplementedError

    def finish(self) -> None:
        """Returns when the last change is done, and what was held is resumed."""
        self._finished.set()
        self.join()

    def run(self) -> None:
        """Until `finish`."""
        try:
            while not self.rest(self.dice.uniform(0.02, 0.5)):
                try:
                    self.act()
                except AWAY:
                    self.hang_up()
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self.hang_up()

    def rest(self, seconds: float) -> bool:
        """Sleep. Returns True if there is nothing more to do."""
        return self._finished.wait(seconds)

    @property
    def operations(self) -> Operations:
        """The connection of a command. Here several commands share one."""
        if self._operations is None:
            self._operations = Operations(connector(self._url, "torture operator"), "public")
        return self._operations

    def hang_up(self) -> None:
        """The next command opens another connection."""
        if self._operations is not None:
            self._operations.close()
            self._operations = None

    def insist(self, what: Callable[[], object]) -> None:
        """Repeat it until it worked, even while the database is away."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                what()
                return
            except AWAY:
                self.hang_up()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def command(self, *arguments: str) -> int:
        """`shithubd-worker …` as a person types it. Returns its exit code."""
        done = subprocess.run(
            [sys.executable, "-m", "shithubd_worker", *arguments],
            env=clean_environment(self._url),
            cwd=TESTS,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        self.log("command", command=arguments[0], code=done.returncode, said=done.stderr[-600:])
        return done.returncode


class Holder(Operator):
    """Sets a hold, waits for its barrier, keeps it for a while, and resumes."""

    def __init__(self, name: str, url: str, log: Log, seed: int, targets: Sequence[str]) -> None:
        super().__init__(name, url, log, seed)
        self.targets = targets
        self._count = 0

    def choose(self) -> tuple[Scope, dict[str, Any]] | None:
        """What to hold, and what else the checker must know about it."""
        raise NotImplementedError

    def act(self) -> None:
        """One hold from its beginning to its end."""
        chosen = self.choose()
        if chosen is None:
            return
        scope, facts = chosen
        try:
            self.while_held(scope, facts)
        finally:
            self.insist(lambda: self._resume(scope))

    def while_held(self, scope: Scope, facts: dict[str, Any]) -> None:
        """What comes between a pause or a drain and its resume."""
        self.hold(scope, facts)

    def hold(self, scope: Scope, facts: dict[str, Any]) -> bool:
        """Set a hold and keep it for a while. Returns True if it was certain. What comes next ends it."""
        name = self.named()
        try:
            certain = self._hold_by_command(scope) if self.dice.random() < 0.2 else self._hold(scope)
            if certain:
                self.log("barrier", hold=name, scope=scope.scope, target=scope.target, **facts)
                self._keep(scope, name)
            return certain
        finally:
            self.log("resume", hold=name)  # before it is sent

    def named(self) -> str:
        """A name for the log."""
        self._count += 1
        return f"{self.name} {self._count}"

    def _keep(self, scope: Scope, name: str) -> None:
        """Keep the hold for a while, or until none of its jobs runs any more, as `--wait` does."""
        if self.dice.random() < 0.3:
            if self.operations.wait_until_idle(scope, time.monotonic() + IDLE_SECONDS, _say_nothing):
                self.log("idle", hold=name)
        else:
            self.rest(self.dice.uniform(0.05, 0.7))

    def _hold(self, scope: Scope) -> bool:
        operations, deadline = self.operations, time.monotonic() + BARRIER_SECONDS
        if scope.scope != "kind":
            operations.drain(scope, REASON, None)
            return operations.barrier(scope, deadline, _say_nothing)
        hold = operations.pause_kind(scope.target, REASON, None)
        certain = operations.barrier(scope, deadline, _say_nothing)
        if certain and self.dice.random() < 0.5:
            for _ in operations.mirror(hold):
                pass
        return certain

    def _hold_by_command(self, scope: Scope) -> bool:
        if scope.scope == "kind":
            return self.command("pause-kind", scope.target, "--reason", REASON) == 0
        target = [] if scope.scope == "fleet" else [f"--{scope.scope}", scope.target]
        return self.command("drain", *target, "--reason", REASON) == 0

    def _resume(self, scope: Scope) -> None:
        if scope.scope == "kind":
            self.operations.resume_kind(scope.target, REASON)
            self._unpause(scope.target)
        else:
            self.operations.resume(scope, REASON)

    def _unpause(self, kind: str) -> None:
        for _ in self.operations.unpause(kind):
            pass


class Pauser(Holder):
    """Pauses kinds."""

    def choose(self) -> tuple[Scope, dict[str, Any]] | None:
        """A kind."""
        return Scope("kind", self.dice.choice(self.targets)), {}


class Ramper(Pauser):
    """Pauses kinds, and resumes them in steps. Then it pauses once more beside the ramp, or ends it by a resume."""

    def choose(self) -> tuple[Scope, dict[str, Any]] | None:
        """The kind that has the most waiting jobs."""
        row = self.operations.connection.execute(
            "SELECT kind FROM jobs WHERE state = 'queued' AND kind = ANY (%s) GROUP BY kind ORDER BY count(*) DESC",
            (list(self.targets),),
        ).fetchone()
        return (Scope("kind", row[0]), {}) if row else None

    def while_held(self, scope: Scope, facts: dict[str, Any]) -> None:
        """A ramp begins only behind a barrier, so that all that starts beside it was leased under it."""
        while self.hold(scope, facts) and self.dice.random() < 0.8:
            self._ramp(scope.target)
            if self.dice.random() < 0.6:
                break

    def _ramp(self, kind: str) -> None:
        name, ramp = self.named(), self._drawn()
        limits = ramp._asdict()
        del limits["stop_at"]
        try:
            self.log("ramp", ramp=name, kind=kind, **limits)  # before it is sent
            if self.dice.random() < 0.15:
                if self.command("resume-kind", kind, "--reason", REASON, *_flags(ramp)) != 0:
                    return
            else:
                self.operations.ramp_kind(kind, ramp, REASON, None)
                self._unpause(kind)
            self.log("ramped", ramp=name)
            self.rest(self.dice.uniform(0.5, 6.0))
        finally:
            self.log("ramp over", ramp=name)  # before what ends it is sent

    def _drawn(self) -> Ramp:
        dice = self.dice
        limits = dice.sample(["canary", "steps", "rate"], dice.choice([1, 1, 2, 3]))
        steps = sorted(dice.sample(range(1, 101), dice.randint(1, 3))) if "steps" in limits else None
        return Ramp(
            canary=dice.randint(1, 4) if "canary" in limits else None,
            steps=steps,
            every=dice.choice([1.0, 2.0, 3.0]) if steps else None,
            rate=dice.choice([0.5, 2.0, 5.0, 40.0]) if "rate" in limits else None,
            stop_at=dice.choice([0.2, 0.5, 1.0]),
        )


class Drainer(Holder):
    """Drains the fleet, the host, a unit or a worker."""

    def choose(self) -> tuple[Scope, dict[str, Any]] | None:
        """A scope. For a worker with its pid, by which the handlers' log names it."""
        scope = self.dice.choice(["fleet", "host", "unit", "unit", "unit", "worker", "worker", "worker"])
        if scope == "fleet":
            return Scope("fleet"), {}
        if scope == "unit":
            return Scope("unit", self.dice.choice(self.targets)), {}
        workers = self.operations.workers()
        if not workers:
            return None
        worker = self.dice.choice(workers)
        if scope == "host":
            return Scope("host", worker["host"]), {}
        return Scope("worker", worker["id"]), {"pid": worker["pid"]}


class Clerk(Operator):
    """Releases, retries and discards single jobs."""

    def act(self) -> None:
        """One job."""
        what = self.dice.choice(["release", "force", "retry", "discard"])
        states = {"release": "processing", "force": "processing", "retry": "failed", "discard": None}
        found = self.operations.jobs({"state": states[what]}, 200)
        if what == "discard":
            found = [job for job in found if job["state"] != "processing"]
        if not found:
            return
        job = self.dice.choice(found)["id"]
        self.log("order", order=what, job=job)  # before it is sent, because its answer may get lost
        if self.dice.random() < 0.1:
            self.command("jobs", "release" if what == "force" else what, str(job), "--reason", REASON)
            return
        values: dict[str, object] = {"accept_second_run": True} if what == "force" else {}
        change = Change("release" if what == "force" else what, self.operations.actor, REASON, values)
        change_batch(self.operations, change, [job])


def _flags(ramp: Ramp) -> list[str]:
    """The options of `resume-kind` for a ramp."""
    values = {
        "--canary": ramp.canary,
        "--ramp": ramp.steps and ",".join(map(str, ramp.steps)),
        "--every": ramp.every and f"{ramp.every:g}s",
        "--rate": ramp.rate and f"{60 * ramp.rate:g}/m",
        "--stop-at": (ramp.steps or ramp.rate) and f"{100 * ramp.stop_at:g}%",
    }
    return [word for flag, value in values.items() if value for word in (flag, str(value))]


def _say_nothing(_: str) -> None:
    """Progress is for people."""
