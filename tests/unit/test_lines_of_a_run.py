"""While a handler runs, each log record of each logger and thread is about its job; and what `extra=` gives is kept."""

from __future__ import annotations

import json
import logging
import threading
import warnings
from types import SimpleNamespace

import pytest

from shithubd_worker.host.outlets import entry
from shithubd_worker.job import Job
from shithubd_worker.model import Batch, Lease
from shithubd_worker.telemetry import lines, logs
from shithubd_worker.telemetry.lines import JsonFormatter, TextFormatter, journal_fields

LEASE = Lease(42, "stars.add", "{}", 3, None, 0, 0, 0.0, Batch("t", 0.0, 0.0))
OF_THE_JOB = {"job_id": 42, "kind": "stars.add", "attempt": 3}
IN_JOURNAL = {"SHITHUB_JOB_ID": "42", "SHITHUB_KIND": "stars.add", "SHITHUB_ATTEMPT": "3"}


class Seen(logging.Handler):
    """Each record as JSON, as the journal's fields, and as text, made in the thread that logs."""

    def __init__(self):
        super().__init__()
        self.json, self.journal, self.text = [], [], []

    def emit(self, record):
        self.json.append(json.loads(JsonFormatter().format(record)))
        self.journal.append(journal_fields(record))
        self.text.append(TextFormatter().format(record).split(" ", 1)[1])
        assert len(entry(self.journal[-1])) < 200_000


@pytest.fixture
def seen(monkeypatch):
    """What a worker's log gets, set up as `run` does it."""
    for name in ("excepthook",):
        monkeypatch.setattr(threading, name, getattr(threading, name))
    monkeypatch.setattr("sys.unraisablehook", None)
    before, level = logging.root.handlers[:], logging.root.level
    monkeypatch.setattr(logs, "_ours", [])
    logs.configure("text", "info")
    logging.root.addHandler(made := Seen())
    yield made
    logging.captureWarnings(False)
    logging.root.handlers[:] = before
    logging.root.setLevel(level)


@pytest.fixture
def running(monkeypatch):
    """Job 42 runs."""
    monkeypatch.setattr(lines, "_running", [lambda: LEASE])


def in_thread(step, name="author-1"):
    thread = threading.Thread(target=step, name=name)
    thread.start()
    thread.join()


def fail():
    raise ValueError("in a thread")


class Ungrateful:
    def __del__(self):
        raise ValueError("in a destructor")


MADE = {
    "by the author's own logger": lambda: logging.getLogger("myforge").info("x"),
    "by the root logger": lambda: logging.warning("x"),  # noqa: LOG015
    "by job.log": lambda: Job(SimpleNamespace(lease=LEASE)).log.info("x"),
    "by a library": lambda: logging.getLogger("urllib3.pool").error("x"),
    "by a warning": lambda: warnings.warn("x", stacklevel=1),
    "by a thread of the handler": lambda: in_thread(lambda: logging.getLogger("myforge").info("x")),
    "by a thread that fails": lambda: in_thread(fail),
    "by an error that Python ignores": lambda: Ungrateful() and None,
    "with a stack": lambda: logging.getLogger("myforge").info("x", stack_info=True),
    "with arguments that do not fit": lambda: logging.getLogger("myforge").info("%d", "x"),
}


@pytest.mark.filterwarnings("always")
@pytest.mark.usefixtures("running")
@pytest.mark.parametrize("how", MADE)
def test_a_record_that_is_made_while_a_handler_runs_carries_its_job(seen, how, capfd):
    made = logs.OutletHandler(SimpleNamespace(put=lambda data: said.append(data) or True), encode)
    said: list[bytes] = []
    logging.root.handlers[:] = [seen, made] if "fit" not in how else [made]
    MADE[how]()
    (fields,) = [json.loads(data) for data in said]
    assert IN_JOURNAL.items() <= fields.items()
    if "fit" not in how:
        assert OF_THE_JOB.items() <= seen.json[0].items()
        assert "job 42 stars.add (attempt 3): " in seen.text[0]
    assert ("SHITHUB_THREAD" in fields) == ("thread" in how)
    assert ("Traceback" in fields["MESSAGE"] or "Stack" in fields["MESSAGE"]) == (
        any(word in how for word in ("fails", "ignores", "stack", "fit"))
    )
    assert capfd.readouterr().err == ""


