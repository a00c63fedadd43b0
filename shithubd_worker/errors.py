"""The few exceptions of the project, and the exit code that each one means on the command line."""

from __future__ import annotations

from datetime import timedelta

# Exit codes: sysexits(3) where it has one, small numbers where it has none. README.md says what each means; a
# test compares the two.
EXIT_OK = 0
EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_CHECK_SAYS_NO = 3
EXIT_TIMEOUT = 4
EXIT_REFUSED = 5
EXIT_FORCED = 70
EXIT_DATABASE = 75
EXIT_SCHEMA = 76
EXIT_RIGHTS = 77
EXIT_CONFIG = 78
EXIT_DETACHED = 130

# How each refusal for want of a right of the database begins.
LACKS = "the database role lacks a right"


class Permanent(Exception):
    """Raised by a handler: this job can never succeed. It becomes `failed` at once, whatever attempts are left."""


class RetryAfter(Exception):
    """Raised by a handler: try again after `seconds` (0 or more, or a timedelta), in place of the kind's backoff.

    With None the backoff stays: an expected failure, whose `reason` is enough without a stack.
    """

    def __init__(self, seconds: float | timedelta | None, reason: str = "") -> None:
        if isinstance(seconds, timedelta):
            seconds = seconds.total_seconds()
        when = "later" if seconds is None else f"after {seconds:g} s"
        super().__init__(reason or f"asked to be tried again {when}")
        self.seconds = None if seconds is None else max(0.0, float(seconds))


class NotNow(Exception):
    """Raised by a handler: what the job needs isn't there, or is in use.

    The job is released: leased again after `seconds` (1 or more, or a timedelta), as often as it takes. No attempt is
    used up.

    Not for a failure that may be the job's own: such a job would come back for ever.
    """

    def __init__(self, seconds: float | timedelta, reason: str) -> None:
        if isinstance(seconds, timedelta):
            seconds = seconds.total_seconds()
        super().__init__(reason)
        self.seconds = min(max(1.0, float(seconds)), 365 * 86400.0)


class Interrupted(KeyboardInterrupt):
    """Raised in a handler's frame when its time is up.

    A KeyboardInterrupt, because psycopg then cancels the query that the handler waits for and leaves its
    connection usable; any other exception out of a signal handler would break it.
    """


class ShithubdError(Exception):
    """Anything that ends a command with one clear line, or several, and `exit_code`."""

    exit_code = EXIT_ERROR

    def __init__(self, *lines: str) -> None:
        # Apart from each other: a value that is quoted in one may have line breaks itself.
        super().__init__(*lines)

    def __str__(self) -> str:
        """The lines, below each other."""
        return "\n".join(self.args)


class ConfigError(ShithubdError):
    """The configuration can't work: all of its faults at once, one a line."""

    exit_code = EXIT_CONFIG


class Refused(ShithubdError):
    """The command is understood and possible, but dangerous as asked: the message says what to add."""

    exit_code = EXIT_REFUSED


class NoSuchJob(ShithubdError):
    """No job has this id, neither waiting nor in the history."""


class DatabaseUnavailable(ShithubdError):
    """The database could not be reached, or went away."""

    exit_code = EXIT_DATABASE


class TimedOut(ShithubdError):
    """A command had its time, and gave up: what it asked for last was called off in the database."""

    exit_code = EXIT_TIMEOUT


class SchemaMismatch(ShithubdError):
    """The database's schema is missing, too old, too new or not ours."""

    exit_code = EXIT_SCHEMA


class RightsMissing(ShithubdError):
    """The database role lacks a right, or the password is wrong."""

    exit_code = EXIT_RIGHTS


class LeaseLost(ShithubdError):
    """The lease is no longer ours: somebody else may run the job now, so nothing of this run may be written."""


class NotTheWorker(ShithubdError):
    """Something of the worker's was used in a child that a handler forked. It may open a connection of its own."""


class Unsettled(Exception):
    """The database stayed away until the worker had to go: outcomes could not be written."""
