"""What the control thread does apart from the database, duty by duty: hear signals, keep deadlines, tell systemd."""

from __future__ import annotations

import math
import os
import select
import signal
import socket
import time
from types import SimpleNamespace

import pytest
from conftest import eventually
from duties import rung

from shithubd_worker.errors import EXIT_ERROR, EXIT_FORCED, EXIT_OK, ConfigError
from shithubd_worker.host.signals import SelfPipe, Stop
from shithubd_worker.host.systemd import Systemd
from shithubd_worker.process import control
from shithubd_worker.process.duties.enforcing import Enforcing
from shithubd_worker.process.duties.hearing import Hearing
from shithubd_worker.process.duties.reloading import Reloading
from shithubd_worker.process.duties.supervision import Supervision
from shithubd_worker.process.shared import Progress
from shithubd_worker.timing import (
    INTERRUPT_AGAIN_SECONDS,
    LOST_ALARM_SECONDS,
    PATIENCE_SECONDS,
    PING_SECONDS,
    QUICK_TICK_SECONDS,
    STALLED_SECONDS,
    TICK_SECONDS,
    TOLD_AGAIN_SECONDS,
)

NOW, MOMENT = 5000.0, 0.01


class DeadMan:
    """A dead man that does nothing. See test_dead_man_race.py."""

    def held(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def cover(self, *_):
        pass

    def stand_down(self, within):
        pass


def running(why="runtime", **more):
    """An attempt that should have ended now, for this reason."""
    return SimpleNamespace(
        **{"over": False, "settled": False, "shielded": False, "end_at": NOW, "dead_man_at": (0, 0), **more},
        why_end=lambda: why,
        kind=SimpleNamespace(name="k"),
        lease=SimpleNamespace(id=1),
        started_at=NOW,
        lease_deadline=math.inf,
    )


class Scene:
    """The deadlines of one attempt that ignores them, and how it was ended, if it was."""

    def __init__(self, attempt, lethal=False, stop=None):
        self.stop, self.ended = stop or Stop(25.0, lambda: NOW - 25.0), []
        self.progress = Progress(self.stop, attempt=attempt)
        self.duty = Enforcing(
            self.progress,
            DeadMan(),
            lethal=lambda: lethal,
            end=lambda _attempt, code: self.ended.append(code),
        )

    def tick(self, *after):
        for seconds in after:
            self.duty.tick(NOW + seconds)
        return self.ended


# Deadlines.


def test_a_handler_that_ignores_its_interrupt_for_two_seconds_is_ended():
    scene = Scene(running())
    assert scene.tick(-MOMENT, 0.0, PATIENCE_SECONDS - MOMENT) == []
    assert scene.tick(PATIENCE_SECONDS) == [EXIT_FORCED]


def test_the_two_seconds_begin_when_the_control_thread_sees_the_deadline():
    scene = Scene(running())
    assert scene.tick(60.0, 60.0 + PATIENCE_SECONDS - MOMENT) == []
    assert scene.tick(60.0 + PATIENCE_SECONDS) == [EXIT_FORCED]


@pytest.mark.parametrize("obeys", ["over", "settled", "gone"])
def test_a_handler_that_obeys_in_time_is_not_ended(obeys):
    attempt = running()
    scene = Scene(attempt)
    scene.tick(0.0, 1.0)
    if obeys == "gone":
        scene.progress.attempt = None
    else:
        setattr(attempt, obeys, True)
    assert scene.tick(PATIENCE_SECONDS, 60.0) == []
    scene.progress.attempt = running()
    assert scene.tick(61.0, 61.0 + PATIENCE_SECONDS - MOMENT) == [], "the next one has its own time"


@pytest.mark.parametrize("shielded", [False, True], ids=["in its handler", "in a COMMIT"])
def test_a_stop_ends_a_handler_after_grace_and_patience_with_exit_code_0(shielded):
    scene = Scene(running("stop", shielded=shielded))
    scene.stop.hear(main=False)
    assert scene.stop.kill_at == NOW + PATIENCE_SECONDS
    assert scene.tick(0.0, PATIENCE_SECONDS - MOMENT) == []
    assert scene.tick(PATIENCE_SECONDS) == [EXIT_OK]


def test_a_stop_leaves_a_handler_its_grace_while_max_runtime_is_not_over():
    scene = Scene(running("stop", end_at=NOW - 60.0))
    assert scene.tick(0.0, PATIENCE_SECONDS, 60.0) == []


def test_a_process_in_a_commit_is_not_ended_when_its_time_is_over():
    scene = Scene(running(shielded=True))
    with rung() as heard:
        assert scene.tick(0.0, PATIENCE_SECONDS, 60.0) == []
    assert heard == []


def test_a_missed_alarm_is_sent_again_and_again():
    scene = Scene(running())
    with rung() as heard:
        scene.tick(-MOMENT, 0.0, LOST_ALARM_SECONDS - MOMENT)
        assert heard == []
        again = LOST_ALARM_SECONDS + INTERRUPT_AGAIN_SECONDS
        scene.tick(LOST_ALARM_SECONDS, again - MOMENT)
        assert len(heard) == 1
        scene.tick(again)
        assert len(heard) == 2


def test_the_main_thread_takes_its_signals_back_when_it_is_called():
    with rung() as heard:
        Scene(running(end_at=math.inf), lethal=True).tick(0.0)
        Scene(None, lethal=True).tick(0.0)
    assert len(heard) == 1


# Hearing.


@pytest.fixture
def hearing():
    """The duty, the wish to stop, and the calls that the duty made."""
    ears, stop, called = SelfPipe(), Stop(25.0), []
    duty = Hearing(
        ears,
        stop,
        reload=lambda: called.append("reload"),
        wake_main=lambda: called.append("wake"),
        beat_now=lambda: called.append("beat"),
    )
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, lambda *_: None) for number in numbers]
    ears.catch_signals()

    def hear(*sent):
        for number in sent:
            signal.raise_signal(number)
        duty.tick(0.0)
        return called

    yield hear, stop
    signal.set_wakeup_fd(-1)
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)
    ears.close()


