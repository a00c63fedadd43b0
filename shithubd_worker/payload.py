"""A payload as JSON text: what PostgreSQL can store, and what a worker can read again.

Each fault is a ValueError that is raised before anything is sent. A fault that PostgreSQL finds would abort the
caller's transaction.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from itertools import accumulate

MOST_BYTES = 64 * 1024 * 1024  # of text: a handler gets no more (payloads_v1)
MOST_STORED = 128 * 1024 * 1024  # jobs_payload_can_be_sent
MOST_LEVELS = 1000  # about what Python can read; PostgreSQL ends at 13,000
MOST_DIGITS = 4300  # of a whole number: Python reads no more

# The arguments of enqueue() itself: no member of a payload can have such a name.
RESERVED = frozenset({"delay", "run_at", "priority", "max_attempts", "schema"})

# The escape of a NUL in JSON text. After another backslash the same letters are no escape.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_LONG_NUMBER = re.compile(rf"(?<![0-9.])[0-9]{{{MOST_DIGITS + 1}}}")
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}
_HARMLESS = 2 * MOST_LEVELS  # a text of so few characters has no fault of size or depth
_MOST_FOR_ONE_VALUE = 12  # bytes that are stored for a value beside its text: its place, its head, its padding


def payload_text(members: dict[str, object]) -> str:
    """The members as JSON text that PostgreSQL accepts. Raises ValueError, which names what PostgreSQL can't hold."""
    try:
        text = json.dumps(members, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:  # not a type of JSON, or NaN, or a value that contains itself
        raise ValueError(f"the payload is not JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("the payload is nested too deeply") from error
    check_text(text)
    return text


def check_text(text: str) -> None:
    """Raise ValueError for JSON text that PostgreSQL refuses, or that no worker can read."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ValueError("the payload contains a lone surrogate, which is not a character") from error
    if "\\u0000" in text and _NUL.search(text):
        raise ValueError("the payload contains a NUL character, which PostgreSQL can't store")
    if len(text) >= _HARMLESS:
        _check_long(text, size)


def check_given(text: str) -> None:
    """Raise ValueError for text that isn't a JSON object, or that `check_text` refuses. The text itself can be sent, so
    each number keeps all of its digits."""
    try:
        members = json.loads(text, parse_float=_in_reach, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error
    if type(members) is not dict:
        raise ValueError(f"a JSON object is needed, the handler's arguments by name, not {type(members).__name__}")
    payload_text(members)  # an escape may stand for a lone surrogate
    check_text(text)


def _check_long(text: str, size: int) -> None:
    if size > MOST_BYTES:
        raise ValueError(f"the payload has {size} bytes of text, and a handler gets at most {MOST_BYTES}")
    nested = text.count("[") + text.count("{") > MOST_LEVELS
    large = size > MOST_STORED // (1 + _MOST_FOR_ONE_VALUE)
    if not (nested or large or _LONG_NUMBER.search(text)):
        return
    bare = _STRING.sub("", text)
    if nested and max(accumulate(_STEPS[each] for each in bare if each in _STEPS), default=0) > MOST_LEVELS:
        raise ValueError(f"the payload is nested too deeply: more than {MOST_LEVELS} levels")
    if _LONG_NUMBER.search(bare):
        raise ValueError(f"the payload is not JSON: a number has more than {MOST_DIGITS} digits")
    values = sum(map(bare.count, ",:[{"))
    if size + _MOST_FOR_ONE_VALUE * values > MOST_STORED:
        raise ValueError(f"the payload has {values} values, which may take more than {MOST_STORED} bytes when stored")


def _in_reach(digits: str) -> int:
    """PostgreSQL stores a number with all of its digits, and writes no exponent."""
    try:
        number = Decimal(digits)
    except ArithmeticError as error:
        raise ValueError("a number has an exponent that is too large") from error
    _, figures, exponent = number.as_tuple()
    if number and (len(figures) + int(exponent) > MOST_DIGITS or int(exponent) < -MOST_DIGITS):
        raise ValueError(f"a number has more than {MOST_DIGITS} digits")
    return 0


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")
