"""A minute of torture on Debian's PostgreSQL; twenty on each server in `make test-long`. By hand: python -m torture."""

from __future__ import annotations

import random

import pytest

from torture.schedule import LANES, SORTS, draw
from torture.session import torture
from torture.stage import Plan

pytestmark = pytest.mark.torture


def clean(seconds: float, postgres: str) -> None:
    """Run with a new seed, which the output names."""
    outcome = torture(Plan(seconds, random.SystemRandom().randrange(1_000_000), postgres), print)
    print(outcome.text)
    assert not outcome.verdict.violations, f"\n{outcome.text}"


@pytest.mark.timeout(900)
def test_a_minute_of_torture_breaks_no_promise():
    clean(60, "debian")


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("postgres", ["debian", "embedded"])
def test_twenty_minutes_of_torture_break_no_promise(postgres):
    clean(1200, postgres)


def test_a_seed_draws_the_same_faults_again_and_another_seed_others():
    for lane in LANES:
        first, again, other = (
            [fault for fault, _ in zip(draw(seed, lane, SORTS, 5), range(50), strict=False)] for seed in (1, 1, 2)
        )
        assert first == again
        assert first != other


def test_only_the_chosen_faults_are_drawn():
    drawn = {fault.sort for fault, _ in zip(draw(1, "processes", ["kill", "cut"], 5), range(50), strict=False)}
    assert drawn == {"kill"}
    assert not list(draw(1, "database", ["kill", "cut"], 5))
