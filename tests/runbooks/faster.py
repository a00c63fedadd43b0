"""The alert rules at sixty times their speed, so that a test does not wait for a quarter of an hour."""

from __future__ import annotations

import re

# The lines of a rule that have durations, in the one shape of our rules: its expression, and its `for:`.
_TIMED = re.compile(r"^ {8}for: .*$|^ {10}(?!\w+: ).*$", re.MULTILINE)
_DURATION = re.compile(r"(?<![\w.])((?:\d+(?:ms|[smhdwy]))+)\b")
_SECONDS = re.compile(r"(?<=\* )(60|3600|86400)\b")
_SIXTIETH = {"h": "m", "m": "s"}


def sixty_times_as_fast(rules: str) -> str:
    """The rules with each duration divided by 60: `for:`, ranges, offsets, and seconds written as `10 * 60`.

    What people read stays as it is. Raises ValueError for a duration that isn't in whole minutes or hours.
    """
    return _TIMED.sub(lambda line: _SECONDS.sub(_fewer, _DURATION.sub(_shorter, line[0])), rules)


def _shorter(duration: re.Match[str]) -> str:
    parts = re.fullmatch(r"(\d+)([mh])", duration[0])
    if not parts:
        raise ValueError(f"{duration[0]}: a duration of the rules is in minutes or hours, as 10m or 6h")
    return f"{parts[1]}{_SIXTIETH[parts[2]]}"


def _fewer(seconds: re.Match[str]) -> str:
    return str(int(seconds[0]) // 60)
