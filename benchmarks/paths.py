"""Where things lie."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
RUNNERS = HERE / "runners"

# What install.py makes; both are ignored by git.
NODE_MODULES = HERE / "node_modules"
NODE = NODE_MODULES / "node" / "bin" / "node"
PEERS_VENV = HERE / ".venv"
PEERS_PYTHON = PEERS_VENV / "bin" / "python"

# The Python that runs the benchmark has psycopg's C implementation, and so runs the limit too.
OWN_PYTHON = Path(sys.executable)
