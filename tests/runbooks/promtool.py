"""Prometheus' own tool, which checks and tests rules."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def promtool(*arguments: str | Path) -> tuple[int, str]:
    """Its exit code, and all that it says."""
    tool = shutil.which("promtool")
    if tool is None:
        assert os.environ.get("CI") != "true", "promtool is missing (Debian: prometheus)"
        pytest.skip("no promtool on this machine (Debian: prometheus)")
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr
