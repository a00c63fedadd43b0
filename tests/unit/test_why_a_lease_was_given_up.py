"""A lease that could not be renewed: the history shows whether the database was away, or did not renew it."""

from __future__ import annotations

import pytest
from test_answers_that_do_not_come import NOW, Scene

from shithubd_worker.attempt.attempt import Attempt


@pytest.mark.parametrize(
    ("unreachable", "why"), [(True, "the database is away"), (False, "the database did not renew it in time")]
)
def test_the_history_says_why_a_lease_could_not_be_renewed(unreachable, why):
    attempt = Scene("settle").attempt
    attempt.unreachable, attempt.asked_at = unreachable, NOW - attempt.kind.lease_timeout
    outcome = attempt.interrupted_outcome("lost", "")
    assert outcome.error == f"given up: the lease could not be renewed, because {why}"


def test_an_answer_to_the_control_thread_at_that_moment_does_not_change_the_reason():
    """The control thread clears its waiting mark while the main thread reads how long it has waited."""
    asked = [NOW - 1000.0]

    class Answered(Attempt):
        __slots__ = ()
        asked_at = property(lambda _attempt: asked.pop() if asked else None, lambda _attempt, _at: None)

    scene = Scene("settle").attempt
    scene.__class__ = Answered
    assert scene.interrupted_outcome("lost", "").error.endswith("the database did not renew it in time")
