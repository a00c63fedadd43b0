"""How the tests wait: on a condition, and never on time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 300.0  # seconds; a limit for faults, never a measure


def eventually(look: Callable[[], T], what: str = "the condition", within: float = PATIENCE) -> T:
    """The first true answer of `look`. After `within` seconds an AssertionError names the condition. Between two looks
    it rests for as long as one took, because the other side needs the processor, too. The longer it has waited, the
    longer it rests: most looks open a connection, and thirty thousand of them took a fifth of a whole run."""
    first = time.monotonic()
    while True:
        began = time.monotonic()
        if answer := look():
            return answer
        now = time.monotonic()
        assert now < first + within, f"not within {within:g} s: {what}; last seen: {answer!r}"
        time.sleep(max(0.01, now - began, min(0.1, (now - first) / 10)))
