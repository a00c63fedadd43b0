"""Do what a page says, word by word, on a booted host, and compare what each block prints with what the page shows.

The reader has logged in. So each block runs in a login shell of root, or of the user that the page names. It has the
environment and the directory of such a shell, and nothing from the tests.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import scenes
from nspawn import Host
from page import Block, Page, filled, prints

# The program for each language. It reads the block from stdin, so nothing quotes the text again.
RUN = {
    "sh": ("bash", "-eu"),
    "sql": ("psql", "-X", "-d", "shithub", "-v", "ON_ERROR_STOP=1"),
}


def follow(host: Host, path: Path, *, by_sudo: str | None = None) -> None:
    """Do what a page says, from its first block to its last: as root over ssh, or as a person who uses sudo."""
    values: dict[str, str] = {}
    for block in steps(path):
        set_scene(host, block, values)
        do(host, block, values, by_sudo=by_sudo)


def steps(path: Path) -> list[Block]:
    """A page's blocks, without manual ones and promql. test_alert_rules.py compares promql with the rules."""
    return [block for block in Page(path).blocks if block.manual is None and block.language in RUN]


def set_scene(host: Host, block: Block, values: dict[str, str]) -> None:
    """Prepare the host for a block. Adds the values of its placeholders to `values`."""
    for name, arguments in block.scenes:
        values |= arguments | scenes.play(name, host, arguments)


def do(host: Host, block: Block, values: dict[str, str], *, by_sudo: str | None = None) -> None:
    """Run one block. Fails if its exit code or its output differs from the page."""
    text = filled(block.text, values)
    code, said = answer(host, block, text, by_sudo=by_sudo)
    assert code == int(block.options.get("rc", "0")), f"{block}\n{text}\n{said}"
    if block.prints is not None:
        shown = filled(block.prints, values)
        assert prints(shown, said), f"{block} shows\n{shown}\nbut\n{block.text}\nprints\n{said}"


def answer(host: Host, block: Block, text: str, *, by_sudo: str | None = None) -> tuple[int, str]:
    """The exit code of a block with filled placeholders, and what it prints."""
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
