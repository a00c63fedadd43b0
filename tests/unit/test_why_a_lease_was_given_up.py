"""A lease that could not be renewed: the history tells apart whether the database was away, or didn't do it."""

from __future__ import annotations

import pytest
from test_answers_that_do_not_come import NOW, Scene


@pytest.mark.parametrize(
    ("unreachable", "why"), [(True, "the database is away"), (False, "the database didn't do it in time")]
)
def test_why_a_lease_could_not_be_renewed(unreachable, why):
    attempt = Scene("settle").attempt
    attempt.unreachable, attempt.asked_at = unreachable, NOW - attempt.kind.lease_timeout
    outcome = attempt.interrupted_outcome("lost", "")
    assert outcome.error == f"given up: the lease could not be renewed, {why}"
