"""What a scrape shows about a database that is away while a job runs, and about attempts that end with their worker."""

from __future__ import annotations

import os
import re
import signal
import urllib.error
import urllib.request
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from conftest import eventually

MOST = 9_223_372_036_854_775_807
ENDED = re.compile(
    r'^(shithub_worker_jobs_processed|shithubd_leases_returned)_total\{kind="(.*)",outcome="(.*)"\} (\S+)$'
)


def readyz(worker):
    try:
        with urllib.request.urlopen(f"{worker.metrics_url}/readyz") as answer:
            return answer.status, answer.read().decode().strip()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode().strip()


@contextmanager
def gone(database):
    # leases do not wait for the disk, but this commit does, so the lease survives
    database.query("CREATE TABLE any_commit ()")
    database.server.stop("immediate")
    try:
        yield
    finally:
        database.server.start()


@contextmanager
def frozen(database):
    """The server acknowledges what it gets, and answers nothing."""
    root = int((Path(database.server.directory) / "data/postmaster.pid").read_text().splitlines()[0])
    children = (Path(f"/proc/{root}/task/{root}/children")).read_text().split()
    pids = [root, *map(int, children)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


@contextmanager
def refusing(database):
    with psycopg.connect(database.server.url("postgres"), autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{database.name}" ALLOW_CONNECTIONS false')
        connection.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = %s", (database.name,)
        )
        try:
            yield
        finally:
            connection.execute(f'ALTER DATABASE "{database.name}" ALLOW_CONNECTIONS true')


@pytest.mark.parametrize("fault", [gone, frozen, refusing])
def test_a_worker_with_a_running_job_shows_that_its_database_went_away_and_came_back(
    database, start_worker, door, fault
):
    database.query(
        "INSERT INTO jobs (kind, payload) VALUES ('test.waits', jsonb_build_object('door', %s::text))", door.path
    )
    worker = start_worker("--metrics", "127.0.0.1:0", "--kind", "test.waits")
    eventually(lambda: readyz(worker) == (200, "running"), "it runs")
    assert worker.metric("shithub_worker_db_up") == 1
    before = worker.metric('shithub_worker_db_reconnects_total{thread="control"}')
    with fault(database):
        eventually(lambda: readyz(worker) == (503, "reconnecting"), "not ready")
        scrape = worker.metrics()
        assert "\nshithub_worker_db_up 0.0\n" in scrape
        assert '\nshithub_worker_state{state="reconnecting"} 1.0\n' in scrape
        assert '\nshithub_worker_in_flight{kind="test.waits"} 1.0\n' in scrape
        assert "\nshithubd_queue_scrape_success 0.0\n" in scrape
    eventually(lambda: worker.metric("shithub_worker_db_up") == 1, "up again")
    assert readyz(worker) == (200, "running"), "while the job still runs"
    assert worker.metric('shithub_worker_db_reconnects_total{thread="control"}') > before
    eventually(lambda: database.query("SELECT 1 FROM beats WHERE state = 'running'"), "the database is told the same")
    door.open()
    eventually(lambda: database.query("SELECT 1 FROM job_history WHERE outcome = 'ok'"), "the job is done")
    assert worker.terminate() == 0


def counted(*scrapes):
    """How many attempts ended, by kind and outcome, in these scrapes of different workers together."""
    found = Counter()
    for scrape in scrapes:
        for line in scrape.splitlines():
            if match := ENDED.match(line):
                found[match[2], match[3]] += int(float(match[4]))
    return +found


def in_history(database):
    rows = database.query("SELECT kind, outcome, count(*) FROM job_history GROUP BY 1, 2")
    return Counter({(kind, outcome): count for kind, outcome, count in rows})


def of_this_worker(scrape):
    return "\n".join(line for line in scrape.splitlines() if line.startswith("shithub_worker_"))


FAILS = """INSERT INTO jobs (kind, payload) SELECT 'test.fails', '{"how": "permanent"}' FROM generate_series(1, %s)"""


@pytest.mark.parametrize("scraped", [True, False])
def test_an_attempt_between_the_last_scrape_and_the_end_of_the_worker_is_counted_once(database, start_worker, scraped):
    worker = start_worker("--metrics", "127.0.0.1:0")
    database.query(FAILS, 30)
    eventually(lambda: in_history(database)["test.fails", "failed"] == 30, "thirty failed")
    last = worker.metrics() if scraped else ""
    database.query(FAILS, 50)
    database.query("INSERT INTO jobs (kind) SELECT 'test.ok' FROM generate_series(1, 20)")
    eventually(lambda: sum(in_history(database).values()) == 100, "a hundred ended")
    assert worker.terminate() == 0
    other = start_worker("--metrics", "127.0.0.1:0")
    assert counted(of_this_worker(last), other.metrics()) == in_history(database)
    assert other.terminate() == 0


def test_the_database_counts_a_handler_that_ends_with_its_process(database, start_worker):
    job = database.value("""INSERT INTO jobs (kind, payload) VALUES ('test.stubborn', '{"runtime": 1}') RETURNING id""")
    worker = start_worker("--metrics", "127.0.0.1:0")
    assert worker.wait() == 70
    assert in_history(database) == {("test.stubborn", "retry"): 1}
    other = start_worker("--metrics", "127.0.0.1:0", "--kind", "test.stubborn", "--kind", "test.ok")
    scrape = other.metrics()
    assert counted(scrape) == in_history(database)
    assert '\nshithubd_forced_ends_total{kind="test.stubborn"} 1.0\n' in scrape
    assert '\nshithubd_forced_ends_total{kind="test.ok"} 0.0\n' in scrape
    assert other.terminate() == 0
    told = database.value("SELECT last_error FROM jobs WHERE id = %s", job)
    assert "longer than it had asked for with job.extend()" in told


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_cleanup_after_a_dead_man_says_so_and_blames_no_unstarted_job(database, start_worker, command, jobs):
    """Only its signal tells this end from another. A handler that held the interpreter may have delayed other jobs at
    hand."""
    invocation = uuid4().hex
    first = database.query("INSERT INTO jobs (kind) SELECT 'test.sleep' FROM generate_series(1, 1) RETURNING id")
    worker = start_worker("--kind", "test.sleep", env={"INVOCATION_ID": invocation})
    eventually(lambda: database.query("SELECT 1 FROM jobs WHERE state = 'processing'"), "it runs")
    if jobs > 1:  # another job of the same lease
        database.query(
            "INSERT INTO jobs (kind, state, attempts, leased_by, leased_at, lease_expires_at, lease_token, worker_id)"
            " SELECT kind, state, attempts, leased_by, leased_at, lease_expires_at, lease_token, worker_id FROM jobs"
        )
    worker.send(signal.SIGVTALRM)
    assert worker.wait() == -signal.SIGVTALRM
    assert "(most recent call first):" in worker.log
    env = {"INVOCATION_ID": invocation, "SERVICE_RESULT": "signal", "EXIT_STATUS": "VTALRM", "EXIT_CODE": "killed"}
    assert f"{jobs} lease(s) of {invocation} returned" in command("release-dead", env=env).stdout
    told = database.value("SELECT last_error FROM jobs WHERE id = %s", first[0][0])
    assert told.startswith(
        "its worker was ended, because a handler held the interpreter: systemd says signal, status VTALRM"
    )
    assert database.query("SELECT kind, crashed, forced FROM leases_returned") == [("test.sleep", jobs, int(jobs == 1))]


def test_a_counter_at_its_largest_value_stays_in_the_scrape(any_database):
    for _ in range(2):
        any_database.query(
            "SELECT count_ended_v1(ARRAY['b', 'a', 'b'], ARRAY['ok', 'forced', 'retry'], ARRAY[%s, 1, 2])", MOST
        )
    assert any_database.query("SELECT kind, ok, retry, failed, forced FROM leases_returned ORDER BY kind") == [
        ("a", 0, 0, 0, 2),
        ("b", MOST, 4, 0, 0),
    ]
