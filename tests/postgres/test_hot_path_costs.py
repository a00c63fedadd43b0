"""What a job costs the database, in counts that are the same on every machine. No time is measured here."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from conftest import eventually
from drivers import done, enqueue

from shithubd_worker.database.arrays import settle_arguments
from shithubd_worker.turn.tray import Settles
from shithubd_worker.turn.wire import TYPES


def log_of(database):
    """What the server has logged."""
    return (Path(database.server.directory) / "log").read_text(errors="replace")


def spoken(log, *pids):
    """The statements in the log of a server with log_statement = all, only of these backends."""
    found = re.findall(r"\[(\d+)\] LOG:  (?:statement|execute [^:]*): (.*)", log)
    return [text for pid, text in found if not pids or int(pid) in pids]


def talkative(database):
    """A URL of the database whose statements the server logs."""
    return f"{database.url}?options=-c%20log_statement%3Dall"


@contextmanager
def held_snapshot(database):
    """A long report: while its transaction is open, no dead row is removed."""
    with database.connect() as holder:
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT 1")
        yield
        holder.execute("ROLLBACK")


def test_a_turn_is_one_round_trip_and_two_statements(database, hire):
    driver = hire(url=talkative(database))
    enqueue(database, 5000)
    driver.turn(most=1)  # the first turn connects and prepares
    pid = driver.queue.connection.info.backend_pid
    before = len(log_of(database))
    turns, jobs, finished = 0, 0, []
    while leases := driver.turn(finished).leases:
        turns, jobs, finished = turns + 1, jobs + len(leases), done(leases)
    assert (turns, jobs) == (10, 4999)
    said = spoken(log_of(database)[before:], pid)
    settle, lease = 'PREPARE "settle_v1"', 'PREPARE "lease_v1"'
    assert [text.split(" AS ")[0] for text in said] == [lease, *[settle, lease] * 10]


def test_leases_and_settles_read_only_the_rows_that_they_take(database, hire):
    driver = hire()
    enqueue(database, 5000)
    database.query("ANALYZE jobs")  # the plan is the same with right, wrong or no statistics
    with driver.counting(database) as counts:
        finished = []
        while leases := driver.turn(finished).leases:
            finished = done(leases)
    assert (counts["updated"], counts["deleted"], counts["seq_scan"]) == (5000, 5000, 0)
    assert counts["fetched"] <= 5000 * 4  # the look, the lock, the lease and the settle


@pytest.mark.parametrize("state", ["scheduled", "failed", "paused", "of other kinds"])
def test_jobs_that_are_not_due_add_no_reads(database, hire, state):
    driver = hire()
    enqueue(database, 1000)
    with driver.counting(database) as alone:
        leases = driver.lease()
        driver.turn(done(leases))
    if state == "scheduled":
        enqueue(database, 20_000, run_at="now() + n * interval '1 minute'")
    elif state == "of other kinds":
        enqueue(database, 20_000, kind="j")
    else:
        enqueue(database, 20_000)
        database.query("UPDATE jobs SET state = %s WHERE id > 1000", state)
        database.query("VACUUM jobs")
    enqueue(database, 500)
    driver.selection.anew()
    with driver.counting(database) as among:
        leases = driver.lease()
        driver.turn(done(leases))
    assert len(leases) == 500
    assert among["seq_scan"] == 0
    # the entries of the first batch may still be dead index entries
    assert among["entries"] <= alone["entries"] + 500 + 50
    assert among["fetched"] <= alone["fetched"] + 50


@pytest.mark.parametrize(
    "run_at", ["now() - interval '1 hour' + n * interval '10 ms'", "now()"], ids=["one by one", "in one statement"]
)
def test_a_held_snapshot_does_not_lengthen_the_walk_of_a_turn(database, hire, run_at):
    driver = hire()
    enqueue(database, 10_000, run_at=run_at)
    with held_snapshot(database):
        finished, walked = [], []
        for _ in range(19):
            with driver.counting(database) as counts:
                finished = done(driver.turn(finished).leases)
            walked.append(counts["entries"])
        driver.selection.anew()
        with driver.counting(database) as counts:
            assert len(driver.turn(finished).leases) == 500
    # a look from the start walks over all dead entries; otherwise this test would prove nothing
    assert counts["entries"] >= 9500
    assert max(walked[1:]) <= 2000, walked


def test_a_held_snapshot_does_not_lengthen_the_walk_of_an_empty_turn(database, hire):
    driver = hire()
    with held_snapshot(database):
        enqueue(database, 5000, run_at="now() - interval '1 hour' + n * interval '10 ms'")
        run = driver.lease()
        while run:
            run = driver.turn(done(run)).leases
        walked = []
        for _ in range(5):
            with driver.counting(database) as counts:
                driver.turn()
            walked.append(counts["entries"])
    assert max(walked) <= 100, walked


def test_under_a_held_snapshot_the_search_for_expired_leases_walks_over_a_few_seconds(database, hire):
    driver = hire()
    enqueue(database, 5000)
    with held_snapshot(database):
        run = driver.lease()
        while run:
            run = driver.turn(done(run)).leases
        database.query("UPDATE jobs SET state = state")
        walked = {}
        for back in (5.0, None):
            before = _lease_entries(driver, database)
            driver.queue.sweep(back=back)
            walked[back] = _lease_entries(driver, database) - before
    assert walked[5.0] <= 100


def _lease_entries(driver, database):
    driver.queue.connection.execute("SELECT pg_stat_force_next_flush()")
    return int(database.value("SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'jobs_leases'"))


def test_a_job_touches_few_buffers_and_writes_little_wal(database, hire):
    driver = hire()
    enqueue(database, 6000)
    leases, buffers, wal = driver.lease(), 0, 0
    for _ in range(10):
        plans, token = _explained(driver, done(leases))
        for plan in plans:
            buffers += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
            wal += plan["WAL Bytes"] - 8192 * plan.get("WAL FPI", 0)
        rows = database.query("SELECT id FROM jobs WHERE lease_token = %s", token)
        leases = [leases[0]._replace(id=job, batch=leases[0].batch._replace(token=token)) for (job,) in rows]
        assert len(leases) == 500
    assert buffers / 5000 <= 60
    assert wal / 5000 <= 2500


def _explained(driver, finished):
    """What the two statements of a turn cost: the first node of each plan. The next turn settles the leased jobs."""
    ranges = driver.selection.turn(Settles.of([])).ranges
    token = str(uuid4())
    where, count = map(list, zip(*ranges, strict=True)), len(ranges)
    arguments = {
        "settle_v1": settle_arguments(finished),
        "lease_v1": (driver.id, token, *where, [60.0] * count, [500] * count, True, [], False),
    }
    plans = []
    with driver.queue.connection.transaction():
        for name, types in TYPES.items():
            call = f"SELECT * FROM {name}({', '.join(f'%s::{each}' for each in types)})"
            explained = driver.queue.connection.execute(
                f"EXPLAIN (ANALYZE, BUFFERS, WAL, FORMAT JSON) {call}", arguments[name]
            )
            plans.append(explained.fetchone()[0][0]["Plan"])
    return plans, token


def test_an_idle_worker_asks_once_in_each_poll_interval(database, start_worker):
    url = talkative(database)
    worker = start_worker(
        "--poll-interval",
        "0.05",
        "--kind",
        "test.ok",
        "--metrics",
        "127.0.0.1:0",
        env={"SHITHUBD_WORKER_DATABASE_URL": url},
    )
    eventually(lambda: worker.metric('shithub_worker_claims_total{result="empty"}') >= 10, "idle")
    pids = [
        pid
        for (pid,) in database.query(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name IN ('shithubd-worker', 'shithubd-worker control')"
        )
    ]
    assert len(pids) == 2
    before, began = worker.metric('shithub_worker_claims_total{result="empty"}'), time.monotonic()
    start = len(log_of(database))
    first = worker.metric('shithub_worker_claims_total{result="empty"}')
    eventually(lambda: worker.metric('shithub_worker_claims_total{result="empty"}') >= first + 50, "50 polls")
    said = spoken(log_of(database)[start:], *pids)
    seconds = time.monotonic() - began
    last = worker.metric('shithub_worker_claims_total{result="empty"}')
    turns = [text for text in said if "lease_v1" in text]
    assert len(turns) >= 49
    assert len(turns) <= last - before + 1
    # In addition, the statements with a clock of their own: a sweep every 2 s, a beat every 5 s.
    assert len(said) - len(turns) <= 2 + seconds


def test_a_worker_at_full_speed_asks_once_for_hundreds_of_jobs(database, start_worker):
    enqueue(database, 6000, kind="test.ok")
    start = len(log_of(database))
    worker = start_worker(
        "--prefetch", "3600", "--until-empty", ready=False, env={"SHITHUBD_WORKER_DATABASE_URL": talkative(database)}
    )
    assert worker.wait() == 0
    turns = [text for text in spoken(log_of(database)[start:]) if "lease_v1" in text]
    # 1, 4, 4, 16, 16, 64, 64, 256, 256, and then 500 at a time, and some turns that find nothing.
    assert len(turns) <= 40
    assert len(spoken(log_of(database)[start:])) <= 200


def test_a_big_payload_costs_its_job_two_more_queries_and_no_other_job_any(database, start_worker):
    enqueue(database, 341, kind="test.ok")
    enqueue(database, 1000, kind="test.ok", payload='{"pad": "%s"}' % ("x" * 5000))
    start = len(log_of(database))
    worker = start_worker(
        "--prefetch", "3600", "--until-empty", ready=False, env={"SHITHUBD_WORKER_DATABASE_URL": talkative(database)}
    )
    assert worker.wait() == 0
    assert len(spoken(log_of(database)[start:])) <= 2 * 1000 + 200
    updated = eventually(
        lambda: (n := database.value("SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'jobs'")) >= 1341 and n
    )
    assert updated <= 4 * 1341
