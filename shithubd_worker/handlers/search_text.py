"""The text of files for the search: decoding, words, and what the index keeps of them. Pure, no I/O.

The index keeps each word of a file once. So it says which files can match. If the order of words counts, the text of
such a file decides: `has` compares word by word.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import pairwise

# Git's own rule for binary files.
BINARY_PROBE_BYTES = 8000
# A tsvector holds at most 1 MiB: the words, and six bytes for the rank of some. A file with more different words gets
# the mark NOT_ALL. Then each search takes it as a file that can match.
MOST_KEY_BYTES = 1024 * 1024 - 4096
NOT_ALL = "*"  # not a word
# In characters. The index keeps the beginning of a longer word: a key, or a hash in base64.
LONGEST_KEY = 200
LONGEST_COMPOUND = 64
# A pattern of a thousand words takes minutes on a text that repeats one word.
MOST_NEAR = 8
# From so many times on, a word counts more in the order of hits.
OFTEN, MORE_OFTEN = 3, 8

# Scripts without spaces between words: Thai to Tibetan, Myanmar, Khmer, Chinese, Japanese, Korean.
_ALONE = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u3100-\u318f\u31a0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
_FIRST_MARK, _LAST_MARK = 0x300, 0x1E950
_JOINER = 0x34F  # a mark that nobody sees, and that no mark is sorted across
_RUN = re.compile(r"[^\W_]+")
# The same for ASCII, many times faster: everything else becomes a space.
_ASCII = bytes(byte if chr(byte).isascii() and chr(byte).isalnum() else 0x20 for byte in range(256))
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_ESCAPED = re.compile(rb"\\(?:\\|x([0-9a-f]{2}))")


def decode(data: bytes) -> str | None:
    """The text of a file, without NUL, which PostgreSQL can't store. None if the file is binary.

    The text is UTF-16 if the first two bytes say so. Otherwise it is UTF-8, and each byte that isn't UTF-8 is a
    character of Latin-1.
    """
    if data.startswith(_UTF16_MARKS):
        try:
            text = data.decode("utf-16")
        except UnicodeDecodeError:
            return None
        return None if "\x00" in text else text
    if b"\x00" in data[:BINARY_PROBE_BYTES]:
        return None
    return data.decode("utf-8-sig", errors="shithub-latin-1").replace("\x00", " ")


def _as_latin_1(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)  # noqa: S101 (it is for reading alone)
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error("shithub-latin-1", _as_latin_1)


def path_shown(name: bytes) -> str:
    r"""A path of git on one line. Two paths never look alike: a backslash is \\, and each byte of what is no printable
    text is \x with two digits."""
    return "".join(
        r"\\"
        if character == "\\"
        else character
        if character.isprintable()
        else "".join(rf"\x{byte:02x}" for byte in character.encode(errors="surrogateescape"))
        for character in name.decode(errors="surrogateescape")
    )


def path_text(shown: str) -> str:
    """The text of a path, for its words, from what path_shown made of it."""
    return _ESCAPED.sub(_unescaped, shown.encode()).decode(errors="replace").replace("\x00", " ")


def _unescaped(found: re.Match[bytes]) -> bytes:
    return bytes.fromhex(found[1].decode()) if found[1] else b"\\"


def fold(text: str) -> str:
    """The text as it is compared: without case, and with one form of each letter (NFKC). Lines stay lines."""
    if text.isascii():
        return text.lower()
    if "\n" in text:  # most lines of most files are ASCII
        return "\n".join(map(fold, text.split("\n")))
    # Python sorts marks in a row in quadratic time. So Unicode's own rule for streams divides them (UAX 15).
    text = _crowd().sub(rf"\g<0>{chr(_JOINER)}", text)
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def words(text: str) -> list[str]:
    """The words of a text, folded and in order: letters and digits, with their accents.

    Everything else separates words, `_` too. In a script without spaces, each character is a word. Files and queries go
    through the same function.
    """
    folded = fold(text)
    if folded.isascii():
        return _runs(folded)
    return [
        word
        for line in folded.split("\n")
        for word in (_runs(line) if line.isascii() or not _special().search(line) else _word().findall(line))
    ]


def _runs(text: str) -> list[str]:
    """The runs of letters and digits."""
    return text.encode().translate(_ASCII).decode().split() if text.isascii() else _RUN.findall(text)


@cache
def _marks() -> str:
    """Accents and vowel signs, as ranges of a pattern's class. They belong to the letter before them."""
    marks = [n for n in range(_FIRST_MARK, _LAST_MARK) if unicodedata.category(chr(n)).startswith("M") and n != _JOINER]
    starts = [n for before, n in pairwise([-1, *marks]) if n != before + 1]
    ends = [n for n, after in pairwise([*marks, -1]) if after != n + 1]
    return "".join(f"{chr(a)}-{chr(z)}" for a, z in zip(starts, ends, strict=True)) + "\U000e0100-\U000e01ef"


