"""`jobs explain` against the lease itself: what it names is in the way, all of it, and nothing else is."""

from __future__ import annotations

import io
import shlex
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from uuid import UUID

import pytest
from bare import Turns
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shithubd_worker.cli import cli, reasons
from shithubd_worker.cli.common import Shared
from shithubd_worker.database.connection import connector
from shithubd_worker.database.operations import Operations
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.errors import Refused, TimedOut

JOB = 1000
IDS = [UUID(int=number) for number in range(1, 5)]  # the last one is for the worker that is started
TABLES = ("jobs", "job_history", "beats", "workers", "ramps", "ramp_ends", "holds", "audit_chunks", "audit")
ONES_OWN = {"silent", "stopping"}

ROW = f"SELECT FROM jobs WHERE id = {JOB} FOR"
LOCKS = {
    "FOR UPDATE": [f"{ROW} UPDATE"],
    "FOR KEY SHARE": [f"{ROW} KEY SHARE"],
    "FOR SHARE and more": [f"{ROW} SHARE", "SAVEPOINT one", f"{ROW} NO KEY UPDATE"],
    # A savepoint is a transaction of its own, with a number of its own.
    "UPDATE": ["SAVEPOINT one", f"UPDATE jobs SET last_error = 'x' WHERE id = {JOB}"],
}

WORKER = st.fixed_dictionaries(
    {
        "host": st.sampled_from(["web1", "web2"]),
        "unit": st.sampled_from([None, "a.service"]),
        "kind": st.sampled_from(["k", "k", "k", "other"]),
        "life": st.sampled_from(["alive", "alive", "alive", "silent", "stopping"]),
        "runs": st.sampled_from([None, None, "k", "other"]),
    }
)
HOLDS = {
    "fleet": "SELECT drain_v1()",
    "host web1": "SELECT drain_v1('host', 'web1')",
    "host web2": "SELECT drain_v1('host', 'web2')",
    "unit": "SELECT drain_v1('unit', 'a.service')",
    "worker": f"SELECT drain_v1('worker', '{IDS[0]}')",
}
END = "INSERT INTO ramp_ends (ramp, ok, bad) SELECT id, %s, %s FROM ramps"
PAUSES = {
    "none": [],
    "pause": ["SELECT pause_kind_v1('k', 'disk full')"],
    "of another kind": ["SELECT ramp_kind_v1('other', p_canary => 1)", END % (0, 1)],
    "canary that runs": [
        "SELECT ramp_kind_v1('k', p_canary => 2)",
        "UPDATE ramps SET began = now() - interval '1 s'",
        "INSERT INTO jobs (id, kind, state, leased_by, leased_at, lease_token, lease_expires_at)"
        " VALUES (999, 'k', 'processing', 'x:7', now(), gen_random_uuid(), 'tomorrow')",
    ],
    "an old pause": ["SELECT pause_kind_v1('k')", "UPDATE holds SET until = 'yesterday' WHERE scope = 'kind'"],
    "canary": ["SELECT ramp_kind_v1('k', p_canary => 1)"],
    "canary that passed": ["SELECT ramp_kind_v1('k', p_canary => 2)", END % (2, 0)],
    "canary that failed": ["SELECT ramp_kind_v1('k', p_canary => 2)", END % (1, 1)],
    "steps": ["SELECT ramp_kind_v1('k', p_steps => '{34,100}', p_every => 600)"],
    "steps after a canary": [
        "SELECT ramp_kind_v1('k', p_canary => 1, p_steps => '{34}', p_every => 600)",
        END % (1, 0),
    ],
    "steps that failed": ["SELECT ramp_kind_v1('k', p_steps => '{100}', p_every => 600)", END % (5, 5)],
    "steps that are over": [
        "SELECT ramp_kind_v1('k', p_steps => '{34}', p_every => 600)",
        "UPDATE ramps SET passed_at = 'yesterday', over_at = 'yesterday'",
    ],
    "rate": ["SELECT ramp_kind_v1('k', p_rate => 0.001)"],
    "rate of two": ["SELECT ramp_kind_v1('k', p_rate => 2)", "UPDATE ramps SET tokens = 2, rate = 0.001 + 2"],
    "rate beside another ramp": [
        "SELECT ramp_kind_v1('other', p_canary => 1)",
        "SELECT ramp_kind_v1('k', p_rate => 2)",
        "UPDATE ramps SET tokens = 1, rate = 0.001 + 1 WHERE kind = 'k'",
    ],
    "stopped": ["SELECT ramp_kind_v1('k', p_canary => 1)", "UPDATE ramps SET stopped_at = now(), stopped = 'x'"],
}
SCENE = st.fixed_dictionaries(
    {
        "state": st.sampled_from(["queued", "queued", "queued", "paused", "failed"]),
        "run_at": st.sampled_from(["yesterday", "yesterday", "tomorrow", "infinity", "-infinity"]),
        "crashes": st.integers(0, 2),
        "alone": st.booleans(),
        "pause": st.sampled_from(sorted(PAUSES)),
        "holds": st.lists(st.sampled_from(sorted(HOLDS)), max_size=3, unique=True),
        "workers": st.lists(WORKER, max_size=3),
        "locked": st.sampled_from([None, None, None, None, *LOCKS]),
        "ahead": st.integers(0, 3),
        "ahead_priority": st.sampled_from([-5, 0]),
        "later": st.integers(0, 2),  # jobs of a better priority that are not due
    }
)


