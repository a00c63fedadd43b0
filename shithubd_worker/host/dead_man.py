"""The dead man's timer: ends the process of a handler that holds the interpreter, before its lease can expire.

While a call holds the GIL, no signal handler and no thread of Python's gets a turn. So a timer of the kernel sends a
signal, and faulthandler handles it in C. It writes the stacks to stderr, and then the signal ends the process. No other
end of a worker looks like this one: systemd shows it as `code=killed, status=26/VTALRM`.
"""

from __future__ import annotations

import ctypes
import faulthandler
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shithubd_worker.host.outlets import unblocked

# Python and its libraries don't use this signal, and its default ends a process without a core dump.
SIGNAL = signal.SIGVTALRM
_ABSOLUTE = 1  # TIMER_ABSTIME
_libc = ctypes.CDLL(None, use_errno=True)


class _Event(ctypes.Structure):
    """struct sigevent: a signal to the process (SIGEV_SIGNAL is 0)."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_char * 52),
    )


class Timer:
    """A timer of the kernel (timer_create(2)). No child inherits it, and code that doesn't know its number can't change
    it."""

    def __init__(self) -> None:
        self._number = ctypes.c_void_p()
        event = _Event(None, SIGNAL, 0)
        _check(_libc.timer_create(time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self._number)))

    def set(self, at: float) -> None:
        """Send the signal at this moment of the monotonic clock. Never, if `at` is infinite."""
        seconds, part = (0, 0) if at == math.inf else divmod(max(1, int(at * 1e9)), 10**9)
        # The first half of an itimerspec is an interval; 0 sends the signal once.
        _check(_libc.timer_settime(self._number, _ABSOLUTE, (ctypes.c_long * 4)(0, 0, seconds, part), None))


class DeadMan:
    """The timer, which two threads set. A job that an earlier arming covers sets nothing.

    The main thread first publishes its next attempt, and then asks whether the timer covers it. The control thread
    works in the reverse order. Inside `held`, the timer covers nothing. There it checks that the published attempt is
    still the one that it saw, and only then moves the timer. So at least one of the two sees what the other did.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._fires_at = math.inf
        self._timer: Timer | None = None
        self._held = False
        self._lock = threading.RLock()

    def listen(self) -> None:
        """Take the signal, even if other code has taken it meanwhile. Its handler must have been the default before."""
        faulthandler.unregister(SIGNAL)  # otherwise `register` believes that it still has the signal
        faulthandler.register(SIGNAL, file=unblocked(2), all_threads=True, chain=True)

    def disown(self) -> None:
        """In a forked child: give the signal back its default."""
        faulthandler.unregister(SIGNAL)

    @contextmanager
    def held(self) -> Iterator[None]:
        """For the control thread: meanwhile nobody else moves the timer, and nobody relies on it."""
        with self._lock:
            self._held = True
            try:
                yield
            finally:
                self._held = False

    def covers(self, latest: float, slack: float) -> bool:
        """Does the timer fire at `latest`, or at most `slack` seconds earlier? This is asked for each job, so it takes
        no lock."""
        return not self._held and latest - slack <= self._fires_at <= latest

    def cover(self, latest: float, slack: float = math.inf) -> None:
        """Make sure that it fires then, and that no other code has taken the signal."""
        with self._lock:
            self.listen()
            if not latest - slack <= self._fires_at <= latest:
                self.put_off(latest)

    def put_off(self, until: float) -> None:
        """Let it fire at `until`, and not earlier."""
        with self._lock:
            if self._timer is None:
                self._timer = Timer()
            self._timer.set(until)
            self._fires_at = until

    def stand_down(self, within: float = math.inf) -> None:
        """No handler runs any more: disarm the timer, if it would fire within so many seconds."""
        if self._fires_at - self._clock() > within:  # after each job, so without the lock
            return
        with self._lock:
            if self._fires_at - self._clock() <= within and self._fires_at != math.inf:
                self.put_off(math.inf)


def _check(result: int) -> None:
    if result != 0:
        raise OSError(number := ctypes.get_errno(), os.strerror(number))
