"""Where the SQL files of this release are."""

from __future__ import annotations

from pathlib import Path


def sql_directory() -> Path:
    """Where the SQL files are: inside the package when it was installed, beside it in a checkout."""
    installed = Path(__file__).parent / "sql"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "sql"
