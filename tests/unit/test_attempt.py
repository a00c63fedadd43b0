"""One run of one handler: what comes of anything that it may raise, when it must end, and its one transaction."""

from __future__ import annotations

import json
import logging
import math
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace
from uuid import uuid4

import pytest
from conftest import eventually
from hypothesis import given
from hypothesis import strategies as st
from psycopg.pq import TransactionStatus

from shithubd_worker.attempt.attempt import Attempt
from shithubd_worker.attempt.raised import LONGEST_ERROR
from shithubd_worker.errors import Interrupted, LeaseLost, Permanent, RetryAfter
from shithubd_worker.host.signals import Alarm
from shithubd_worker.model import Batch, How, Lease
from shithubd_worker.registry import Registry
from shithubd_worker.settings.config import Config
from shithubd_worker.timing import INTERRUPT_AGAIN_SECONDS

NOW = 5000.0
A_YEAR = 365 * 86400


class Clock:
    """The monotonic clock, moved by the test."""

    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


class HandlersDatabase:
    """What an attempt needs of the database: whether the lease stands, and what was written when it committed."""

    def __init__(self):
        self.schema = "public"
        self.info = SimpleNamespace(transaction_status=TransactionStatus.IDLE)
        self.broken = False
        self.leased = True
        self.commit_fails = None
        self.log = []

    @contextmanager
    def transaction(self):
        self.log.append("begin")
        try:
            yield
        except BaseException:
            self.log.append("rollback")
            raise
        if self.commit_fails:
            raise self.commit_fails
        self.log.append("commit")

    def lend(self, answer_by):
        self.answer_by = answer_by
        return self

    def settle(self, lease, outcome, retention):
        self.log.append(f"settle {lease.id} {outcome.how} {retention}")
        return self.leased


class Scene:
    """One attempt with everything around it."""

    def __init__(self, handler=lambda job: None, payload="{}", *, attempt=1, max_attempts=None, crashes=0, **limits):
        registry = Registry()
        registry.handler("some.kind", **limits)(handler)
        self.clock = Clock()
        self.database = HandlersDatabase()
        self.stop = SimpleNamespace(release_at=math.inf)
        self.alarms = []
        kind = registry["some.kind"]
        lease = Lease(
            id=7,
            kind="some.kind",
            payload=payload,
            attempt=attempt,
            max_attempts=max_attempts,
            crashes=crashes,
            priority=0,
            run_at=0.0,
            batch=Batch(str(uuid4()), NOW, 0.0),
        )
        self.attempt = Attempt(
            kind,
            lease,
            config=Config(),
            database=self.database,
            stop=self.stop,
            alarm=lambda at: self.alarms.append(round(at - self.clock.now, 6)),
            clock=self.clock,
        )

    def run(self):
        """Prepare and run; the outcome."""
        return self.attempt.prepare() or self.attempt.run()


def raising(error):
    def handler(job):
        raise error

    return handler


# What the payload must be.


def test_the_members_of_the_payload_are_the_handlers_arguments():
    seen = {}

    def handler(job, repo, ref="HEAD", **more):
        seen.update(repo=repo, ref=ref, more=more, job=job)

    outcome = Scene(handler, '{"repo": "a.git", "depth": 3}', attempt=2).run()
    assert outcome.how is How.OK
    assert (seen["repo"], seen["ref"], seen["more"]) == ("a.git", "HEAD", {"depth": 3})
    assert (seen["job"].id, seen["job"].kind, seen["job"].attempt) == (7, "some.kind", 2)
    assert (seen["job"].schema, seen["job"].config) == ("public", Config())


