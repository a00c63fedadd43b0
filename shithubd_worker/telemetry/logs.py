"""Log lines: text for people, entries with fields for the systemd journal, JSON for collectors."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TextIO

from shithubd_worker.host.outlets import Journal, Outlet, Stream, entry
from shithubd_worker.model import NOT_STARTED, Finished, How
from shithubd_worker.plain import behind_margin, json_text, on_one_line

log = logging.getLogger(__name__)

# In characters. An entry is one datagram, which holds some 200 KB.
LONGEST_FIELD = 40_000

_FIELDS = ("job_id", "kind", "attempt", "outcome")

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


class TextFormatter(logging.Formatter):
    """`2026-11-22T18:41:00Z INFO text`."""

    def format(self, record: logging.LogRecord) -> str:
        """One record. Further lines, for example of a traceback, stand behind a margin."""
        return f"{_moment(record)} {record.levelname} {_text(self, record)}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and job_id, kind, attempt and outcome where they apply."""

    def format(self, record: logging.LogRecord) -> str:
        """One record on one line."""
        line: dict[str, object] = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json_text(line)


class OutletHandler(logging.Handler):
    """Passes records to an outlet, and counts those that were lost because nobody read them."""

    def __init__(self, outlet: Outlet, encode: Callable[[logging.LogRecord], bytes]) -> None:
        super().__init__()
        self._outlet = outlet
        self._encode = encode
        self.dropped = 0
        self._told = 0  # how many of those a line has reported

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
    """A record in place of one that can't be written: its text, its arguments, and the error."""
    return logging.LogRecord(
        record.name, record.levelno, record.pathname, record.lineno, "%r: %r", (record.msg, record.args), sys.exc_info()
    )


def journal_fields(record: logging.LogRecord) -> dict[str, str]:
    """The fields of a journal entry: `journalctl SHITHUB_JOB_ID=42`, `SHITHUB_KIND=search.reindex`, …"""
    fields = {
        "PRIORITY": str(_priority(record.levelno)),
        "SYSLOG_IDENTIFIER": "shithubd-worker",
        "SHITHUB_LOGGER": record.name,
    }
    fields |= {f"SHITHUB_{name.upper()}": str(getattr(record, name)) for name in _FIELDS if hasattr(record, name)}
    if event := getattr(record, "event", None):
        fields["MESSAGE_ID"] = event
    # `journalctl -F SHITHUB_KIND` shows a field raw.
    plain = {"MESSAGE": _text(logging.Formatter(), record)} | {name: on_one_line(fields[name]) for name in fields}
    return {name: value[:LONGEST_FIELD] for name, value in plain.items()}


def is_the_journal(stream: TextIO) -> bool:
    """Is this the stream that systemd connected to its journal, and not a file or a pipe in its place?"""
    try:
        known = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{known.st_dev}:{known.st_ino}"


def configure(log_format: str, level: str) -> None:
    """Send all log lines to stderr. If stderr is the systemd journal, send entries with fields."""
    if log_format == "text" and is_the_journal(sys.stderr):
        handler = OutletHandler(Journal(), lambda record: entry(journal_fields(record)))
    else:
        formatter = JsonFormatter() if log_format == "json" else TextFormatter()
        handler = OutletHandler(
            Stream(sys.stderr.fileno()),
            lambda record: f"{formatter.format(record)}\n".encode("utf-8", "backslashreplace"),
        )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


# In each second so many jobs that ended well, or were given back, get a line of their own. The rest get one line a
# kind: no journal keeps up with thousands of lines a second, and the history has each job.
FINE_LINES_PER_SECOND = 50
_FINE = frozenset({How.OK, How.RELEASED})


class _Crowd:
    """Counts the lines of this second, and the jobs that got none. For both threads, under a lock: without it, one
    thread could lose what the other counts between its read and its write. No line is written under the lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._second = 0
        self._lines = 0
        self._left_out: Counter[tuple[str, How]] = Counter()

    def admit(self, finished: Sequence[Finished], ended: Counter[tuple[str, How]]) -> Sequence[Finished]:
        """The jobs that get a line of their own: all that didn't end well, and others while this second has room. The
        rest are counted."""
        second = int(time.monotonic())
        well = {key: count for key, count in ended.items() if key[1] in _FINE}
        before: Counter[tuple[str, How]] = Counter()
        own: list[Finished] = []
        with self._lock:
            if second != self._second:
                before, self._left_out = self._left_out, before
                self._second, self._lines = second, 0
            room = max(0, FINE_LINES_PER_SECOND - self._lines)
            self._lines += sum(well.values())
            if room or len(well) < len(ended):
                for each in finished:
                    if each.outcome.how not in _FINE:
                        own.append(each)
                    elif room:
                        own.append(each)
                        room -= 1
                        well[each.lease.kind, each.outcome.how] -= 1
            self._left_out.update(well)
        _report_left_out(before)
        return own

    def flush(self) -> None:
        """Report the jobs that got no line, if there are any."""
        with self._lock:
            left_out, self._left_out = self._left_out, Counter()
        _report_left_out(left_out)


def _report_left_out(left_out: Counter[tuple[str, How]]) -> None:
    for (kind, how), count in sorted((+left_out).items()):
        log.info("%s: %d more jobs %s within a second", kind, count, how, extra={"kind": kind, "outcome": str(how)})


_crowd = _Crowd()
flush = _crowd.flush


def report(finished: Sequence[Finished], ended: Counter[tuple[str, How]]) -> None:
    """Log one line for each job that ended, with its fields. `ended` is how many, by kind and outcome."""
    for each in _crowd.admit(finished, ended):
        _report(each, logging.INFO if each.outcome.how in _FINE else logging.WARNING)


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
            "job_id": lease.id,
            "kind": lease.kind,
            "attempt": lease.attempt,
            "outcome": str(outcome.how),
            "event": _OUTCOMES.get(outcome.how),
        },
    )


def _text(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.name == "shithubd_worker.job":
        text = f"job {getattr(record, 'job_id', '?')} {getattr(record, 'kind', '?')}: {text}"
    if record.exc_info:
        text = f"{text}\n{formatter.formatException(record.exc_info)}"
    return behind_margin(text)


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _priority(level: int) -> int:
    return {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}.get(level, 7)
