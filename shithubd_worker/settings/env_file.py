"""Files of variables, read exactly as systemd reads an EnvironmentFile=: each quote, backslash and odd byte."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from shithubd_worker.errors import ConfigError

_KEY = re.compile(r"(?P<key>[^ \t\r\n#;][^=\r\n]*)(?P<equals>=?)")
# Up to systemd 253, a backslash before the end of a comment's line continues the comment. From 254 on it doesn't.
_COMMENT = re.compile(r"[#;](?:[^\\\r\n]|\\.)*", re.DOTALL)
_BLANKS = re.compile(r"[ \t]*")
# A quote without an end goes on to the end of the file. A backslash at the end of the file means nothing.
_SINGLE = re.compile(r"'(?P<text>[^']*)(?:'|\Z)")
_DOUBLE = re.compile(r'"(?P<text>(?:[^"\\]|\\.|\\\Z)*)(?:"|\Z)', re.DOTALL)
_PLAIN = re.compile(r"(?:[^\\\r\n]|\\.|\\\Z)*", re.DOTALL)
# Without trailing blanks, but a blank after a backslash stays.
_TRIMMED = re.compile(r"(?:[ \t]*(?:[^ \t\\]|\\.|\\\Z))*", re.DOTALL)
_ESCAPED = re.compile(r"\\(.?)", re.DOTALL)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# To systemd, two kinds of characters are no letters: a byte that isn't UTF-8 (a surrogate here), and a noncharacter of
# Unicode.
_ENDS_OF_PLANES = "".join(chr(plane + end) for plane in range(0, 0x110000, 0x10000) for end in (0xFFFE, 0xFFFF))
_NO_LETTER = re.compile(f"[\ud800-\udfff\ufdd0-\ufdef{_ENDS_OF_PLANES}]")


@dataclass(frozen=True, slots=True)
class EnvFile:
    """What a file says: its variables, the line where each begins, and what systemd ignores, one fault a line."""

    variables: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def read(path: Path) -> EnvFile:
    """Read a file. Raises OSError, or ConfigError if systemd would take nothing from it."""
    try:
        return parse(path.read_bytes())
    except ConfigError as error:
        raise ConfigError(*(f"{path}: {fault}" for fault in error.args)) from error


def parse(data: bytes) -> EnvFile:
    """Read the bytes of a file. No fault quotes a value, because it may be a password.

    >>> parse(b"# here" + bytes([10]) + b'PGHOST="db 1"' + bytes([10]) + b"PGUSER=a b").variables
    {'PGHOST': 'db 1', 'PGUSER': 'a b'}
    """
    if b"\0" in data:
        raise ConfigError("systemd takes nothing from this file: there is a NUL in it")
    text = data.decode(errors="surrogateescape")
    found, at, line = EnvFile(), 0, 1
    while at < len(text):
        began = at
        if comment := _COMMENT.match(text, at):
            at = comment.end()
            if re.search(r"\\[\r\n]", comment[0]):
                found.left_out.append(f"line {line}: a comment ends with a backslash, which may hide the next line")
        elif key := _KEY.match(text, at):
            at = key.end()
            if key["equals"]:
                value, at = _value(text, at)
                _assign(found, line, key["key"].rstrip(" \t"), value)
            else:
                found.left_out.append(f"line {line}: it is not NAME=value")
        else:
            at += 1
        line += text.count("\n", began, at)
    return found


def _value(text: str, at: int) -> tuple[str, int]:
    """The value that begins at `at`, and where it ends. Quotes count only before the first plain letter."""
    parts = []
    while True:
        at = _BLANKS.match(text, at).end()  # type: ignore[union-attr]  # these match anything
        if quoted := _SINGLE.match(text, at):
            parts.append(quoted["text"])
        elif quoted := _DOUBLE.match(text, at):
            parts.append(_ESCAPED.sub(_in_double_quotes, quoted["text"]))
        else:
            break
        at = quoted.end()
    end = _PLAIN.match(text, at).end()  # type: ignore[union-attr]
    trimmed = _TRIMMED.match(text[at:end])[0]  # type: ignore[index]
    parts.append(_ESCAPED.sub(lambda escaped: escaped[1].strip("\r\n"), trimmed))
    return "".join(parts), end


def _in_double_quotes(escaped: re.Match[str]) -> str:
    return escaped[1] if escaped[1] in '"\\`$' else escaped[0].replace("\\\n", "")


def _assign(found: EnvFile, line: int, name: str, value: str) -> None:
    if _NO_LETTER.search(name + value):
        raise ConfigError(f"systemd takes nothing from this file: line {line} is not UTF-8")
    if not _NAME.fullmatch(name):
        hint = "; write NAME=value without `export`" if name.startswith("export") else ""
        found.left_out.append(f"line {line}: what stands before = is not the name of a variable{hint}")
    else:
        found.variables[name] = value
        found.lines[name] = line