@pytest.mark.parametrize(
    "payload",
    [
        "{}",
        '{"repo": 1, "unknown": 2}',
        '{"repo": 1, "job": 2}',
        "[]",
        "7",
        "{",
        '{"repo": ' + "9" * 5000 + "}",
        '{"repo": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
    ids=["missing", "unknown", "job", "list", "number", "broken", "digits", "nested"],
)
def test_a_payload_that_does_not_fit_is_poison_and_the_handler_never_runs(payload):
    ran = []
    scene = Scene(lambda job, repo: ran.append(job), payload)
    outcome = scene.run()
    assert outcome.how is How.POISON
    assert outcome.error.startswith("the payload doesn't fit the handler: ")
    assert not ran
    assert scene.attempt.over


def test_a_member_for_a_positional_only_argument_is_poison():
    def handler(job, repo, /):
        pytest.fail("ran")

    assert Scene(handler, '{"repo": 1}').run().how is How.POISON


# What a handler may raise.


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
def test_whatever_else_it_raises_is_a_failed_attempt_with_its_stack(error, said):
    outcome = Scene(raising(error), backoff=100).run()
    assert outcome.how is How.RETRY
    assert outcome.error.startswith(said)
    assert "test_attempt.py" in outcome.error
    assert "in handler" in outcome.error
    assert "attempt.py" not in outcome.error.replace("test_attempt.py", "")
    assert 80 <= outcome.delay_seconds <= 120


def test_recursion_without_end_is_a_failed_attempt():
    def handler(job):
        handler(job)

    outcome = Scene(handler).run()
    assert outcome.how is How.RETRY
    assert outcome.error.startswith("RecursionError")


def test_permanent_fails_the_job_whatever_attempts_are_left():
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
def test_the_attempts_of_the_job_or_else_of_its_kind_are_used_up(error, limits, outcome):
    registry = Registry()
    registry.handler("some.kind", max_attempts=limits["kinds"])(raising(error))
    scene = Scene(attempt=limits["attempt"], max_attempts=limits.get("jobs"))
    scene.attempt.kind = registry["some.kind"]
    assert scene.run().how is outcome


@given(st.floats(allow_nan=True) | st.integers(), st.integers(1, 5))
def test_no_number_from_a_backoff_is_too_odd_for_the_database(seconds, attempt):
    outcome = Scene(raising(ValueError()), backoff=lambda n: seconds, attempt=attempt).run()
    assert outcome.how in (How.RETRY, How.FAILED)
    assert 0 <= outcome.delay_seconds <= A_YEAR


@pytest.mark.parametrize("backoff", [lambda n: 1 / 0, lambda n: "soon", lambda n: None, lambda: 1])
def test_a_backoff_that_fails_fails_the_job_and_says_so(backoff):
    outcome = Scene(raising(ValueError("bad luck")), backoff=backoff).run()
    assert outcome.how is How.FAILED
    assert "bad luck" in outcome.error
    assert "its backoff raised" in outcome.error


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


def test_a_failure_while_the_handlers_connection_is_broken_leaves_the_worker_to_ask_whose_fault_it_is():
    scene = Scene(raising(ValueError("server closed the connection")))
    scene.database.broken = True
    outcome = scene.run()
    assert outcome.how is How.RETRY
    assert scene.attempt.connection_broke
    assert "server closed the connection" in outcome.error


def test_a_handler_that_finds_its_lease_lost_says_so():
    assert Scene(raising(LeaseLost("leased again"))).run().how is How.LEASE_LOST


# When it must end.


def test_the_alarm_is_set_to_the_first_deadline_and_taken_back_at_the_end():
    scene = Scene(lease_timeout=300, max_runtime=40)
    assert scene.run().how is How.OK
    assert scene.alarms == [40]
    scene = Scene(lease_timeout=300, max_runtime=3600)
    scene.run()
    assert scene.alarms == [290]  # the lease, less the time to give it up in
    scene = Scene(lease_timeout=300)
    scene.stop.release_at = NOW + 5
    scene.run()
    assert scene.alarms == [5]


@pytest.mark.parametrize(("timeout", "margin"), [(1, 0.2), (10, 2), (50, 10), (300, 10), (86400, 10)])
def test_a_lease_is_given_up_a_fifth_before_its_end_at_most_ten_seconds(timeout, margin):
    registry = Registry()
    registry.handler("k", lease_timeout=timeout)(lambda job: None)
    assert registry["k"].margin == pytest.approx(margin)


def interrupted_at(seconds, scene_of=lambda scene: None, **limits):
    """A handler during whose run the clock moves on, and then the alarm rings."""

    def handler(job):
        scene.clock.now = NOW + seconds
        scene.attempt.interrupt_if_due()

    scene = Scene(handler, **limits)
    scene_of(scene)
    return scene, scene.run()


def test_the_end_of_max_runtime_is_a_failed_attempt():
    scene, outcome = interrupted_at(40, lease_timeout=300, max_runtime=40, backoff=100)
    assert outcome.how is How.RETRY
    reason, *stack = outcome.error.splitlines()
    assert reason == "interrupted after 40.0 s: longer than max_runtime (40 s)"
    assert stack[-2].endswith("in handler")  # where it stood
    assert scene.alarms == [40, INTERRUPT_AGAIN_SECONDS]
    _, outcome = interrupted_at(40, max_runtime=40, max_attempts=1)
    assert outcome.how is How.FAILED


def test_an_alarm_that_rings_too_early_is_set_again():
    scene, outcome = interrupted_at(39, lease_timeout=300, max_runtime=40)
    assert outcome.how is How.OK
    assert scene.alarms == [40, 1]


def test_a_stop_releases_the_job():
    def stop(scene):
        scene.stop.release_at = NOW + 25

    _, outcome = interrupted_at(25, stop, attempt=10)
    assert outcome.how is How.RELEASED


def test_a_lease_that_was_refused_is_lost_whatever_else_is_due():
    def lost(scene):
        scene.attempt.lost = True
        scene.stop.release_at = NOW

    _, outcome = interrupted_at(1, lost)
    assert outcome.how is How.LEASE_LOST


def test_a_lease_that_could_not_be_renewed_is_given_up_before_others_can_take_it():
    def away(scene):
        scene.attempt.unreachable = True

    scene, outcome = interrupted_at(290, away, lease_timeout=300, max_runtime=3600)
    assert outcome.how is How.LEASE_LOST
    assert scene.clock.now < NOW + 300


def test_a_renewal_moves_the_end():
    def renewed(scene):
        scene.attempt.lease_deadline = NOW + 600

    scene, outcome = interrupted_at(400, renewed, lease_timeout=300, max_runtime=3600)
    assert outcome.how is How.OK
    assert scene.alarms == [590, 190]


def test_extend_moves_the_end_of_max_runtime_and_sets_the_alarm():
    def handler(job):
        scene.clock.now = NOW + 30
        job.extend(100)
        scene.clock.now = NOW + 129
        scene.attempt.interrupt_if_due()
        job.extend()
        scene.clock.now = NOW + 168
        scene.attempt.interrupt_if_due()
        scene.clock.now = NOW + 169
        scene.attempt.interrupt_if_due()

    scene = Scene(handler, lease_timeout=3600, max_runtime=40)
    outcome = scene.run()
    assert outcome.error.startswith("interrupted after 169.0 s")
    assert scene.alarms == [40, 100, 1, 40, 1, INTERRUPT_AGAIN_SECONDS]


def test_a_handler_that_swallows_its_interrupt_is_interrupted_again_and_may_still_succeed():
    swallowed = []

    def handler(job):
        scene.clock.now = NOW + 100
        for _ in range(3):
            try:
                scene.attempt.interrupt_if_due()
            except Interrupted as error:
                swallowed.append(str(error))

    scene = Scene(handler, max_runtime=40)
    assert scene.run().how is How.OK
    assert swallowed == ["runtime"] * 3


def test_nothing_interrupts_what_is_no_handlers_frame():
    scene = Scene()
    scene.clock.now = NOW + 10_000
    scene.attempt.interrupt_if_due()  # not started
    scene.clock.now = NOW
    assert scene.run().how is How.OK
    scene.attempt.interrupt_if_due()  # over: the settle is under way
    assert scene.attempt.shielded
    assert scene.attempt.over


def test_a_real_alarm_ends_a_real_sleep():
    """With the process's own clock, timer and signal, as the worker wires them."""
    registry = Registry()
    registry.handler("some.kind", max_runtime=1, backoff=1000)(lambda job: time.sleep(3600))
    lease = Lease(1, "some.kind", "{}", 1, None, 0, 0, 0.0, Batch("t", time.monotonic() + 60, 0.0))
    alarm = Alarm()
    attempt = Attempt(
        registry["some.kind"],
        lease,
        config=Config(),
        database=HandlersDatabase(),
        stop=SimpleNamespace(release_at=math.inf),
        alarm=alarm,
    )
    attempt.runtime_deadline = attempt.started_at + 0.05
    before = signal.signal(signal.SIGALRM, lambda number, frame: (alarm.rang(), attempt.interrupt_if_due()))
    try:
        outcome = attempt.prepare() or attempt.run()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert outcome.how is How.RETRY
    assert "interrupted after" in outcome.error


# The transaction that ends the job.


def test_a_transaction_settles_at_its_end_and_commits_both():
    def handler(job):
        with job.transaction() as connection:
            connection.log.append("write")
        assert scene.attempt.settled

    scene = Scene(handler, retention="90d")
    assert scene.run().how is How.OK
    assert scene.database.log == ["begin", "write", "settle 7 ok 90d", "commit"]


def test_what_is_raised_inside_rolls_back_and_is_the_outcome():
    def handler(job):
        with job.transaction():
            raise ValueError("inside")

    scene = Scene(handler)
    outcome = scene.run()
    assert (outcome.how, scene.attempt.settled, scene.attempt.unknown) == (How.RETRY, False, False)
    assert scene.database.log == ["begin", "rollback"]


@pytest.mark.parametrize("error", [ValueError("after"), Permanent("after"), SystemExit(1)])
def test_what_is_raised_afterwards_changes_nothing(error):
    def handler(job):
        with job.transaction():
            pass
        raise error

    scene = Scene(handler)
    assert scene.run().how is How.OK
    assert scene.attempt.settled


def test_it_ends_the_job_only_once():
    def handler(job):
        with job.transaction():
            pass
        with pytest.raises(RuntimeError, match="only once"), job.transaction():
            pass

    scene = Scene(handler)
    assert scene.run().how is How.OK
    assert scene.database.log.count("begin") == 1


def test_a_transaction_that_was_rolled_back_may_be_tried_again():
    def handler(job):
        with pytest.raises(ValueError, match="inside"), job.transaction():
            raise ValueError("inside")
        with job.transaction():
            pass

    scene = Scene(handler)
    assert scene.run().how is How.OK
    assert scene.database.log[-1] == "commit"
    assert scene.attempt.settled


def test_a_lost_lease_rolls_the_handlers_writes_back():
    def handler(job):
        with job.transaction() as connection:
            connection.log.append("write")

    scene = Scene(handler)
    scene.database.leased = False
    assert scene.run().how is How.LEASE_LOST
    assert scene.database.log == ["begin", "write", "settle 7 ok 7d", "rollback"]
    assert not scene.attempt.settled


def test_a_commit_without_an_answer_is_neither_done_nor_undone():
    def handler(job):
        with job.transaction():
            pass

    scene = Scene(handler)
    scene.database.commit_fails = ConnectionError("gone")
    scene.database.broken = True
    assert scene.run().how is How.RETRY
    assert scene.attempt.connection_broke
    assert (scene.attempt.settled, scene.attempt.unknown) == (False, True)


def test_no_interrupt_falls_between_the_settle_and_the_answer_to_the_commit():
    def handler(job):
        with job.transaction():
            assert not scene.attempt.shielded
            scene.clock.now = NOW + 10_000
        scene.attempt.interrupt_if_due()

    scene = Scene(handler, max_runtime=40)
    settle = scene.database.settle

    def settle_while_the_alarm_rings(*arguments):
        assert scene.attempt.shielded
        scene.attempt.interrupt_if_due()
        return settle(*arguments)

    scene.database.settle = settle_while_the_alarm_rings
    assert scene.run().how is How.OK
    assert scene.database.log[-1] == "commit"


def test_an_interrupt_inside_the_block_rolls_back_and_is_the_outcome():
    def handler(job):
        with job.transaction():
            scene.clock.now = NOW + 40
            scene.attempt.interrupt_if_due()

    scene = Scene(handler, max_runtime=40)
    outcome = scene.run()
    assert "longer than max_runtime" in outcome.error
    assert scene.database.log == ["begin", "rollback"]


# Its children, its log.


def test_what_a_handler_started_is_gone_when_it_ends():
    started = []

    def handler(job):
        started.append(job.popen(["sleep", "3600"]))
        started.append(job.popen(["sh", "-c", "sleep 3600 & echo $!; wait"], stdout=subprocess.PIPE))
        started.append(int(started[1].stdout.readline()))
        raise ValueError("and nobody waits for them")

    assert Scene(handler).run().how is How.RETRY
    first, shell, grandchild = started
    for child in (first, shell):
        eventually(lambda c=child: c.poll() is not None, "the child's end")
        assert child.returncode == -signal.SIGKILL
    eventually(lambda: _gone(grandchild), "the grandchild's end")


def _gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_child_sees_none_of_the_workers_secrets(monkeypatch):
    hidden = {
        "PGPASSWORD": "1",
        "SHITHUBD_WORKER_DATABASE_URL": "2",
        "NOTIFY_SOCKET": "3",
        "CREDENTIALS_DIRECTORY": "4",
        "WATCHDOG_USEC": "5",
        "INVOCATION_ID": "6",
    }
    for name, value in hidden.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HARMLESS", "yes")
    code = "import json, os; print(json.dumps([dict(os.environ), os.getsid(0) == os.getpid()]))"
    seen = []

    def handler(job):
        child = job.popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env={"ADDED": "too"})
        seen.extend(json.loads(child.communicate()[0]))

    assert Scene(handler).run().how is How.OK
    environment, in_a_session_of_its_own = seen
    assert not set(hidden) & set(environment)
    assert (environment["HARMLESS"], environment["ADDED"]) == ("yes", "too")
    assert in_a_session_of_its_own


def test_the_jobs_log_lines_carry_the_job(caplog):
    caplog.set_level(logging.INFO)
    assert Scene(lambda job: job.log.info("hello %s", "there"), attempt=3).run().how is How.OK
    (record,) = [record for record in caplog.records if record.getMessage() == "hello there"]
    assert (record.name, record.job_id, record.kind, record.attempt) == ("shithubd_worker.job", 7, "some.kind", 3)
