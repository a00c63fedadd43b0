"""How long a command may take, no matter what the database does; and who is in its way."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from shithubd_worker.cli.common import Duration
from shithubd_worker.cli.screen import say
from shithubd_worker.errors import DatabaseUnavailable, ShithubdError, TimedOut

if TYPE_CHECKING:
    from shithubd_worker.cli.common import Shared
    from shithubd_worker.database.blockers import Blocker
    from shithubd_worker.database.connection import Connect
    from shithubd_worker.database.impatient import ImpatientConnection

F = TypeVar("F", bound=Callable[..., Any])

# Without --timeout, a command waits for another session's lock for this long.
LOOK_SECONDS = 5.0
CHANGE_SECONDS = 30.0
# And this long for a server that doesn't answer although no lock is in the way.
ANSWER_SECONDS = 30.0
# For a question that only guards another step.
BRIEF_SECONDS = 1.0
FIRST_LOOK_SECONDS = 0.5
LOOK_AGAIN_SECONDS = 1.0
# After a look that nobody answered: the server stands still, or its pooler has no connection for another client.
UNANSWERED_SECONDS = 5.0
# For a question after the time is over, for example which jobs still run. The server may only be slow.
LAST_WORD_SECONDS = 1.0
# psycopg logs a connection that is given up. The command itself reports that, so the log line is dropped.
_QUIET = logging.NullHandler()
# The limit of the look itself, because the server may be frozen.
LOOK_ANSWER_SECONDS = 1.0


class Deadline:
    """`timeout` is in seconds, for the whole command. With None, the command waits for each lock as long as `patience`.
    If no lock is in the way, it waits for each answer as long as `answer`. The connection calls `meanwhile` while it
    waits.

    Who holds the lock is asked on a connection of its own, and only if an answer is late.
    """

    def __init__(self, timeout: float | None, patience: float, answer: float, connect: Callable[[], Connect]) -> None:
        self.began = time.monotonic()
        self.at = None if timeout is None else self.began + timeout
        self.patience = patience
        self.so_far = ""  # what is already true during the wait, for the user
        self.say: Callable[[str], None] = say  # how to tell the user what the command waits for
        self.blocker: Blocker | None = None
        self._answer = answer
        self._connect = connect
        self._connection: ImpatientConnection | None = None
        self._asking: ImpatientConnection | None = None  # the connection that waited last
        self._brief: float | None = None
        self._asked_at = 0.0  # when the waiting call began
        self._look_at = 0.0
        self._answers = True  # did the server answer the last look?
        self._lets_in = True  # or did it at least accept the login, like a pooler with no free connection?
        self._last_said: str | None = None
        self._tell_at = 0.0

    @property
    def over(self) -> bool:
        """Is all of the command's time used up?"""
        return self.at is not None and time.monotonic() >= self.at

    @contextmanager
    def briefly(self) -> Iterator[None]:
        """Inside the block, no question waits long for a lock."""
        self._brief = BRIEF_SECONDS
        try:
            yield
        finally:
            self._brief = None

    def meanwhile(self, asking: ImpatientConnection, seconds: float) -> None:
        """There has been no answer for `seconds`. To give up, raises TimedOut, or DatabaseUnavailable if no lock is in
        the way."""
        now = time.monotonic()
        if now - seconds > self._asked_at + 0.01:  # this is another call than the last one
            self._asking, self._asked_at, self.blocker = asking, now - seconds, None
            first = self._asked_at + FIRST_LOOK_SECONDS
            self._look_at = first if self._answers else max(first, self._look_at)
        if now >= self._look_at or (self.over and self.blocker is None and self._answers):
            self._look(asking)
            now = time.monotonic()
            self._look_at = now + (LOOK_AGAIN_SECONDS if self._answers else UNANSWERED_SECONDS)
            seconds = now - self._asked_at
        if self.over and (self.blocker is not None or seconds >= LAST_WORD_SECONDS):
            raise self._gave_up()
        if self.blocker is None:
            if self._brief is not None and not self._answers and seconds >= self._brief:
                raise self._gave_up()
            if seconds >= (self._answer if self._lets_in else min(self._answer, ANSWER_SECONDS)):
                raise DatabaseUnavailable(f"the database doesn't answer: {asking.silence} for {seconds:.0f} s")
        elif seconds >= (self._brief or (self.patience if self.at is None else math.inf)):
            raise self._gave_up()
        elif self._brief is None:
            self._tell(now, f"{self.so_far}waiting: {self.blocker}")

    def note(self, error: Exception, schema: str) -> None:
        """Add a note to the failure of a command: who was in its way.

        If nobody could be asked during the wait (for example through a pooler with one connection for all), ask now, on
        the connection that waited. It can show who holds a lock on a table, but not who locks a row.
        """
        if not (isinstance(error, (DatabaseUnavailable, TimedOut)) or hasattr(error, "sqlstate")):
            return
        if (later := self.blocker is None and not self._answers) and self._asking and not self._asking.closed:
            self._ask_late(self._asking, schema)
        if self.blocker is None:
            return
        if not isinstance(error, TimedOut):
            error.add_note(f"{self.blocker}; {self.blocker.way_out}")
        elif later:
            error.args = (*self._gave_up().args, *error.args[1:])

    def close(self) -> None:
        """Close the connection that asked who holds the lock."""
        if self._connection is not None:
            self._connection.close()

    def _look(self, asking: ImpatientConnection) -> None:
        import psycopg

        from shithubd_worker.database import blockers

        try:
            if self._connection is None or self._connection.closed:
                self._connection = self._connect()()
            name = asking.info.parameter_status("application_name") or ""
            self.blocker = blockers.of_session(self._connection, asking.info.backend_pid, name)
            self._answers = self._lets_in = True
        except (psycopg.Error, ShithubdError) as error:
            self.blocker, self._answers = None, False
            self._lets_in = not isinstance(error, psycopg.errors.ConnectionTimeout)

    def _ask_late(self, asking: ImpatientConnection, schema: str) -> None:
        import psycopg

        from shithubd_worker.database import blockers

        with suppress(psycopg.Error, ShithubdError), self.briefly():
            self.blocker = blockers.on_tables(asking, schema)

    def _gave_up(self) -> TimedOut:
        spent = f"gave up after {time.monotonic() - self.began:.1f} s"
        if self.blocker is None:
            return TimedOut(f"{spent}: no answer from the database")
        return TimedOut(f"{spent}: {self.blocker}", f"{self.blocker.way_out}; or wait, and run this again")

    def _tell(self, now: float, text: str) -> None:
        from shithubd_worker.database.operations import TELL_SECONDS

        who = f"{self.so_far}{self.blocker.pid if self.blocker else ''}"
        if who != self._last_said or now >= self._tell_at:
            self._last_said, self._tell_at = who, now + TELL_SECONDS
            self.say(text)


def within(
    patience: float, *, answer: float = ANSWER_SECONDS, waits_for: str = "a lock that another session holds"
) -> Callable[[F], F]:
    """--timeout for a command whose first argument is a Shared, and the deadline of its connections."""

    def decorate(function: F) -> F:
        @click.option(
            "--timeout",
            type=Duration(),
            metavar="DURATION",
            help="Give up after this time, for example 90 or 15m, and exit with 4. What the command has done stays."
            f"  [default: no limit, but at most {patience:g} s for {waits_for}]",
        )
        @wraps(function)
        def wrapped(shared: Shared, /, timeout: float | None, **rest: Any) -> Any:
            def connect() -> Connect:
                return shared.connect(
                    "shithubd-worker looks for locks",
                    pooled=True,
                    answer_seconds=LOOK_ANSWER_SECONDS,
                    by=time.monotonic() + LOOK_ANSWER_SECONDS,
                )

            logging.getLogger("psycopg").addHandler(_QUIET)
            shared.kept_by = Deadline(timeout, patience, answer, connect)
            try:
                return function(shared, **rest)
            except Exception as error:
                shared.deadline.note(error, shared.schema_name)
                raise
            finally:
                shared.deadline.close()

        return wrapped  # type: ignore[return-value]

    return decorate
