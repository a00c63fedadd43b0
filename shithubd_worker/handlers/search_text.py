"""The text of files for the search: decoding, words, and the parts of words. Pure, no I/O."""

from __future__ import annotations

import re

# Git's own rule for binary files.
BINARY_PROBE_BYTES = 8000
# A tsvector holds at most 1 MiB, and words take up to 2.4 times their own bytes in it. Words behind this limit are not
# found; the content is kept and shown in full.
MOST_WORD_BYTES = 320 * 1024
MOST_PART_BYTES = 32 * 1024
# Longer words are keys and hashes in base64, not words that people search for.
LONGEST_WORD = 200
LONGEST_COMPOUND = 64

_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def decode(data: bytes) -> str | None:
    """The text of a file, without NUL, which PostgreSQL can't store. None if the file is binary.

    The text is UTF-8; or UTF-16 if the first two bytes say so; or Latin-1, in which every byte is a character.
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
    """The words of a text, in order and in lower case: letters and digits. Everything else separates words, `_` too.

    Files and queries go through the same function. So PostgreSQL's parser, which has rules for hosts, URLs, signed
    numbers and hyphens, never sees one of these.
    """
    return [word.lower() for word in _WORD.findall(text) if len(word) <= LONGEST_WORD]


def parts(text: str) -> set[str]:
    """The parts of compound words in a text: get, user and name of getUserName; http and server of HTTPServer."""
    compounds = {word for word in _WORD.findall(text) if len(word) <= LONGEST_COMPOUND}
    found: set[str] = set()
    for word in compounds:
        pieces = _HUMP.split(word)
        if len(pieces) > 1:
            found.update(piece.lower() for piece in pieces if len(piece) > 1)
    return found


def document(text: str) -> tuple[str, str]:
    """What goes into the index: the words of a text in order, and the parts of words that aren't words of it
    already."""
    all_words = words(text)
    extra = sorted(parts(text).difference(all_words))
    return _bounded(" ".join(all_words), MOST_WORD_BYTES), _bounded(" ".join(extra), MOST_PART_BYTES)


def _bounded(text: str, most: int) -> str:
    if len(text) * 4 <= most:
        return text
    return text.encode()[:most].decode(errors="ignore")
