"""The machine: the wish to stop, the proof of death, the sleep that a signal ends, and what systemd is told."""

from __future__ import annotations

import dataclasses
import math
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from uuid import uuid4

import pytest
from conftest import eventually
from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker.host.identity import identify, is_dead
from shithubd_worker.host.signals import SelfPipe, Stop
from shithubd_worker.host.systemd import Systemd
from shithubd_worker.timing import PATIENCE_SECONDS


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


# The wish to stop.


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def stop(clock):
    return Stop(25.0, clock)


def test_nobody_wants_to_stop_at_first(stop):
    assert not stop.wanted
    assert stop.release_at == stop.kill_at == math.inf


@pytest.mark.parametrize("ears", [[True], [False], [True, False], [False, True]])
def test_one_signal_gives_the_job_its_grace_even_if_both_threads_hear_it(stop, clock, ears):
    for main in ears:
        stop.hear(main=main)
        clock.now += 1
    assert stop.wanted
    assert stop.release_at == 125.0
    assert stop.kill_at == 125.0 + PATIENCE_SECONDS


@pytest.mark.parametrize(
    "ears",
    [
        [True, True],
        [False, False],  # the main thread is inside C code and hears neither
        [True, False, True],
        [True, False, False],
        [False, True, False, True],
    ],
)
def test_two_signals_release_at_once(stop, clock, ears):
    for main in ears:
        clock.now += 3
        stop.hear(main=main)
    assert stop.release_at <= clock.now
    assert stop.kill_at == stop.release_at + PATIENCE_SECONDS


@given(st.lists(st.booleans(), max_size=12))
def test_the_larger_of_the_two_threads_counts_is_right(ears):
    stop = Stop(25.0, Clock())
    for main in ears:
        stop.hear(main=main)
    heard = max(ears.count(True), ears.count(False))
    assert stop.wanted == (heard > 0)
    assert stop.release_at == (math.inf if heard == 0 else 125.0 if heard == 1 else 100.0)


def test_the_second_signal_counts_from_the_moment_of_its_arrival(stop, clock):
    stop.hear(main=True)
    clock.now = 110.0
    stop.hear(main=True)
    clock.now = 111.0
    stop.hear(main=True)
    assert stop.release_at == 110.0


# The proof of death.


@pytest.fixture
def me():
    return dataclasses.replace(
        identify(), machine_id="this machine", boot_id="this boot", unit=None, invocation_id=None
    )


@pytest.fixture
def living():
    """A living process that we may not signal."""
    process = subprocess.Popen(["sleep", "3600"])
    yield process
    process.kill()
    process.wait()


def stat(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()


def start_ticks(pid):
    return int(stat(pid)[19])


def worker(me, process, **differs):
    """Another worker's row, as that process would have registered."""
    ticks = start_ticks(process.pid) if process.poll() is None else 12345
    seen = dataclasses.replace(me, id=uuid4(), pid=process.pid, start_ticks=ticks)
    return dataclasses.replace(seen, **differs)


@pytest.fixture
def dead():
    process = subprocess.Popen(["true"])
    process.wait()
    return process


def test_a_process_knows_itself():
    me = identify()
    assert (me.pid, me.host, me.leased_by) == (
        os.getpid(),
        socket.gethostname(),
        f"{socket.gethostname()}:{os.getpid()}",
    )
    assert me.start_ticks == start_ticks(os.getpid())
    assert me.boot_id
    assert me.pid_namespace == Path("/proc/self/ns/pid").stat().st_ino
    assert identify().id != me.id


def test_systemd_gives_a_process_its_unit_and_invocation(monkeypatch):
    monkeypatch.setenv("INVOCATION_ID", "abc")
    monkeypatch.setenv("SHITHUBD_WORKER_UNIT", "shithubd-worker@2.service")
    assert (identify().unit, identify().invocation_id) == ("shithubd-worker@2.service", "abc")
    monkeypatch.setenv("INVOCATION_ID", "")
    assert identify().invocation_id is None


def test_a_living_process_is_not_dead(me, living):
    assert is_dead(worker(me, living), me) is None


def test_this_process_is_not_dead(me):
    assert is_dead(me, me) is None


def test_a_process_that_no_longer_exists_is_dead(me, dead):
    assert f"no process {dead.pid}" in is_dead(worker(me, dead), me)


def test_a_killed_process_is_dead_once_it_is_gone(me):
    process = subprocess.Popen(["sleep", "3600"])
    row = worker(me, process)
    assert is_dead(row, me) is None
    process.kill()
    process.wait()
    assert is_dead(row, me)


def test_a_reused_pid_proves_the_death_of_the_first_process(me, living):
    row = worker(me, living, start_ticks=start_ticks(living.pid) - 1)
    assert "another process" in is_dead(row, me)


def test_an_unknown_start_proves_nothing(me, living):
    assert is_dead(worker(me, living, start_ticks=0), me) is None


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"machine_id": "another machine"},
        {"machine_id": ""},
        {"boot_id": "another boot"},
        {"boot_id": ""},
        {"pid_namespace": 1},
    ],
    ids=lambda differs: next(iter(differs)),
)
def test_a_missing_pid_of_another_machine_boot_or_namespace_proves_nothing(me, dead, elsewhere):
    assert is_dead(worker(me, dead, **elsewhere), me) is None


