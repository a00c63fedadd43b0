"""Log lines and messages to systemd: none waits for a reader that stands still, and lost lines are counted."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker.host import outlets
from shithubd_worker.host.systemd import Systemd
from shithubd_worker.telemetry.lines import TextFormatter, journal_fields
from shithubd_worker.telemetry.logs import OutletHandler

MANY = 20_000


@contextmanager
def pipe(monkeypatch):
    reader, writer = os.pipe()
    yield writer, lambda: os.read(reader, 10_000_000)
    for fd in (reader, writer):
        os.close(fd)


@contextmanager
def pipe_of_somebody_else(monkeypatch):
    """A pipe that cannot be opened again."""

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(outlets.os, "open", refuse)
    with pipe(monkeypatch) as both:
        yield both


@contextmanager
def stream_socket(monkeypatch):
    reader, writer = socket.socketpair()
    with reader, writer:
        yield writer.fileno(), lambda: reader.recv(10_000_000)


WAYS = {"a pipe": pipe, "a pipe of somebody else": pipe_of_somebody_else, "a socket": stream_socket}


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """An outlet, and how to read what it writes: (outlet, read). Another process may read it, or may not."""
    outlets.unblocked.cache_clear()
    with WAYS[request.param](monkeypatch) as (fd, read):
        made = outlets.Stream(fd)
        yield made, read
        if made._socket is not None:
            made._socket.close()
        if made._fd != fd:
            os.close(made._fd)
        assert os.get_blocking(fd), "as the other writers to it expect"
    outlets.unblocked.cache_clear()


def handler_of(outlet):
    formatter = TextFormatter()
    return OutletHandler(outlet, lambda record: f"{formatter.format(record)}\n".encode())


def record(text, *arguments):
    return logging.LogRecord("test", logging.INFO, __file__, 1, text, arguments, None)


def read_all(read, last):
    """Read, while a writer writes, until its last line has arrived."""
    found = b""
    while last not in found:
        found += read()
    return found.decode().splitlines()


def test_lines_that_nobody_reads_are_counted_and_the_others_arrive_whole_and_in_order(way):
    outlet, read = way
    handler = handler_of(outlet)
    for number in range(MANY):
        handler.handle(record("line %d %s", number, "x" * 300))
    assert 0 < handler.dropped < MANY
    lost = handler.dropped
    begun = read()  # all that the kernel's buffer keeps
    handler.handle(record("the last one"))
    found = (begun + read()).decode().splitlines()
    assert found[-1].endswith("the last one")
    assert handler.dropped == lost
    numbers = [int(line.split()[3]) for line in found if " line " in line]
    assert numbers == list(range(len(numbers))), "no hole"
    assert all(line.endswith("x" * 300) for line in found if " line " in line), "none is torn"
    told = [line for line in found if "log lines were lost here" in line]
    assert sum(int(line.split()[2]) for line in told) == handler.dropped
    assert found.index(told[0]) == len(numbers), "where they are missing"


def test_a_line_longer_than_a_pipes_buffer_arrives_whole_if_somebody_reads(way):
    outlet, read = way
    line = b"y" * 3_000_000 + b"\n"
    found = []
    reader = threading.Thread(target=lambda: found.extend(read_all(read, b"\nend\n")))
    reader.start()
    taken = outlet.put(line)
    while not outlet.put(b"end\n"):
        pass
    reader.join()
    assert taken
    assert found == ["y" * 3_000_000, "end"]


def test_a_record_that_cannot_be_formatted_is_reported_in_a_line(way):
    outlet, read = way
    handler_of(outlet).handle(record("%d jobs", "no number"))
    told = read().decode()
    assert "'%d jobs': ('no number',)" in told
    assert "TypeError" in told


@pytest.fixture
def journal(tmp_path):
    """The journal's socket, and the outlet that writes to it."""
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path)
        outlet = outlets.Journal(path)
        yield listening, outlet, path
        outlet._socket.close()


