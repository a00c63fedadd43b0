"""What the kernel counts for the cgroup of this process. In a unit: for the worker and all that its jobs started."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

PROC, MOUNTED = Path("/proc"), Path("/sys/fs/cgroup")


def memory(proc: Path = PROC, mounted: Path = MOUNTED) -> int | None:
    """The bytes in use, without the files that the kernel can drop. None if it doesn't tell."""
    with suppress(OSError, ValueError, KeyError):
        lines = (line.split(":", 2) for line in (proc / "self/cgroup").read_text().splitlines())
        paths = {name: path.lstrip("/") for _, names, path in lines for name in names.split(",")}
        if "memory" in paths:
            return _used(mounted / "memory" / paths["memory"], "memory.usage_in_bytes", "total_inactive_file")
        return _used(mounted / paths[""], "memory.current", "inactive_file")  # version 2 has one path for all
    return None


def _used(group: Path, total: str, files: str) -> int:
    parts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return max(int((group / total).read_text()) - int(parts[files]), 0)
