"""What a ramp may be, and how commands write it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from unittest.mock import MagicMock

import pytest
from hypothesis import given
from hypothesis import strategies as some

from shithubd_worker.cli import ramping
from shithubd_worker.cli.common import Duration
from shithubd_worker.cli.resume_kind import Rate, Share, Steps, _begun
from shithubd_worker.ramps import Ramp, checked

NONE = {"canary": None, "steps": None, "every": None, "rate": None, "stop_at": None}
FAULTS = {
    "canary must be 1 to 1000": [{"canary": 0}, {"canary": 1001}],
    "each step of ramp must be 1 to 100": [{"steps": [0]}, {"steps": [10, 101]}],
    "ramp must have 1 to 100 steps, not 0": [{"steps": []}],
    "and 10 comes after 10": [{"steps": [10, 10]}],
    "and 5 comes after 10": [{"steps": [10, 5, 100]}],
    "every must be 1 second to 10 days, not 0.5 s": [{"steps": [10], "every": 0.5}],
    "every must be 1 second to 10 days": [{"steps": [10], "every": timedelta(days=11)}],
    "every says how long each step lasts: it needs ramp": [{"every": 60}, {"every": 60, "canary": 1}],
    "rate must be above 0": [{"rate": rate} for rate in (0, -1, math.nan, math.inf, 1_000_001, 10**400)],
    "stop_at must be above 0": [{"rate": 1, "stop_at": part} for part in (0, -0.1, 1.1, 20, math.nan)],
    "stop_at needs ramp or rate": [{"stop_at": 0.2}, {"stop_at": 0.2, "canary": 1}],
}
WRONG_TYPES = [
    *({"canary": canary} for canary in ("1", True, 1.5)),
    *({"steps": steps} for steps in ("10,50", b"10", 10, [10.5], ["10"], [True])),
    *({"steps": [10], "every": every} for every in ("2m", True)),
    *({"rate": rate} for rate in ("50/s", True, [1])),
    *({"rate": 1, "stop_at": part} for part in ("20%", True)),
]


@pytest.mark.parametrize(("told", "wrong"), [(told, each) for told, several in FAULTS.items() for each in several])
def test_a_ramp_that_cannot_be_is_refused_with_the_name_of_the_argument(told, wrong):
    with pytest.raises(ValueError, match=told):
        checked(**(NONE | wrong))


@pytest.mark.parametrize("wrong", WRONG_TYPES)
def test_an_argument_of_another_type_is_a_type_error(wrong):
    with pytest.raises(TypeError, match="must be"):
        checked(**(NONE | wrong))


def test_what_is_not_given_has_its_default_and_nothing_is_no_ramp():
    assert checked(**NONE) is None
    assert checked(**(NONE | {"steps": (10, 100)})) == Ramp(None, [10, 100], 120, None, 0.2)
    assert checked(**(NONE | {"canary": 1})) == Ramp(1, None, None, None, 0.2)
    assert checked(**(NONE | {"rate": 5, "stop_at": 1})) == Ramp(None, None, None, 5, 1)


TYPES = {"--ramp": Steps(), "--every": Duration(), "--rate": Rate(), "--stop-at": Share()}


@given(
    some.none() | some.integers(1, 1000),
    some.none() | some.lists(some.integers(1, 100), min_size=1, unique=True).map(sorted),
    some.floats(1, 864_000) | some.sampled_from([60, 90, 120, 3600, 86400]),
    some.none() | some.floats(1e-5, 1e6),
    some.floats(0.001, 1),
)
def test_the_options_that_a_command_prints_set_the_same_ramp(canary, steps, every, rate, stop_at):
    if canary is steps is rate is None:
        return
    ramp = checked(canary, steps, None if steps is None else every, rate, stop_at if steps or rate else None)
    words = iter(ramping.options(ramp._asdict()))
    read = {
        flag: TYPES[flag].convert(word, None, None) if flag in TYPES else int(word)
        for flag, word in zip(words, words, strict=True)
    }
    again = checked(*(read.get(flag) for flag in ("--canary", "--ramp", "--every", "--rate", "--stop-at")))
    assert again._replace(every=None, rate=None, stop_at=0) == ramp._replace(every=None, rate=None, stop_at=0)
    for one, other in zip(again[2:], ramp[2:], strict=True):
        assert one == other if other is None else one == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize(
    ("rate", "told"), [(50, "50/s"), (1, "1/s"), (0.5, "30/m"), (1 / 60, "1/m"), (1 / 3600, "1/h"), (2.5, "2.5/s")]
)
def test_a_rate_is_told_in_the_unit_in_which_it_is_at_least_one(rate, told):
    assert ramping.rate(rate) == told


FRESH = {"ok": 0, "bad": 0} | dict.fromkeys(("canary", "steps", "every", "rate", "percent", "step", "ends_in"))
STEPS = {"state": "steps", "steps": [10, 50, 100], "every": 120}


@pytest.mark.parametrize(
    ("ramp", "told"),
    [
        (
            STEPS | {"step": 2, "percent": 50, "next_in": 70.0, "ends_in": 190.0, "ok": 120, "bad": 3},
            "step 2 of 3 (50 % of the workers), next step in 70 s; 120 ok and 3 not ok",
        ),
        (
            STEPS | {"step": 3, "percent": 100, "next_in": 9.0, "ends_in": 9.1},
            "step 3 of 3 (100 % of the workers), the pause ends in 9 s",
        ),
        (
            STEPS | {"step": 1, "percent": 10, "next_in": 3600.0, "ends_in": 5.0, "rate": 2},
            "step 1 of 3 (10 % of the workers), at most 2/s, the pause ends in 5 s",
        ),
        (
            STEPS | {"state": "canary", "canary": 1},
            "the canary waits for 1 job to end ok, then 10, 50, 100 % of the workers for 2m each",
        ),
        (
            {"state": "canary", "canary": 3, "ok": 1},
            "the canary waits for 2 jobs to end ok, then the pause ends; 1 ok and 0 not ok",
        ),
        (
            {"state": "canary", "canary": 1, "ends_in": 60.0},
            "the canary waits for 1 job to end ok, the pause ends in 60 s at the latest",
        ),
        ({"state": "rate", "rate": 50, "ends_in": 7200.0}, "at most 50/s, the pause ends in 2 h"),
        ({"state": "rate", "rate": 50, "ok": 1200}, "at most 50/s; 1,200 ok and 0 not ok"),
        (
            STEPS | {"state": "over", "ok": 1, "ends_in": 0.0},
            "over: the next worker that is between two jobs ends the pause; 1 ok and 0 not ok",
        ),
        (
            {"state": "stopped", "stopped": "3 of 10", "stopped_at": "2026-11-27T12:00:00.5+00:00", "bad": 3},
            "STOPPED since 2026-11-27 12:00:00: 3 of 10",
        ),
    ],
)
def test_a_ramp_is_told_in_one_line(ramp, told):
    assert ramping.now(FRESH | ramp) == told


def test_a_command_whose_ramp_has_stopped_already_promises_no_steps_and_no_end():
    stopped = {"state": "stopped", "stopped": "3 of 10", "stopped_at": "2026-11-27T12:00:00.5+00:00", "canary": 2}
    told = [*_begun("k", MagicMock(until=datetime.now(UTC)), None, FRESH | STEPS | stopped)]
    assert told[2:] == ["now: STOPPED since 2026-11-27 12:00:00: 3 of 10"]


def test_a_canary_alone_says_that_all_others_follow_at_once():
    assert ramping.planned(FRESH | {"canary": 1}) == "1 job first, then all"
    assert ramping.planned(FRESH | {"canary": 1, "rate": 5}) == "1 job first, at most 5/s"
