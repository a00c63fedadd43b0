"""The last look at the clock, right before the handler: a job that took too long to get there does not start."""

from __future__ import annotations

import math
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.model import Batch, How, Lease
from shithubd_worker.registry import Registry
from shithubd_worker.settings.config import Config
from shithubd_worker.timing import START_AGAIN_WITHIN_SECONDS, START_WITHIN_SECONDS


@given(
    st.sampled_from(["made", "payload", "alarm"]),
    st.floats(0, 2, allow_subnormal=False),
    st.booleans(),
)
def test_a_slow_step_before_the_handler_keeps_it_from_starting(slow_step, seconds, again):
    """Any of the steps may be the slow one: the process may have stood still in it."""
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
