"""Where log lines go, and what is logged about jobs. How a line looks: lines.py."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TextIO

from shithubd_worker.host.outlets import Journal, Outlet, Stream, entry
from shithubd_worker.model import NOT_STARTED, Finished, How, Lease
from shithubd_worker.telemetry.crowd import FINE, Crowd
from shithubd_worker.telemetry.lines import FIELDS, JsonFormatter, TextFormatter, journal_fields, written

log = logging.getLogger(__name__)

# The id of an event in the journal (`extra={"event": …}`), which stays the same when a line's words change. From
# units/shithubd-worker.catalog, `journalctl -x` shows what the event means and where its runbook is.
JOB_FAILED = "14582a87720a4110b4ee85da0b3f504c"
JOB_CRASHED = "8fb9de6734d447189a6cf02d9267990b"
LEASE_LOST = "f853e5658a4a44cb8c43d779dae57186"
DATABASE_AWAY = "8e5e21bb854c44a8ba3acf4f6c0939f7"
HELD = "b9fcd194afc2499d8d89b3174602da85"
HANDLER_ENDED = "34d2cc2f4d124006b07ef717d24c78a2"
CLOCK_STEPPED = "6a1d6bb3f0e648c0a9f3c3b0f2f5d7ce"
REFUSED = "c1b86f5a2d9e4f0b9a5e6c0f7d3a4e18"
_OUTCOMES = {
    How.FAILED: JOB_FAILED,
    How.POISON: JOB_FAILED,
    How.CRASHED: JOB_CRASHED,
    How.LEASE_LOST: LEASE_LOST,
}


class OutletHandler(logging.Handler):
    """Passes records to an outlet, and counts those that were lost because nobody read them."""

    def __init__(self, outlet: Outlet, encode: Callable[[logging.LogRecord], bytes]) -> None:
        super().__init__()
        self._outlet = outlet
        self._encode = encode
        self.dropped = 0
        self._told = 0  # how many of those a line has reported

    def handle(self, record: logging.LogRecord) -> bool:
        """Write one record, also if an author's filter on this handler fails."""
        try:
            return super().handle(record)
        except Exception:  # noqa: BLE001 (a log line must not end a worker)
            with self.lock or nullcontext():
                self.emit(record)
            return True

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record. Before it, report lines that were lost there."""
        try:
            data = self._encode(record)
        except Exception:  # noqa: BLE001 (a log line must not end a worker; its words don't fit its arguments)
            data = self._encode(_unreadable(record))
        if not (self._tell_of_dropped() and self._outlet.put(data)):
            self.dropped += 1

    def flush(self) -> None:
        """Nothing waits here, but lost lines may not be reported yet."""
        self._tell_of_dropped()

    def _tell_of_dropped(self) -> bool:
        """True if all lost lines are reported."""
        if lost := self.dropped - self._told:
            text = "%d log lines were lost here: nobody read them"
            told = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, (lost,), None)
            if self._outlet.put(self._encode(told)):
                self._told += lost
        return self._told == self.dropped


def dropped() -> int:
    """How many log lines of this process were lost because nobody read them."""
    return sum(handler.dropped for handler in logging.getLogger().handlers if isinstance(handler, OutletHandler))


def _unreadable(record: logging.LogRecord) -> logging.LogRecord:
    """A record in place of one that can't be written: its text, its arguments, where it was made, and the error."""
    told = (written(record.msg), written(record.args), record.pathname, record.lineno)
    text = "%s: %s (logged at %s:%d)"
    made = logging.LogRecord(record.name, record.levelno, record.pathname, record.lineno, text, told, sys.exc_info())
    vars(made).update({name: value for name, value in vars(record).items() if name in FIELDS})
    return made


def is_the_journal(stream: TextIO) -> bool:
    """Is this the stream that systemd connected to its journal, and not a file or a pipe in its place?"""
    try:
        known = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{known.st_dev}:{known.st_ino}"


_ours: list[logging.Handler] = []
_level = [logging.INFO]


def configure(log_format: str, level: str) -> None:
    """Send all log lines to stderr: those of all loggers, warnings, and errors of threads. If stderr is the systemd
    journal, send entries with fields."""
    if log_format == "text" and is_the_journal(sys.stderr):
        handler = OutletHandler(Journal(), lambda record: entry(journal_fields(record)))
    else:
        formatter = JsonFormatter() if log_format == "json" else TextFormatter()
        handler = OutletHandler(
            Stream(sys.stderr.fileno()),
            lambda record: f"{formatter.format(record)}\n".encode("utf-8", "backslashreplace"),
        )
    _ours[:] = [handler]
    logging.basicConfig(handlers=_ours, force=True)
    set_level(level)
    logging.captureWarnings(capture=True)
    threading.excepthook = _thread_failed
    sys.unraisablehook = _was_ignored


