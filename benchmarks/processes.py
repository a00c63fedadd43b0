"""Processes of the benchmark: started in sessions of their own, ended by their ids in every case."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
# A worker has this long to finish what it runs after SIGTERM, before it is killed and its run counts as failed.
STOP_SECONDS = 20.0

_started: list[subprocess.Popen[bytes]] = []
_asked: set[int] = set()


class BenchmarkError(Exception):
    """Something that this run needs is not so. One line that says what, and what to do."""


@dataclass(frozen=True)
class Command:
    """A program with its arguments, the variables added to the environment, and the directory to run it in."""

    argv: Sequence[str | Path]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path = Path("/")

    @property
    def words(self) -> list[str]:
        """The argv as text."""
        return [str(word) for word in self.argv]


def start(command: Command, log: Path, **settings: object) -> subprocess.Popen[bytes]:
    """Start a program whose output goes to `log`; `end` or `end_all` ends it."""
    with log.open("ab") as output:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            command.words,
            env=clean_environment() | dict(command.env),
            cwd=command.cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C is for the benchmark, which then ends its processes in order
            **settings,  # type: ignore[call-overload]
        )
    _started.append(process)
    return process


def run(command: Command, timeout: float = 600.0) -> str:
    """Run a program to its end and return its stdout. Raises BenchmarkError with the last line of its stderr."""
    process = subprocess.Popen(
        command.words,
        env=clean_environment() | dict(command.env),
        cwd=command.cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    _started.append(process)
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{name_of(command)} took longer than {timeout:.0f} s") from None
    finally:
        end(process)
    if process.returncode:
        raise BenchmarkError(f"{name_of(command)} exited {process.returncode}: {last_line(stderr.decode())}")
    return stdout.decode()


def ask_to_end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
    """Send the signal, once: a second one means another thing to many programs."""
    if process.poll() is None and process.pid not in _asked:
        _asked.add(process.pid)
        process.send_signal(number)


def end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM, patience: float = STOP_SECONDS) -> bool:
    """End a process that was started here: ask, then kill. False if it had to be killed."""
    asked = True
    if process.poll() is None:
        ask_to_end(process, number)
        try:
            process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            asked = False
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                process.send_signal(signal.SIGABRT)  # ours leaves its stacks in its log
                process.wait(timeout=2)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process in _started:
        _started.remove(process)
    _asked.discard(process.pid)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    return asked


@contextmanager
def ended_at_the_end() -> Iterator[None]:
    """End all processes that were started inside the block, the last first."""
    try:
        yield
    finally:
        for process in reversed(_started.copy()):
            end(process, patience=5.0)


def clean_environment() -> dict[str, str]:
    """This environment without what would steer PostgreSQL's clients, Python, Node or the worker."""
    ours = ("PG", "SHITHUBD_WORKER_", "BENCH_", "PYTHON", "NODE_OPTIONS", "NOTIFY_SOCKET", "INVOCATION_ID", "JOURNAL_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def name_of(command: Command) -> str:
    """The end of the program's path and its first arguments, for a message."""
    return " ".join([Path(command.words[0]).name, *command.words[1:4]])


def last_line(text: str) -> str:
    """The last line that isn't empty: where programs say why they failed."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def cpu_seconds(pid: int, *, reaped: bool = False) -> float:
    """CPU time of a process so far, user and system; with `reaped`, of its ended children too."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(ticks) for ticks in fields[11 : 15 if reaped else 13]) / TICKS


def tree_cpu_seconds(pid: int) -> float:
    """CPU time of a process, of its children that live, and of those that ended: all of a PostgreSQL server."""
    return cpu_seconds(pid, reaped=True) + sum(cpu_seconds(child) for child in children(pid))


def children(pid: int) -> list[int]:
    """The direct children of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(child) for child in task.read_text().split()]
    return found


def resident_bytes(pid: int) -> int:
    """Resident memory of a process (RSS)."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    return 0


def proportional_bytes(pid: int) -> int:
    """Memory of a process with what it shares counted in parts (PSS): what one more of a fleet costs."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def wait_until(condition: object, seconds: float, what: str, pause: float = 0.01) -> None:
    """Wait for `condition()` to become true. Raises BenchmarkError that names what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise BenchmarkError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(pause)
