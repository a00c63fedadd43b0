"""How long a command may take, whatever the database does meanwhile; and who is in its way."""

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

# Without --timeout: for how long a command waits for a lock of somebody else's.
LOOK_SECONDS = 5.0
CHANGE_SECONDS = 30.0
# And for a server that says nothing at all, though no lock is in the way.
ANSWER_SECONDS = 30.0
# What only makes sure of something else, before that is done.
BRIEF_SECONDS = 1.0
FIRST_LOOK_SECONDS = 0.5
LOOK_AGAIN_SECONDS = 1.0
# After a look that nobody answered: the server stands still, or its pooler has no connection for another client.
UNANSWERED_SECONDS = 5.0
# What is asked when the time is over already, by a server that is merely slow: what still runs, say.
LAST_WORD_SECONDS = 1.0
# What psycopg has to say of a connection that is given up is no news: the command says it itself.
_QUIET = logging.NullHandler()
# The look itself, at a server that may be frozen.
LOOK_ANSWER_SECONDS = 1.0


class Deadline:
    """`timeout`: seconds for the whole command, or None: then it waits for each lock as long as `patience`. For each
    answer as long as `answer`, if no lock is in the way. `meanwhile` is called by the connection while it waits.

    Whose lock it is, is asked on a connection of its own, and only if an answer doesn't come at once.
    """

    def __init__(self, timeout: float | None, patience: float, answer: float, connect: Callable[[], Connect]) -> None:
        self.began = time.monotonic()
        self.at = None if timeout is None else self.began + timeout
        self.patience = patience
        self.so_far = ""  # what is true already while this waits, for whoever reads along
        self.blocker: Blocker | None = None
        self._answer = answer
        self._connect = connect
        self._connection: ImpatientConnection | None = None
        self._asking: ImpatientConnection | None = None  # which waited last
        self._brief: float | None = None
        self._asked_at = 0.0  # when the call began that waits now
        self._look_at = 0.0
        self._answers = True  # did the server answer to the last look?
        self._lets_in = True  # or at least let it in, as a pooler does that has no connection free?
        self._last_said: str | None = None
        self._tell_at = 0.0

    @property
    def over(self) -> bool:
        """Is all of the command's time used up?"""
        return self.at is not None and time.monotonic() >= self.at

    @contextmanager
    def briefly(self) -> Iterator[None]:
        """What is asked inside waits for no lock for long."""
        self._brief = BRIEF_SECONDS
        try:
            yield
        finally:
            self._brief = None

    def meanwhile(self, asking: ImpatientConnection, seconds: float) -> None:
        """No answer for so long. Raises TimedOut, or DatabaseUnavailable if no lock is in the way, to give up."""
        now = time.monotonic()
        if now - seconds > self._asked_at + 0.01:  # another call than the last one
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
        """Note on the failure of a command who was in its way just then.

        Where nobody could be asked while it waited, as through a pooler with one connection for all, ask now, on the
        connection that waited. That one sees whose lock of a table it is, not whose of a row.
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
        """Drop the connection that asked for the lock's holder."""
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
            say(text)


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
