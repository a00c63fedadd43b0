"""The state of the process that promises depend on and a handler can change: signals, the timer, limits of Python.

Handlers run in the worker's process. What a handler or its library leaves behind would affect the next job, a stop or a
deadline. So the worker puts it back: the most urgent after each job, the rest after each batch.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
from _signal import getsignal, pthread_sigmask  # type: ignore[import-not-found]  # a tenth of what signal's cost
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, NamedTuple

from shithubd_worker.host.dead_man import SIGNAL, DeadMan
from shithubd_worker.host.forks import in_child
from shithubd_worker.host.signals import Alarm, SelfPipe

log = logging.getLogger(__name__)

SignalHandler = Callable[[int, Any], None]


class Setting(NamedTuple):
    """One setting of the interpreter or the process."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


def _directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 (no Path for each batch)
    except OSError:  # it was removed
        return None


def _enter(directory: str | None) -> None:
    with suppress(OSError):
        os.chdir(directory or "/")


SETTINGS = (
    Setting("sys.setrecursionlimit", sys.getrecursionlimit, sys.setrecursionlimit),
    Setting("sys.settrace", sys.gettrace, sys.settrace),
    Setting("sys.setprofile", sys.getprofile, sys.setprofile),
    Setting("sys.setswitchinterval", sys.getswitchinterval, sys.setswitchinterval),
    Setting("gc.enable", gc.isenabled, lambda wanted: gc.enable() if wanted else gc.disable()),
    Setting("socket.setdefaulttimeout", socket.getdefaulttimeout, socket.setdefaulttimeout),
    Setting("the working directory", _directory, _enter),
)


class ProcessState:
    """The state. For the main thread, but for `lethal`.

    - `ears` receives each signal's number.
    - `on_stop` and `on_alarm` are called in the main thread; `on_alarm` also follows each `on_stop`.
    - SIGALRM is the alarm. SIGURG comes from the control thread and means "look at your deadlines". If a handler has
      reset them, SIGURG does nothing, and SIGALRM would end the process.
    - `reload`: SIGHUP is heard, and does not end the process.
    """

    def __init__(
        self,
        *,
        on_stop: Callable[[], None],
        on_alarm: Callable[[], None],
        ears: SelfPipe,
        alarm: Alarm,
        dead_man: DeadMan,
        reload: bool,
    ) -> None:
        self._stop_asked, self._alarm_rang = on_stop, on_alarm
        # Kept in attributes: each access to a method makes another object, and these are compared.
        self._on_stop: SignalHandler = self._hear_stop
        self._on_alarm: SignalHandler = self._hear_alarm
        self._handlers: dict[signal.Signals, SignalHandler] = {
            signal.SIGALRM: self._on_alarm,
            signal.SIGTERM: self._on_stop,
            signal.SIGINT: self._on_stop,
            signal.SIGURG: self._on_alarm,
        }
        if reload:
            self._handlers[signal.SIGHUP] = _only_heard
        self._ears = ears
        self._alarm = alarm
        self._dead_man = dead_man
        self._mask: set[int] = set()
        self._settings: list[Any] = []
        self._umask = 0
        self._warned_of: set[tuple[str, str]] = set()  # kind, and the name of what it changed

    def take(self) -> None:
        """Hear the signals from now on, and note the state of everything else."""
        self._ears.catch_signals()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._take_dead_mans()
        self._mask = pthread_sigmask(signal.SIG_BLOCK, ())
        self._settings = [setting.read() for setting in SETTINGS]
        self._umask = os.umask(0o077)  # reading it means setting it
        os.umask(self._umask)

    def check(self, kind: str) -> None:
        """After each job: the next deadline and a stop must be heard. The rest can wait until the batch ends."""
        if getsignal(14) is not self._on_alarm or getsignal(15) is not self._on_stop:
            self.put_back([kind])

    def put_back(self, kinds: Collection[str]) -> None:
        """After a batch of these kinds: put back what they changed, and log it once for each kind and setting."""
        for name, now in (*self._settings_changed(), *self._signals_changed()):
            culprits = {(kind, name) for kind in kinds}
            if not culprits <= self._warned_of:
                self._warned_of |= culprits
                who = ", ".join(sorted(kinds))
                log.warning(
                    "a handler of %s changed %s%s, which the worker needs: the worker put it back", who, name, now
                )

    def lethal(self) -> bool:
        """For the control thread: would one of our signals end the process? A library that used a signal may have reset
        it in the middle of a job."""
        return any(getsignal(number) == signal.SIG_DFL for number in self._handlers)

    def revive(self) -> None:
        """Take back the signals that would end the process. A library that has set a handler keeps it until its job is
        over."""
        for number, handler in self._handlers.items():
            if getsignal(number) == signal.SIG_DFL:
                signal.signal(number, handler)

    def disown(self) -> None:
        """In a forked child: give our signals back Python's defaults. A child inherits no timers."""
        signal.set_wakeup_fd(-1)
        self._alarm.mute()
        self._dead_man.disown()
        for number, handler in self._handlers.items():
            if getsignal(number) is handler:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    def _is_childs(self, number: int) -> bool:
        """Was the signal for a child that C forked, without Python's hooks? Then the child takes it, now with its
        default."""
        if not in_child():
            return False
        self.disown()
        os.kill(os.getpid(), number)
        return True

    def let_go(self) -> None:
        """At the end of the process: ignore the signals. Python removes its handlers before it ends, and a signal after
        that must not replace the exit code."""
        self._alarm.mute()
        for number in self._handlers:
            signal.signal(number, signal.SIG_IGN)

    def _hear_stop(self, number: int, frame: object) -> None:
        if not self._is_childs(number):
            self._stop_asked()
            self._hear_alarm(number, frame)

    def _hear_alarm(self, number: int, _frame: object) -> None:
        if not self._is_childs(number):
            self.revive()
            self._alarm_rang()

    def _take_dead_mans(self) -> None:
        """The signal's default ends the process. faulthandler writes the stacks before that, and Python doesn't know of
        it."""
        signal.signal(SIGNAL, signal.SIG_DFL)
        self._dead_man.listen()

    def _settings_changed(self) -> list[tuple[str, str]]:
        changed = []
        for setting, was in zip(SETTINGS, self._settings, strict=True):
            if (now := setting.read()) != was:
                setting.write(was)
                changed.append((setting.name, f" ({now!r:.100})"))
        if (mask := os.umask(self._umask)) != self._umask:
            changed.append(("the umask", f" ({mask:04o})"))
        return changed

    def _signals_changed(self) -> list[tuple[str, str]]:
        changed = []
        for number, handler in self._handlers.items():
            if getsignal(number) is not handler:
                now = signal.signal(number, handler)
                changed.append((f"the handler of {number.name}", f" ({now!r:.100})"))
        if (now := getsignal(SIGNAL)) != signal.SIG_DFL:
            self._take_dead_mans()
            changed.append((f"the handler of {SIGNAL.name}", f" ({now!r:.100})"))
        if self._ears.lost_signals():
            changed.append(("the wakeup descriptor of signals", ""))
        if self._alarm.disturbed():
            changed.append(("the interval timer", ""))
        mask = pthread_sigmask(signal.SIG_BLOCK, ())
        if mask != self._mask:
            pthread_sigmask(signal.SIG_SETMASK, self._mask)
            blocked = ", ".join(sorted(signal.Signals(each).name for each in mask)) or "none"
            changed.append(("the mask of signals", f" ({blocked})"))
        return changed


def _only_heard(_number: int, _frame: object) -> None:
    """SIGHUP: the control thread hears it."""
