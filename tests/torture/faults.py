"""Carries out the faults that schedule.py drew, and records the beginning and the end of each."""

from __future__ import annotations

import heapq
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import psycopg
from servers import Server

from torture.proxy import Proxy
from torture.quota import Quota
from torture.records import AWAY, Log
from torture.schedule import Fault
from torture.supervisor import PATIENCE, Slot, Supervisor

Undo = tuple[float, Callable[[], None]]  # after this many seconds

# The application_name of the connection of a worker's control thread.
CONTROL = "shithubd-worker control"

# Busy for this many seconds. Many of these leave little processor time to all others.
_BURN = "import sys, time\nend = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < end: pass"


class Lane(threading.Thread):
    """One fault after the other, each with its end. `finish` ends those that last."""

    def __init__(self, name: str, plan: Iterator[Fault], carry_out: Callable[[Fault], list[Undo]]) -> None:
        super().__init__(name=name, daemon=True)
        self._plan = plan
        self._carry_out = carry_out
        self._finished = threading.Event()
        self.failure: BaseException | None = None

    def finish(self) -> None:
        """No more faults. Returns when the last one is over."""
        self._finished.set()
        self.join()

    def run(self) -> None:
        """Until `finish`."""
        undo: list[tuple[float, int, Callable[[], None]]] = []
        try:
            at = time.monotonic()
            for number, fault in enumerate(self._plan):
                # If the machine is slow to carry out one fault, the next one comes later, and not two at once.
                at = max(at, time.monotonic()) + fault.gap
                while undo and undo[0][0] <= at and not self._sleep_until(undo[0][0]):
                    heapq.heappop(undo)[2]()
                if self._sleep_until(at):
                    break
                for after, end in self._carry_out(fault):
                    heapq.heappush(undo, (time.monotonic() + after, number, end))
        except BaseException as error:
            self.failure = error
            raise
        finally:
            for _, _, end in undo:
                end()

    def _sleep_until(self, moment: float) -> bool:
        return self._finished.wait(max(0.0, moment - time.monotonic()))


class Processes:
    """Signals to workers, and processor time that is taken from them."""

    def __init__(self, supervisor: Supervisor, log: Log) -> None:
        self._supervisor = supervisor
        self._log = log

    def __call__(self, fault: Fault) -> list[Undo]:
        """Carry out one fault."""
        slot = self._supervisor.slots[fault.slot]
        process, send = slot.process, self._supervisor.send
        self._log("fault", sort=fault.sort, how=fault.how)
        if fault.sort == "kill":
            send(slot, signal.SIGKILL)
        elif fault.sort == "stop":
            if send(slot, signal.SIGSTOP):
                return [(fault.seconds, lambda: _ignore(send(slot, signal.SIGCONT, process)))]
        elif fault.sort == "term":
            if send(slot, signal.SIGTERM) and fault.how == "twice":
                return [(fault.seconds, lambda: _ignore(send(slot, signal.SIGTERM, process)))]
        elif fault.sort == "stall":
            self._stall(fault)
        elif fault.sort == "burn":
            return self._burn(fault)
        return []

    def _stall(self, fault: Fault) -> None:
        """As a CPU quota does it: again and again the process stands still for less than the barrier reserves."""
        slot = self._supervisor.slots[fault.slot]
        process = slot.process
        for _ in range(fault.times):
            if not self._supervisor.send(slot, signal.SIGSTOP):
                return
            time.sleep(fault.seconds)
            if not self._supervisor.send(slot, signal.SIGCONT, process):
                return
            time.sleep(fault.seconds / 4)

    def _burn(self, fault: Fault) -> list[Undo]:
        self._log("burn", seconds=fault.seconds)
        count = fault.times // 2 + 2 * (os.cpu_count() or 1)
        burners = [
            subprocess.Popen([sys.executable, "-S", "-c", _BURN, str(fault.seconds)], stdin=subprocess.DEVNULL)
            for _ in range(count)
        ]

        def put_out() -> None:
            for burner in burners:
                burner.kill()
                burner.wait()
            self._log("burnt")

        return [(fault.seconds, put_out)]


class Quotas:
    """A worker gets only a small share of one processor for a while."""

    def __init__(self, supervisor: Supervisor, quota: Quota, log: Log) -> None:
        self._supervisor = supervisor
        self._quota = quota
        self._log = log

    def __call__(self, fault: Fault) -> list[Undo]:
        """Carry out one fault. It is over when this returns."""
        slot = self._supervisor.slots[fault.slot]
        process = slot.process
        if process is None or not slot.ready or not self._quota.works:
            self._log("fault", sort=fault.sort, how="in vain")
            return []
        self._log("fault", sort=fault.sort, how=fault.how)
        facts = {"slot": slot.number, "pid": process.pid}
        self._log("quota", **facts)
        self._quota.set(process.pid, fault.times / 200)
        time.sleep(fault.seconds)
        self._quota.lift()
        self._log("lifted", **facts)
        return []


class Lines:
    """Connections that are cut: by the proxy in between, or by the database itself."""

    def __init__(self, proxies: dict[int, Proxy], url: str, log: Log) -> None:
        self._proxies = proxies  # by slot
        self._url = url
        self._log = log

    def __call__(self, fault: Fault) -> list[Undo]:
        """Carry out one fault."""
        self._log("fault", sort=fault.sort, how=fault.how)
        if fault.sort == "cut":
            order = f"stall {fault.seconds}" if fault.how == "stall" else fault.how
            self._log("cut", how=fault.how, seconds=fault.seconds)
            for proxy in self._proxies.values():
                proxy.tell(order)
            return []
        verb, whom = fault.how.split()
        chosen = {
            "all": "application_name LIKE 'shithubd-worker%%'",
            "one": "pid IN (SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'shithubd-worker%%'"
            " ORDER BY pid OFFSET %(slot)s LIMIT 1)",
            "handlers": "application_name = 'shithubd-worker handler'",
        }[whom]
        with suppress(*AWAY), psycopg.connect(self._url, autocommit=True, connect_timeout=2) as connection:
            self._log("backends", how=verb, whom=whom)
            query = f"SELECT pg_{verb}_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND {chosen}"
            connection.execute(query, {"slot": fault.slot})  # type: ignore[arg-type]
        return []


