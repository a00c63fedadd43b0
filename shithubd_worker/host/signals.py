"""Signals: the wish to stop, the alarm, and a descriptor that ends a sleep."""

from __future__ import annotations

import math
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from shithubd_worker.host.forks import keep_private
from shithubd_worker.timing import PATIENCE_SECONDS, TIMER_TOLERANCE_SECONDS

_CREDENTIALS = struct.Struct("3i")  # of unix(7): pid, uid, gid
OUR_SIGNALS = frozenset({signal.SIGALRM, signal.SIGTERM, signal.SIGINT})


class Stop:
    """The wish to stop: heard once, finish the job; heard twice, release it now.

    The signal is heard by two: by the main thread, as soon as it runs Python, and by the control thread through the
    wakeup descriptor, even while the main thread is inside C. Each notes when it heard one in a list of its own; the
    sooner is the truth.
    """

    def __init__(self, grace: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.grace = grace
        self._clock = clock
        self._by_main: list[float] = []
        self._by_control: list[float] = []

    def hear(self, *, main: bool) -> None:
        """Note one SIGTERM or SIGINT."""
        (self._by_main if main else self._by_control).append(self._clock())

    @property
    def wanted(self) -> bool:
        """Must no further job be leased?"""
        return bool(self._by_main or self._by_control)

    @property
    def release_at(self) -> float:
        """When a running job is to be interrupted and released."""
        if not self._by_main and not self._by_control:  # as for each job
            return math.inf
        first, second = (
            min([heard[times] for heard in (self._by_main, self._by_control) if len(heard) > times], default=math.inf)
            for times in (0, 1)
        )
        return second if second < math.inf else first + self.grace

    @property
    def kill_at(self) -> float:
        """When a handler that ignored that is ended together with its process."""
        return self.release_at + PATIENCE_SECONDS


class SelfPipe:
    """A descriptor to sleep on: readable after `wake` by any thread, and after a signal if it catches the signals.

    A pair of sockets, so that it says who wrote.
    """

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


def ring_main() -> None:
    """From any thread: have the main thread look at its deadlines now. Not by SIGALRM: a handler may have made it
    deadly."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGURG)


def end_process(code: int) -> None:
    """End this process at once, from any thread, without asking a handler that doesn't listen."""
    os._exit(code)
