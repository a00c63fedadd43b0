"""One run of one contender: its database, its workers, its recordings. All of it is gone at the end of the block."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import recordings
from benchmarks.cluster import Cluster
from benchmarks.contenders import Contender
from benchmarks.processes import BenchmarkError, Command, ask_to_end, end, last_line, run, start
from benchmarks.recordings import Recording

# Numbers below zero are for jobs that only warm a worker up; they are left out of every figure.
WARM_UP_JOBS = 5


@dataclass
class Stage:
    """Where one run takes place."""

    cluster: Cluster
    contender: Contender
    database: str
    directory: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    ended: bool = False

    @property
    def url(self) -> str:
        """The database's."""
        return self.cluster.url(self.database)

    def connect(self) -> psycopg.Connection[Any]:
        """A connection in autocommit mode."""
        return self.cluster.connect(self.url)

    def start_worker(
        self, *, until_empty: bool = False, recorded: bool = True, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a worker process."""
        command = self.contender.work_command(self.url, until_empty=until_empty)
        return self.start(command, recorded=recorded, env=env)

    def start(
        self, command: Command, *, recorded: bool = True, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start another command as a worker."""
        recording = {"BENCH_RECORD": str(self.directory)} if recorded else {}
        command = Command(command.argv, {**command.env, **recording, **(env or {})}, command.cwd)
        self.workers.append(start(command, self.log))
        return self.workers[-1]

    @property
    def log(self) -> Path:
        """What the workers print."""
        return self.directory / "log"

    def progress(self) -> int:
        """How many jobs began so far."""
        return recordings.progress(self.directory)

    def wait_for_progress(self, count: int, seconds: float) -> None:
        """Until so many jobs began. Raises BenchmarkError after that time, or when a worker ended with an error."""
        deadline = time.monotonic() + seconds
        while self.progress() < count:
            self.check_alive()
            if time.monotonic() > deadline:
                raise BenchmarkError(f"after {seconds:.0f} s {self.progress()} of {count} jobs had begun")
            time.sleep(0.002)

    def wait_or_give_up(self, count: int, seconds: float) -> None:
        """Until so many jobs began, or that time has passed."""
        deadline = time.monotonic() + seconds
        while self.progress() < count and time.monotonic() < deadline:
            self.check_alive()
            time.sleep(0.02)

    def keeps_up(self, count: int, seconds: float = 10.0) -> bool:
        """Did so many jobs begin, at most that time after the last was enqueued? Then they are soon settled too."""
        self.wait_or_give_up(count, seconds)
        if self.progress() < count:
            return False
        self.settled()
        return True

    def check_alive(self) -> None:
        """Raises BenchmarkError if a worker ended with an error."""
        for worker in self.workers:
            if worker.poll():
                said = last_line(self.log.read_text(errors="replace"))
                raise BenchmarkError(f"{self.contender.name} exited {worker.returncode}: {said}")

    def settled(self) -> float:
        """Wait until no job is unsettled, and return when that was."""
        deadline = time.monotonic() + 60
        with self.connect() as connection:
            query = f"SELECT EXISTS ({self.contender.unsettled.replace('count(*)', '1')})"
            while True:
                asked_at = time.time()
                row = connection.execute(query, prepare=True).fetchone()
                if row == (False,):
                    return asked_at
                if time.monotonic() > deadline:
                    raise BenchmarkError("the last jobs were not settled within 60 s")
                time.sleep(0.001)

    def count_unsettled(self) -> int:
        """How many jobs are not settled, exactly."""
        with self.connect() as connection:
            row = connection.execute(self.contender.unsettled).fetchone()
            return int(row[0]) if row else 0

    def enqueue(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        """Enqueue by a plan, from a process of its own, and return what it told."""
        return told(run(self.contender.enqueue_command(self.url, plan)))

    def start_enqueuing(self, plan: Mapping[str, Any], name: str) -> subprocess.Popen[bytes]:
        """As `enqueue`, in the background; `enqueued` returns what it told."""
        return start(self.contender.enqueue_command(self.url, plan), self.directory / name)

    def enqueued(self, process: subprocess.Popen[bytes], name: str, seconds: float = 300.0) -> dict[str, Any]:
        """Wait for what was started in the background."""
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"enqueueing took longer than {seconds:.0f} s") from None
        finally:
            end(process)
        return told((self.directory / name).read_text())

    def warm_up(self) -> None:
        """Some jobs, until they ran: the worker is there, and has prepared its statements."""
        before = self.progress()
        plan = {"mode": "paced", "first": -WARM_UP_JOBS, "count": WARM_UP_JOBS, "rate": 20}
        self.enqueue(plan)
        self.wait_for_progress(before + WARM_UP_JOBS, 60)
        time.sleep(0.3)

    def end_workers(self) -> list[Recording]:
        """Send SIGTERM, unless a worker ends at an empty queue. Wait, and read what they recorded."""
        self.ended = True
        for worker in self.workers:
            ask_to_end(worker)
        for worker in self.workers:
            if not end(worker):
                said = self.log.read_text(errors="replace")[-4000:]
                raise BenchmarkError(f"{self.contender.name} did not end within 20 s of SIGTERM; it said:\n{said}")
        return recordings.read(self.directory, len(self.workers))


def told(output: str) -> dict[str, Any]:
    """The JSON that an enqueuer printed last."""
    try:
        answer: dict[str, Any] = json.loads(last_line(output))
    except ValueError:
        raise BenchmarkError(f"the enqueuer failed: {last_line(output)}") from None
    return answer


@contextmanager
def staged(cluster: Cluster, contender: Contender, jobs: int = 0) -> Iterator[Stage]:
    """A stage with a copy of a database in which so many jobs wait; loaded once, and kept for later rounds."""
    database = cluster.create(_template(cluster, contender, jobs))
    directory = Path(tempfile.mkdtemp(prefix="shithubd-bench-"))
    stage = Stage(cluster, contender, database, directory)
    try:
        yield stage
    finally:
        for worker in stage.workers:
            end(worker, patience=2.0)
        cluster.drop(database)
        shutil.rmtree(directory, ignore_errors=True)


def _template(cluster: Cluster, contender: Contender, jobs: int) -> str:
    key = f"{contender.system} {jobs}"
    found = cluster.template(key)
    if found is None:
        found = cluster.create(_template(cluster, contender, 0)) if jobs else cluster.create()
        cluster.remember(key, found)
        url = cluster.url(found)
        if jobs:
            run(contender.load_command(url, 1, jobs), timeout=1800)
        else:
            run(contender.migrate_command(url))
        with cluster.connect(url) as connection:
            # As a database is that has been up for a while: hint bits set, statistics there.
            connection.execute("VACUUM (ANALYZE)")
    return found
