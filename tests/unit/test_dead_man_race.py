"""The control thread arms the dead man only for the attempt that it has seen. Meanwhile the main thread may have begun
the next attempt, which must end at another time."""

from __future__ import annotations

import time
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from shithubd_worker.database.clock import Clock
from shithubd_worker.host.signals import Stop
from shithubd_worker.process.duties.enforcing import Enforcing
from shithubd_worker.process.duties.renewal import Renewal
from shithubd_worker.process.duties.trust import Trust
from shithubd_worker.process.shared import Progress


class Lock:
    """A thread that waits for it comes too late: the main thread has gone on to `next`."""

    def __init__(self, progress, following):
        self._progress = progress
        self._following = following

    def __enter__(self):
        self._progress.attempt = self._following

    def __exit__(self, *_):
        pass


def attempt(seconds):
    """An attempt that has run for so long that its lease must be renewed."""
    now = time.monotonic()
    return SimpleNamespace(
        kind=SimpleNamespace(lease_timeout=seconds, margin=1.0),
        lease=SimpleNamespace(sent_at=now - seconds / 2),
        over=False,
        lost=False,
        settled=False,
        shielded=False,
        asked_at=None,
        unreachable=False,
        end_at=now + seconds,
        renewed_at=now - seconds / 2,
        lease_deadline=now + seconds / 2,
        dead_man_at=(now + seconds, seconds / 4),
    )


def deadlines(progress, dead_man):
    """The deadlines of a worker whose signals are as they should be."""
    return Enforcing(progress, dead_man, lethal=lambda: False, end=MagicMock())


def renewal(progress, dead_man):
    """A renewal whose database renews every lease."""
    clock = Clock(lambda _seconds: None)
    trust = Trust(progress, dead_man, 300.0)
    return Renewal(MagicMock(), progress, clock, SimpleNamespace(lost_at=0.0), trust, MagicMock())


def beat(progress, dead_man):
    """A beat that the database recorded."""
    trust = Trust(progress, dead_man, 300.0)
    return SimpleNamespace(tick=trust.beat)


@pytest.mark.parametrize("runs", [True, False], ids=["a run", "nothing"])
@pytest.mark.parametrize("renews", [None, renewal, beat])
@pytest.mark.parametrize("gone_on", [False, True])
def test_the_control_thread_moves_the_dead_man_only_of_the_attempt_that_it_has_seen(runs, renews, gone_on):
    seen = attempt(300.0) if runs else None  # made here: one that pytest collected long ago would be past its lease
    progress = Progress(Stop(25.0), attempt=seen)
    dead_man = MagicMock()
    dead_man.held.return_value = Lock(progress, attempt(5.0) if gone_on else seen)
    if renews:
        renews(progress, dead_man).tick(time.monotonic(), seen)
    else:
        deadlines(progress, dead_man).tick(time.monotonic())
    moved = dead_man.cover.called or dead_man.put_off.called or dead_man.stand_down.called
    assert moved == (not gone_on and (runs or not renews))


def test_the_control_thread_arms_nothing_for_a_run_that_has_not_begun():
    """Its lease may be over already. Then the run does not begin, and the process must not end because of it."""
    seen = attempt(300.0)
    seen.shielded = True
    progress = Progress(Stop(25.0), attempt=seen)
    dead_man = MagicMock()
    dead_man.held.return_value = Lock(progress, seen)
    deadlines(progress, dead_man).tick(time.monotonic())
    assert not dead_man.cover.called