def parsed(data):
    """Fields as the journal reads them."""
    found = {}
    while data:
        name, _, rest = data.partition(b"\n")
        if b"=" in name:
            key, _, value = name.partition(b"=")
            data = rest
        else:
            key, size = name, int.from_bytes(rest[:8], "little")
            value, data = rest[8 : 8 + size], rest[8 + size + 1 :]
        found[key.decode()] = value.decode()
    return found


@given(st.text(), st.text(st.characters(exclude_characters="\0")))
def test_the_journal_reads_what_was_written(text, kind):
    made = record("%s", text)
    made.kind = kind
    fields = journal_fields(made)
    assert parsed(outlets.entry(fields)) == fields


def test_a_journal_that_stands_still_does_not_stop_the_worker(journal):
    listening, outlet, _ = journal
    handler = OutletHandler(outlet, lambda made: outlets.entry(journal_fields(made)))
    for number in range(MANY):
        handler.handle(record("%d", number))
    taken = MANY - handler.dropped
    assert 0 < taken < MANY
    assert [parsed(listening.recv(65536))["MESSAGE"] for _ in range(taken)] == [str(n) for n in range(taken)]
    handler.flush()
    assert parsed(listening.recv(65536))["MESSAGE"].startswith(f"{MANY - taken} log lines were lost here")
    handler.handle(record("again"))
    assert parsed(listening.recv(65536))["MESSAGE"] == "again"


def test_the_longest_line_fits_the_journal(journal):
    listening, outlet, _ = journal
    assert outlet.put(outlets.entry(journal_fields(record("%s", "\U0001f98a" * 1_000_000))))
    assert parsed(listening.recv(1_000_000))["MESSAGE"].startswith("\U0001f98a" * 10_000)


def test_a_journal_that_is_gone_and_comes_back_is_found_again(journal, tmp_path):
    listening, outlet, path = journal
    listening.close()
    Path(path).unlink()
    assert not outlet.put(b"MESSAGE=lost\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as again:
        again.bind(path)
        assert outlet.put(b"MESSAGE=found\n")
        assert again.recv(100) == b"MESSAGE=found\n"


def test_a_systemd_that_stands_still_does_not_stop_the_worker_and_hears_the_last_status_later(tmp_path, monkeypatch):
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path)
        systemd = Systemd()
        while systemd.watchdog():
            pass
        for number in range(MANY):
            systemd.status(str(number))
        systemd.stopping()
        heard = b""
        listening.setblocking(False)
        while heard is not None:
            try:
                heard = listening.recv(100)
            except BlockingIOError:
                heard = None
        systemd.status(str(MANY - 1))
        assert listening.recv(100) == f"STATUS={MANY - 1}".encode()
        systemd._notifier.socket.close()


HOLDS_THE_GIL = """
import time
from shithubd_worker.host.dead_man import DeadMan
DeadMan().cover(time.monotonic() + 0.1)
import re
re.match("(a*)*b", "a" * 100)
"""
SEGFAULTS = """
import ctypes, faulthandler
from shithubd_worker.host import outlets
faulthandler.enable(outlets.unblocked(2))
ctypes.string_at(0)
"""
LOGS = """
import logging
from shithubd_worker.telemetry import logs
logs.configure({!r}, "info")
for number in range(1000):
    logging.getLogger("test").info("line %d %s", number, "x" * 300)
print(logs.dropped())
"""


@pytest.mark.parametrize(
    ("code", "ends_with"),
    [(HOLDS_THE_GIL, -26), (SEGFAULTS, -11), (LOGS.format("text"), 0), (LOGS.format("json"), 0)],
    ids=["the dead man's timer", "a segmentation fault", "text", "json"],
)
def test_a_process_whose_stderr_nobody_reads_goes_on_to_its_end(code, ends_with):
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writer, b"." * 4096)  # the pipe is full to the last byte
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=writer, timeout=60, check=False)
    assert done.returncode == ends_with
    if ends_with == 0:
        assert int(done.stdout) == 1000
    os.close(reader)
    os.close(writer)
