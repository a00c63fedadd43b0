"""Handlers that leave a change in the worker's process, as a library or a mistake does."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import socket
import sys
import time
from pathlib import Path

from shithubd_worker import Registry

registry = Registry()

NOTES = "CREATE TABLE notes (job bigint, note text)"


def nothing(*_arguments):
    """Used where a function is needed."""


def block(*numbers):
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


# By the words of the worker's warning about them. Those for deadlines and stops come first.
DEADLINES = {
    "the handler of SIGALRM (<Handlers.SIG_DFL": lambda: signal.signal(signal.SIGALRM, signal.SIG_DFL),
    "the handler of SIGALRM (<function nothing": lambda: signal.signal(signal.SIGALRM, nothing),
    "the handler of SIGALRM (<Handlers.SIG_IGN": lambda: signal.signal(signal.SIGALRM, signal.SIG_IGN),
    "the interval timer": lambda: signal.setitimer(signal.ITIMER_REAL, 0),
    "the mask of signals (SIGALRM)": lambda: block(signal.SIGALRM),
}
STOPS = {
    "the handler of SIGTERM (<Handlers.SIG_DFL": lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    "the handler of SIGTERM (<function nothing": lambda: signal.signal(signal.SIGTERM, nothing),
    "the handler of SIGTERM (<Handlers.SIG_IGN": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "the handler of SIGINT": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    "the wakeup descriptor of signals": lambda: signal.set_wakeup_fd(-1),
    "the mask of signals (SIGINT, SIGTERM)": lambda: block(signal.SIGTERM, signal.SIGINT),
}
OTHERS = {
    "the handler of SIGURG": lambda: signal.signal(signal.SIGURG, signal.SIG_DFL),
    "the handler of SIGVTALRM": lambda: signal.signal(signal.SIGVTALRM, nothing),
    "sys.setswitchinterval (60": lambda: sys.setswitchinterval(60),
    "sys.setrecursionlimit (200": lambda: sys.setrecursionlimit(200),
    "sys.setprofile": lambda: sys.setprofile(nothing),
    "gc.enable (False)": gc.disable,
    "socket.setdefaulttimeout (0.001)": lambda: socket.setdefaulttimeout(0.001),
    "the working directory ('/')": lambda: os.chdir("/"),
    "the umask (0777)": lambda: os.umask(0o777),
}
LEFT = {**DEADLINES, **STOPS, **OTHERS}


def state():
    """What the next handler finds."""
    numbers = (signal.SIGALRM, signal.SIGTERM, signal.SIGINT, signal.SIGURG, signal.SIGVTALRM)
    umask = os.umask(0)
    os.umask(umask)
    wakeup = signal.set_wakeup_fd(-1)
    if wakeup >= 0:
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    return {
        "handlers": [str(signal.getsignal(number)) for number in numbers],
        "wakeup": wakeup >= 0,
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "umask": umask,
        "directory": os.getcwd(),  # noqa: PTH109
        "others": (sys.getrecursionlimit(), sys.getswitchinterval(), gc.isenabled(), socket.getdefaulttimeout()),
        "profile": sys.getprofile() is not nothing,
    }


@registry.handler("leave.something")
def something(job, what):
    LEFT[what]()


def changing(change):
    def handler(job):
        change()

    return handler


KINDS = {what: f"leave.number_{number}" for number, what in enumerate(LEFT)}  # each change in a kind of its own
for each, kind in KINDS.items():
    registry.handler(kind)(changing(LEFT[each]))


@registry.handler("leave.moves")
def moves(job, directory):
    os.chdir(directory)


@registry.handler("leave.look")
def look(job):
    job.connection.execute("INSERT INTO notes VALUES (%s, %s)", (job.id, repr(state())))


@registry.handler("leave.late", max_runtime=1, lease_timeout=60, max_attempts=2, backoff=3600)
def late(job, what=None, door=None):
    """Runs until its deadline, or until a stop. Before that it changes something, and goes on."""
    if what:
        LEFT[what]()
    if door:
        job.extend(3600)
        Path(door).touch()
    while True:
        time.sleep(0.1)


@registry.handler("leave.slow_end", lease_timeout=60)
def slow_end(job, path):
    """Makes the end of the process slow, after the worker has let go of its signals."""

    def exit_function():
        os.mkdir(path)  # noqa: PTH102
        if signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0):
            os.mkdir(path + "/silent")  # noqa: PTH102
        while not os.access(path + "/on", os.F_OK):
            time.sleep(0.01)

    atexit.register(exit_function)


@registry.handler("leave.no_descriptor", lease_timeout=60)
def no_descriptor(job):
    os.closerange(3, 1000)


@registry.handler("leave.other_database", lease_timeout=60)
def other_database(job):
    os.environ["PGDATABASE"] = "template1"
    os.environ["PGHOST"] = "/nonexistent"
