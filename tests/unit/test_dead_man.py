"""The dead man's timer is the only one of its kind in a process: a handler may take it, two threads of ours move it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from shithubd_worker.host import DeadMan

TAKEN = {
    "cancelled": "faulthandler.cancel_dump_traceback_later()",
    "used for something else": "faulthandler.dump_traceback_later(3600, file=open('/dev/null', 'w'))",
    "used and given back": "faulthandler.dump_traceback_later(9); faulthandler.cancel_dump_traceback_later()",
}


@pytest.mark.parametrize("how", TAKEN)
def test_a_timer_that_a_handler_took_is_armed_again_by_the_next_look(how):
    code = f"""
import faulthandler, time
from shithubd_worker.host import DeadMan
man, end = DeadMan(), time.monotonic() + 0.5
man.cover(end, 0.25)
{TAKEN[how]}
while time.monotonic() < end + 10:
    man.cover(end, 0.25)
    time.sleep(0.05)
"""
    died = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (died.returncode, "Timeout" in died.stderr) == (1, True)


def test_a_timer_that_nobody_took_is_left_as_it_is(monkeypatch):
    man, end = DeadMan(), time.monotonic() + 3600
    man.cover(end, 60)
    monkeypatch.setattr(man, "put_off", None)
    try:
        for _ in range(10):
            man.cover(end, 60)
    finally:
        man.stand_down()


def test_the_timer_is_moved_under_the_lock_by_whoever_moves_it(monkeypatch):
    man, owned = DeadMan(), []
    for name in ("dump_traceback_later", "cancel_dump_traceback_later"):
        monkeypatch.setattr(f"faulthandler.{name}", lambda *_, **__: owned.append(man._lock._is_owned()))
    man.cover(time.monotonic() + 2)
    man.put_off(time.monotonic() + 3)
    man.pause()
    man.resume()
    man.stand_down(within=5.0)
    assert owned == [True] * 5
    assert not man._lock._is_owned()


@pytest.mark.parametrize("moved_by", ["the control thread", "a fork"])
def test_nobody_counts_on_a_timer_that_is_being_moved(moved_by):
    """The main thread, which looks without the lock, then waits for it."""
    man, end = DeadMan(), time.monotonic() + 3600
    man.cover(end, 60)
    held, go, covered = threading.Event(), threading.Event(), []

    def move():
        if moved_by == "a fork":
            man.pause()
            held.set()
            go.wait()
            man.resume()
        else:
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
    man.stand_down()
    assert covered[0] is False
    assert covered[2] is True
