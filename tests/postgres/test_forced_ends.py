"""The end of a process whose handler ignores its interrupt: what it leaves in the database, and its exit code."""

from __future__ import annotations

import signal
import time
from types import SimpleNamespace

import pytest

from shithubd_worker.attempt.attempt import OK
from shithubd_worker.errors import EXIT_FORCED, EXIT_OK
from shithubd_worker.model import Finished
from shithubd_worker.process.duties.ending import Ending
from shithubd_worker.process.duties.figures import Figures


@pytest.fixture
def end(parts):
    """Ends a process (not this one). Returns what systemd was told, and the exit code."""
    said = []
    ending = Ending(
        parts.beat,
        parts.me.id,
        parts.relief,
        strays=lambda: [],
        figures=Figures(parts.beat, parts.metrics),
        systemd=SimpleNamespace(stopping=lambda: said.append("stopping")),
        end_process=said.append,
    )
    return ending, said


def jobs(database):
    return database.query("SELECT id, state, attempts FROM jobs ORDER BY id")


def history(database):
    return dict(database.query("SELECT id, outcome FROM job_history"))


def test_the_job_over_its_time_fails_and_all_others_are_settled_or_given_back(database, parts, end):
    ending, said = end
    done, waiting = parts.lease(2)
    parts.tray.finished.append(Finished(done, OK, "7d", 0.1))
    parts.tray.leased.append(waiting)
    children = []

    def body(attempt):
        children.append(attempt.popen(["sleep", "3600"], env=None))
        attempt.runtime_deadline = time.monotonic()
        ending(attempt, EXIT_FORCED)

    attempt, _ = parts.run(body)
    assert said == ["stopping", EXIT_FORCED]
    assert history(database) == {done.id: "ok", attempt.lease.id: "retry"}
    assert jobs(database) == [(waiting.id, "queued", 0), (attempt.lease.id, "queued", 1)]
    assert "duties.py" in database.value("SELECT error FROM job_history WHERE outcome = 'retry'"), "its stack"
    assert database.query("SELECT FROM workers") == []
    assert database.query("SELECT kind, ok, retry, forced FROM leases_returned") == [("k", 1, 1, 1)]
    assert children[0].returncode == -signal.SIGKILL


def test_a_stop_releases_the_job_and_costs_no_attempt(database, parts, end):
    ending, said = end
    for _ in range(2):
        parts.stop.hear(main=True)  # at this moment
    attempt, _ = parts.run(lambda attempt: ending(attempt, EXIT_OK))
    assert said == ["stopping", EXIT_OK]
    assert history(database) == {attempt.lease.id: "released"}
    assert jobs(database) == [(attempt.lease.id, "queued", 0)]


def test_a_lost_lease_is_not_touched_and_the_workers_row_stays_for_release_dead(database, parts, end):
    ending, said = end

    def body(attempt):
        attempt.lost = True
        ending(attempt, EXIT_FORCED)

    attempt, _ = parts.run(body)
    assert said == ["stopping", EXIT_FORCED]
    assert jobs(database) == [(attempt.lease.id, "processing", 1)]
    assert database.query("SELECT id FROM workers") == [(parts.me.id,)]
    assert database.query("SELECT lease_lost, forced FROM leases_returned") == [(1, 1)]


def test_the_process_ends_even_if_the_database_refuses_to_settle(database, parts, end, caplog):
    ending, said = end
    database.query("ALTER FUNCTION unregister_v1(uuid, uuid[]) RENAME TO as_it_was")
    for _ in range(2):
        parts.stop.hear(main=True)
    parts.run(lambda attempt: ending(attempt, EXIT_OK))
    assert said == ["stopping", EXIT_OK]
    assert "could not settle job" in caplog.text