@pytest.mark.parametrize("unknown", [{"machine_id": ""}, {"boot_id": ""}])
def test_an_unknown_machine_or_boot_proves_nothing(me, dead, unknown):
    me = dataclasses.replace(me, **unknown)
    assert is_dead(worker(me, dead), me) is None


def test_an_earlier_invocation_of_our_own_unit_is_over_even_after_a_reboot(me, living):
    me = dataclasses.replace(me, unit="w@1.service", invocation_id="new")
    earlier = worker(me, living, invocation_id="old", boot_id="another boot", pid_namespace=1)
    assert "was started again" in is_dead(earlier, me)


def test_our_own_invocation_is_alive(me, dead):
    me = dataclasses.replace(me, unit="w@1.service", invocation_id="same")
    assert is_dead(worker(me, dead), me) is None


def test_the_process_decides_for_an_invocation_of_another_unit(me, living, dead):
    me = dataclasses.replace(me, unit="w@1.service", invocation_id="mine")
    for process, proof in ((living, False), (dead, True)):
        other = worker(me, process, unit="w@2.service", invocation_id="theirs")
        assert bool(is_dead(other, me)) is proof


def test_the_same_unit_on_another_machine_proves_nothing(me, living):
    me = dataclasses.replace(me, unit="w@1.service", invocation_id="new")
    assert is_dead(worker(me, living, invocation_id="old", machine_id="another machine"), me) is None


def test_the_same_unit_on_a_clone_of_this_machine_proves_nothing(me, living):
    me = dataclasses.replace(me, unit="w@1.service", invocation_id="new")
    clone = worker(me, living, invocation_id="old", host="another host", boot_id="another boot")
    assert is_dead(clone, me) is None


def test_a_process_that_we_may_not_signal_lives(me):
    init = dataclasses.replace(me, id=uuid4(), pid=1, start_ticks=0)
    child = os.fork()
    if child == 0:  # as a user who may not signal the first process
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            os._exit(0 if is_dead(init, me) is None else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# The sleep.


@pytest.fixture
def pipe():
    pipe = SelfPipe()
    yield pipe
    pipe.close()


def readable(pipe, seconds=0.0):
    return bool(select.select([pipe], [], [], seconds)[0])


def test_a_wake_ends_the_current_or_the_next_sleep_once(pipe):
    assert not readable(pipe)
    pipe.wake()
    assert readable(pipe, 60)
    assert pipe.drain() == b"\0"
    assert not readable(pipe)
    assert pipe.drain() == b""


def test_a_wake_from_another_thread_ends_the_sleep(pipe):
    thread = threading.Thread(target=pipe.wake)
    thread.start()
    assert readable(pipe, 60)
    thread.join()


def test_a_thousand_wakes_do_not_block(pipe):
    for _ in range(100_000):
        pipe.wake()
    assert readable(pipe)
    while pipe.drain():
        pass
    pipe.wake()
    assert pipe.drain() == b"\0"


def test_a_wake_after_the_end_does_nothing():
    pipe = SelfPipe()
    pipe.close()
    pipe.wake()


def test_a_signal_ends_the_sleep_with_its_number(pipe):
    before = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    try:
        pipe.catch_signals()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert readable(pipe, 60)
        assert pipe.drain() == bytes([signal.SIGUSR1])
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGUSR1, before)


