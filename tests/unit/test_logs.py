"""Log lines: for collectors an object for each line, for the journal a priority, and nothing that controls a
terminal."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker.cli import runbook
from shithubd_worker.host import shipped
from shithubd_worker.telemetry import logs
from shithubd_worker.telemetry.lines import JsonFormatter, TextFormatter, journal_fields


def record(message, *arguments, level=logging.INFO, name="shithubd_worker.process.worker", error=None, **extra):
    made = logging.LogRecord(name, level, __file__, 1, message, arguments, None)
    made.created = 1795373460.25
    vars(made).update(extra)
    if error is not None:
        try:
            raise error
        except type(error):
            made.exc_info = sys.exc_info()
    return made


TEXT = TextFormatter()


def test_a_line_of_text_has_its_time_and_level():
    assert TEXT.format(record("ready: %s", "web1:7")) == "2026-11-22T18:51:00.250Z INFO ready: web1:7"


def test_a_line_of_a_handler_names_its_job():
    made = record("halfway", name="shithubd_worker.job", job_id=7, kind="search.reindex", attempt=1)
    assert TEXT.format(made).endswith(" INFO job 7 search.reindex (attempt 1): halfway")


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (logging.DEBUG, "7"),
        (logging.INFO, "6"),
        (logging.WARNING, "4"),
        (logging.ERROR, "3"),
        (logging.CRITICAL, "2"),
    ],
)
def test_the_journal_gets_one_entry_with_the_whole_stack_and_its_priority(level, priority):
    fields = journal_fields(record("first\nsecond", level=level, error=ValueError("third\nfourth")))
    assert fields["PRIORITY"] == priority
    assert fields["MESSAGE"].splitlines()[:2] == ["first", "  | second"]
    assert fields["MESSAGE"].endswith("ValueError: third\n  | fourth")


def test_the_journal_finds_lines_by_job_and_by_kind():
    made = record("x", job_id=7, kind="search.reindex", attempt=2, outcome="failed", event=logs.JOB_FAILED)
    assert journal_fields(made) == {
        "MESSAGE": "x",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "shithubd-worker",
        "SHITHUB_LOGGER": "shithubd_worker.process.worker",
        "SHITHUB_JOB_ID": "7",
        "SHITHUB_KIND": "search.reindex",
        "SHITHUB_ATTEMPT": "2",
        "SHITHUB_OUTCOME": "failed",
        "MESSAGE_ID": logs.JOB_FAILED,
    }


@given(st.text(), st.text())
def test_the_journal_can_store_any_line(text, kind):
    for value in journal_fields(record("%s", text, kind=kind)).values():
        value.encode()


def test_every_event_is_explained_by_the_catalog_and_leads_to_a_runbook():
    catalog = (shipped.UNITS / "shithubd-worker.catalog").read_text()
    events = {
        value for name, value in vars(logs).items() if name.isupper() and re.fullmatch("[0-9a-f]{32}", str(value))
    }
    explained = dict(re.findall(r"^-- ([0-9a-f]{32})$(.*?)(?=^-- |\Z)", catalog, re.MULTILINE | re.DOTALL))
    assert set(explained) == events
    for text in explained.values():
        (name,) = re.findall(r"shithubd-worker runbook ([\w-]+)", text)
        assert name in runbook.pages()


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_control_characters_do_not_reach_a_terminal(text):
    told = TEXT.format(record("%s", text))
    assert all(c.isprintable() or c == "\n" for c in told)


@pytest.mark.parametrize("told_by", [TEXT.format, lambda made: journal_fields(made)["MESSAGE"]])
def test_the_text_of_an_exception_does_not_control_a_terminal(told_by):
    told = told_by(record("failed", error=ValueError("\x1b[2J\x07\x9b1m")))
    assert "ValueError" in told
    assert not {"\x1b", "\x07", "\x9b"} & set(told)


def test_a_neutralised_character_can_still_be_read():
    assert TEXT.format(record("a\x1b[31mb\x00c")).endswith(" INFO a\\x1b[31mb\\x00c")


@given(st.text(st.characters()), st.text(st.characters()))
def test_any_json_line_is_one_object_on_one_line(text, error):
    made = record("%s", text, error=ValueError(error), level=logging.ERROR, job_id=7, kind=text, outcome="retry")
    line = JsonFormatter().format(made)
    assert len(line.splitlines()) == 1
    assert line.isascii()
    told = json.loads(line)
    assert told["message"] == text
    assert (told["level"], told["logger"]) == ("error", "shithubd_worker.process.worker")
    assert (told["job_id"], told["kind"], told["outcome"]) == (7, text, "retry")
    assert "attempt" not in told
    assert datetime.fromisoformat(told["time"]).timestamp() == 1795373460.25
    assert told["traceback"].startswith("Traceback")


def test_json_has_no_more_members_than_it_needs():
    told = json.loads(JsonFormatter().format(record("hello")))
    assert set(told) == {"time", "level", "logger", "message"}


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        (("text", "info"), "INFO shown"),
        (("json", "info"), '"message": "shown"'),
    ],
)
def test_log_lines_of_the_chosen_level_and_above_go_to_stderr(arguments, seen):
    log_format, level = arguments
    code = (
        "import logging; from shithubd_worker.telemetry import logs;"
        f"logs.configure({log_format!r}, {level!r});"
        "logging.getLogger('x').info('shown'); logging.getLogger('x').debug('hidden')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == ""
    assert seen in done.stderr
    assert "hidden" not in done.stderr
