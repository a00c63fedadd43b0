"""The life of a job as a state machine: the functions of sql/functions compared with a small model of them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import psycopg
import pytest
from bare import BareWorker
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from rows import add_worker

from shithubd_worker.database.connection import connector
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.model import Finished, How, Outcome
from shithubd_worker.registry import Registry

KINDS = ("a", "b")
LONG = 10**6  # seconds: time passes only where a rule moves it


def kinds():
    registry = Registry()
    for name in KINDS:
        registry.handler(name, lease_timeout=LONG)(lambda job: None)
    return [registry[name] for name in KINDS]


@dataclass
class Model:
    """What we expect of one row of jobs."""

    kind: str
    state: str = "queued"
    attempts: int = 0
    crashes: int = 0
    due: bool = True
    alone: bool = False
    owner: UUID | None = None
    leases: list = field(default_factory=list)  # all tokens ever given; the last one may be valid
    ended: list = field(default_factory=list)  # the outcomes in the history


class Life(RuleBasedStateMachine):
    url: str
    fenced = 0  # how often an older lease of a job, which no longer stands, was tried

    @initialize()
    def begin(self):
        self.connection = psycopg.connect(self.url, autocommit=True)
        self.connection.execute("TRUNCATE jobs, job_history, workers, beats, holds, audit, leases_returned CASCADE")
        self.jobs: dict[int, Model] = {}
        self.died: Counter = Counter()  # leases returned from the dead, by kind and outcome
        self.paused: set[str] = set()
        self.drained = False
        self.workers: dict[UUID, BareWorker] = {}
        self.beat = ControlSession(connector(self.url, "life"), "public")
        self.sweeper = QueueSession(connector(self.url, "life"), "public", uuid4())
        self.kinds = kinds()
        for _ in range(2):
            self.hire()

    def hire(self):
        worker = add_worker(self.database, "h", kinds=KINDS)
        self.workers[worker] = BareWorker(self.url, "public", worker, "life")

    def teardown(self):
        if hasattr(self, "connection"):
            for session in (*self.workers.values(), self.sweeper, self.beat):
                session.close()
            self.connection.close()

    def pick(self, data, *states):
        found = [job for job, model in self.jobs.items() if model.state in states]
        return data.draw(st.sampled_from(found)) if found else None

    # What enqueuers and workers do.

    @rule(kind=st.sampled_from(KINDS), due=st.booleans(), priority=st.integers(-2, 2))
    def enqueue(self, kind, due, priority):
        row = self.connection.execute(
            "INSERT INTO jobs (kind, priority, run_at) VALUES (%s, %s, now() + %s * interval '1 year') RETURNING id",
            (kind, priority, 0 if due else 1),
        ).fetchone()
        self.jobs[row[0]] = Model(kind, due=due)

    @rule(data=st.data())
    def lease(self, data):
        self.lease_by(data.draw(st.sampled_from(list(self.workers))))

    @rule(data=st.data(), kind=st.sampled_from(KINDS))
    def lease_again(self, data, kind):
        """A running job is taken away and leased again. Single rules hardly ever cause that. So this rule ends all
        holds and makes sure that there is a job."""
        self.drain_or_resume(drain=False)
        self.resume("a")
        self.resume("b")
        self.enqueue(kind, due=True, priority=0)
        worker = data.draw(st.sampled_from(list(self.workers)))
        job = self.lease_by(worker)
        self.release_by_force(job)
        while (leased := self.lease_by(worker)) != job:
            assert leased is not None

    def lease_by(self, worker):
        lease = self.workers[worker].lease(self.kinds)
        able = {
            job
            for job, model in self.jobs.items()
            if model.state == "queued" and model.due and model.kind not in self.paused and not self.drained
        }
        if lease is None:
            assert not able
            return None
        assert lease.id in able
        model = self.jobs[lease.id]
        model.state, model.owner = "processing", worker
        model.attempts += 1
        self.refuse_older_leases(worker, model)
        model.leases.append(lease)
        assert (lease.attempt, lease.crashes) == (model.attempts, max(model.crashes, model.alone))
        return lease.id

    def refuse_older_leases(self, worker, model):
        """An earlier owner of the job can't renew or start it."""
        for old in model.leases:
            assert not self.beat.renew(old, LONG)
            assert self.workers[worker].queue.start([old], str(uuid4()), [LONG]) == []
            Life.fenced += 1

    @rule(data=st.data(), how=st.sampled_from(["ok", "retry", "failed", "poison", "released"]), late=st.booleans())
    def settle(self, data, how, late):
        leased = [(job, lease) for job, model in self.jobs.items() for lease in model.leases]
        if not leased:
            return
        job, lease = data.draw(st.sampled_from(leased))
        model = self.jobs[job]
        standing = model.state == "processing" and model.leases[-1] is lease
        delay = 10**7 if late else 0.0
        lost, _ = self.beat.settle([Finished(lease, Outcome(How(how), "e", delay), "7d", 0.0)])
        assert lost == (set() if standing else {job})
        if not standing:
            return  # fenced: the invariants check that nothing changed
        model.ended.append(how)
        model.owner = None
        model.alone = model.alone and how == "released"
        if how == "ok":
            model.state = "gone"
        elif how in ("failed", "poison"):
            model.state = "failed"
        else:
            model.state = "queued"
            model.due = not late if how == "retry" else model.due
            model.attempts -= how == "released"

    @rule(data=st.data())
    def renew(self, data):
        if job := self.pick(data, "processing"):
            assert self.beat.renew(self.jobs[job].leases[-1], LONG)

    # What goes wrong.

    def crash(self, job, *, one_of_several=False):
        # From the second crash on, the job is postponed by half a minute. The clock must not pass that unasked.
        self.connection.execute(
            "UPDATE jobs SET run_at = run_at + interval '1 year' WHERE id = %s AND crashes > 1 AND run_at > now()",
            (job,),
        )
        model = self.jobs[job]
        model.alone = True
        model.crashes += not one_of_several  # of several jobs, nobody can say which it was
        model.attempts = max(model.attempts - 1, 0)
        model.owner = None
        poison = not one_of_several and model.crashes >= 3
        model.state = "failed" if poison else "queued"
        model.due = model.due if one_of_several or model.crashes == 1 else False
        model.ended.append("poison" if poison else "crashed")
        self.died[model.kind, model.ended[-1]] += 1

    @rule(data=st.data())
    def expire(self, data):
        if job := self.pick(data, "processing"):
            self.connection.execute("UPDATE jobs SET lease_expires_at = now() - interval '1 s' WHERE id = %s", (job,))
            # The sweeping worker holds no job: a worker that sweeps is between two jobs, and gives back its own strays.
            assert [row[0] for row in self.sweeper.sweep()] == [job]
            owner = self.jobs[job].owner
            self.crash(job, one_of_several=sum(model.owner == owner for model in self.jobs.values()) > 1)

    @rule(data=st.data())
    def worker_dies(self, data):
        worker = data.draw(st.sampled_from(list(self.workers)))
        held = {job for job, model in self.jobs.items() if model.owner == worker}
        assert {row[0] for row in self.beat.release_worker(worker, "dead")} == held
        for job in held:
            self.crash(job, one_of_several=len(held) > 1)
        self.workers.pop(worker).close()
        self.hire()

    @rule()
    def time_passes(self):
        self.connection.execute("UPDATE jobs SET run_at = now() - interval '1 s' WHERE state = 'queued'")
        for model in self.jobs.values():
            model.due = model.due or model.state == "queued"

    # What operators do.

    @rule(kind=st.sampled_from(KINDS), mirror=st.booleans())
    def pause(self, kind, mirror):
        row = self.connection.execute("SELECT id FROM pause_kind_v1(%s)", (kind,)).fetchone()
        self.paused.add(kind)
        if mirror:
            self.connection.execute("UPDATE holds SET created = clock_timestamp() WHERE id = %s", row)
            after = None
            while found := self.connection.execute(
                "SELECT * FROM mirror_pause_v1(%s, %s, 2)", (row[0], after)
            ).fetchone():
                after = json.dumps(found[1])
            for model in self.jobs.values():
                if model.kind == kind and model.state == "queued":
                    model.state = "paused"

    @rule(kind=st.sampled_from(KINDS))
    def pause_by_hand(self, kind):
        self.connection.execute("UPDATE jobs SET state='paused' WHERE state='queued' AND kind=%s", (kind,))
        for model in self.jobs.values():
            if model.kind == kind and model.state == "queued":
                model.state = "paused"

    @rule(kind=st.sampled_from(KINDS))
    def resume(self, kind):
        self.connection.execute("SELECT resume_kind_v1(%s)", (kind,))
        after = -(2**63)
        while found := self.connection.execute("SELECT * FROM unpause_v1(%s, %s, 2)", (kind, after)).fetchone():
            after = found[1]
        self.paused.discard(kind)
        for model in self.jobs.values():
            if model.kind == kind and model.state == "paused":
                model.state = "queued"

    @rule(drain=st.booleans())
    def drain_or_resume(self, drain):
        self.connection.execute("SELECT drain_v1()" if drain else "SELECT resume_v1()")
        self.drained = drain

    @rule(data=st.data())
    def force_by_hand(self, data):
        if job := self.pick(data, "queued", "processing", "paused", "failed"):
            self.connection.execute(
                "UPDATE jobs SET leased_at = NULL, leased_by = NULL, state = 'queued' WHERE id = %s", (job,)
            )
            self.jobs[job].state, self.jobs[job].owner = "queued", None

    @rule(data=st.data(), force=st.booleans())
    def release(self, data, force):
        if job := self.pick(data, "queued", "processing", "paused", "failed"):
            model = self.jobs[job]
            if model.state == "processing" and force:
                self.release_by_force(job)
                return
            self.connection.execute("UPDATE beats SET beat_at = clock_timestamp()")
            said = self.change("release", job, accept_second_run=force)
            if model.state != "processing":
                assert said == model.state
            else:
                assert said.startswith("alive: ")

    def change(self, action, job, **values):
        """Let an operator change a job; why it was left, or None if it was changed."""
        return self.connection.execute(
            "SELECT refused->>%s::text FROM change_jobs_v1(%s, ARRAY[%s::bigint], %s)",
            (job, action, job, json.dumps(values)),
        ).fetchone()[0]

    def release_by_force(self, job):
        assert self.change("release", job, accept_second_run=True) is None
        model = self.jobs[job]
        model.state, model.owner, model.attempts = "queued", None, max(model.attempts - 1, 0)
        model.ended.append("released")

    @rule(data=st.data())
    def retry(self, data):
        if job := self.pick(data, "queued", "processing", "paused", "failed"):
            model = self.jobs[job]
            said = self.change("retry", job)
            assert said == (model.state if model.state in ("processing", "paused") else said)
            if model.state == "queued":
                assert said == ("unchanged" if model.due else None)
                model.due = True
            elif model.state == "failed":
                assert said is None
                model.attempts = model.crashes = 0
                model.state, model.due, model.alone = "queued", True, False

    @rule(data=st.data(), due=st.booleans(), attempts=st.none() | st.integers(0, 3))
    def reschedule(self, data, due, attempts):
        if job := self.pick(data, "queued", "processing", "paused", "failed"):
            model = self.jobs[job]
            when = "1999-01-01" if due else "2999-01-01"
            said = self.change("reschedule", job, run_at=when, attempts=attempts)
            if model.state == "processing":
                assert said == "processing"
                return
            assert said in (None, "unchanged")  # it may have been rescheduled so before
            model.due = due
            model.attempts = model.attempts if attempts is None else attempts
            if model.state == "failed":
                model.state, model.crashes, model.alone = "queued", 0, False

    @rule(data=st.data(), limit=st.none() | st.integers(1, 5))
    def fail(self, data, limit):
        if job := self.pick(data, "queued", "processing", "paused", "failed"):
            model = self.jobs[job]
            self.connection.execute("UPDATE jobs SET max_attempts = %s WHERE id = %s", (limit, job))
            said = self.change("fail", job, error="no")
            if model.state == "processing":
                assert said == "processing"
                return
            model.state, model.attempts = "failed", max(model.attempts, limit or 0)
            if said is None:
                model.ended.append("failed")
            else:
                assert said == "unchanged"

    @rule(data=st.data(), action=st.sampled_from(["complete", "discard"]))
    def end(self, data, action):
        if job := self.pick(data, "queued", "processing", "paused", "failed"):
            model = self.jobs[job]
            said = self.change(action, job)
            if model.state == "processing":
                assert said == "processing"
                return
            assert said is None
            model.state = "gone"
            model.ended.append(f"{action.removesuffix('e')}ed")

    # What must hold after each rule.

    @invariant()
    def the_table_is_as_the_model_says(self):
        if not hasattr(self, "connection"):
            return
        rows = self.connection.execute(
            "SELECT id, kind, state, attempts, crashes, alone, leased_by IS NULL FROM jobs"
        ).fetchall()
        expected = [
            (job, m.kind, m.state, m.attempts, m.crashes, m.alone, m.state != "processing")
            for job, m in self.jobs.items()
            if m.state != "gone"
        ]
        assert sorted(rows) == sorted(expected)

    @invariant()
    @precondition(lambda self: hasattr(self, "jobs"))
    def the_history_tells_how_each_lease_ended(self):
        rows = self.connection.execute("SELECT id, outcome FROM job_history ORDER BY finished_at, ctid").fetchall()
        for job, model in self.jobs.items():
            assert sorted(outcome for found, outcome in rows if found == job) == sorted(model.ended)
            assert model.ended.count("ok") <= 1

    @invariant()
    @precondition(lambda self: hasattr(self, "jobs"))
    def each_lease_returned_from_the_dead_is_counted_once(self):
        rows = self.connection.execute("SELECT kind, crashed, poison FROM leases_returned").fetchall()
        counted = {(kind, how): n for kind, *both in rows for how, n in zip(("crashed", "poison"), both, strict=True)}
        assert {key: n for key, n in counted.items() if n} == self.died


