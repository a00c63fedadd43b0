"""A line of text that is being typed. Keys come one after the other from one place, so none is lost on its way."""

from __future__ import annotations

from shithubd_worker.cli.top.table import Line
from shithubd_worker.plain import on_one_line

LONGEST = 1000  # characters


class Field:
    """The text, and where in it the next letter goes."""

    def __init__(self, text: str = "") -> None:
        self.text = text
        self.at = len(text)

    def insert(self, text: str) -> None:
        """Put a letter there, or what was pasted: its first line, without what isn't printable."""
        plain = "".join(letter for letter in (text.splitlines() or [""])[0] if letter.isprintable())
        plain = plain[: LONGEST - len(self.text)]
        self.text = self.text[: self.at] + plain + self.text[self.at :]
        self.at += len(plain)

    def key(self, name: str, letter: str | None) -> None:
        """Do what a key means."""
        if name == "backspace" and self.at:
            self.text, self.at = self.text[: self.at - 1] + self.text[self.at :], self.at - 1
        elif name == "delete":
            self.text = self.text[: self.at] + self.text[self.at + 1 :]
        elif name == "ctrl+u":
            self.text, self.at = self.text[self.at :], 0
        elif name in ("left", "right"):
            self.at = max(0, min(self.at + (1 if name == "right" else -1), len(self.text)))
        elif name in ("home", "ctrl+a", "end", "ctrl+e"):
            self.at = 0 if name in ("home", "ctrl+a") else len(self.text)
        elif letter:
            self.insert(letter)

    def line(self, width: int) -> Line:
        """As much of it as there is room for, with the cursor."""
        first = max(0, self.at - width // 2) if len(on_one_line(self.text)) >= width else 0
        return Line(self.text[first:] + " ", cursor=self.at - first)