@cache
def _crowd() -> re.Pattern[str]:
    mark = rf"[{_marks()}\uff9e\uff9f]"  # the last two become marks
    return re.compile(f"{mark}{mark}{{29}}(?={mark})")  # a class at the beginning is fast to look for


@cache
def _word() -> re.Pattern[str]:
    mark = f"[{_marks()}{chr(_JOINER)}]*"
    return re.compile(rf"(?:[^\W_{_ALONE}]+{mark})+|(?!{mark[:-1]})[{_ALONE}](?<=[^\W_]){mark}")


@cache
def _special() -> re.Pattern[str]:
    """What makes the words of a text more than runs of letters and digits."""
    return re.compile(f"[{_marks()}{chr(_JOINER)}{_ALONE}]")


@cache
def _alone() -> re.Pattern[str]:
    return re.compile(f"[{_ALONE}]")


def parts(text: str) -> set[str]:
    """The parts of compound words in a text: get, user and name of getUserName; http and server of HTTPServer."""
    compounds = [word for word in set(_runs(text)) if len(word) <= LONGEST_COMPOUND and not word[1:].islower()]
    split = (pieces for pieces in map(_HUMP.split, compounds) if len(pieces) > 1)
    return set(words(" ".join(piece for pieces in split for piece in pieces if len(piece) > 1)))


def keys(sequence: Sequence[str]) -> list[str]:
    """What the index keeps of words in a row: each word, and each pair of characters that are words."""
    return [*(word[:LONGEST_KEY] for word in sequence), *_pairs(sequence)]


def _pairs(sequence: Sequence[str]) -> Iterator[str]:
    if not all(map(str.isascii, sequence)):
        alone = _alone()
        yield from (a + b for a, b in pairwise(sequence) if alone.match(a) and alone.match(b))


def has(text: str, sequence: tuple[str, ...]) -> bool:
    """Does a text have these words in a row?"""
    # First a quick look for the first words. It takes too much, because a word can go on. Words are letters, so they
    # are patterns.
    return _near(sequence[:MOST_NEAR]).search(fold(text)) is not None and in_a_row(sequence, words(text))


@lru_cache(16)
def _near(sequence: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile((r"[\W_]+" if all(map(str.isascii, sequence)) else r"[\W_]*").join(sequence))


def in_a_row(sequence: Sequence[str], all_words: Iterable[str]) -> bool:
    """Are these words in a row among all of them?"""
    return f" {' '.join(sequence)} " in f" {' '.join(all_words)} "


def vector(path: str, content: str) -> str:
    """The words of a file as a literal of PostgreSQL's type tsvector. Those of the path have the weight A; those that
    the content has often have B or C."""
    named = {*keys(words(path)), *parts(path)}
    all_words = words(content)
    counted = Counter(all_words)
    for long in [word for word in counted if len(word) > LONGEST_KEY]:
        counted[long[:LONGEST_KEY]] += counted.pop(long)
    counted.update(_pairs(all_words))
    counted.update(parts(content).difference(counted))
    left = MOST_KEY_BYTES
    literals = []
    for key in (*named, *(key for key in counted if key not in named)):
        times = counted[key]
        weight = "A" if key in named else "B" if times >= MORE_OFTEN else "C" if times >= OFTEN else ""
        left -= len(key.encode()) + (6 if weight else 0)
        if left < 0:
            literals.append(f"'{NOT_ALL}'")
            break
        literals.append(f"'{key}':1{weight}" if weight else f"'{key}'")
    return " ".join(literals)
