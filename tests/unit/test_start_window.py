"""What a barrier relies on: constants in Python and in SQL, and a look at the clock that comes last."""

from __future__ import annotations

import math
import re
from pathlib import Path
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.model import Batch, How, Lease
from shithubd_worker.registry import Registry
from shithubd_worker.settings.config import Config
from shithubd_worker.timing import (
    ASK_FOR_SECONDS,
    GIVE_BACK_AFTER_SECONDS,
    START_AGAIN_WITHIN_SECONDS,
    START_WITHIN_SECONDS,
)

ROOT = Path(__file__).parents[2]
SAID = re.compile(r"interval '(\d+) milliseconds'")


def barrier_seconds():
    (waits,) = SAID.findall((ROOT / "sql/functions/49_barrier_v1.sql").read_text())
    return int(waits) / 1000


def test_the_barrier_waits_for_twice_as_long_as_a_lease_may_take_to_start():
    assert START_WITHIN_SECONDS < START_AGAIN_WITHIN_SECONDS
    assert barrier_seconds() >= START_AGAIN_WITHIN_SECONDS * 2
    assert barrier_seconds() >= START_WITHIN_SECONDS * 4
    assert barrier_seconds() < 1.0  # an operator waits for it


def test_what_may_still_start_by_itself_is_not_given_back_by_the_control_thread():
    assert START_AGAIN_WITHIN_SECONDS < GIVE_BACK_AFTER_SECONDS < 1.0  # the shortest lease


def test_half_of_the_jobs_that_are_looked_at_again_start_in_time_whatever_they_take():
    assert ASK_FOR_SECONDS * 2 <= START_WITHIN_SECONDS


def test_the_architecture_names_the_same_times():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    assert (
        f"start within {START_WITHIN_SECONDS:g} of the lease query, {START_AGAIN_WITHIN_SECONDS:g} of the second look"
        f"  <  {barrier_seconds():g}, what barrier_v1 waits for"
    ) in text
    assert f"given back by the control thread after {GIVE_BACK_AFTER_SECONDS:g}" in text


@given(
    st.sampled_from(["made", "payload", "alarm"]),
    st.floats(0, 2, allow_subnormal=False),
    st.booleans(),
)
def test_a_step_before_the_handler_that_took_too_long_keeps_it_from_starting(slow_step, seconds, again):
    """Whichever step it was, as if the process had stood still in it."""
    clock = SimpleNamespace(now=1000.0)
    started = []

    def stand_still(step):
        if step == slow_step:
            clock.now += seconds

    registry = Registry()
    registry.handler("k")(lambda job: started.append(clock.now))
    lease = Lease(1, "k", "{}", 1, None, 0, 0, 0.0, Batch("t", clock.now, 0.0, again))
    attempt = Attempt(
        registry["k"],
        lease,
        config=Config(),
        database=SimpleNamespace(schema="public", broken=False),
        stop=SimpleNamespace(release_at=math.inf),
        alarm=lambda at: stand_still("alarm"),
        clock=lambda: clock.now,
    )
    stand_still("made")
    assert attempt.prepare() is None
    stand_still("payload")
    result = attempt.run()
    within = START_AGAIN_WITHIN_SECONDS if again else START_WITHIN_SECONDS
    assert (result is None) == (not started) == (clock.now - lease.sent_at > within)
    assert result is None or result.outcome.how is How.OK
    assert attempt.shielded  # no interrupt may fall into what follows
    assert attempt.over
