"""In place of systemd: starts the workers, starts again those that died, and records how each ended.

The slots differ in who returns the leases of a dead worker. For some slots it is `release-dead`, at once, as
ExecStopPost= would. For some it is the next worker that starts on the host, which can prove the death. Some
pretend to be on another machine: their leases must expire, or a sweep takes the jobs because the worker is silent.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psycopg

from torture.records import AWAY, PARENT, Log
from torture.schedule import SILENT

TESTS = Path(__file__).parents[1]
TICK_SECONDS = 0.02
LAST_WORDS = 6000  # bytes: the stacks of all threads, if it left any
# A limit for faults, never a measure.
PATIENCE = 120.0


def clean_environment(url: str) -> dict[str, str]:
    """Nothing of the caller's environment reaches the product: no database, no settings, no measurement of coverage."""
    private = ("PG", "SHITHUBD_WORKER_", "COV")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(private)}
    return {**clean, "SHITHUBD_WORKER_DATABASE_URL": url, "PYTHONPATH": str(TESTS)}


def _end_group(leader: int) -> None:
    """A process that a handler forked is in its worker's group, and ends with it, as with its unit's cgroup."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


class Slot:
    """A place for one worker at a time. `returns`: who returns the leases of a dead one: release-dead, restart or
    nobody. `threshold` and `delay`: its --sweep-threshold and --recovery-delay."""

    def __init__(
        self,
        number: int,
        url: str,
        *,
        returns: str,
        unit: bool,
        grace: float,
        threshold: float = SILENT,
        delay: float = 0.0,
    ) -> None:
        self.number, self.url, self.returns, self.grace = number, url, returns, grace
        self.threshold, self.delay = threshold, delay
        self.unit = f"torture@{number}.service" if unit else None
        self.process: subprocess.Popen[bytes] | None = None
        self.ready = False
        self.invocation = ""
        self.output = Path()
        self.start_at = 0.0
        self.helper: subprocess.Popen[bytes] | None = None
        self.elsewhere = False
        self.lock = threading.RLock()


class Supervisor(threading.Thread):
    """A thread that lives as long as any worker, because workers die with it (records.die_with_parent)."""

    def __init__(self, slots: list[Slot], url: str, logs: Path, log: Log, seed: int) -> None:
        super().__init__(name="supervisor", daemon=True)
        self.slots = slots
        self._url = url
        self._logs = logs
        self._log = log
        self._dice = random.Random(f"{seed} supervisor")
        self._starts = 0
        self._restart = True
        self._finish = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Look after all slots until `finish`, then end the processes that still run."""
        try:
            while not self._finish.wait(TICK_SECONDS):
                for slot in self.slots:
                    with slot.lock:
                        self._look_after(slot)
        except BaseException as error:
            self.failure = error
            raise
        finally:
            for slot in self.slots:
                for process in (slot.process, slot.helper):
                    if process is not None:
                        _end_group(process.pid)
                        process.wait()

    def send(self, slot: Slot, number: signal.Signals, process: subprocess.Popen[bytes] | None = None) -> bool:
        """A signal to the slot's worker, or to this process of it. Returns False if there is none (any more)."""
        with slot.lock:
            if slot.process is None or (process is not None and slot.process is not process):
                return False
            if slot.process.poll() is not None or (number == signal.SIGTERM and not slot.ready):
                return False  # before the worker has set its own handler, a SIGTERM just ends it
            if number != signal.SIGCONT:
                self._log("signal", slot=slot.number, pid=slot.process.pid, signal=number.name)
            slot.process.send_signal(number)
            if number == signal.SIGCONT:  # the recorded stop lasts at least as long as the real one
                self._log("signal", slot=slot.number, pid=slot.process.pid, signal=number.name)
            return True

    def all_ready(self) -> bool:
        """Does each slot have a worker that can lease?"""
        return all(slot.ready for slot in self.slots)

    def stop_all(self) -> None:
        """SIGTERM to every worker. Returns when all are gone, or at the end of the patience."""
        self._restart = False
        deadline = time.monotonic() + PATIENCE
        asked: set[int] = set()
        while time.monotonic() < deadline and self.is_alive():
            alive = [slot for slot in self.slots if slot.process is not None or slot.helper is not None]
            if not alive:
                return
            for slot in alive:
                if slot.number not in asked and self.send(slot, signal.SIGTERM):
                    asked.add(slot.number)
            time.sleep(TICK_SECONDS)
        self._log("stuck", what_is="workers that didn't end", slots=[s.number for s in self.slots if s.process])

    def finish(self) -> None:
        """Ends the thread, and every process that it started."""
        self._finish.set()
        if self.ident is not None:
            self.join()

    def _look_after(self, slot: Slot) -> None:
        if slot.helper is not None and slot.helper.poll() is not None:
            self._log("release-dead", slot=slot.number, code=slot.helper.returncode)
            slot.helper = None
        if slot.process is not None:
            code = slot.process.poll()
            if code is not None:
                self._bury(slot, code)
            elif not slot.ready:
                slot.ready = b" ready\n" in slot.output.read_bytes()
            elif slot.returns == "nobody" and not slot.elsewhere:
                self._move_elsewhere(slot)
        elif self._restart and slot.helper is None and time.monotonic() >= slot.start_at:
            self._start(slot)

    def _start(self, slot: Slot) -> None:
        self._starts += 1
        slot.invocation, slot.ready, slot.elsewhere = uuid4().hex, False, False
        slot.output = self._logs / f"worker-{slot.number}-{self._starts}.err"
        environment = {
            **clean_environment(slot.url),
            PARENT: str(os.getpid()),
            "TORTURE_LOGS": str(self._logs),
            "TORTURE_SLOT": str(slot.number),
            "SHITHUBD_WORKER_GRACE": str(slot.grace),
            "SHITHUBD_WORKER_HEARTBEAT_INTERVAL": "1",
            "SHITHUBD_WORKER_SWEEP_THRESHOLD": str(slot.threshold),
            "SHITHUBD_WORKER_SWEEP_INTERVAL": "1",
            "SHITHUBD_WORKER_RECOVERY_DELAY": str(slot.delay),
        }
        if slot.unit:
            environment |= {"SHITHUBD_WORKER_UNIT": slot.unit, "INVOCATION_ID": slot.invocation}
        command = ["run", "--handlers", "torture.handlers:registry", "--metrics", "off"]
        with slot.output.open("wb") as output:
            slot.process = self._launch(command, environment, output.fileno())
        same = {"slot": slot.number, "pid": slot.process.pid}
        self._log("started", **same, grace=slot.grace, unit=slot.unit, threshold=slot.threshold)

    def _bury(self, slot: Slot, code: int) -> None:
        assert slot.process is not None
        _end_group(slot.process.pid)
        last = slot.output.read_bytes()[-LAST_WORDS:].decode(errors="replace")
        self._log("exit", slot=slot.number, pid=slot.process.pid, code=code, ready=slot.ready, last_words=last)
        slot.process, slot.ready = None, False
        slot.start_at = time.monotonic() + self._dice.uniform(0.05, 0.6)
        if slot.returns == "release-dead":
            environment = clean_environment(self._url)
            slot.helper = self._launch(["release-dead", "--invocation-id", slot.invocation], environment)
        elif code == 0:
            slot.output.unlink()  # no output

    def _launch(
        self, command: list[str], environment: dict[str, str], output: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "shithubd_worker", *command],
            env=environment,
            cwd=TESTS,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def _move_elsewhere(self, slot: Slot) -> None:
        """From now on nobody can prove this worker's death."""
        assert slot.process is not None
        with suppress(*AWAY), psycopg.connect(self._url, autocommit=True, connect_timeout=1) as connection:
            moved = connection.execute(
                "UPDATE workers SET machine_id = 'elsewhere' WHERE pid = %s AND machine_id <> 'elsewhere'",
                (slot.process.pid,),
            )
            slot.elsewhere = moved.rowcount > 0
