"""Networks are cut, and no run of a job begins beside another one. Two hundred times in `make test-long`. By hand:
python -m partitions."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import dice

from partitions.network import why_not
from partitions.session import Outcome, cut_off
from partitions.trial import Trial


def kept(outcome: Outcome) -> Outcome:
    print(outcome.text)  # shown for a failed test
    return outcome


def swept(outcome: Outcome) -> list[Trial]:
    return [trial for trial in outcome.trials if trial.must_recover]


def test_no_promise_is_broken_while_networks_are_cut_for_longer_than_the_threshold(tmp_path: Path) -> None:
    """Each sort of cut once, two stops, all at once. It is one test, so that no two fleets stand beside each other."""
    if reason := why_not():
        pytest.skip(reason)
    outcome = kept(cut_off(tmp_path, 8, 2, 14, 10, dice(7).random(), longest=2.2))
    assert not outcome.broken, outcome.text
    assert [trial for trial in swept(outcome) if trial.sort != "SIGSTOP" and trial.recovery]


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_two_hundred_cuts_break_no_promise(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    outcome = kept(cut_off(tmp_path, 200, 10, 26, 12, dice(8).random()))
    assert len(swept(outcome)) > 50
    assert not outcome.broken, outcome.text
