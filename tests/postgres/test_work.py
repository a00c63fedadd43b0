"""The jobs at hand, run in this process: the outcome of each, and what the worker learns from them."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest
from rooms import Rooms

from shithubd_worker import Permanent, Registry
from shithubd_worker.database.connection import connector
from shithubd_worker.database.handler_session import HandlerSession
from shithubd_worker.model import NOT_STARTED, How
from shithubd_worker.process.lessons import Lessons
from shithubd_worker.process.runner import Runner
from shithubd_worker.process.work import Work
from shithubd_worker.turn.unstarted import Unstarted


class Hands(Rooms):
    """A worker with this handler for the kind k. Nobody rings an alarm, and no dead man is set."""

    def __init__(self, database, handler):
        super().__init__(database.url, window=3600.0)
        registry = Registry()
        registry.handler("k", lease_timeout=60, max_attempts=3)(handler)
        kinds = {"k": registry["k"]}
        self.handlers = HandlerSession(connector(database.url, "handlers", ours=False), "public")
        self.put_back, self.called = [], []
        state = SimpleNamespace(check=lambda _: None, put_back=lambda found: self.put_back.append(list(found)))
        nobody = SimpleNamespace(covers=lambda *_: True, cover=lambda *_: None, stand_down=lambda **_: None)
        runner = Runner(kinds, self.live, self.handlers, self.progress, lambda _: None, nobody, state)
        unstarted = Unstarted(
            kinds,
            queue=self.queue,
            tray=self.tray,
            exchange=self.exchange,
            selection=self.selection,
            settler=self.settler,
            upkeep=self.upkeep,
        )
        lessons = Lessons(self.selection, self.tray, state, self.patience, self.metrics)
        self.work = Work(
            self.tray, runner, self.exchange, unstarted, lessons, self.progress, lambda: self.called.append("control")
        )

    def close(self):
        self.handlers.close()
        super().close()


@pytest.fixture
def hire(database):
    """A worker with this many jobs at hand."""
    made = []

    def with_jobs(handler, count=1):
        made.append(Hands(database, handler))
        database.query("INSERT INTO jobs (kind, payload) SELECT 'k', '{}' FROM generate_series(1, %s)", count)
        made[-1].selection.ran("k", jobs=500, seconds=0.0, too_many=False)
        made[-1].exchange.turn()
        assert len(made[-1].tray.leased) == count
        return made[-1]

    yield with_jobs
    for each in made:
        each.exchange.put_down()
        each.close()


def ends(worker):
    return [(each.outcome.how, each.outcome.error) for each in worker.tray.finished]


def test_the_outcomes_of_jobs_are_on_the_tray_and_their_time_is_learned(hire):
    def handler(job):
        if job.id == 2:
            raise Permanent("never")

    worker = hire(handler, 3)
    assert worker.work.do() is None
    assert ends(worker) == [(How.OK, None), (How.FAILED, "never"), (How.OK, None)]
    assert set(map(tuple, worker.put_back)) == {("k",)}  # more than once if a lease became too old meanwhile
    assert worker.called == ["control"]  # the control thread must look at the tray often
    assert worker.counted("job_duration_seconds_count", kind="k") == 3


def test_a_stop_leaves_the_rest_at_hand(hire):
    worker = hire(lambda job: worker.stop.hear(main=True), 3)
    assert worker.work.do() is None
    assert (len(worker.tray.finished), len(worker.tray.leased)) == (1, 2)


def test_a_shortage_in_a_handler_ends_the_work_and_is_reported(hire):
    def handler(job):
        raise OSError(errno.ENOSPC, "No space left on device")

    worker = hire(handler, 3)
    assert "No space left" in worker.work.do()
    assert [how for how, _ in ends(worker)] == [How.RELEASED]
    assert len(worker.tray.leased) == 2


def test_a_lease_that_is_too_old_gets_a_second_look_and_then_runs(database, hire):
    worker = hire(lambda job: None, 3)
    old = [each._replace(batch=each.batch._replace(sent_at=0.0)) for each in worker.tray.take_leased()]
    batch = old[0].batch
    worker.tray.leased.extend(each._replace(batch=batch) for each in old)
    assert worker.work.do() is None
    assert [how for how, _ in ends(worker)] == [How.OK] * 3
    worker.exchange.put_down()
    assert database.query("SELECT outcome, count(*) FROM job_history GROUP BY 1") == [("ok", 3)]


def test_a_lease_that_a_pause_covers_meanwhile_does_not_start(database, hire):
    ran = []
    worker = hire(ran.append, 2)
    database.query("SELECT pause_kind_v1('k')")
    old = worker.tray.take_leased()
    batch = old[0].batch._replace(sent_at=0.0)
    worker.tray.leased.extend(each._replace(batch=batch) for each in old)
    assert worker.work.do() is None
    assert (ran, ends(worker)) == ([], [(NOT_STARTED.how, NOT_STARTED.error)] * 2)


def test_a_job_that_may_kill_the_worker_endangers_no_other(database, hire):
    """It is leased alone, and finished jobs are settled before it runs."""
    worker = hire(lambda job: None, 3)
    worker.work.do()
    (one,) = database.query("INSERT INTO jobs (kind, payload, crashes, alone) VALUES ('k', '{}', 1, true) RETURNING id")
    seen = []
    worker.exchange.turn()
    worker.exchange.turn()
    lease = worker.tray.next()
    assert (lease.id, lease.crashes) == (one[0], 1)
    worker.tray.leased.append(lease)
    worker.work._runner.run = lambda lease: seen.append((lease.id, worker.exchange.unsettled))
    worker.work._unstarted.look_again = lambda *_, **__: None
    worker.work.do()
    assert seen == [(one[0], False)]


def test_a_payload_that_was_left_out_is_fetched_before_its_job_runs(database, hire):
    got = []
    worker = hire(lambda job, pad: got.append(len(pad)), 0)
    database.query("INSERT INTO jobs (kind, payload) VALUES ('k', jsonb_build_object('pad', repeat('x', 100000)))")
    worker.selection.anew()
    worker.exchange.turn()
    assert [lease.payload for lease in worker.tray.leased] == [None]
    worker.work.do()
    assert got == [100_000]


def test_a_job_that_settles_itself_is_reported_and_not_settled_again(database, hire):
    def handler(job):
        with job.transaction() as connection:
            connection.execute("CREATE TABLE effect ()")

    worker = hire(handler)
    assert worker.work.do() is None
    assert ends(worker) == []
    assert worker.counted("jobs_processed_total", kind="k", outcome="ok") == 1
    assert database.query("SELECT outcome FROM job_history") == [("ok",)]


def test_a_job_whose_connection_broke_with_the_database_away_is_released(database, hire):
    def handler(job):
        victims = [job.connection.info.backend_pid, worker.queue.connection.info.backend_pid]
        database.query("SELECT pg_terminate_backend(pid, 60000) FROM unnest(%s) pid", victims)
        job.connection.execute("SELECT 1")

    worker = hire(handler)
    worker.work.do()
    ((how, error),) = ends(worker)
    assert how is How.RELEASED
    assert "the database went away during the run" in error


def test_a_job_whose_own_connection_broke_has_failed(database, hire):
    def handler(job):
        database.query("SELECT pg_terminate_backend(%s, 60000)", job.connection.info.backend_pid)
        job.connection.execute("SELECT 1")

    worker = hire(handler)
    worker.work.do()
    assert [how for how, _ in ends(worker)] == [How.RETRY]
