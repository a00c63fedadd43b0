"""A job's children: the worker kills their process groups with the job, and no other process group."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import eventually

from shithubd_worker.attempt.children import Children

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


def stranger_with(pid):
    """A process in a session of its own that got this pid from the kernel; None if another process got it first."""
    with LAST_PID.open("w") as file:
        file.write(str(pid - 1))
        file.flush()
        process = subprocess.Popen(["sleep", "3600"], start_new_session=True)
    if process.pid == pid:
        return process
    process.kill()
    process.wait()
    return None


def is_running(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not os.access(LAST_PID, os.W_OK), reason="only root can say which number a process gets")
def test_a_stranger_with_the_pid_of_an_ended_child_is_not_killed():
    def meet():
        children = Children()
        child = children.popen(["true"])
        child.wait()
        stranger = stranger_with(child.pid)
        return stranger and (children, stranger)

    children, stranger = eventually(meet, "a process with the number of a child that ended")
    try:
        children.end_all()
        with pytest.raises(subprocess.TimeoutExpired):
            stranger.wait(timeout=0.2)
    finally:
        stranger.kill()
        stranger.wait()


def test_the_grandchildren_of_a_child_that_ended_are_killed(tmp_path):
    written = tmp_path / "pid"
    children = Children()
    children.popen(["sh", "-c", f"sleep 3600 & echo $! >{written}"]).wait()
    pid = int(written.read_text())
    assert is_running(pid)
    children.end_all()

    def gone():
        with suppress(FileNotFoundError):
            return not is_running(pid)
        return True

    eventually(gone, "the grandchild's end")
