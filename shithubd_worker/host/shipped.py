"""Where the files that came with this program are: inside the package if it is installed, beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def _directory(name: str) -> Path:
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


SQL, UNITS, RUNBOOKS, PROJECT = map(_directory, ("sql", "units", "runbooks", "project"))
