"""Duties of the control thread when something else goes wrong, too: no child remains, and no time is lost."""

from __future__ import annotations

import signal
import time
from types import SimpleNamespace

from conftest import eventually

from shithubd_worker.errors import EXIT_FORCED, ConfigError
from shithubd_worker.host.signals import Stop
from shithubd_worker.model import Registration
from shithubd_worker.process.duties.ending import Ending
from shithubd_worker.process.duties.figures import Figures
from shithubd_worker.process.duties.heartbeat import Heartbeat
from shithubd_worker.process.duties.reloading import Reloading
from shithubd_worker.process.duties.supervision import Supervision
from shithubd_worker.process.shared import Progress


def test_no_child_of_the_handler_remains_when_its_process_is_ended(parts):
    """The worker kills them before it ends the process. The handler never reaches its own end, which would end them."""
    ended = []

    def body(attempt):
        child = attempt.popen(["sleep", "3600"], env=None)

        def end_process(_code):
            ended.append(eventually(child.poll, "the end of the child", within=10))

        ending = Ending(
            parts.beat,
            parts.me.id,
            parts.relief,
            strays=lambda: [],
            figures=Figures(parts.beat, parts.metrics),
            systemd=SimpleNamespace(stopping=lambda: None),
            end_process=end_process,
        )
        attempt.runtime_deadline = time.monotonic()
        ending(attempt, EXIT_FORCED)

    parts.run(body)
    assert ended == [-signal.SIGKILL]


def test_a_renewed_lease_counts_from_the_moment_before_its_request(parts, monkeypatch):
    """The database wrote the new end at some later moment, and its answer may arrive late."""
    asked, renew = [], parts.beat.renew

    def late(lease, timeout):
        asked.append(time.monotonic())
        return renew(lease, timeout)

    monkeypatch.setattr(parts.beat, "renew", late)

    def body(attempt):
        parts.trust.beat(time.monotonic() + 60.0, attempt)  # so that the lease ends first
        parts.renewal.tick(attempt.lease_deadline, attempt)
        assert attempt.lease_deadline <= asked[0] + attempt.kind.lease_timeout

    parts.run(body)
    assert len(asked) == 1


def test_a_beat_names_the_finished_jobs_that_are_not_settled(database, parts):
    settler = SimpleNamespace(unsettled=lambda _now: (7, 9))
    beat = Heartbeat(parts.beat, Registration(parts.me, ["k"]), parts.progress, settler, parts.trust, parts.clock)
    beat.tick(time.monotonic(), None)
    assert database.query("SELECT unsettled FROM beats") == [([7, 9],)]


def test_the_fault_of_a_reload_is_shown_until_a_reload_succeeds():
    faults = [ConfigError("grace: 'x' is no time"), ConfigError("poll: 'y' is no time"), None]

    def take_over():
        if fault := faults.pop(0):
            raise fault

    told = []
    systemd = SimpleNamespace(reloading=lambda: told.append("reloading"), ready=told.append)
    supervision = Supervision(systemd, Progress(Stop(25.0), ready=True))
    reload = Reloading(take_over, systemd, supervision, lambda: None)
    for _ in range(3):
        reload()
    assert told == [
        "reloading",
        "idle; not reloaded: grace: 'x' is no time",
        "reloading",
        "idle; not reloaded: poll: 'y' is no time",
        "reloading",
        "idle",
    ]
