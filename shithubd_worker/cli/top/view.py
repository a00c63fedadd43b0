"""A view: one question to the database, and what its answer looks like on a screen of any size."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

from shithubd_worker.cli.top.table import Line

if TYPE_CHECKING:
    from shithubd_worker.database.operations import Operations

FASTER = 10  # lines of a page up or down


class View:
    """A list with a cursor. A view keeps its last answer while the next one is under way."""

    keys: ClassVar[str] = ""

    def __init__(self) -> None:
        self.found: Any = None
        self.seen_at = time.monotonic()  # the last answer, or the beginning
        self.at = 0  # the cursor, or the first line that is shown
        self.asks_anew = False  # has a key changed the question?

    def ask(self, operations: Operations) -> Any:
        """Ask the database. In the feed's thread."""
        raise NotImplementedError

    def heading(self) -> str:
        """What stands above everything else."""
        raise NotImplementedError

    def note(self) -> str:
        """What stands below the heading while there is nothing else to say."""
        return "waiting for the first answer" if self.found is None else ""

    def body(self, width: int, height: int) -> list[Line]:
        """At most `height` lines."""
        raise NotImplementedError

    def last(self) -> int:
        """The highest place of the cursor."""
        raise NotImplementedError

    def heard(self, found: Any) -> None:
        """An answer has come."""
        self.found, self.seen_at = found, time.monotonic()

    def opened(self) -> View | None:
        """What Enter opens."""
        return None

    def kind(self) -> str | None:
        """The kind that p and r are about."""
        return None

    def move(self, lines: int) -> None:
        """Move the cursor."""
        self.at = max(0, min(self.at + lines, self.last()))

    def key(self, name: str) -> bool:
        """Do what a key means. False if it means nothing here."""
        steps = {"up": -1, "k": -1, "down": 1, "j": 1, "pageup": -FASTER, "pagedown": FASTER}
        steps |= {"home": -(10**9), "end": 10**9}
        if name not in steps:
            return False
        self.move(steps[name])
        return True
