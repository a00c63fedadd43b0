"""The exceptions of the project, and the exit code that each of them means on the command line."""

from __future__ import annotations

from datetime import timedelta

# Exit codes: those of sysexits(3) where it has one, else small numbers. docs/exit-codes.md says what each code means; a
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

# Each error about a missing right of the database role begins with these words.
LACKS = "the database role lacks a right"


class Permanent(Exception):
    """Raised by a handler: this job can never succeed. The job becomes `failed` at once, even if attempts are left.

    An example:

        @registry.handler("stars.add")
        def add_stars(job: Job, repo: str) -> None:
            if "/" not in repo:
                raise Permanent(f"{repo!r} is not owner/name")
    """


class RetryAfter(Exception):
    """Raised by a handler: try again after `seconds` (a number from 0 on, or a timedelta; at most 365 days count), in
    place of the kind's backoff.

    With None the kind's backoff stays. In both cases the failure was expected: the job's error is `reason`, without a
    stack. The attempt counts. An example:

        @registry.handler("mail.send")
        def send(job: Job, to: str) -> None:
            raise RetryAfter(3600, "the receiver is busy")
    """

    def __init__(self, seconds: float | timedelta | None, reason: str = "") -> None:
        if isinstance(seconds, timedelta):
            seconds = seconds.total_seconds()
        when = "later" if seconds is None else f"after {seconds:g} s"
        self.reason: str = reason or f"asked to be tried again {when}"
        super().__init__(seconds, self.reason)  # a copy is made of these
        self.seconds: float | None = None if seconds is None else max(0.0, float(seconds))

    def __str__(self) -> str:
        """The reason."""
        return str(self.reason)


class NotNow(Exception):
    """Raised by a handler: what the job needs isn't there, or is in use.

    The worker releases the job. It is leased again after `seconds` (a number or a timedelta, from 1 second to 365
    days). This may happen any number of times, and no attempt is used up.

    Don't raise it for a failure that the job itself may cause: such a job would come back for ever. An example:

        @registry.handler("backup.copy")
        def copy(job: Job, name: str) -> None:
            if not Path("/mnt/backups").is_mount():
                raise NotNow(300, "/mnt/backups is not mounted")
    """

    def __init__(self, seconds: float | timedelta, reason: str) -> None:
        if isinstance(seconds, timedelta):
            seconds = seconds.total_seconds()
        super().__init__(seconds, reason)  # a copy is made of these
        self.reason: str = reason
        self.seconds: float = min(max(1.0, float(seconds)), 365 * 86400.0)

    def __str__(self) -> str:
        """The reason."""
        return str(self.reason)


class Interrupted(KeyboardInterrupt):
    """Raised in a handler's frame when its time is up. `str()` of it is the reason: `runtime` (`max_runtime` is over),
    `stop` (the worker must stop), or `lost` (the lease was lost, or is nearly over).

    A handler may catch it to clean up. It must raise it again within 2 s: otherwise the worker ends its own process. It
    comes again after each 0.5 s. `except Exception` doesn't catch it. An example:

        @registry.handler("video.convert", max_runtime=600)
        def convert(job: Job, path: str) -> None:
            try:
                job.popen(["ffmpeg", "-i", path, f"{path}.webm"]).wait()
            except Interrupted:
                Path(f"{path}.webm").unlink(missing_ok=True)
                raise

    It derives from KeyboardInterrupt, because psycopg then cancels the query that the handler waits for, and the
    connection stays usable. Any other exception from a signal handler would break the connection.
    """


class ShithubdError(Exception):
    """An error that ends a command. It has one or more clear lines, and an `exit_code`."""

    exit_code = EXIT_ERROR

    def __init__(self, *lines: str) -> None:
        # Separate lines, because a value that one of them quotes may contain line breaks itself.
        super().__init__(*lines)

    def __str__(self) -> str:
        """The lines, one below the other."""
        return "\n".join(self.args)


class ConfigError(ShithubdError):
    """The configuration can't work. The error has all faults, one a line."""

    exit_code = EXIT_CONFIG


class Refused(ShithubdError):
    """The command is possible, but dangerous as it was asked for. The message says what to add."""

    exit_code = EXIT_REFUSED


class NoSuchJob(ShithubdError):
    """No job has this id: it is not in the queue, and not in the history."""


class NoSuchRow(ShithubdError):
    """The audit record has no row with this id."""


class DatabaseUnavailable(ShithubdError):
    """The worker or command could not reach the database, or lost it."""

    exit_code = EXIT_DATABASE


class TimedOut(ShithubdError):
    """A command used up its time and gave up. It had its last statement cancelled; a note says if the server didn't
    confirm that."""

    exit_code = EXIT_TIMEOUT


class SchemaMismatch(ShithubdError):
    """The database's schema is missing, too old, too new, or not ours."""

    exit_code = EXIT_SCHEMA


class RightsMissing(ShithubdError):
    """The database role lacks a right, or the server refuses the login."""

    exit_code = EXIT_RIGHTS


class LeaseLost(ShithubdError):
    """The job's lease is no longer ours. Another worker may run the job now, so this run must not write anything.

    The end of a `job.transaction()` raises it, and rolls the block back. A handler that catches it must raise it again.
    An example:

        @registry.handler("export.write")
        def write(job: Job, path: str) -> None:
            try:
                with job.transaction() as connection:
                    connection.execute("INSERT INTO exports (path) VALUES (%s)", (path,))
            except LeaseLost:
                job.log.warning("another worker writes %s", path)
                raise
    """


class NotTheWorker(ShithubdError):
    """A child that a handler forked used something that belongs to the worker. The child may open its own
    connection.

    An example:

        @registry.handler("numbers.add")
        def add(job: Job) -> None:
            child = os.fork()
            if child == 0:
                try:
                    job.extend(60)
                except NotTheWorker:  # only the worker can ask for more time
                    return  # the child ends here, with 0
                raise RuntimeError("the child asked for more time")  # it would end with 1
            if os.waitpid(child, 0)[1]:
                raise RuntimeError("the child failed")
    """


class Unsettled(Exception):
    """The worker had to stop while the database was away or refused, so it could not write some outcomes."""
