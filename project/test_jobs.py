"""The tests of the handlers. A handler is a plain function, so these tests need no database."""

import logging
from types import SimpleNamespace
from typing import cast

import pytest
from shithubd_worker import Job, Permanent

from jobs import hello, registry

# What these handlers use of a job.
job = cast(Job, SimpleNamespace(log=logging.getLogger("jobs")))


def test_it_greets_as_often_as_the_payload_says(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    hello(job, name="Ada", times=2)
    assert caplog.messages == ["hello, Ada", "hello, Ada"]


def test_a_job_without_a_name_fails_at_once() -> None:
    with pytest.raises(Permanent):
        hello(job, name="")


def test_the_worker_finds_the_handler() -> None:
    assert list(registry) == ["hello"]