# What systemd is told.


@pytest.fixture
def systemd_socket(tmp_path, monkeypatch):
    """A real datagram socket where systemd would listen."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.settimeout(60)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    yield listener
    listener.close()


@pytest.fixture
def systemd(systemd_socket):
    """The notifier of a worker."""
    systemd = Systemd()
    yield systemd
    systemd._notifier.socket.close()


def test_systemd_gets_messages_of_its_own_protocol(systemd, systemd_socket):
    systemd.ready("idle")
    assert systemd_socket.recv(4096) == b"READY=1\nSTATUS=idle"
    systemd.status("running search.reindex 42 for 3 s")
    assert systemd_socket.recv(4096) == b"STATUS=running search.reindex 42 for 3 s"
    systemd.watchdog()
    assert systemd_socket.recv(4096) == b"WATCHDOG=1"
    systemd.extend(30.5)
    assert systemd_socket.recv(4096) == b"EXTEND_TIMEOUT_USEC=30500000"
    before = time.monotonic_ns() // 1000
    systemd.reloading()
    told, moment = systemd_socket.recv(4096).decode().split("\nMONOTONIC_USEC=")
    assert told == "RELOADING=1"
    assert before <= int(moment) <= time.monotonic_ns() // 1000
    systemd.stopping()
    assert systemd_socket.recv(4096) == b"STOPPING=1"


def test_a_status_is_sent_only_when_it_changes(systemd, systemd_socket):
    systemd.ready("idle")
    for text in ("idle", "idle", "held", "held", "idle"):
        systemd.status(text)
    systemd.watchdog()
    heard = [systemd_socket.recv(4096) for _ in range(4)]
    assert heard == [b"READY=1\nSTATUS=idle", b"STATUS=held", b"STATUS=idle", b"WATCHDOG=1"]


def test_any_status_is_sent_as_one_line_of_ascii(systemd, systemd_socket):
    @given(st.text(st.characters(), min_size=1))
    def told(text):
        systemd.status("")
        systemd.status(text)
        heard = systemd_socket.recv(65536)
        if heard == b"STATUS=":
            heard = systemd_socket.recv(65536)
        assert heard.startswith(b"STATUS=")
        assert heard.decode("ascii").isprintable()

    told()


def test_without_systemd_nothing_is_sent_and_nothing_fails(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    code = (
        "from shithubd_worker.host.systemd import Systemd\nsystemd = Systemd()\nsystemd.ready('idle')\n"
        "systemd.status('held')\nsystemd.stopping()\nprint(systemd.listens, systemd.watchdog_seconds)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert (done.stdout, done.stderr) == ("False None\n", "")


def test_a_socket_without_a_listener_does_not_end_the_worker(systemd, systemd_socket):
    systemd_socket.close()
    systemd.watchdog()


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "me"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": ""}, None),
    ],
)
def test_the_worker_pings_the_watchdog_only_if_systemd_asks_this_process(
    monkeypatch, systemd_socket, variables, seconds
):
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, str(os.getpid()) if value == "me" else value)
    systemd = Systemd()
    systemd._notifier.socket.close()
    assert systemd.watchdog_seconds == seconds


def test_a_zombie_counts_as_alive_until_its_parent_reaps_it(me):
    """A supervisor that has not reaped yet delays the proof of death, but never causes a false proof."""
    process = subprocess.Popen(["sleep", "3600"])
    row = worker(me, process)
    os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: stat(process.pid)[0] == "Z", "the zombie")
    assert is_dead(row, me) is None
    process.wait()
    assert is_dead(row, me)
