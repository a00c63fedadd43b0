"""Doing what a page says, word by word, on a booted host, and holding what it prints against what it shows.

Its reader has logged in: each block runs in a login shell of root's, or of the user that the page names, with the
environment and the directory that such a shell has, and nothing of the tests' own.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import scenes
from nspawn import Host
from page import Block, Page, filled, prints

# How each language is run. What the operator types is read from stdin, so that nothing quotes it once more.
RUN = {
    "sh": ("bash", "-eu"),
    "sql": ("psql", "-X", "-d", "shithub", "-v", "ON_ERROR_STOP=1"),
}


def follow(host: Host, path: Path, *, by_sudo: str | None = None) -> None:
    """Do what a page says, from its first block to its last: as root, who came by ssh, or a person who takes sudo."""
    values: dict[str, str] = {}
    for block in steps(path):
        set_scene(host, block, values)
        do(host, block, values, by_sudo=by_sudo)


def steps(path: Path) -> list[Block]:
    """A page's blocks, but for those that people do, and promql, which test_alert_rules.py holds against the rules."""
    return [block for block in Page(path).blocks if block.manual is None and block.language in RUN]


def set_scene(host: Host, block: Block, values: dict[str, str]) -> None:
    """Prepare the host for a block; what its placeholders stand for is added to `values`."""
    for name, arguments in block.scenes:
        values |= arguments | scenes.play(name, host, arguments)


def do(host: Host, block: Block, values: dict[str, str], *, by_sudo: str | None = None) -> None:
    """Run one block. Fails if it ends or prints otherwise than the page says."""
    text = filled(block.text, values)
    code, said = answer(host, block, text, by_sudo=by_sudo)
    assert code == int(block.options.get("rc", "0")), f"{block}\n{text}\n{said}"
    if block.prints is not None:
        shown = filled(block.prints, values)
        assert prints(shown, said), f"{block} shows\n{shown}\nbut\n{block.text}\nprints\n{said}"


def answer(host: Host, block: Block, text: str, *, by_sudo: str | None = None) -> tuple[int, str]:
    """How a block ends whose placeholders are filled in, and what it prints."""
    user, command = block.options.get("as", "root"), shlex.join(RUN[block.language])
    if by_sudo:
        user, command = by_sudo, f"sudo -iu {user} {command}"
    shell = ("runuser", "-l", user, "-c", f"exec {command}")
    with host.popen(*shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            said, _ = process.communicate(f"{text}\n", timeout=float(block.options.get("timeout", "120")))
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return process.returncode, said
