"""The last steps of a process: exit functions run, as Python runs them, and nothing that hangs changes the end.

Handlers and their libraries may leave threads, pools and exit functions (`atexit`) in this process. Python itself would
wait for them without a limit, or not run them at all.
"""

from __future__ import annotations

import atexit
import ctypes
import logging
import math
import sys
import threading
import time
import traceback
from contextlib import suppress
from typing import NoReturn

from shithubd_worker.host.signals import end_process
from shithubd_worker.timing import END_OF_POOLS_SECONDS, EXIT_FUNCTIONS_SECONDS, HELD_AT_EXIT_SECONDS

log = logging.getLogger(__name__)

_libc = ctypes.CDLL(None, use_errno=True)
_latest = [math.inf]


class _Event(ctypes.Structure):
    """struct sigevent: call a function with `value` in a thread of libc (SIGEV_THREAD is 2)."""

    _fields_ = (
        ("value", ctypes.c_long),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("rest", ctypes.c_char * 32),
    )


def no_later_than(moment: float) -> None:
    """A stop has a deadline, on the monotonic clock: exit functions that run then are left."""
    _latest[0] = moment


def leave(code: int) -> NoReturn:
    """End the process with this exit code. Before that, let idle pools end, and run the exit functions. The whole takes
    EXIT_FUNCTIONS_SECONDS at most, and never longer than the stop's deadline."""
    seconds = max(0.0, min(EXIT_FUNCTIONS_SECONDS, _latest[0] - time.monotonic()))
    try:
        _exit_after(seconds + HELD_AT_EXIT_SECONDS, code)
        threading.Thread(target=_watch, args=(seconds, code), name="leave", daemon=True).start()
        _end_pools(min(seconds, END_OF_POOLS_SECONDS))
        if left := _left():
            log.warning("ending %d thread(s) that handlers left running: %s", len(left), ", ".join(left))
        atexit._run_exitfuncs()
        sys.stdout.flush()
    finally:
        end_process(code)


def _end_pools(seconds: float) -> None:
    """Let idle pools of concurrent.futures end, as Python does before it waits for threads. A pool at work would hang
    in this: it is left after some time."""
    if _left():
        ending = threading.Thread(target=_call_ends_of_threads, name="pools", daemon=True)
        ending.start()
        ending.join(seconds)


def _call_ends_of_threads() -> None:
    for call in reversed(getattr(threading, "_threading_atexits", ())):
        with suppress(Exception):
            call()


def _left() -> list[str]:
    """The threads for which Python would wait."""
    return [each.name for each in threading.enumerate() if not each.daemon and each is not threading.main_thread()]


def _watch(seconds: float, code: int) -> None:
    time.sleep(seconds)
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    stack = "".join(traceback.format_stack(frame)) if frame else ""
    log.warning("an exit function still runs after %.1f s: ending the process without it\n%s", seconds, stack.rstrip())
    end_process(code)


def _exit_after(seconds: float, code: int) -> None:
    """The same for an exit function that holds the interpreter: libc ends the process, without Python."""
    event = _Event(code, 0, 2, ctypes.cast(_libc._exit, ctypes.c_void_p), None)
    timer = ctypes.c_void_p()
    if _libc.timer_create(time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)) == 0:
        whole, part = divmod(max(1, int(seconds * 1e9)), 10**9)
        _libc.timer_settime(timer, 0, (ctypes.c_long * 4)(0, 0, whole, part), None)
