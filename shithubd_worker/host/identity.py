"""Which process this is, and the proof that another one is dead."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from uuid import uuid4

from shithubd_worker.model import Identity


def identify() -> Identity:
    """This process. A fact that the host doesn't have (no systemd, no machine id) stays empty, and proves nothing
    later."""
    return Identity(
        id=uuid4(),
        host=socket.gethostname(),
        pid=os.getpid(),
        machine_id=_read("/etc/machine-id"),
        boot_id=_read("/proc/sys/kernel/random/boot_id"),
        pid_namespace=_pid_namespace(),
        start_ticks=_start_ticks(os.getpid()) or 0,
        unit=os.environ.get("SHITHUBD_WORKER_UNIT") or None,
        invocation_id=os.environ.get("INVOCATION_ID") or None,
    )


def is_dead(other: Identity, me: Identity) -> str | None:
    """The proof that another worker's process is dead, or None if there is none. Both must be of this machine.

    A unit runs one process at a time, so an earlier invocation of our own unit is over. The host's name must be the
    same, because machines are cloned together with their id. In all other cases the boot and the pid namespace must be
    the same. Then the pid must be gone, or belong to a process with another start time.

    A missing /proc entry proves nothing, because ProtectProc= hides living processes. So the kernel is asked with
    kill(2) and signal 0.
    """
    if not me.machine_id or other.machine_id != me.machine_id:
        return None
    if me.unit and me.invocation_id and (other.host, other.unit) == (me.host, me.unit) and other.invocation_id:
        return None if other.invocation_id == me.invocation_id else f"unit {me.unit} was started again"
    if (other.boot_id, other.pid_namespace) != (me.boot_id, me.pid_namespace) or not me.boot_id:
        return None
    try:
        os.kill(other.pid, 0)
    except ProcessLookupError:
        return f"no process {other.pid} on this host any more"
    except PermissionError:
        pass
    ticks = _start_ticks(other.pid)
    if ticks is not None and other.start_ticks and ticks != other.start_ticks:
        return f"pid {other.pid} belongs to another process now"
    return None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _pid_namespace() -> int:
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0


def _start_ticks(pid: int) -> int | None:
    # The command's name stands in parentheses and may contain anything, so count from the last parenthesis. Field 22 of
    # proc(5).
    stat = _read(f"/proc/{pid}/stat")
    return int(stat.rpartition(")")[2].split()[19]) if stat else None
