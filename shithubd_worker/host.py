"""The machine: which process this is, its signals, its alarm, and what systemd is told."""

from __future__ import annotations

import math
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import sdnotify

from shithubd_worker.forks import keep_private
from shithubd_worker.model import Identity
from shithubd_worker.plain import on_one_line

# After the moment at which a handler should have stopped, the control thread waits so long before it ends the process.
PATIENCE_SECONDS = 2.0
# A process that stood still between its look at the clock and the call of the kernel has set the timer later.
TIMER_TOLERANCE_SECONDS = 1.0
_CREDENTIALS = struct.Struct("3i")  # of unix(7): pid, uid, gid
OUR_SIGNALS = frozenset({signal.SIGALRM, signal.SIGTERM, signal.SIGINT})


def identify() -> Identity:
    """This process. Facts that a host doesn't have (no systemd, no machine id) are empty, and prove nothing later."""
    return Identity(
        id=uuid4(),
        host=socket.gethostname(),
        pid=os.getpid(),
        machine_id=_read("/etc/machine-id"),
        boot_id=_read("/proc/sys/kernel/random/boot_id"),
        pid_namespace=_pid_namespace(),
        start_ticks=_start_ticks(os.getpid()) or 0,
        unit=os.environ.get("SHITHUBD_WORKER_UNIT") or None,
        invocation_id=os.environ.get("INVOCATION_ID") or None,
    )


def is_dead(other: Identity, me: Identity) -> str | None:
    """Proof that another worker's process is dead, or None if there is none. Both must be of this machine.

    A unit runs one process at a time, so an earlier invocation of our own unit is over; the host's name must be the
    same, because machines are cloned together with their id. Else the pid must be gone, or belong to a process that
    started at another time, seen from the same boot and the same pid namespace. A missing /proc entry proves nothing
    (ProtectProc= hides the living): the kernel is asked by a signal that is none.
    """
    if not me.machine_id or other.machine_id != me.machine_id:
        return None
    if me.unit and me.invocation_id and (other.host, other.unit) == (me.host, me.unit) and other.invocation_id:
        return None if other.invocation_id == me.invocation_id else f"unit {me.unit} was started anew"
    if (other.boot_id, other.pid_namespace) != (me.boot_id, me.pid_namespace) or not me.boot_id:
        return None
    try:
        os.kill(other.pid, 0)
    except ProcessLookupError:
        return f"no process {other.pid} on this host any more"
    except PermissionError:
        pass
    ticks = _start_ticks(other.pid)
    if ticks is not None and other.start_ticks and ticks != other.start_ticks:
        return f"pid {other.pid} belongs to another process now"
    return None


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _pid_namespace() -> int:
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0


def _start_ticks(pid: int) -> int | None:
    # The command's name, in parentheses, may contain anything: count from the last one. Field 22 of proc(5).
    stat = _read(f"/proc/{pid}/stat")
    return int(stat.rpartition(")")[2].split()[19]) if stat else None


