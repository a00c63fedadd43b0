"""A runbook page as the tests see it: its blocks, their scenes, and what they print. See runbooks/README.md."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

RUNBOOKS = Path(__file__).parents[2] / "runbooks"
PAGES = sorted([*RUNBOOKS.glob("tasks/*.md"), *RUNBOOKS.glob("alerts/*.md")])
# The languages of blocks. A text block is what the block before it prints.
RUNNABLE = ("sh", "sql", "promql")

_FENCE = re.compile(r"^```(\w*)$")
_COMMENT = re.compile(r"^<!-- (scene|run|manual:|not run:) ?(.*?) *-->$")
_PLACEHOLDER = re.compile(r"<([a-z]+(?:-[a-z]+)*)>")


@dataclass
class Block:
    """One fenced block, and what the comments above it say."""

    page: Path
    section: str  # the heading that it stands under; empty above the first one
    line: int  # of its first line of text, from 1
    language: str
    text: str
    scenes: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    manual: str | None = None
    prints: str | None = None

    def __str__(self) -> str:
        return f"{os.path.relpath(self.page, RUNBOOKS.parent)}:{self.line}"

    @property
    def placeholders(self) -> set[str]:
        """The names in it that a scene must know."""
        return set(_PLACEHOLDER.findall(self.text + (self.prints or "")))


class Page:
    """One page. Raises ValueError for text that it cannot understand, so that no test skips it."""

    def __init__(self, path: Path, *, with_figures: bool = False) -> None:
        """`with_figures`: text that stands alone is a figure, a block like others. In a runbook it is a mistake."""
        self.path = path
        self.text = path.read_text()
        self.blocks = list(_blocks(path, self.text.splitlines(), with_figures))

    @cached_property
    def prose(self) -> str:
        """The text without blocks and comments. Each line keeps its number."""
        either = re.compile(r"^```.*?^```$|<!--.*?-->", re.DOTALL | re.MULTILINE)
        return either.sub(lambda match: "\n" * match[0].count("\n"), self.text)


def _blocks(path: Path, lines: list[str], with_figures: bool) -> Iterator[Block]:
    last: Block | None = None
    section = ""
    numbers = iter(range(len(lines)))
    for number in numbers:
        fence = _FENCE.match(lines[number])
        if not fence:
            if lines[number].startswith("```"):
                raise ValueError(f"{path.name}:{number + 1}: a fence that isn't understood: {lines[number]}")
            if lines[number].strip():
                last = None
            section = lines[number].removeprefix("## ") if lines[number].startswith("## ") else section
            continue
        end = next((n for n in range(number + 1, len(lines)) if lines[n] == "```"), None)
        if end is None:
            raise ValueError(f"{path.name}:{number + 1}: the block has no end")
        text = "\n".join(lines[number + 1 : end])
        block = Block(path, section, number + 2, fence[1], text)
        if block.language == "text" and not (with_figures and last is None):
            if last is None or last.prints is not None:
                raise ValueError(f"{path.name}:{number + 1}: text that no block right before it prints")
            last.prints = text
        else:
            _heed(block, lines[:number])
            yield block
            last = block
        while next(numbers) < end:
            pass


def _heed(block: Block, above: list[str]) -> None:
    """The comments on the lines right above a block."""
    for line in reversed(above):
        comment = _COMMENT.match(line)
        if not comment:
            if line.startswith("<!--"):
                raise ValueError(f"{block}: a comment that isn't understood: {line}")
            return
        words = shlex.split(comment[2]) if not comment[1].endswith(":") else []
        if comment[1] == "scene":
            block.scenes.insert(0, (words[0], dict(word.split("=", 1) for word in words[1:])))
        elif comment[1] == "run":
            block.options |= dict(word.split("=", 1) for word in words)
        else:
            block.manual = comment[2]


def filled(text: str, values: dict[str, str]) -> str:
    """The text with the scene's values in place of <job-id> and other placeholders."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)


def prints(expected: str, found: str) -> bool:
    """Does a command print what its page shows?"""
    lines = "".join(f"{line.rstrip()}\n" for line in found.rstrip().splitlines())
    return re.fullmatch(pattern(expected), lines) is not None


def pattern(expected: str) -> str:
    """A regular expression for what a page shows. `...` is anything in a line, and a line of `...` is any number of
    lines. Columns may be wider than shown."""
    parts = []
    for line in expected.rstrip().splitlines():
        if line.strip() == "...":
            parts.append(r"(?:[^\n]*\n)*?")
            continue
        literal = r"[^\n]*?".join(re.escape(piece) for piece in line.rstrip().split("..."))
        literal = re.sub(r"(?:\\ ){2,}", r"\\ +", literal)
        literal = re.sub(r"^\\ ", r"\\ *", literal)
        parts.append(re.sub(r"(?:\\-){3,}", r"-+", literal) + r"\n")
    return "".join(parts)
