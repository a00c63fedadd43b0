"""The dead man's timer: a call that holds the interpreter is ended, by a signal that nothing else is ended by."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import threading
import time

import pytest

from shithubd_worker.host.dead_man import SIGNAL, DeadMan, Timer

HOLDS = {
    "in C": "ctypes.PyDLL(None).sleep(3600)",
    "in a regular expression": "re.match('(a*)*b', 'a' * 100)",
    "while its thread has blocked all signals": (
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); ctypes.PyDLL(None).sleep(3600)"
    ),
}
TAKEN = {
    "handled in Python": "signal.signal(signal.SIGVTALRM, lambda *_: None)",
    "ignored": "signal.signal(signal.SIGVTALRM, signal.SIG_IGN)",
    "ignored by a library of C": "ctypes.CDLL(None).signal(int(signal.SIGVTALRM), ctypes.c_void_p(1))",
    "taken from faulthandler": "faulthandler.unregister(signal.SIGVTALRM)",
}


def child(code):
    before = (
        "import ctypes, faulthandler, re, signal, threading, time\nfrom shithubd_worker.host.dead_man import DeadMan\n"
    )
    return subprocess.run(
        [sys.executable, "-c", before + code], capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize("how", HOLDS)
def test_it_ends_a_process_whose_interpreter_is_held_and_shows_where(how):
    died = child(f"""
threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
def hog():
    DeadMan().cover(time.monotonic() + 0.2)
    {HOLDS[how]}
hog()""")
    assert (died.returncode, "in hog" in died.stderr) == (-SIGNAL, True)


@pytest.mark.parametrize("how", TAKEN)
def test_a_signal_that_a_handler_took_is_taken_back_by_the_next_look(how):
    died = child(f"""
man, end = DeadMan(), time.monotonic() + 0.5
man.cover(end, 0.25)
{TAKEN[how]}
man.cover(end, 0.25)
def hog():
    ctypes.PyDLL(None).sleep(3600)
hog()""")
    assert (died.returncode, "in hog" in died.stderr) == (-SIGNAL, True)


def test_what_a_handler_does_with_faulthandlers_own_timer_is_its_own_matter():
    died = child(
        "man = DeadMan()\nman.cover(time.monotonic() + 0.2)\nfaulthandler.dump_traceback_later(3600)\n"
        "faulthandler.cancel_dump_traceback_later()\nctypes.PyDLL(None).sleep(3600)"
    )
    assert died.returncode == -SIGNAL


def test_a_child_that_is_forked_lives_on():
    """By whomever: the kernel gives no child a timer."""
    done = child(
        "man = DeadMan()\nman.cover(time.monotonic() + 0.5)\nimport os\n"
        "if not os.fork():\n    time.sleep(1.5)\n    os._exit(7)\n"
        "if not ctypes.PyDLL(None).fork():\n    time.sleep(1.5)\n    os._exit(7)\n"
        "man.stand_down()\nprint([os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(2)])"
    )
    assert (done.returncode, done.stdout) == (0, "[7, 7]\n")


def test_it_can_be_put_off_and_stood_down():
    lived = child(
        "man = DeadMan()\nman.cover(time.monotonic() + 2)\nman.put_off(time.monotonic() + 3600)\n"
        "time.sleep(2.2)\nman.cover(time.monotonic() + 2)\nman.stand_down()\ntime.sleep(2.2)\nprint('alive')"
    )
    assert (lived.returncode, lived.stdout) == (0, "alive\n")


@pytest.fixture
def armed(monkeypatch):
    """What is asked of the timer."""
    asked = []
    monkeypatch.setattr(Timer, "set", lambda _timer, at: asked.append(at))
    yield asked
    DeadMan().disown()


def test_an_arming_that_is_far_away_is_left_for_the_next_job(armed):
    now = [100.0]
    man = DeadMan(lambda: now[0])
    man.cover(160.0)
    man.cover(170.0)  # covered already: the first fires before
    man.stand_down(within=5.0)
    assert armed == [160.0]
    man.cover(150.0)
    now[0] = 146.0
    man.stand_down(within=5.0)
    man.stand_down()
    assert armed == [160.0, 150.0, math.inf]


def test_it_is_armed_once_for_all_that_it_fires_early_enough_for_and_not_too_early(armed):
    man = DeadMan(lambda: 100.0)
    for latest in (160.0, 161.0, 170.0, 175.0):
        man.cover(latest, 15.0)
    assert armed == [160.0]
    man.cover(176.0, 15.0)
    man.cover(160.0, 15.0)
    man.stand_down()
    assert armed == [160.0, 176.0, 160.0, math.inf]


def test_nobody_counts_on_a_timer_that_is_being_moved(armed):
    """The main thread, which looks without the lock, then waits for it."""
    man, end = DeadMan(), time.monotonic() + 3600
    man.cover(end, 60)
    held, go, covered = threading.Event(), threading.Event(), []

    def move():
        with man.held():
            held.set()
            go.wait()
            man.put_off(end + 1800)

    mover = threading.Thread(target=move)
    mover.start()
    try:
        held.wait()
        covered.append(man.covers(end, 60))
        go.set()
        man.cover(end, 60)
        covered.append(man.covers(end, 60))
    finally:
        go.set()
        mover.join()
    man.cover(end, 60)
    covered.append(man.covers(end, 60))
    assert covered[0] is False
    assert covered[2] is True


def test_its_signal_ends_a_process_by_default_and_is_none_of_those_that_the_worker_hears():
    assert signal.getsignal(SIGNAL) == signal.SIG_DFL
    assert SIGNAL not in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT, signal.SIGURG, signal.SIGHUP)
