"""The dead man's timer: it ends a call that holds the interpreter, by a signal that ends nothing else."""

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
def test_the_dead_man_ends_a_process_whose_interpreter_is_held_and_shows_where(how):
    died = child(f"""
threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
def hog():
    DeadMan().cover(time.monotonic() + 0.2)
    {HOLDS[how]}
hog()""")
    assert (died.returncode, "in hog" in died.stderr) == (-SIGNAL, True)


@pytest.mark.parametrize("how", TAKEN)
def test_the_next_look_takes_back_the_signal_that_a_handler_took(how):
    died = child(f"""
man, end = DeadMan(), time.monotonic() + 0.5
man.cover(end, 0.25)
{TAKEN[how]}
man.cover(end, 0.25)
def hog():
    ctypes.PyDLL(None).sleep(3600)
hog()""")
    assert (died.returncode, "in hog" in died.stderr) == (-SIGNAL, True)


def test_a_handler_may_use_the_timer_of_faulthandler():
    died = child(
        "man = DeadMan()\nman.cover(time.monotonic() + 0.2)\nfaulthandler.dump_traceback_later(3600)\n"
        "faulthandler.cancel_dump_traceback_later()\nctypes.PyDLL(None).sleep(3600)"
    )
    assert died.returncode == -SIGNAL


def test_a_forked_child_lives_on():
    """It does not matter who forks: the kernel gives no child a timer."""
    done = child(
        "man = DeadMan()\nman.cover(time.monotonic() + 0.5)\nimport os\n"
        "if not os.fork():\n    time.sleep(1.5)\n    os._exit(7)\n"
        "if not ctypes.PyDLL(None).fork():\n    time.sleep(1.5)\n    os._exit(7)\n"
        "man.stand_down()\nprint([os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(2)])"
    )
    assert (done.returncode, done.stdout) == (0, "[7, 7]\n")


def test_the_dead_man_can_be_postponed_and_disarmed():
    lived = child(
        "man = DeadMan()\nman.cover(time.monotonic() + 2)\nman.put_off(time.monotonic() + 3600)\n"
        "time.sleep(2.2)\nman.cover(time.monotonic() + 2)\nman.stand_down()\ntime.sleep(2.2)\nprint('alive')"
    )
    assert (lived.returncode, lived.stdout) == (0, "alive\n")


@pytest.fixture
def armed(monkeypatch):
    """The calls that the timer got."""
    asked = []
    monkeypatch.setattr(Timer, "set", lambda _timer, at: asked.append(at))
    yield asked
    DeadMan().disown()


def test_an_arming_far_ahead_is_left_for_the_next_job(armed):
    now = [100.0]
    man = DeadMan(lambda: now[0])
    man.cover(160.0)
    man.cover(170.0)  # already covered: the first one fires before
    man.stand_down(within=5.0)
    assert armed == [160.0]
    man.cover(150.0)
    now[0] = 146.0
    man.stand_down(within=5.0)
    man.stand_down()
    assert armed == [160.0, 150.0, math.inf]


def test_one_arming_serves_every_run_that_it_fires_in_time_for(armed):
    man = DeadMan(lambda: 100.0)
    for latest in (160.0, 161.0, 170.0, 175.0):
        man.cover(latest, 15.0)
    assert armed == [160.0]
    man.cover(176.0, 15.0)
    man.cover(160.0, 15.0)
    man.stand_down()
    assert armed == [160.0, 176.0, 160.0, math.inf]


def test_the_main_thread_waits_while_the_timer_is_being_moved(armed):
    """The main thread looks without the lock. It must not rely on a timer that the other thread is moving."""
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


def test_the_signal_of_the_dead_man_has_its_default_and_no_other_use():
    assert signal.getsignal(SIGNAL) == signal.SIG_DFL
    assert SIGNAL not in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT, signal.SIGURG, signal.SIGHUP)
