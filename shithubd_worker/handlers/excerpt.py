"""A few words of another program's or person's text, for a handler to keep or show."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text on one line. A tab becomes a space; anything that is no letter, or that steers a terminal, becomes a
    mark."""
    return "".join(c if c.isprintable() else " " if c == "\t" else "�" for c in text)
