"""The text of files as the search sees it: decoding, words, and the parts of words. Pure, no I/O."""

from __future__ import annotations

import re

# Git's own rule for what is binary.
BINARY_PROBE_BYTES = 8000
# A tsvector holds at most 1 MiB, and words take up to 2.4 times their own bytes in it. What a file has beyond
# this is not found; its content is kept and shown whole.
MOST_WORD_BYTES = 320 * 1024
MOST_PART_BYTES = 32 * 1024
# Longer ones are keys and hashes in base64, not words of anybody's.
LONGEST_WORD = 200
LONGEST_COMPOUND = 64

_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def decode(data: bytes) -> str | None:
    """The text of a file, without NUL, which PostgreSQL can't store; None if it is binary.

    UTF-8, else UTF-16 if it says so in its first two bytes, else Latin-1, in which every byte is something.
    """
    if data.startswith(_UTF16_MARKS):
        try:
            text = data.decode("utf-16")
        except UnicodeDecodeError:
            return None
        return None if "\x00" in text else text
    if b"\x00" in data[:BINARY_PROBE_BYTES]:
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return text.replace("\x00", " ")


def words(text: str) -> list[str]:
    """The words of a text, in order and in lower case: letters and digits; all else, `_` included, separates.

    The same for a file and for a query, so that PostgreSQL's parser, which knows hosts, URLs, signed numbers and
    hyphens, never gets to see one.
    """
    return [word.lower() for word in _WORD.findall(text) if len(word) <= LONGEST_WORD]


def parts(text: str) -> set[str]:
    """What the compounds of a text are made of: of getUserName get, user and name; of HTTPServer http and server."""
    compounds = {word for word in _WORD.findall(text) if len(word) <= LONGEST_COMPOUND}
    found: set[str] = set()
    for word in compounds:
        pieces = _HUMP.split(word)
        if len(pieces) > 1:
            found.update(piece.lower() for piece in pieces if len(piece) > 1)
    return found


def document(text: str) -> tuple[str, str]:
    """What of a text goes into the index: its words in order, and the parts that aren't words of it already."""
    all_words = words(text)
    extra = sorted(parts(text).difference(all_words))
    return _bounded(" ".join(all_words), MOST_WORD_BYTES), _bounded(" ".join(extra), MOST_PART_BYTES)


def _bounded(text: str, most: int) -> str:
    if len(text) * 4 <= most:
        return text
    return text.encode()[:most].decode(errors="ignore")
