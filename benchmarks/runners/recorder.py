"""Remembers which jobs ran, and when each began. Costs a job two appends: the same for every contender.

A process writes how many it ran to <pid>.progress a hundred times a second, and all numbers and moments to
<pid>.record when it exits. Without BENCH_RECORD nothing is remembered.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from array import array
from collections.abc import Callable
from pathlib import Path

PROGRESS_SECONDS = 0.01


def make_recorder() -> Callable[[int], None]:
    """A function that takes the number of a job that begins to run."""
    directory = os.environ.get("BENCH_RECORD")
    if not directory:
        return lambda _number: None
    numbers, moments = array("q"), array("d")
    add_number, add_moment, now = numbers.append, moments.append, time.time
    path = Path(directory) / str(os.getpid())

    def ran(number: int) -> None:
        add_number(number)
        add_moment(now())

    def tell() -> None:
        file = os.open(path.with_suffix(".progress"), os.O_WRONLY | os.O_CREAT)
        told = -1
        while True:
            if (count := len(numbers)) != told:
                os.pwrite(file, b"%12d" % count, 0)
                told = count
            time.sleep(PROGRESS_SECONDS)

    def write() -> None:
        temporary = path.with_suffix(".partial")
        temporary.write_bytes(numbers.tobytes() + moments.tobytes())
        temporary.rename(path.with_suffix(".record"))

    atexit.register(write)
    # A signal must reach the worker's main thread, whose sleep it is to end.
    old = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    threading.Thread(target=tell, name="progress", daemon=True).start()
    signal.pthread_sigmask(signal.SIG_SETMASK, old)
    return ran