@pytest.mark.drawn
def test_the_life_of_a_job(any_database):
    Life.database, Life.url, Life.fenced = any_database, any_database.url, 0
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            phases=[Phase.generate],  # a failed run is shown as it was: to find a shorter one would take minutes
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
    assert Life.fenced >= 20


# An operator's UPDATE can make odd rows. None of them may stop the fleet.

moments = st.sampled_from(
    ["-infinity", "infinity", "0001-01-01 BC", "294000-01-01", "1970-01-01", "2026-01-01", "now"]
).map(lambda text: ("{}::timestamptz", text))
numbers = st.sampled_from([-(2**31), -1, 0, 1, 9, 10, 2**31 - 1]).map(lambda number: ("{}::int", number))
columns = st.fixed_dictionaries(
    {},
    optional={
        "run_at": moments,
        "created_at": moments,
        "lease_expires_at": moments | st.just(("{}::timestamptz", None)),
        "attempts": numbers,
        "crashes": numbers,
        "max_attempts": numbers | st.just(("{}::int", None)),
        "priority": st.sampled_from([-(2**15), 0, 2**15 - 1]).map(lambda n: ("{}::smallint", n)),
        "lease_token": st.just(("{}::uuid", "00000000-0000-0000-0000-000000000000")),
        "last_error": st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])).map(
            lambda t: ("{}", t)
        ),
        "payload": st.sampled_from(['{"x": 1e400}', '{"x": ' + "9" * 5000 + "}", '{"a": 1, "a": 2}', "{}"]).map(
            lambda text: ("{}::jsonb", text)
        ),
        "kind": st.sampled_from(["a", "ü" * 200, "x y", "%s", "'; --"]).map(lambda text: ("{}", text)),
    },
)
leased = st.sampled_from(
    [
        None,
        ("queued", None, None),
        ("paused", None, None),
        ("failed", None, None),
        ("processing", "gone:1", "-infinity"),
        ("processing", "", "infinity"),
    ]
)


