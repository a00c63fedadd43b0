"""The end of a process: exit functions run, and nothing that a handler left changes the exit code or takes long."""

from __future__ import annotations

import atexit
import itertools
import os
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from waiting import PATIENCE, eventually

from shithubd_worker.host import leaving

CODE = 76
KEPT = []


def idle_pool(of):
    KEPT.append(pool := of(1))
    pool.submit(abs, -1).result()


def busy_pool():
    KEPT.append(pool := ThreadPoolExecutor(1))
    pool.submit(time.sleep, 1000)


def leave_thread():
    threading.Thread(target=time.sleep, args=(1000,)).start()


def raises(error):
    def exit_function():
        raise error

    atexit.register(exit_function)


RUNS = {
    "nothing": lambda: None,
    "an idle pool of threads": lambda: idle_pool(ThreadPoolExecutor),
    "an idle pool of processes": lambda: idle_pool(ProcessPoolExecutor),
    "a pool at work": busy_pool,
    "a thread that goes on": leave_thread,
    "an exit function that raises": lambda: raises(ValueError("no")),
    "an exit function that exits": lambda: atexit.register(sys.exit, 3),
    "an exit function like Ctrl-C": lambda: raises(KeyboardInterrupt()),
    "an exit function that starts a thread": lambda: atexit.register(leave_thread),
    "a stdout that fails": lambda: setattr(sys, "stdout", None),
}
HANGS = {
    "an exit function that hangs": lambda: atexit.register(time.sleep, 1000),
    "an exit function that holds the interpreter": lambda: atexit.register(sum, itertools.repeat(0)),
}


def left(step, path, seconds=60.0, latest=None):
    """A process that leaves after this step; its exit code. Its first exit function, which runs last, makes a file."""
    child = os.fork()
    if child == 0:
        try:
            atexit._clear()
            leaving.EXIT_FUNCTIONS_SECONDS, leaving.END_OF_POOLS_SECONDS = seconds, min(seconds, 0.5)
            atexit.register(os.mkdir, path)
            step()
            if latest is not None:
                leaving.no_later_than(time.monotonic() + latest)
            leaving.leave(CODE)
        finally:
            os._exit(99)
    began = time.monotonic()
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() - began > PATIENCE:
            os.kill(child, 9)
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(ended[1])


@pytest.mark.parametrize("what", RUNS)
def test_exit_functions_run_and_the_exit_code_stays(what, tmp_path):
    assert left(RUNS[what], tmp_path / "ran") == CODE
    eventually((tmp_path / "ran").exists, "the exit function ran")


@pytest.mark.parametrize("what", HANGS)
def test_what_hangs_is_left(what, tmp_path):
    assert left(HANGS[what], tmp_path / "ran", seconds=0.2) == CODE
    assert not (tmp_path / "ran").exists()


def test_nothing_runs_beyond_the_deadline_of_a_stop(tmp_path):
    assert left(HANGS["an exit function that hangs"], tmp_path / "ran", latest=0.2) == CODE
