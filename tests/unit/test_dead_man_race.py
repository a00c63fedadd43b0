"""The control thread arms the dead man for the attempt that it has seen, or not at all: the main thread may have gone
on to the next one meanwhile, which must end at another time."""

from __future__ import annotations

import time
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from shithubd_worker.database.clock import Clock
from shithubd_worker.process.control import Control
from shithubd_worker.process.progress import Progress


class Lock:
    """Whoever waits for it comes too late: the main thread has gone on to `next`."""

    def __init__(self, progress, following):
        self._progress = progress
        self._following = following

    def __enter__(self):
        self._progress.attempt = self._following

    def __exit__(self, *_):
        pass


def attempt(seconds):
    """One that has run for long, so that its lease is to be renewed."""
    now = time.monotonic()
    return SimpleNamespace(
        kind=SimpleNamespace(lease_timeout=seconds, margin=1.0),
        lease=None,
        over=False,
        lost=False,
        settled=False,
        shielded=False,
        asked_at=None,
        unreachable=False,
        end_at=now + seconds,
        lease_deadline=now + seconds / 2,
        dead_man_at=(now + seconds, seconds / 4),
    )


def control(progress, dead_man):
    words = (
        "beat",
        "identity",
        "stop",
        "ears",
        "wake_main",
        "reload",
        "systemd",
        "metrics",
        "tray",
        "settler",
        "lethal",
        "strays",
    )
    return Control(
        **{word: MagicMock() for word in words},
        clock=Clock(lambda _seconds: None),
        kinds=[],
        shortest_lease=60.0,
        progress=progress,
        dead_man=dead_man,
    )


@pytest.mark.parametrize("seen", [attempt(300.0), None], ids=["a run", "nothing"])
@pytest.mark.parametrize("step", ["_keep_deadlines", "_renew"])
@pytest.mark.parametrize("gone_on", [False, True])
def test_the_control_thread_moves_the_dead_man_of_nobody_but_whom_it_has_seen(seen, step, gone_on):
    progress = Progress(attempt=seen)
    dead_man = MagicMock()
    dead_man.held.return_value = Lock(progress, attempt(5.0) if gone_on else seen)
    asked = (time.monotonic(), seen) if step == "_renew" else (time.monotonic(),)
    getattr(control(progress, dead_man), step)(*asked)
    moved = dead_man.cover.called or dead_man.put_off.called or dead_man.stand_down.called
    assert moved == (not gone_on and (seen is not None or step == "_keep_deadlines"))


def test_the_control_thread_arms_nothing_for_a_run_that_has_not_begun():
    """Its lease may be over already: then it doesn't begin, and the process must not be ended for it."""
    seen = attempt(300.0)
    seen.shielded = True
    progress = Progress(attempt=seen)
    dead_man = MagicMock()
    dead_man.held.return_value = Lock(progress, seen)
    control(progress, dead_man)._keep_deadlines(time.monotonic())
    assert not dead_man.cover.called
