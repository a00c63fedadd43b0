"""cleanup removes what nobody needs: while workers run, it loses no job, and no counter of a scrape goes wrong."""

from __future__ import annotations

import threading
from collections import Counter

import psycopg
import pytest
from conftest import eventually
from rows import add_job, add_worker

from shithubd_worker.database.connection import connector
from shithubd_worker.model import How
from shithubd_worker.telemetry.gauges import QueueCollector

TASKS = ["GC_JOB_QUEUES", "GC_TASK_IDENTIFIERS", "DELETE_PERMAFAILED_JOBS"]
GC = "SELECT removed, kept FROM forget_kinds_v1('old', 'alice')"


def counted(database):
    return [kind for (kind,) in database.query("SELECT kind FROM leases_returned ORDER BY kind")]


def count(database, *kinds, crashed=1):
    """Each of these kinds has counts, in this order."""
    for kind in kinds:
        database.query("SELECT count_ended_v1(ARRAY[%s], '{crashed}', ARRAY[%s]::bigint[])", kind, crashed)


def test_all_failed_jobs_are_discarded_and_recorded_and_all_others_stay(any_database):
    failed = [add_job(any_database, state="failed") for _ in range(3)]
    others = [add_job(any_database, state=state) for state in ("queued", "processing", "paused")]
    gone = any_database.query("SELECT id, state FROM cleanup(%s, 'old', 'alice') ORDER BY id", TASKS[2:])
    assert gone == [(one, "failed") for one in failed]
    assert any_database.query("SELECT id FROM jobs ORDER BY id") == [(one,) for one in others]
    assert any_database.query("SELECT action, actor, reason, jobs, job_ids FROM audit") == [
        ("discard", "alice", "old", 3, failed)
    ]
    assert any_database.query("SELECT DISTINCT outcome FROM job_history") == [("discarded",)]
    assert any_database.query("SELECT id FROM cleanup(%s)", TASKS) == []
    assert any_database.value("SELECT count(*) FROM audit") == 1