def encode(record):
    return json.dumps(journal_fields(record)).encode()


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize("name", ["control", "metrics", "count"])
def test_what_the_workers_own_threads_log_is_not_about_the_job(seen, name):
    in_thread(lambda: logging.getLogger("psycopg").warning("x"), name)
    in_thread(lambda: logging.getLogger("shithubd_worker.process").warning("x"), "Thread-7")
    assert not any("job_id" in told for told in seen.json)


@pytest.mark.usefixtures("running")
def test_a_line_of_ours_about_another_job_stays_about_that_job(seen):
    logging.getLogger("shithubd_worker.telemetry.logs").info("x", extra={"job_id": 7, "kind": "k"})
    assert (seen.json[0]["job_id"], seen.json[0]["kind"], "attempt" in seen.json[0]) == (7, "k", False)


def test_a_record_between_two_jobs_is_about_none(seen):
    logging.getLogger("myforge").info("x")
    assert "job_id" not in seen.json[0]
    assert seen.text == ["INFO x"]


class Odd:
    def __repr__(self):
        raise RuntimeError("no words")


def circle():
    made: list[object] = []
    made.append(made)
    return made


@pytest.mark.usefixtures("running")
def test_extra_is_kept_and_changes_nothing_that_is_ours(seen):
    author = {
        **{"job_id": 1, "kind": "k", "attempt": 9, "outcome": "o", "event": "e", "MESSAGE": "m", "PRIORITY": 0},
        **{"repo": "alice/site", "n": 3, "list": [1, None], "nan": float("nan"), "odd": Odd(), "circle": circle()},
        **{"_UID": "0", "a-b": 1, "a_b": 2, "ä ö": 3, "x" * 100: 4, "huge": "h" * 1_000_000, "SHITHUB_JOB_ID": 5},
        "level": "debug",
        "line": "one\ntwo\x1b[2J",
    }
    logging.getLogger("myforge").info("x", extra=author)
    (told,), (fields,) = seen.json, seen.journal
    assert OF_THE_JOB.items() <= told.items()
    assert (told["level"], told["message"], "outcome" in told) == ("info", "x", False)
    assert (told["extra_kind"], told["extra_level"], told["repo"], told["list"]) == (
        "k",
        "debug",
        "alice/site",
        [1, None],
    )
    assert (told["nan"], told["odd"], told["circle"]) == ("nan", "<Odd: no repr: RuntimeError>", "[[...]]")
    assert 1000 < len(told["huge"]) < 10_000
    own = {name for name in fields if not name.startswith("SHITHUB_EXTRA_")}
    assert own == {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "SHITHUB_LOGGER", *IN_JOURNAL}
    assert IN_JOURNAL.items() <= fields.items()
    assert (fields["MESSAGE"], fields["PRIORITY"]) == ("job 42 stars.add (attempt 3): x", "6")
    assert (fields["SHITHUB_EXTRA_REPO"], fields["SHITHUB_EXTRA_KIND"]) == ("alice/site", "k")
    assert {fields["SHITHUB_EXTRA_A_B"], fields["SHITHUB_EXTRA_A_B_"]} == {"1", "2"}
    assert all(len(name) <= 64 and name.isascii() for name in fields)
    assert all(value.isprintable() for value in fields.values())


def test_job_log_keeps_extra_and_its_own_job(seen):
    log = Job(SimpleNamespace(lease=LEASE)).log
    log.info("x", extra={"repo": "a", "kind": "mine", "event": "e", "outcome": "o"})
    assert OF_THE_JOB.items() <= seen.json[0].items()
    assert (seen.json[0]["repo"], seen.json[0]["extra_kind"], seen.json[0]["extra_outcome"]) == ("a", "mine", "o")
    assert not {"MESSAGE_ID", "SHITHUB_OUTCOME"} & set(seen.journal[0])


def test_a_module_of_handlers_cannot_silence_the_workers_log(seen):
    ours = [logging.getLogger("shithubd_worker.process.worker"), logs.log]
    handler = logging.root.handlers[0]
    logging.root.handlers[:] = []
    for each in ours:
        each.disabled = True
    logging.root.setLevel("ERROR")  # logging.config.dictConfig does all three
    logging.disable(logging.CRITICAL)
    logs.stay()
    assert not any(each.disabled for each in ours)
    assert logging.root.handlers == [handler]
    assert all(each.isEnabledFor(logging.INFO) for each in ours)