@pytest.fixture
def odd(database):
    """A worker that knows all kinds of the odd rows, and a connection."""
    registry = Registry()
    for name in ("a", "good", "ü" * 200, "x y", "%s", "'; --"):
        registry.handler(name)(lambda job: None)
    worker = BareWorker(database.url, "public", add_worker(database, "h", kinds=()), "odd")
    with database.connect() as connection:
        yield connection, worker, list(registry.values())
    worker.close()


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(changes=columns, state=leased)
def test_no_update_by_an_operator_makes_a_row_that_breaks_leasing(odd, changes, state):
    connection, worker, all_kinds = odd
    queue = worker.queue
    connection.execute("TRUNCATE jobs, job_history")
    connection.execute("INSERT INTO jobs (kind) VALUES ('a'), ('good')")
    values = dict(changes)
    if state is not None:
        values |= {"state": ("{}", state[0]), "leased_by": ("{}", state[1]), "leased_at": ("{}::timestamptz", state[2])}
    if values:
        sets = ", ".join(f"{column} = {cast.format('%s')}" for column, (cast, _) in values.items())
        connection.execute(f"UPDATE jobs SET {sets} WHERE kind = 'a'", [value for _, value in values.values()])
    queue.sweep()
    seen = []
    while lease := worker.lease(all_kinds):
        seen.append(lease.kind)
        assert worker.settle(lease, Outcome(How.OK))
        assert len(seen) <= 2
    assert "good" in seen
    connection.execute("SELECT status_v1(), queue_gauges_v1()")
    for row in connection.execute("SELECT id FROM jobs").fetchall():
        assert queue.rows("show_job_v1", row[0])
        connection.execute("SELECT FROM release_jobs(%s, true)", ([row[0]],))
        calls = ("reschedule_jobs(%s, 'infinity', -7, -7, 7)", "permanently_fail_jobs(%s, '\"')", "retry_jobs(%s)")
        for call in (*calls, "complete_jobs(%s)"):
            assert connection.execute(f"SELECT id FROM {call}", ([row[0]],)).fetchall() == [row], call