def test_a_job_that_is_retried_meanwhile_is_not_discarded(database):
    """The list of the failed jobs is made before they are locked."""
    one = add_job(database, state="failed")
    cleaner = threading.Thread(target=database.query, args=("SELECT FROM cleanup(%s)", TASKS))
    with database.connect() as other, other.transaction():
        other.execute("SELECT * FROM retry_jobs(ARRAY[%s::bigint])", [one])
        cleaner.start()
        waits = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%%cleanup(%%' AND wait_event_type = 'Lock'"
        eventually(lambda: database.value(waits) == 1, "the cleanup's wait for the job")
    cleaner.join()
    assert database.query("SELECT state FROM jobs") == [("queued",)]


@pytest.mark.parametrize("tasks", [["DELETE"], ["gc_job_queues"], [*TASKS, "x"], [None], [""]])
def test_an_unknown_task_is_refused_with_the_names_of_all_and_nothing_is_done(any_database, tasks):
    add_job(any_database, state="failed")
    count(any_database, "old")
    with pytest.raises(psycopg.errors.InvalidParameterValue) as refused:
        any_database.query("SELECT * FROM cleanup(%s)", tasks)
    assert all(task in str(refused.value) for task in TASKS)
    assert any_database.value("SELECT count(*) FROM jobs") == 1
    assert counted(any_database) == ["old"]


def test_no_task_does_nothing_and_the_queues_that_do_not_exist_are_none(any_database):
    add_job(any_database, state="failed")
    count(any_database, "old")
    for tasks in ([], None, ["GC_JOB_QUEUES"]):
        assert any_database.query("SELECT * FROM cleanup(%s)", tasks) == []
    assert counted(any_database) == ["old"]
    assert any_database.query("SELECT FROM audit") == []


def test_the_counts_of_kinds_without_jobs_and_workers_go_and_all_others_stay(any_database):
    count(any_database, "old", "older", "other", *TASKS)
    for state in ("queued", "processing", "paused", "failed"):
        count(any_database, state)
        add_job(any_database, state, state=state)
    count(any_database, "handled", "handled by a silent one")
    add_worker(any_database, kinds=["handled"])
    add_worker(any_database, kinds=["handled by a silent one"], silent=True)
    stay = ["failed", "handled", "handled by a silent one", "other", "paused", "processing", "queued"]
    assert any_database.query(GC) == [(sorted(["old", "older", *TASKS]), 0)]
    assert counted(any_database) == stay
    assert any_database.query("SELECT action, target, actor, reason, detail FROM audit") == [
        (
            "cleanup",
            "GC_TASK_IDENTIFIERS",
            "alice",
            "old",
            {"removed": 5, "kinds": sorted(["old", "older", *TASKS])},
        )
    ]
    assert any_database.query(GC) == [([], 0)]
    assert any_database.value("SELECT count(*) FROM audit") == 1


class Scrapes:
    """What Prometheus reads of some workers, one after the other, and what increase() makes of it."""

    def __init__(self, database, *workers):
        self._collectors = [QueueCollector(connector(database.url, "test"), "public", known) for known in workers]
        self._last = [Counter() for _ in workers]
        self.increased = [Counter() for _ in workers]
        self.scrape()
        self.increased = [Counter() for _ in workers]

    def scrape(self):
        """A counter that is lower than before has begun again at 0. One that is new has no increase."""
        for collector, last, increased in zip(self._collectors, self._last, self.increased, strict=True):
            for family in collector.collect():
                for sample in family.samples if family.name == "shithubd_leases_returned" else ():
                    key = sample.labels["kind"], sample.labels["outcome"]
                    if key in last:
                        more = sample.value - last[key]
                        increased[key] += more if more >= 0 else sample.value
                    last[key] = sample.value

    def close(self):
        for collector in self._collectors:
            collector.close()


@pytest.fixture
def scrapes():
    made = []

    def make(*given):
        made.append(Scrapes(*given))
        return made[-1]

    yield make
    for each in made:
        each.close()


LIVE = [f"live {n:03}" for n in range(150)]
OLD = [f"old {n:03}" for n in range(250)]
MIXED = [kind for pair in zip(LIVE, OLD, strict=False) for kind in pair]


@pytest.mark.parametrize(
    ("kinds", "workers", "kept"),
    [
        (OLD[:90], [LIVE], 0),
        (OLD, [LIVE], 0),
        (MIXED, [LIVE], 0),
        (OLD + LIVE, [LIVE, LIVE[:100]], 100),
        (MIXED, [LIVE[:20], LIVE[20:]], 100),
        (LIVE + OLD, [LIVE[:20], LIVE[20:]], 100),
    ],
)
def test_the_removal_of_many_kinds_looks_to_no_worker_like_an_end_of_a_job(database, scrapes, kinds, workers, kept):
    for known in workers:
        add_worker(database, kinds=known)
    for number, kind in enumerate(kinds):
        count(database, kind, crashed=1 + number % 7)
    told = scrapes(database, *workers)
    ((removed, stay),) = database.query(GC)
    assert (len(removed), stay) == (len({*OLD} & {*kinds}) - kept, kept)
    told.scrape()
    assert [+increased for increased in told.increased] == [Counter() for _ in workers]
    count(database, "live 003", "a stranger")
    told.scrape()
    for known, increased in zip(workers, told.increased, strict=True):
        if "live 003" in known:
            assert (+increased)["live 003", How.CRASHED] == 1
    assert database.query(GC)[0][1] == kept


def test_a_count_that_comes_at_the_same_moment_is_not_lost(database):
    """The worker registers and counts after the first look, and before the rows are removed."""
    count(database, "old", "older", crashed=5)
    with database.connect() as other, other.transaction():
        other.execute("SELECT count_ended_v1('{old}', '{crashed}', '{1}')")
        assert database.query(GC) == [(["older"], 0)]
    assert database.query("SELECT kind, crashed FROM leases_returned") == [("old", 6)]


def test_it_runs_in_a_loop_under_load_and_no_job_is_lost(database, start_worker):
    """One of two workers dies, and the counts of a kind without a worker come again and again."""
    stop, failed = threading.Event(), []

    def loop():
        try:
            while not stop.is_set():
                database.query("SELECT count(*) FROM cleanup(%s)", TASKS[:2])
        except BaseException as error:
            failed.append(error)

    cleaner = threading.Thread(target=loop)
    workers = [start_worker(), start_worker()]
    cleaner.start()
    try:
        for _ in range(20):
            database.query("INSERT INTO jobs (kind) SELECT 'test.ok' FROM generate_series(1, 200)")
            count(database, "test.ok", "nobody's")
        eventually(lambda: database.value("SELECT count(*) FROM jobs") == 0, "the end of all jobs")
        workers[0].process.kill()
        eventually(lambda: "nobody's" not in counted(database), "the cleanup")
    finally:
        stop.set()
        cleaner.join()
    assert failed == []
    assert database.value("SELECT count(DISTINCT id) FROM job_history WHERE outcome = 'ok'") == 4000
    assert database.value("SELECT crashed FROM leases_returned WHERE kind = 'test.ok'") == 20
    assert workers[1].terminate() == 0
