"""The Debian package brings the versions of debian/requirements.txt: they are those that the program asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
WANTED = [
    Requirement(text) for text in tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
]
LINES = (REPOSITORY / "debian/requirements.txt").read_text().replace("\\\n", " ").splitlines()
PINNED = {canonicalize_name(line.split("==")[0]): line for line in LINES if not line.startswith("#")}


@pytest.mark.parametrize("wanted", WANTED, ids=lambda wanted: wanted.name)
def test_each_dependency_is_pinned_in_a_version_that_the_program_accepts(wanted: Requirement) -> None:
    for name in (wanted.name, *(f"{wanted.name}-{extra}" for extra in wanted.extras)):
        assert canonicalize_name(name) in PINNED, "`make lock` pins it"
    version = PINNED[canonicalize_name(wanted.name)].split("==")[1].split()[0]
    assert version in wanted.specifier, "`make lock` pins another one"


@pytest.mark.parametrize("name", PINNED)
def test_each_pinned_version_has_the_digests_of_its_files(name: str) -> None:
    assert re.search(r"--hash=sha256:[0-9a-f]{64}", PINNED[name])
