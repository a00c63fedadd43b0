"""A call that wakes up while it waits goes on where it was, even if it is still sending."""

from __future__ import annotations

import os
import signal
import time

import pytest

from shithubd_worker.database.connection import connector

LONG = "x" * 20_000_000  # more than the buffers of the sockets hold


def who_looks_up(connection, wake):
    connection.meanwhile = lambda _asking, _seconds: wake()


def whose_time_moves_on(connection, wake):
    ends = [time.monotonic() + 0.2]

    def by():
        if time.monotonic() >= ends[0]:
            wake()
            ends[0] += 300
        return ends[0]

    connection.answer_by = by


@pytest.mark.parametrize("looks_up", [who_looks_up, whose_time_moves_on])
@pytest.mark.parametrize("text", ["short", LONG], ids=["it waits for the answer", "it is still sending"])
def test_a_call_goes_on_where_it_was_after_each_wake_up(database, looks_up, text):
    """The server's process stands still until the call has woken up."""
    with connector(database.url, "test")() as connection:
        pid = connection.info.backend_pid
        os.kill(pid, signal.SIGSTOP)
        try:
            looks_up(connection, lambda: os.kill(pid, signal.SIGCONT))
            assert connection.execute("SELECT length(%s)", (text,)).fetchone() == (len(text),)
        finally:
            os.kill(pid, signal.SIGCONT)