def test_a_stop_is_heard_and_announced_at_once_and_only_once(hearing):
    hear, stop = hearing
    with rung() as heard:
        assert (hear(), stop.wanted) == ([], False)
        assert (hear(signal.SIGTERM), stop.wanted) == (["wake", "beat"], True)
        assert hear() == ["wake", "beat"]
        assert stop.release_at > time.monotonic()
        hear(signal.SIGTERM)
        assert stop.release_at <= time.monotonic(), "the second one: at once"
    assert len(heard) == 1


def test_a_stop_that_the_main_thread_has_heard_is_announced_too(hearing):
    hear, stop = hearing
    stop.hear(main=True)
    assert hear() == ["wake", "beat"]


def test_a_reload_is_heard_each_time(hearing):
    hear, stop = hearing
    assert hear(signal.SIGHUP) == ["reload"]
    assert hear(signal.SIGHUP) == ["reload", "reload"]
    assert not stop.wanted


# What systemd is told.


@pytest.fixture
def told(tmp_path, monkeypatch):
    """What systemd was told since the last call."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))

    def take():
        taken = []
        while select.select([listener], [], [], 0)[0]:
            taken.extend(listener.recv(4096).decode().split("\n"))
        return taken

    yield take
    listener.close()


@pytest.fixture
def duty(told):
    """The duty of a worker that is ready."""
    systemd = Systemd()
    yield Supervision(systemd, Progress(Stop(25.0, lambda: NOW), ready=True, ticked_at=NOW))
    systemd._notifier.socket.close()


def test_systemd_is_told_nothing_before_the_worker_is_ready(duty, told):
    duty._progress.ready = False
    duty.tick(NOW)
    assert told() == []


def test_a_worker_that_goes_on_pings_every_ten_seconds_and_no_more_often(duty, told):
    pings = []
    for after in (0.0, PING_SECONDS - MOMENT, PING_SECONDS, STALLED_SECONDS - MOMENT):
        duty.tick(NOW + after)
        pings.append(told().count("WATCHDOG=1"))
    assert pings == [1, 0, 1, 1]


@pytest.mark.parametrize("runs", [False, True])
def test_a_main_thread_makes_progress_only_if_it_ticks_or_runs_a_handler(duty, told, runs):
    duty._progress.attempt = running(end_at=math.inf) if runs else None
    duty.tick(NOW + STALLED_SECONDS)
    assert ("WATCHDOG=1" in told()) is runs


def test_systemd_is_asked_for_the_time_that_a_stop_still_needs(duty, told):
    duty._progress.stop.hear(main=True)  # at NOW: the process is killed 27 s later
    extended = []
    for after in (0.0, 1.0, 1.5, 26.0, 28.0):
        duty.tick(NOW + after)
        extended.append([each for each in told() if each.startswith("EXTEND")])
    assert extended == [["EXTEND_TIMEOUT_USEC=15000000"]] * 2 + [[], ["EXTEND_TIMEOUT_USEC=6000000"], []]


def test_systemd_hears_a_changed_status_at_most_once_a_second(duty, told):
    told_of = []
    for after, trouble in ((0.0, ""), (0.5, "no disk"), (TOLD_AGAIN_SECONDS, "no disk"), (9.0, "no disk")):
        duty._progress.trouble = trouble
        duty.tick(NOW + after)
        told_of.append([each for each in told() if each.startswith("STATUS")])
    assert told_of == [["STATUS=idle"], [], ["STATUS=pausing: no disk"], []]


# Reload.


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (None, "idle"),
        (ConfigError("grace: 'x' is no time"), "idle; not reloaded: grace: 'x' is no time"),
        (OSError("gone"), "idle; not reloaded: see the journal"),
    ],
)
def test_systemd_hears_the_beginning_and_the_result_of_a_reload(duty, told, fault, says):
    woken = []

    def take_over():
        assert told()[0] == "RELOADING=1"
        if fault is not None:
            raise fault

    Reloading(take_over, duty._systemd, duty, lambda: woken.append(True))()
    assert told() == ["READY=1", f"STATUS={says}"]
    assert woken == ([] if fault else [True])
    assert duty.line(NOW) == says, "until the next reload"


# The thread.


@pytest.fixture
def thread():
    """Makes a control thread with these duties, and does not start it."""
    ears = SelfPipe()

    def make(*duties, at_hand=False):
        things = (SimpleNamespace(opened=False), ears, Progress(Stop(25.0)), SimpleNamespace(at_hand=at_hand))
        nothing, each = SimpleNamespace(waiting=False), [SimpleNamespace(tick=duty) for duty in duties]
        return control.Control(*things, nothing, shortest_lease=60.0, duties=each)

    yield make
    ears.close()


def test_each_tick_runs_all_duties_in_their_order(thread):
    turns = []
    made = thread(lambda _now: turns.append("first"), lambda _now: turns.append("second"))
    made.start()
    made._ears.wake()
    eventually(lambda: len(turns) >= 4)
    made.finish()
    assert not made.is_alive()
    assert turns[:4] == ["first", "second"] * 2


def test_a_fault_of_a_duty_ends_the_process(thread, monkeypatch, caplog):
    made = thread(lambda _now: 1 / 0)
    codes = []

    def end(code):
        codes.append(code)
        made._finished = True

    monkeypatch.setattr(control, "end_process", end)
    made._ears.wake()
    made.run()
    assert codes == [EXIT_ERROR]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(("at_hand", "seconds"), [(False, TICK_SECONDS), (True, QUICK_TICK_SECONDS)])
def test_the_thread_looks_often_while_the_tray_is_not_empty(thread, monkeypatch, at_hand, seconds):
    made, waits = thread(at_hand=at_hand), []
    poll = SimpleNamespace(register=lambda *_: None, poll=waits.append)
    monkeypatch.setattr(control.select, "poll", lambda: poll)
    made._listen()
    assert (waits, made._progress.watched) == ([seconds * 1000], at_hand)
