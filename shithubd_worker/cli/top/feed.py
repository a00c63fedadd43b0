"""Asks the database, in a thread of its own: so keys are answered also while the database isn't."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from shithubd_worker.cli.deadline import CHANGE_SECONDS, LOOK_SECONDS
from shithubd_worker.cli.waiting import in_words

if TYPE_CHECKING:
    from shithubd_worker.cli.common import Shared
    from shithubd_worker.database.operations import Operations

# How long the end of the command waits for a change, or for an answer that is still under way.
END_SECONDS = 2.0

Question = Callable[["Operations"], Any]
# A change, step by step. What it yields is told to the user.
Change = Callable[["Operations"], Iterator[str]]


class Answer(NamedTuple):
    """What became of a question."""

    question: Question
    found: Any = None
    error: Exception | None = None


class Feed(threading.Thread):
    """One connection. It has one question at a time, and after an answer rests for as long as the answer took, or for
    `interval` if that is longer. Changes come first; while one goes on, the question is asked between its steps."""

    def __init__(self, shared: Shared, operations: Operations, interval: float) -> None:
        super().__init__(name="feed", daemon=True)
        self.question: Question | None = None
        self.asked_at: float | None = None  # when the question that is still unanswered was asked
        self.hear: Callable[[Answer], None] = lambda answer: None
        self.say: Callable[[str], None] = lambda text: None
        self._shared = shared
        self._operations = operations
        self._interval = interval
        self._changes: deque[tuple[str, Change]] = deque()  # the first one goes on
        self._wake = threading.Event()
        self._end_at = math.inf  # nothing goes on after this moment
        self._answered: Question | None = None
        self._due = 0.0  # when the question that was answered is asked again
        shared.deadline.say = self._tell

    def ask(self, question: Question) -> None:
        """From now on, this is the question. Asks it at once."""
        self.question = question
        self._wake.set()

    def change(self, name: str, change: Change) -> None:
        """Make a change."""
        self._changes.append((name, change))
        self._wake.set()

    def end(self) -> list[str]:
        """End the thread. A change gets some time to end well. Returns those that did not."""
        self._end_at = time.monotonic() + END_SECONDS
        self._wake.set()
        self.join(END_SECONDS)
        if self.is_alive() and self._operations.opened:
            with suppress(Exception):  # the server may be gone
                self._operations.connection.cancel_safe(timeout=END_SECONDS)
            self.join(END_SECONDS)
        return [name for name, _ in self._changes]

    def run(self) -> None:
        """The thread."""
        while self._changes or not self._ends():
            if self._changes:
                if not self._make(*self._changes[0]):
                    return
                self._changes.popleft()
            elif not self._look():
                self._wake.wait(max(0.0, self._due - time.monotonic()))
                self._wake.clear()

    def _look(self) -> bool:
        """Ask the question if it is time. False if it isn't."""
        question = self.question
        if question is None or (question is self._answered and time.monotonic() < self._due):
            return False
        deadline = self._shared.deadline
        began = self.asked_at = deadline.began = time.monotonic()
        deadline.patience = LOOK_SECONDS
        try:
            answer = Answer(question, question(self._operations))
        except Exception as error:  # noqa: BLE001 (the one who hears it decides)
            self._failed(error)
            answer = Answer(question, error=error)
        now = time.monotonic()
        self.asked_at = None
        self._answered, self._due = question, now + max(self._interval, now - began)
        self.hear(answer)
        return True

    def _make(self, name: str, change: Change) -> bool:
        """Make the change. False if the end came first."""
        deadline = self._shared.deadline
        steps = change(self._operations)
        while True:
            deadline.began, deadline.patience = time.monotonic(), CHANGE_SECONDS
            try:
                told = next(steps)
            except StopIteration:
                break
            except Exception as error:  # noqa: BLE001 (told, as any error of a change)
                self._failed(error)
                if self._ends():
                    return False
                self.say(f"{name}: {in_words(error)} (the list of holds shows whether it was done)")
                break
            self.say(told)
            if time.monotonic() >= self._end_at:
                return False
            if not self._ends():
                self._look()
        self._answered = None
        if self._shared.announcer:
            self._shared.announcer.now()
        return True

    def _ends(self) -> bool:
        return self._end_at < math.inf

    def _tell(self, text: str) -> None:
        self.say(text)

    def _failed(self, error: Exception) -> None:
        self._shared.deadline.note(error, self._operations.schema)
        self._operations.close()
