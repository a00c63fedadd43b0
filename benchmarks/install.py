"""Installs the peers and the plotting library, each beside this file, where they can't disturb the worker's own."""

from __future__ import annotations

import shutil
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contenders import Contender
from benchmarks.paths import HERE, NODE, NODE_MODULES, OWN_PYTHON, PEERS_PYTHON, PEERS_VENV, REPOSITORY
from benchmarks.processes import BenchmarkError, Command, run


def install(contenders: Sequence[Contender]) -> None:
    """What these contenders need, unless it is there already."""
    if any(NODE in contender.runner for contender in contenders):
        _install_node()
    _install_python()  # the charts always need it


def _install_node() -> None:
    wanted, stamp = (HERE / "package.json").read_text(), NODE_MODULES / ".installed"
    if _is_fresh(stamp, wanted):
        return
    if not shutil.which("npm"):
        raise BenchmarkError(
            "npm is needed for graphile and pgboss: `sudo apt-get install npm`, or choose others with --contender"
        )
    _say("installing Graphile Worker, pg-boss and Node with npm")
    run(Command(["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"], cwd=HERE))
    if not NODE.exists():
        raise BenchmarkError(f"npm installed no {NODE}: does it refuse install scripts? See `npm help config`")
    stamp.write_text(wanted)


def _install_python() -> None:
    project = REPOSITORY / "pyproject.toml"
    group = tomllib.loads(project.read_text())["dependency-groups"]["bench"]
    wanted, stamp = "\n".join(group), PEERS_VENV / ".installed"
    if _is_fresh(stamp, wanted):
        return
    _say("installing procrastinate, pgqueuer, chancy and matplotlib with pip")
    run(Command([OWN_PYTHON, "-m", "venv", PEERS_VENV]))
    pip: list[str | Path] = [PEERS_PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(Command([*pip, "pip>=25.1"]))
    run(Command([*pip, "--group", f"{project}:bench"], cwd=REPOSITORY))
    stamp.write_text(wanted)


def _is_fresh(stamp: Path, wanted: str) -> bool:
    return stamp.exists() and stamp.read_text() == wanted


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
