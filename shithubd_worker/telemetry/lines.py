"""One log record as a line of text, as an entry of the systemd journal, or as a JSON object."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from shithubd_worker.model import Lease
from shithubd_worker.plain import behind_margin, json_text, on_one_line

# In characters. An entry is one datagram, which holds some 200 KB.
LONGEST_FIELD = 40_000
LONGEST_EXTRA = 2_000  # one value of a record's `extra=`
ROOM_FOR_EXTRA = 8_000  # all of them together
_LONGEST_NAME = 64  # of a field of the journal

# What a record says of a job. Our own loggers say it themselves. To all other records it is added.
_OF_A_JOB = ("job_id", "kind", "attempt")
FIELDS = (*_OF_A_JOB, "outcome")
OF_JOB = "shithubd_worker.job"  # the logger of job.log
_OURS = "shithubd_worker."
# Our own threads. What libraries log there is not about the job.
_OUR_THREADS = frozenset({"control", "metrics", "count", "leave", "pools"})
_USUAL = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}
_MEMBERS = frozenset({"time", "level", "logger", "message", "thread", "traceback", "stack", *FIELDS})


def _nothing_runs() -> Lease | None:
    return None


_running: list[Callable[[], Lease | None]] = [_nothing_runs]


def watch(running: Callable[[], Lease | None]) -> None:
    """From now on, records are about the job that `running` names. One process runs one job at a time, so this is true
    in each thread of the handler."""
    _running[0] = running


class TextFormatter(logging.Formatter):
    """`2026-11-22T18:41:00Z INFO text`."""

    def format(self, record: logging.LogRecord) -> str:
        """One record. Further lines, for example of a traceback, stand behind a margin."""
        return f"{_moment(record)} {record.levelname} {_text(record, _trusted(record))}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger and message; job_id, kind, attempt and outcome where they apply; and
    each name of `extra=`."""

    def format(self, record: logging.LogRecord) -> str:
        """One record on one line."""
        line: dict[str, object] = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= _trusted(record)
        if record.threadName != "MainThread":
            line["thread"] = record.threadName
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        for name, value, _ in _extra(record):
            line[f"extra_{name}" if name in _MEMBERS else name] = value
        return json_text(line)


def journal_fields(record: logging.LogRecord) -> dict[str, str]:
    """The fields of a journal entry: `journalctl SHITHUB_JOB_ID=42`, `SHITHUB_KIND=search.reindex`, …

    What `extra=` gives becomes SHITHUB_EXTRA_…: it can be no field of ours, and none that the journal knows.
    """
    trusted = _trusted(record)
    fields = {
        "PRIORITY": str(_priority(record.levelno)),
        "SYSLOG_IDENTIFIER": "shithubd-worker",
        "SHITHUB_LOGGER": record.name,
    }
    fields |= {f"SHITHUB_{name.upper()}": str(value) for name, value in trusted.items()}
    if record.threadName != "MainThread":
        fields["SHITHUB_THREAD"] = str(record.threadName)
    if (event := getattr(record, "event", None)) and _is_ours(record):
        fields["MESSAGE_ID"] = event
    for name, _, told in _extra(record):
        field = f"SHITHUB_EXTRA_{re.sub('[^A-Z0-9_]', '_', name.upper())}"[:_LONGEST_NAME]
        while field in fields:  # of two names that differ in other letters only
            field = f"{field[: _LONGEST_NAME - 1]}_" if len(field) < _LONGEST_NAME else f"{field[:-2]}{len(fields):02}"
        fields[field] = told
    # `journalctl -F SHITHUB_KIND` shows a field raw.
    plain = {"MESSAGE": _text(record, trusted)} | {name: on_one_line(fields[name]) for name in fields}
    return {name: value[:LONGEST_FIELD] for name, value in plain.items()}


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.startswith(_OURS) and record.name != OF_JOB


def _trusted(record: logging.LogRecord) -> dict[str, object]:
    """What is true of the record's job. `extra=` of other loggers can't change it."""
    said = vars(record)
    if record.name.startswith(_OURS):
        told = {name: said[name] for name in (FIELDS if record.name != OF_JOB else _OF_A_JOB) if name in said}
        if told:
            return told
    in_main = record.thread == threading.main_thread().ident
    if in_main or not (_is_ours(record) or record.threadName in _OUR_THREADS):
        lease = _running[0]()
        if lease is not None:
            return {"job_id": lease.id, "kind": lease.kind, "attempt": lease.attempt}
    return {}


def _extra(record: logging.LogRecord) -> Iterator[tuple[str, object, str]]:
    """What `extra=` gave: the name, the value for JSON, and the value as text. Values that are too long together are
    cut."""
    taken = (*FIELDS, "event") if _is_ours(record) else _OF_A_JOB if record.name == OF_JOB else ()
    room = ROOM_FOR_EXTRA
    given = [name for name in vars(record) if name not in _USUAL and name not in taken]
    for name in given:
        value = vars(record)[name]
        whole = shown(value)
        told = whole[: min(LONGEST_EXTRA, room)]
        room -= len(told) + len(str(name))
        yield str(name), value if told == whole and _is_json(value) else told, told
        if room <= 0:
            break


def shown(value: object) -> str:
    """A value as text: a text as it is, all else as Python writes it."""
    return value if type(value) is str else written(value)


def written(value: object) -> str:
    """repr() of a value that may have none."""
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 (the author's own __repr__)
        return f"<{type(value).__name__}: no repr: {type(error).__name__}>"


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except Exception:  # noqa: BLE001 (of another type, too deep, or a circle)
        return False
    return True


def _text(record: logging.LogRecord, trusted: dict[str, object]) -> str:
    text = record.getMessage()
    if trusted and not _is_ours(record):
        attempt = f" (attempt {trusted['attempt']})" if "attempt" in trusted else ""
        text = f"job {trusted.get('job_id', '?')} {trusted.get('kind', '?')}{attempt}: {text}"
    if record.exc_info:
        text = f"{text}\n{logging.Formatter().formatException(record.exc_info)}"
    if record.stack_info:
        text = f"{text}\n{record.stack_info}"
    return behind_margin(text)


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _priority(level: int) -> int:
    """The syslog priority of a level. A level of somebody's own counts as the usual one below it."""
    steps = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
    return next((priority for least, priority in steps if level >= least), 7)
