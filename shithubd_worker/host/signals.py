"""Signals: the request to stop, the alarm, and a descriptor that ends a sleep."""

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
from typing import NoReturn

from shithubd_worker.host.forks import keep_private
from shithubd_worker.timing import PATIENCE_SECONDS, TIMER_TOLERANCE_SECONDS

_CREDENTIALS = struct.Struct("3i")  # of unix(7): pid, uid, gid
OUR_SIGNALS = frozenset({signal.SIGALRM, signal.SIGTERM, signal.SIGINT})


class Stop:
    """The request to stop. The first signal means: finish the job. The second means: release it now.

    Both threads hear the signal. The main thread hears it as soon as it runs Python. The control thread hears it
    through the wakeup descriptor, even while the main thread is inside C. Each notes the time in a list of its own, and
    the earlier time counts.
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
        """Must the worker stop leasing jobs?"""
        return bool(self._by_main or self._by_control)

    @property
    def release_at(self) -> float:
        """When a running job is interrupted and released."""
        if not self._by_main and not self._by_control:  # a shortcut: it is asked for each job
            return math.inf
        first, second = (
            min([heard[times] for heard in (self._by_main, self._by_control) if len(heard) > times], default=math.inf)
            for times in (0, 1)
        )
        return second if second < math.inf else first + self.grace

    @property
    def kill_at(self) -> float:
        """When a handler that ignored the interrupt is ended together with its process."""
        return self.release_at + PATIENCE_SECONDS


class SelfPipe:
    """A descriptor to sleep on. It becomes readable after `wake` by any thread, and after a signal if it catches
    signals.

    It is a pair of sockets, because sockets tell which process wrote.
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
        """End the present sleep, or the next one. Safe in a signal handler."""
        with suppress(OSError):  # full: it wakes anyway; closed: nobody sleeps
            self._writer.send(b"\0")

    def drain(self) -> bytes:
        """Take what was written: signal numbers, or zeros from `wake`.

        What another process wrote is left out: a child that C forked has the other end too, until it executes
        something.
        """
        taken, me = b"", os.getpid()
        with suppress(BlockingIOError):
            while True:
                written, credentials, _, _ = self._reader.recvmsg(4096, socket.CMSG_SPACE(_CREDENTIALS.size))
                if not written:  # it is closed
                    break
                if _CREDENTIALS.unpack(credentials[0][2])[0] == me:
                    taken += written
        return taken

    def catch_signals(self) -> None:
        """Let the interpreter's C-level handler write the number of each signal here."""
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    def lost_signals(self) -> bool:
        """Did somebody redirect the signals' numbers? They come here again from now on."""
        return signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False) != self._writer.fileno()

    def close(self) -> None:
        """Close the descriptors."""
        self._reader.close()
        self._writer.close()


class Alarm:
    """SIGALRM to this process, for the main thread.

    Setting it costs a call of the kernel. So an alarm that rings earlier than needed stays as it is: its hearer finds
    nothing due, and sets the next one.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rings_at = math.inf

    def __call__(self, rings_at: float) -> None:
        """Ring at this moment of the monotonic clock, or earlier. Only for the main thread."""
        if rings_at < self._rings_at:
            self._rings_at = rings_at
            signal.setitimer(signal.ITIMER_REAL, max(0.001, rings_at - self._clock()))

    def rang(self) -> None:
        """The alarm rang, or the control thread asked for a look at the deadlines. The alarm is off until it is set
        again."""
        self._rings_at = math.inf
        signal.setitimer(signal.ITIMER_REAL, 0)

    def disturbed(self) -> bool:
        """Has other code used the process's only timer? Then it is switched off until the next call. A timer that only
        rings earlier than needed counts as undisturbed."""
        left, interval = signal.getitimer(signal.ITIMER_REAL)
        expected = self._rings_at - self._clock()
        if left == 0.0 if expected == math.inf else 0.0 < left < expected + TIMER_TOLERANCE_SECONDS and not interval:
            return False
        self._rings_at = math.inf
        signal.setitimer(signal.ITIMER_REAL, 0)
        # An alarm that was just about to ring counts as one that rang.
        return expected > TIMER_TOLERANCE_SECONDS

    def mute(self) -> None:
        """Never ring again."""
        self._rings_at = -math.inf
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def signals_elsewhere() -> Iterator[None]:
    """Threads that start inside take none of our signals. A signal that such a thread took would not wake the main
    thread."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, OUR_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ring_main() -> None:
    """From any thread: make the main thread look at its deadlines now. Not with SIGALRM, because a handler may have
    reset it, and then it would end the process."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGURG)


def end_process(code: int) -> NoReturn:
    """End this process at once, from any thread, without asking a handler that doesn't respond."""
    os._exit(code)
