"""A few words of somebody else's, as a handler keeps or shows them."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text on one line: a tab is a space, and what is no letter, or steers a terminal, is a mark."""
    return "".join(c if c.isprintable() else " " if c == "\t" else "�" for c in text)