class Stop:
    """The wish to stop: heard once, finish the job; heard twice, release it now.

    The signal is heard by two: by the main thread, as soon as it runs Python, and by the control thread through the
    wakeup descriptor, even while the main thread is inside C. Each counts; the larger count is the truth.
    """

    def __init__(self, grace: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.grace = grace
        self._clock = clock
        self._heard = [0, 0]
        self._since: float | None = None
        self._now_since: float | None = None

    def hear(self, *, main: bool) -> None:
        """Count one SIGTERM or SIGINT."""
        self._heard[0 if main else 1] += 1
        if self._since is None:
            self._since = self._clock()
        if max(self._heard) > 1 and self._now_since is None:
            self._now_since = self._clock()

    @property
    def wanted(self) -> bool:
        """Must no further job be leased?"""
        return self._since is not None

    @property
    def release_at(self) -> float:
        """When a running job is to be interrupted and released."""
        if self._now_since is not None:
            return self._now_since
        return math.inf if self._since is None else self._since + self.grace

    @property
    def kill_at(self) -> float:
        """When a handler that ignored that is ended together with its process."""
        return self.release_at + PATIENCE_SECONDS


class Wakeup:
    """A descriptor to sleep on: readable after `wake` by any thread, and after a signal if it is the wakeup fd."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.setblocking(False)
            keep_private(end)
        self._reader.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def fileno(self) -> int:
        """For select()."""
        return self._reader.fileno()

    def wake(self) -> None:
        """End the sleep, or the next one. Safe in a signal handler."""
        with suppress(OSError):  # full: it will wake anyway; closed: nobody sleeps
            self._writer.send(b"\0")

    def drain(self) -> bytes:
        """Take what was written: signal numbers, or zeros from `wake`.

        Not what another process wrote: a child that C forked has the other end too, until it executes something.
        """
        taken, me = b"", os.getpid()
        with suppress(BlockingIOError):
            while True:
                written, credentials, _, _ = self._reader.recvmsg(4096, socket.CMSG_SPACE(_CREDENTIALS.size))
                if not written:  # closed
                    break
                if _CREDENTIALS.unpack(credentials[0][2])[0] == me:
                    taken += written
        return taken

    def catch_signals(self) -> None:
        """Have the interpreter write the number of each signal here, from within the C-level handler."""
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    def lost_signals(self) -> bool:
        """Did somebody have them written elsewhere? They are written here again."""
        return signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False) != self._writer.fileno()

    def close(self) -> None:
        """Give the descriptors back."""
        self._reader.close()
        self._writer.close()


class Alarm:
    """SIGALRM to this process, for the main thread.

    Setting it costs a call of the kernel, so one that rings earlier than asked is left as it is: who hears it finds
    nothing due, and asks for the next.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rings_at = math.inf

    def __call__(self, rings_at: float) -> None:
        """Ring at this moment of the monotonic clock, or earlier. From the main thread only."""
        if rings_at < self._rings_at:
            self._rings_at = rings_at
            signal.setitimer(signal.ITIMER_REAL, max(0.001, rings_at - self._clock()))

    def rang(self) -> None:
        """It was heard, or the control thread had the main thread look at its deadlines. Ask anew."""
        self._rings_at = math.inf
        signal.setitimer(signal.ITIMER_REAL, 0)

    def disturbed(self) -> bool:
        """Has somebody else used the process's one timer? Then it is off now, until the next call. One that rings
        earlier than asked disturbs nobody."""
        left, interval = signal.getitimer(signal.ITIMER_REAL)
        expected = self._rings_at - self._clock()
        if left == 0.0 if expected == math.inf else 0.0 < left < expected + TIMER_TOLERANCE_SECONDS and not interval:
            return False
        self._rings_at = math.inf
        signal.setitimer(signal.ITIMER_REAL, 0)
        # One that was just about to ring is as good as one that rang.
        return expected > TIMER_TOLERANCE_SECONDS

    def mute(self) -> None:
        """Never ring again."""
        self._rings_at = -math.inf
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def signals_elsewhere() -> Iterator[None]:
    """Threads started inside take no signal of ours: one that such a thread took would not wake the main thread."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, OUR_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_process(code: int) -> None:
    """End this process at once, from any thread, without asking a handler that doesn't listen."""
    os._exit(code)


class Systemd:
    """What systemd is told, if it listens. sdnotify sends latin-1, so the text is kept to ASCII.

    Nothing waits for systemd for long: what can be said again later is given up at once while it takes nothing.
    """

    def __init__(self) -> None:
        self._notifier = sdnotify.SystemdNotifier()
        if self._notifier.socket is not None:
            keep_private(self._notifier.socket)
        self._notifier.debug = True  # raise what it would swallow
        self.listens = self._notifier.socket is not None
        usec = os.environ.get("WATCHDOG_USEC", "")
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_seconds = int(usec) / 1e6 if usec.isdigit() and mine else None
        self._status = ""

    def ready(self, status: str) -> None:
        """READY=1: this worker can lease."""
        self._status = status
        self._send("READY=1", f"STATUS={_ascii(status)}", patience=PATIENCE_SECONDS)

    def status(self, text: str) -> None:
        """STATUS=: the first line of `systemctl status`. Sent when it changes."""
        if text != self._status and self._send(f"STATUS={_ascii(text)}"):
            self._status = text

    def reloading(self) -> None:
        """RELOADING=1: the configuration is read again; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", patience=PATIENCE_SECONDS)

    def watchdog(self) -> bool:
        """WATCHDOG=1: there is progress. False if it must be said again soon."""
        return self._send("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """EXTEND_TIMEOUT_USEC=: the start or the stop under way needs so many seconds from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def stopping(self) -> None:
        """STOPPING=1. Only when the process is leaving: systemd starts its stop timeout at this word."""
        self._send("STOPPING=1", patience=PATIENCE_SECONDS)

    def _send(self, *lines: str, patience: float = 0.0) -> bool:
        """False if systemd took nothing within so many seconds."""
        if not self.listens:
            return True
        try:
            self._notifier.socket.settimeout(patience)
            self._notifier.notify("\n".join(lines))
        except OSError:
            return False
        return True


def _ascii(text: str) -> str:
    return on_one_line(text).encode("ascii", "backslashreplace").decode()