@contextmanager
def closing_connections():
    """A command leaves its connection to the end of its process, but here the process goes on."""
    opened, open_one = [], Shared.operations

    def recorded(self, **how):
        opened.append(open_one(self, **how))
        return opened[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shared, "operations", recorded)
        yield
    for each in opened:
        each.close()


def usual(**others):
    """A scene in which nothing is in the way, but for the others."""
    return {
        **{"state": "queued", "run_at": "yesterday", "crashes": 0, "alone": False, "pause": "none", "holds": []},
        **{"locked": None, "ahead": 0, "ahead_priority": 0, "later": 0, "workers": [worker()]},
        **others,
    }


def worker(host="web1", unit=None, kind="k", life="alive", runs=None):
    return {"host": host, "unit": unit, "kind": kind, "life": life, "runs": runs}


class Stage:
    """Builds a scene, again and again the same. Does what explain names, and lets real workers lease."""

    def __init__(self, database, stack):
        self.database, self.url = database, database.url
        self.setup = stack.enter_context(database.connect())
        self.locker = stack.enter_context(database.connect())
        self.operations = Operations(connector(self.url, "explains"), "public")
        stack.callback(self.operations.close)
        self.turns = {}
        for worker in IDS:
            queue = QueueSession(connector(self.url, "leases"), "public", worker)
            stack.callback(queue.close)
            self.turns[worker] = Turns(queue, {"k": 60.0})
        self.scene, self.free = {}, []

    def build(self, scene):
        self.scene, self.free = scene, []
        self.locker.execute("ROLLBACK")
        ask = self.setup.execute
        for table in TABLES:
            ask(f"DELETE FROM {table}")
        for id_, worker in zip(IDS, scene["workers"], strict=False):
            self.hire(id_, **worker)
        for hold in scene["holds"]:
            ask(HOLDS[hold])
        for statement in PAUSES[scene["pause"]]:
            ask(statement)
        ask(
            "INSERT INTO jobs (id, kind, last_error, state, run_at, crashes, alone) VALUES"
            " (%s, 'k', 'e', %s, %s, %s, %s)",
            [JOB, scene["state"], scene["run_at"], scene["crashes"], scene["alone"]],
        )
        ask(
            "INSERT INTO jobs (id, kind, run_at, priority)"
            " SELECT n, 'k', '-infinity', %s FROM generate_series(1, %s) n",
            [scene["ahead_priority"], scene["ahead"]],
        )
        ask(
            "INSERT INTO jobs (id, kind, run_at, priority)"
            " SELECT n + 10, 'k', 'tomorrow', -7 FROM generate_series(1, %s) n",
            [scene["later"]],
        )
        if scene["locked"]:
            for statement in ["BEGIN", *LOCKS[scene["locked"]]]:
                self.locker.execute(statement)

    def hire(self, worker, host, unit, kind="k", life="alive", runs=None):
        ask = self.setup.execute
        ask(
            "SELECT register_v1(%s, %s, 7, 'm', 'b', 0, 0, %s, NULL, '0', 1, %s)",
            [worker, host, unit, [kind, "other"]],
        )
        job = None
        if runs:
            job = 100 + worker.int
            ask(
                "INSERT INTO jobs (id, kind, state, worker_id, leased_by, leased_at, lease_token, lease_expires_at)"
                " VALUES (%s, %s, 'processing', %s, 'x:7', now(), gen_random_uuid(), 'tomorrow')",
                [job, runs, worker],
            )
        ask("SELECT beat_v1(%s, %s, %s, %s, 5)", [worker, "stopping" if life == "stopping" else "idle", job, runs])
        if life == "silent":
            ask("UPDATE beats SET beat_at = now() - interval '5 min' WHERE worker_id = %s", [worker])
        if life == "alive" and kind == "k" and not runs:
            self.free.append(worker)

    def explain(self):
        found = self.operations.explain(JOB)
        told = reasons.told(found, Shared(self.url, None, ("--database-url",)).command)
        changes = [change for each in told.checks for change in each.changes]
        if not next(check["ok"] for check in found["checks"] if check["check"] == "busy"):
            changes.append("wait")
        return found, changes

    def do(self, change):
        if change == "wait":
            found, _ = self.explain()
            [busy] = [check for check in found["checks"] if check["check"] == "busy"]
            if busy["who"]:
                self.setup.execute("DELETE FROM jobs WHERE id = %s", [busy["who"][0]["job_id"]])
                self.free.append(UUID(busy["who"][0]["worker"]))
        elif change.startswith("SELECT pg_terminate_backend"):
            assert change == f"SELECT pg_terminate_backend({self.locker.info.backend_pid})"
            self.locker.execute("ROLLBACK")
        elif change.startswith("systemctl restart"):
            _, _, unit, _, _, host = change.split()
            self.hire(IDS[3], host, unit)
        elif change.startswith("shithubd-worker run"):
            self.hire(IDS[3], "fresh", None)
        else:
            words = shlex.split(change, comments=True)[1:]
            if self.scene["locked"]:
                words += ["--timeout", "0.2"]  # it waits for the row that is still locked
            refused = suppress(Refused, TimedOut)  # if another change was left out
            with closing_connections(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), refused:
                cli.main(words, prog_name="shithubd-worker", standalone_mode=False)

    def leased(self):
        """Does a free worker get the job? Each takes what it can get."""
        for worker in self.free:
            turns = self.turns[worker]
            while True:
                turns.selection.anew()
                leases = turns.lease()
                if any(lease.id == JOB for lease in leases):
                    return True
                if not leases:
                    break
        return False


