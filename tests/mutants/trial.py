"""Tries one mutant: a copy of the tree, a Python with the copy's package, and the tests that search."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from mutants.mutant import REPOSITORY, Mutant, mutate, wants_host

# What pytest prints for a test that noticed something. pytest's own time limit for a test that hangs does not count.
_NOTICED = re.compile(r"AssertionError|assert |Failed: (?!Timeout)")
NOT_FOUND, BROKEN = "NOT FOUND", "BROKEN"


class Verdict(NamedTuple):
    """`word`: the layer that found the mutant, or NOT FOUND, or BROKEN. `why`: the first test that failed."""

    word: str
    why: str
    seconds: float

    @property
    def found(self) -> bool:
        """Did a test notice it?"""
        return self.word not in (NOT_FOUND, BROKEN)


def attempt(mutant: Mutant, layers: Sequence[str]) -> Verdict:
    """These layers search for the mutant, one after the other."""
    began = time.monotonic()
    word, why = NOT_FOUND, ""
    with copied() as tree:
        mutate(tree, mutant)
        for layer in layers:
            found, stumbled = run(tree, layer, "-x")
            if stumbled and not wants_host(layer):  # the next test may be the one that counts, and they are quick
                found, stumbled = run(tree, layer)
            if found:
                word, why = layer.split("::")[0], found[0]
                break
            if stumbled:
                word, why = BROKEN, stumbled[0]
    return Verdict(word, why, time.monotonic() - began)


def trouble_without_a_change(layers: Sequence[str]) -> list[str]:
    """What these tests report for the unchanged tree. If it is anything, no mutant can be found."""
    with copied() as tree:
        return [text for layer in layers for texts in run(tree, layer) for text in texts]


def files() -> Iterator[str]:
    """The files that git knows or would add, as they are now."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    return (name for name in sorted(filter(None, listed.split("\0"))) if (REPOSITORY / name).is_file())


def digest() -> str:
    """A digest of the tree: the same text gives the same verdicts."""
    text = hashlib.sha256()
    for name in files():
        text.update(name.encode() + b"\0" + (REPOSITORY / name).read_bytes())
    return text.hexdigest()


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of the tree, which is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="shw-mutant-") as directory:
        tree = Path(directory) / "tree"
        for name in files():
            target = tree / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, target)
        yield tree


def _python_of(tree: Path) -> Path:
    """A Python that imports the package of the tree. All processes that a test starts with it import that package,
    too."""
    home = tree.parent / "venv"
    venv.create(home, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # Only as directories: Python does not read the .pth files in these, which name the unchanged package.
    lines = f"{tree}\n{sysconfig.get_path('purelib')}\n"
    (home / "lib" / version / "site-packages" / "tree.pth").write_text(lines)
    return home / "bin" / "python"


def run(tree: Path, layer: str, *more: str) -> tuple[list[str], list[str]]:
    """The tests of a layer that failed by an assertion, and the other errors. The tests import the copy's package."""
    report = tree.parent / "report.xml"
    python = tree.parent / "venv/bin/python"
    if not python.exists():
        python = _python_of(tree)
    unused = [option for plugin in ("cacheprovider", "cov") for option in ("-p", f"no:{plugin}")]
    command = [str(python), "-m", "pytest", "-q", *unused, f"--junitxml={report}"]
    done = subprocess.run(
        [*command, f"--basetemp={tree.parent / 'tmp'}", *layer.split(" "), *more],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1, 2):  # 2: pytest could not even collect
        return [], [f"pytest exited {done.returncode}: {done.stderr.strip()}"]
    found, stumbled = [], []
    for case in ElementTree.parse(report).iter("testcase"):
        for trouble in case:
            message = (trouble.get("message") or trouble.text or "").splitlines() or [""]
            if trouble.tag == "failure" and _NOTICED.match(message[0]):
                found.append(case.get("name", ""))
            elif trouble.tag in ("failure", "error"):
                stumbled.append(f"{case.get('name')}: {' '.join(message)[:200]}")
    return found, stumbled
