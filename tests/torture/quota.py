"""Takes most of the processor away from one process, as CPUQuota= of a unit does: by a control group of its own.

A process under a quota stands still again and again, in the middle of any step. Each time it lasts for most of a tenth
of a second. This needs root, and a hierarchy of control groups with the cpu controller: of version 2, or of version 1
as on some virtual machines. Elsewhere these faults have no effect, and the summary says so.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
PERIOD_USEC = 100_000


class Quota:
    """A control group. `set` limits a process to a share of one processor; `end` removes all limits."""

    def __init__(self) -> None:
        self._group: Path | None = None
        self._old = (_ROOT / "cpu" / "cpu.cfs_quota_us").exists()
        parent = _ROOT / "cpu" if self._old else _ROOT
        group = parent / f"torture-{os.getpid()}-{id(self)}"
        with suppress(OSError):
            if not self._old:
                (parent / "cgroup.subtree_control").write_text("+cpu")
            group.mkdir()
            self._group = group
            self._limit(None)

    @property
    def works(self) -> bool:
        """Can this machine do it?"""
        return self._group is not None

    def set(self, pid: int, share: float) -> None:
        """Move a process in, and limit it."""
        assert self._group is not None
        self._limit(share)
        with suppress(ProcessLookupError):
            (self._group / "cgroup.procs").write_text(str(pid))

    def lift(self) -> None:
        """Remove the limit."""
        self._limit(None)

    def end(self) -> None:
        """Remove the group. Its processes go back to where all others are."""
        if self._group is not None:
            for pid in (self._group / "cgroup.procs").read_text().split():
                with suppress(OSError):
                    (self._group.parent / "cgroup.procs").write_text(pid)
            with suppress(OSError):
                self._group.rmdir()

    def _limit(self, share: float | None) -> None:
        assert self._group is not None
        quota = None if share is None else max(1000, int(share * PERIOD_USEC))
        if self._old:
            (self._group / "cpu.cfs_period_us").write_text(str(PERIOD_USEC))
            (self._group / "cpu.cfs_quota_us").write_text(str(-1 if quota is None else quota))
        else:
            (self._group / "cpu.max").write_text(f"{'max' if quota is None else quota} {PERIOD_USEC}")