class Silences:
    """A worker falls silent for longer than it may, in the middle of a job whose lease lasts, if there is one."""

    def __init__(self, supervisor: Supervisor, proxies: dict[int, Proxy], url: str, log: Log) -> None:
        self._supervisor = supervisor
        self._proxies = proxies
        self._url = url
        self._log = log

    def __call__(self, fault: Fault) -> list[Undo]:
        """Carry out one fault."""
        self._log("fault", sort=fault.sort, how=fault.how)
        send, spared = self._supervisor.send, self._supervisor.slots[-1]
        if fault.how == "kill":  # its death is proved by nobody
            slot = self._chosen(fault, [each for each in self._supervisor.slots if each.returns == "nobody"])
            send(slot, signal.SIGKILL)
        elif fault.how == "stop":
            slot = self._chosen(fault, [each for each in self._supervisor.slots if each is not spared])
            process = slot.process
            if send(slot, signal.SIGSTOP):
                return [(fault.seconds, lambda: _ignore(send(slot, signal.SIGCONT, process)))]
        else:
            slot = self._chosen(fault, [self._supervisor.slots[number] for number in self._proxies])
            self._log("cut", how=f"silence {fault.how}", seconds=fault.seconds, slot=slot.number)
            whose = CONTROL if fault.how == "control" else ""
            self._proxies[slot.number].tell(f"stall {fault.seconds} {whose}")
        return []

    def _chosen(self, fault: Fault, slots: Sequence[Slot]) -> Slot:
        """The first one that begins such a job within some seconds, else any."""
        deadline = time.monotonic() + PREY_SECONDS
        with suppress(*AWAY), psycopg.connect(self._url, autocommit=True, connect_timeout=2) as connection:
            while time.monotonic() < deadline:
                rows = connection.execute(_LONG_JOBS).fetchall()
                for slot in slots:
                    if slot.process is not None and (str(slot.process.pid),) in rows:
                        return slot
                time.sleep(0.1)
        return slots[fault.slot % len(slots)]


# The pids of the workers that have just begun one. It goes on for longer than the silence takes to be seen.
_LONG_JOBS = (
    "SELECT split_part(leased_by, ':', 2) FROM jobs WHERE state = 'processing' AND kind LIKE 'torture.long%'"
    " AND (payload->>'seconds')::float8 > 10 AND leased_at > clock_timestamp() - interval '3 seconds'"
)
PREY_SECONDS = 3.0


# `half a kind`: the kind that runs most now, so that there are jobs of it.
_LOCKS = {
    "rows": "SELECT id FROM jobs WHERE state = 'processing' ORDER BY random() LIMIT %(times)s FOR UPDATE",
    "half a kind": "UPDATE jobs SET priority = priority WHERE id %% 2 = 0 AND kind = (SELECT kind FROM jobs"
    " WHERE state = 'processing' ORDER BY random() LIMIT 1) RETURNING id",
}


class Locks:
    """A session that locks rows of jobs and waits, like a transaction that a person left open."""

    def __init__(self, url: str, log: Log) -> None:
        self._url = url
        self._log = log

    def __call__(self, fault: Fault) -> list[Undo]:
        """Carry out one fault."""
        self._log("fault", sort=fault.sort, how=fault.how)
        with suppress(*AWAY):
            connection = psycopg.connect(self._url, connect_timeout=2, application_name="torture lock")
            try:
                connection.execute("SET lock_timeout = '2s'")
                since = time.monotonic()
                rows = connection.execute(_LOCKS[fault.how], {"times": 10 * fault.times}).fetchall()  # type: ignore[arg-type]
            except psycopg.Error:  # other rows
                connection.close()
                return []
            jobs = [job for (job,) in rows]

            def unlock() -> None:
                connection.close()
                self._log("locked", how=fault.how, jobs=jobs, since=since)

            return [(fault.seconds, unlock)]
        return []


class Postgres:
    """The database dies, or restarts."""

    def __init__(self, server: Server, url: str, log: Log) -> None:
        self._server = server
        self._url = url
        self._log = log

    def __call__(self, fault: Fault) -> list[Undo]:
        """Carry out one fault. The database is back when this returns."""
        self._log("fault", sort=fault.sort, how=fault.how)
        self._log("down", how=fault.how)
        if fault.how == "kill":
            self._kill_postmaster()
        else:
            self._server.stop(fault.how)
        time.sleep(fault.seconds)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._server.start()
                psycopg.connect(self._url, connect_timeout=2).close()
                break
            except (RuntimeError, *AWAY):  # not all processes of the last one are gone
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self._log("up", how=fault.how)
        return []

    def _kill_postmaster(self) -> None:
        pid = int((self._server.directory / "data" / "postmaster.pid").read_text().split()[0])
        children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE
        while any(Path(f"/proc/{each}").exists() for each in (pid, *children)):  # the others notice it, and leave
            if time.monotonic() > deadline:
                raise RuntimeError("the processes of the killed postmaster stay")
            time.sleep(0.01)


def _ignore(_: object) -> None:
    """For a call whose output has nothing that is not in the log."""
