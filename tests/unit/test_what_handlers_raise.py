"""The outcome of everything that a handler may raise."""

from __future__ import annotations

import pytest
from attempts import A_YEAR, Scene, raising
from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker.attempt.raised import LONGEST_ERROR
from shithubd_worker.errors import Interrupted, LeaseLost, Permanent, RetryAfter
from shithubd_worker.model import How
from shithubd_worker.registry import Registry


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("even this")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("bad luck"), "ValueError: bad luck"),
        (KeyError("key"), "KeyError: 'key'"),
        (SystemExit(3), "SystemExit: 3"),
        (SystemExit(), "SystemExit: "),
        (KeyboardInterrupt(), "KeyboardInterrupt: "),
        (GeneratorExit(), "GeneratorExit: "),
        (StopIteration(1), "StopIteration: 1"),
        (MemoryError(), "MemoryError: "),
        (BaseExceptionGroup("two", [ValueError(1), SystemExit(2)]), "BaseExceptionGroup: two"),
        (AssertionError(), "AssertionError: "),
        (Unspeakable(), "Unspeakable"),
        (Interrupted("not by us"), "Interrupted: not by us"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_any_other_exception_is_a_failed_attempt_with_its_stack(error, said):
    outcome = Scene(raising(error), backoff=100).run()
    assert outcome.how is How.RETRY
    assert outcome.error.startswith(said)
    assert "attempts.py" in outcome.error
    assert "in handler" in outcome.error
    assert "attempt.py" not in outcome.error
    assert 80 <= outcome.delay_seconds <= 120


def test_recursion_without_end_is_a_failed_attempt():
    def handler(job):
        handler(job)

    outcome = Scene(handler).run()
    assert outcome.how is How.RETRY
    assert outcome.error.startswith("RecursionError")


def test_permanent_fails_the_job_with_any_number_of_attempts_left():
    outcome = Scene(raising(Permanent("repository was deleted"))).run()
    assert (outcome.how, outcome.error) == (How.FAILED, "repository was deleted")


def test_retry_after_takes_the_place_of_the_backoff_and_is_not_jittered():
    outcome = Scene(raising(RetryAfter(5000, "slow down")), backoff=1).run()
    assert (outcome.how, outcome.delay_seconds, outcome.error) == (How.RETRY, 5000, "slow down")
    assert Scene(raising(RetryAfter(0))).run().delay_seconds == 0
    assert Scene(raising(RetryAfter(-5))).run().delay_seconds == 0
    assert Scene(raising(RetryAfter(1e300))).run().delay_seconds == A_YEAR
    assert "12 s" in Scene(raising(RetryAfter(12))).run().error


@pytest.mark.parametrize("error", [ValueError("no"), RetryAfter(1, "no"), SystemExit("no")])
@pytest.mark.parametrize(
    ("limits", "outcome"),
    [
        ({"attempt": 2, "kinds": 3}, How.RETRY),
        ({"attempt": 3, "kinds": 3}, How.FAILED),
        ({"attempt": 4, "kinds": 3}, How.FAILED),
        ({"attempt": 3, "kinds": 3, "jobs": 4}, How.RETRY),
        ({"attempt": 1, "kinds": 3, "jobs": 1}, How.FAILED),
        ({"attempt": 1, "kinds": 3, "jobs": -5}, How.FAILED),
    ],
)
def test_a_job_fails_after_its_own_attempts_or_those_of_its_kind(error, limits, outcome):
    registry = Registry()
    registry.handler("some.kind", max_attempts=limits["kinds"])(raising(error))
    scene = Scene(attempt=limits["attempt"], max_attempts=limits.get("jobs"))
    scene.attempt.kind = registry["some.kind"]
    assert scene.run().how is outcome


@given(st.floats(allow_nan=True) | st.integers(), st.integers(1, 5))
def test_any_number_from_a_backoff_becomes_a_delay_for_the_database(seconds, attempt):
    outcome = Scene(raising(ValueError()), backoff=lambda n: seconds, attempt=attempt).run()
    assert outcome.how in (How.RETRY, How.FAILED)
    assert 0 <= outcome.delay_seconds <= A_YEAR


@pytest.mark.parametrize("backoff", [lambda n: 1 / 0, lambda n: "soon", lambda n: None, lambda: 1])
def test_a_backoff_that_raises_fails_the_job_and_says_so(backoff):
    outcome = Scene(raising(ValueError("bad luck")), backoff=backoff).run()
    assert outcome.how is How.FAILED
    assert "bad luck" in outcome.error
    assert "the kind's backoff raised" in outcome.error


@pytest.mark.parametrize("how", [RuntimeError, Permanent])
def test_an_error_is_text_that_postgresql_can_store(how):
    outcome = Scene(raising(how("\x00 \ud800 " + "ü🚀" * 1_000_000))).run()
    assert len(outcome.error.encode()) <= LONGEST_ERROR
    assert len(outcome.error.encode()) > LONGEST_ERROR - 8
    assert "\x00" not in outcome.error
    assert "\\0 \\ud800 ü🚀" in outcome.error


@given(st.text(st.characters(), max_size=300))
def test_any_text_can_be_stored(text):
    outcome = Scene(raising(Permanent(text))).run()
    assert "\x00" not in outcome.error
    assert outcome.error.encode().decode() == outcome.error


def test_an_error_with_a_broken_connection_lets_the_worker_ask_whose_fault_it_is():
    scene = Scene(raising(ValueError("server closed the connection")))
    scene.database.broken = True
    outcome = scene.run()
    assert outcome.how is How.RETRY
    assert "server closed the connection" in outcome.error
    assert scene.result.if_away.how is How.RELEASED
    assert scene.result.if_away.error.startswith(
        "released: the database went away during the run: ValueError: server closed"
    )


def test_a_handler_that_finds_its_lease_lost_leaves_the_report_to_the_settle():
    outcome = Scene(raising(LeaseLost("leased again"))).run()
    assert (outcome.how, outcome.error) == (How.RELEASED, "LeaseLost: leased again")