def set_level(level: str) -> None:
    """Log lines of this level and above, of each logger that has no level of its own."""
    _level[0] = logging.getLevelNamesMapping()[level.upper()]
    logging.root.setLevel(_level[0])


def stay() -> None:
    """After an author's code ran: it may have switched off our loggers, taken the place of our handler, or changed the
    level, as logging.config does. The worker's log is the operator's, so all of it comes back."""
    root = logging.root
    if not _ours:
        return
    if root.level != _level[0]:
        root.setLevel(_level[0])
    if root.manager.disable:
        logging.disable(logging.NOTSET)
    for handler in _ours:
        if handler not in root.handlers:
            root.addHandler(handler)
    if log.disabled:  # then all of ours are
        for name, logger in root.manager.loggerDict.items():
            if isinstance(logger, logging.Logger) and name.split(".")[0] == "shithubd_worker":
                logger.disabled = False


def _thread_failed(hook: threading.ExceptHookArgs) -> None:
    """In place of threading.excepthook, which writes the stack line by line, past the log."""
    if hook.exc_type is not SystemExit:
        name = hook.thread.name if hook.thread else "?"
        logging.getLogger("py.threads").error("thread %s failed", name, exc_info=hook.exc_value)


def _was_ignored(hook: sys.UnraisableHookArgs) -> None:
    """In place of sys.unraisablehook: an error in a destructor or in an exit function."""
    what = hook.err_msg or "Exception ignored in"
    logging.getLogger("py.ignored").error("%s: %r", what, hook.object, exc_info=hook.exc_value)


_crowd = Crowd()
flush, tell = _crowd.flush, _crowd.tell


def about(lease: Lease) -> dict[str, object]:
    """`extra=` for a line of ours about a job."""
    return {"job_id": lease.id, "kind": lease.kind, "attempt": lease.attempt}


def report(finished: Sequence[Finished], ended: Counter[tuple[str, How]]) -> None:
    """Log one line for each job that ended, with its fields. `ended` is how many, by kind and outcome."""
    for each in _crowd.admit(finished, ended):
        _report(each, logging.INFO if each.outcome.how in FINE else logging.WARNING)


def returned(job: int, kind: str, how: str) -> None:
    """Log that a dead worker's job is back in the queue, or is poison."""
    log.warning(
        "job %d %s returned: %s",
        job,
        kind,
        how,
        extra={"job_id": job, "kind": kind, "outcome": how, "event": _OUTCOMES.get(How(how))},
    )


def held_interpreter(jobs: Sequence[tuple[int, str]]) -> None:
    """Log that a worker was ended because a handler let nothing else run. If it held one job (id, kind), the line names
    it. `jobs` is empty if the lease was already over; then the process probably stood still."""
    ending = "held the interpreter until its lease was nearly over, so its worker was ended: see its stack"
    if len(jobs) == 1:
        (job, kind), *_ = jobs
        log.critical("job %d (%s) %s", job, kind, ending, extra={"job_id": job, "kind": kind, "event": HANDLER_ENDED})
    elif jobs:
        log.critical("one of %d jobs %s", len(jobs), ending)
    else:
        log.critical(
            "the worker was ended when its lease was over, and others had its job already."
            " Either the process or its host stood still until now, or a handler held the interpreter: see its stack",
            extra={"event": HANDLER_ENDED},
        )


def clock_stepped(seconds: float) -> None:
    """The database's clock was set."""
    log.warning(
        "the database's clock went %s by %.1f s: it was set, or this host stood still."
        " No expired lease is returned for a while, so that all can renew theirs",
        "ahead" if seconds > 0 else "back",
        abs(seconds),
        extra={"event": CLOCK_STEPPED},
    )


def refused(job: int, kind: str, what: str, why: str) -> None:
    """Log that the database refuses something about one job alone."""
    extra = {"job_id": job, "kind": kind, "event": REFUSED}
    log.error("job %d %s: the database refuses %s: %s", job, kind, what, why, extra=extra)


def _report(finished: Finished, level: int) -> None:
    lease, outcome = finished.lease, finished.outcome
    text = f": {outcome.error}" if outcome.error else ""
    if outcome == NOT_STARTED:
        text = ": it had not started"
    if outcome.how is How.RETRY or outcome.delay_seconds:
        text = f", again in {outcome.delay_seconds:.0f} s{text}"
    log.log(
        level,
        "job %d %s %s after %.3f s (attempt %d)%s",
        lease.id,
        lease.kind,
        outcome.how,
        finished.seconds,
        lease.attempt,
        text,
        extra={
            **about(lease),
            "outcome": str(outcome.how),
            "event": _OUTCOMES.get(outcome.how),
        },
    )
