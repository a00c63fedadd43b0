"""What a failed attempt records: the error, its causes, and where the handler stood."""

from __future__ import annotations

import sys
import threading

import pytest
from attempts import Scene

from shithubd_worker.attempt.raised import LONGEST_ERROR, MOST_OTHERS, as_text, stands_at
from shithubd_worker.cli.loading import load
from shithubd_worker.errors import ConfigError, NotNow, Permanent, RetryAfter


def caught(function):
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def full():
    raise OSError(28, "disk full")


def because_of(error):
    def function():
        try:
            full()
        except OSError as cause:
            raise error from cause

    return function


@pytest.mark.parametrize("error", [ValueError("no"), Permanent("no"), RetryAfter(5, "no"), NotNow(5, "no")])
@pytest.mark.parametrize("trace", [True, False])
def test_a_cause_is_named_with_its_place(error, trace):
    text = as_text(caught(because_of(error)), trace=trace)
    first, *_, last = text.splitlines()
    assert first == ("ValueError: no" if isinstance(error, ValueError) else "no")
    assert last == f"caused by OSError: [Errno 28] disk full at {__file__}:{full.__code__.co_firstlineno + 1} in full"


def test_an_error_names_the_one_that_was_being_handled_unless_raised_from_none():
    def clumsy():
        try:
            full()
        except OSError:
            {}["key"]

    def quiet():
        try:
            full()
        except OSError:
            raise KeyError("key") from None

    assert "caused by OSError: [Errno 28] disk full" in as_text(caught(clumsy))
    assert "caused by" not in as_text(caught(quiet))


def test_the_members_of_a_group_and_the_notes_are_shown():
    def many():
        raise ExceptionGroup("uploads", [caught(full), *(ValueError(n) for n in range(MOST_OTHERS + 1))])

    error = caught(many)
    error.add_note("while sending to mirror 3")
    lines = as_text(error).splitlines()
    assert lines[:2] == ["ExceptionGroup: uploads (6 sub-exceptions)", "while sending to mirror 3"]
    assert lines[2].startswith("one of them: OSError: [Errno 28] disk full at ")
    assert lines[-1] == "and 2 more"


def test_the_text_of_any_error_is_short_and_can_be_stored():
    class Odd(Exception):
        __notes__ = ["a note", 7, "\x00" * 9000]  # noqa: RUF012

        def __str__(self):
            raise RuntimeError

    def deep(n=40):
        try:
            deep(n - 1) if n else full()
        except Exception as error:
            raise Odd("x" * 9000) from error

    text = as_text(caught(deep), trace=True)
    assert len(text.encode()) <= LONGEST_ERROR
    assert "\x00" not in text
    assert text.startswith("Odd\na note")


def test_the_place_of_another_thread_is_shown():
    entered, leave = threading.Event(), threading.Event()

    def handler():
        entered.set()
        leave.wait()

    thread = threading.Thread(target=handler)
    thread.start()
    entered.wait()
    try:
        text = stands_at(sys._current_frames()[thread.ident])
    finally:
        leave.set()
        thread.join()
    assert f'File "{__file__}", line {handler.__code__.co_firstlineno + 2}, in handler' in text
    assert stands_at(None) == ""


def test_a_stack_begins_in_the_handler_and_not_in_the_loop():
    seen = []

    def handler(job):
        seen.append(stands_at(sys._getframe()))

    Scene(handler).run()
    (text,) = seen
    assert text.splitlines()[0] == f'  File "{__file__}", line {handler.__code__.co_firstlineno + 1}, in handler'


@pytest.mark.parametrize(("source", "line"), [("import os\n\n1 / 0\n", 3), ("def f(:\n", 1)])
def test_an_error_in_a_module_of_handlers_is_shown_with_its_file_and_line(tmp_path, monkeypatch, source, line):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "faulty_jobs.py").write_text(source)
    with pytest.raises(ConfigError) as raised:
        load(["faulty_jobs:registry"])
    assert "faulty_jobs.py" in str(raised.value)
    assert f"line {line}" in str(raised.value) or f"faulty_jobs.py:{line})" in str(raised.value)