@contextmanager
def stage_of(database):
    with ExitStack() as stack:
        yield Stage(database, stack)


@pytest.fixture
def stage(any_database):
    with stage_of(any_database) as made:
        yield made


def check(stage, scene):
    stage.build(scene)
    found, changes = stage.explain()
    assert stage.explain()[1] == changes
    assert (found["verdict"] == "leasable") == (not changes), (found, changes)
    for left_out in changes:
        stage.build(scene)
        for change in changes:
            if change != left_out:
                stage.do(change)
        assert not stage.leased(), f"{left_out!r} was not in the way: {found}"
    stage.build(scene)
    for change in changes:
        stage.do(change)
    assert stage.leased(), f"something else is in the way, beside {changes}: {found}"


def profile(examples):
    return settings(
        max_examples=examples, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    )


@profile(30)
@example(scene=usual())
@example(scene=usual(pause="canary", ahead=1))
@example(scene=usual(pause="canary that failed", state="paused"))
@example(scene=usual(holds=["host web1", "unit"], workers=[worker(unit="a.service"), worker()]))
@example(
    scene=usual(holds=["fleet", "host web1"], workers=[worker(life="silent", unit="a.service")], run_at="infinity")
)
@example(scene=usual(workers=[worker(runs="other"), worker(life="stopping")], locked="UPDATE"))
@example(scene=usual(pause="canary that runs", ahead=1))
@example(scene=usual(pause="rate beside another ramp", locked="FOR SHARE and more"))
@example(scene=usual(pause="steps", workers=[worker(runs="k"), worker("web2")]))
@given(scene=SCENE)
def test_what_it_names_is_in_the_way_and_nothing_else_is(stage, scene):
    check(stage, scene)


@pytest.mark.long
@pytest.mark.timeout(1800)
@profile(1500)
@given(scene=SCENE)
def test_what_it_names_is_in_the_way_and_nothing_else_is_in_many_scenes(stage, scene):
    check(stage, scene)
