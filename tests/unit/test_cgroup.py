"""The memory of the worker's cgroup, as each version of the kernel's interface tells it."""

from __future__ import annotations

from pathlib import Path

import pytest

from shithubd_worker.host import cgroup

V1 = {"memory/a/b/memory.usage_in_bytes": "5000\n", "memory/a/b/memory.stat": "cache 1\ntotal_inactive_file 1200\n"}
V2 = {"a/b/memory.current": "5000\n", "a/b/memory.stat": "anon 1\ninactive_file 1200\n"}
BOTH = "9:name=systemd:/x\n4:cpu,memory:/a/b\n0::/x\n"


@pytest.mark.parametrize(
    ("own", "files", "used"),
    [
        ("0::/a/b\n", V2, 3800),
        (BOTH, V1, 3800),
        ("0::/a/b\n", V2 | {"a/b/memory.current": "1000\n"}, 0),  # the two are not of the same moment
        ("0::/a/b\n", V1, None),
        ("0::/\n", {"memory.stat": "inactive_file 1\n"}, None),  # the root of version 2 has no such figure
        ("0::/a/b\n", V2 | {"a/b/memory.stat": "anon 1\n"}, None),
        ("0::/a/b\n", V2 | {"a/b/memory.current": "max\n"}, None),
        ("", V2, None),
    ],
)
def test_it_is_what_is_in_use_without_files_that_can_be_dropped(
    tmp_path: Path, own: str, files: dict[str, str], used: int | None
) -> None:
    for name, text in {"proc/self/cgroup": own, **{f"sys/{name}": text for name, text in files.items()}}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cgroup.memory(tmp_path / "proc", tmp_path / "sys") == used


def test_without_the_kernels_files_nothing_is_told(tmp_path: Path) -> None:
    assert cgroup.memory(tmp_path, tmp_path) is None
