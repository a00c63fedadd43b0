"""Log lines on stderr: text for people and the journal, JSON for collectors."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from shithubd_worker.model import Finished, How

log = logging.getLogger(__name__)

_FIELDS = ("job_id", "kind", "attempt", "outcome")


class TextFormatter(logging.Formatter):
    """`2026-11-22T18:41:00Z INFO text`; under systemd, which knows the time itself, `<6>text` on every line."""

    def __init__(self, *, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """One record; a traceback follows on lines of its own."""
        text = record.getMessage()
        if record.name == "shithubd_worker.job":
            text = f"job {getattr(record, 'job_id', '?')} {getattr(record, 'kind', '?')}: {text}"
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        text = _printable(text)
        if self._journal:
            # Each line needs its priority: the journal splits at line ends.
            return "\n".join(f"<{_priority(record.levelno)}>{line}" for line in text.splitlines())
        return f"{_moment(record)} {record.levelname} {text}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and job_id, kind, attempt, outcome where they apply."""

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
        return json.dumps(line)


def configure(log_format: str, level: str, *, journal: bool) -> None:
    """Send all log lines to stderr; `journal` when stderr is the systemd journal."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter(journal=journal))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


# Of jobs that ended well (or were given back) so many are logged each second by a line of their own, and the rest by
# one line a kind: no journal keeps up with thousands a second, and each is in the history.
FINE_LINES_PER_SECOND = 50
_FINE = frozenset({How.OK, How.RELEASED})


class _Crowd:
    """Counts the lines of the second, and what was left out of it."""

    def __init__(self) -> None:
        self._second = 0
        self._lines = 0
        self._left_out: Counter[tuple[str, How]] = Counter()

    def admit(self, finished: Sequence[Finished]) -> Sequence[Finished]:
        """Those that may have a line of their own in this second; the others are counted."""
        second = int(time.monotonic())
        if second != self._second:
            self.flush()
            self._second, self._lines = second, 0
        room = max(0, FINE_LINES_PER_SECOND - self._lines)
        self._lines += len(finished)
        if len(finished) > room:
            self._left_out.update([(each.lease.kind, each.outcome.how) for each in finished[room:]])
        return finished[:room]

    def flush(self) -> None:
        """Report what was left out, if anything."""
        left_out, self._left_out = self._left_out, Counter()
        for (kind, how), count in sorted(left_out.items()):
            log.info("%s: %d more jobs %s within a second", kind, count, how, extra={"kind": kind, "outcome": str(how)})


_crowd = _Crowd()
flush = _crowd.flush


def report(finished: Sequence[Finished]) -> None:
    """One line for each job that ended, with its fields."""
    fine = [each for each in finished if each.outcome.how in _FINE]
    for each in _crowd.admit(fine) if fine else ():
        _report(each, logging.INFO)
    if len(fine) < len(finished):
        for each in finished:
            if each.outcome.how not in _FINE:
                _report(each, logging.WARNING)


def _report(finished: Finished, level: int) -> None:
    lease, outcome = finished.lease, finished.outcome
    text = f": {outcome.error}" if outcome.error else ""
    if outcome.how is How.RETRY:
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
        },
    )


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _priority(level: int) -> int:
    return {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}.get(level, 7)


def _printable(text: str) -> str:
    # A job's error may hold anything: control characters must not steer somebody's terminal.
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)
