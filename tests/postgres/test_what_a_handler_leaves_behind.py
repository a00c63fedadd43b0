"""What a handler changes in the worker's process does not affect the next job, a deadline or a stop."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from conftest import WorkerProcess, eventually, new_database
from leaving_jobs import DEADLINES, KINDS, LEFT, NOTES
from psycopg.conninfo import conninfo_to_dict

from shithubd_worker.errors import EXIT_ERROR

HANDLERS = "leaving_jobs:registry"


def enqueue(database, kind, **members):
    return database.value("INSERT INTO jobs (kind, payload) VALUES (%s, %s) RETURNING id", kind, json.dumps(members))


def history(database, job):
    return [each for (each,) in database.query("SELECT outcome FROM job_history WHERE id = %s", job)]


def note(database, job):
    return eventually(lambda: database.query("SELECT note FROM notes WHERE job = %s", job), "it looked")[0][0]


@pytest.fixture(scope="module")
def worked(server, tmp_path_factory):
    """A database, and a worker that survives all of it."""
    made = new_database(server)
    database = next(made)
    database.query(NOTES)
    options = ("--handlers", HANDLERS, "--metrics", "off")
    worker = WorkerProcess(database, tmp_path_factory.mktemp("worker"), *options)
    worker.wait_for(" ready\n")
    before = note(database, enqueue(database, "leave.look"))
    try:
        yield database, worker, before
        assert worker.terminate() == 0
    finally:
        worker.end()
        next(made, None)


@pytest.mark.parametrize("what", LEFT)
def test_a_change_by_a_handler_is_undone_before_the_next_batch_and_logged(worked, what):
    database, worker, before = worked
    left = enqueue(database, KINDS[what])
    eventually(lambda: history(database, left) == ["ok"], "left behind")
    assert note(database, enqueue(database, "leave.look")) == before
    said = f"a handler of {KINDS[what]} changed {what}"
    assert worker.log.count(said) == 1
    assert ", which the worker needs: the worker put it back" in worker.log.partition(said)[2].splitlines()[0]


def test_a_change_is_logged_once_for_each_kind_and_setting(worked, tmp_path):
    database, worker, before = worked
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        left = enqueue(database, "leave.moves", directory=str(tmp_path / str(number)))
        eventually(lambda left=left: history(database, left) == ["ok"], "left behind")
    assert note(database, enqueue(database, "leave.look")) == before
    assert worker.log.count("a handler of leave.moves changed the working directory") == 1


@pytest.mark.parametrize("what", [what for what in DEADLINES if "function" not in what and "IGN" not in what])
def test_the_next_job_of_the_same_batch_is_interrupted_at_its_deadline(database, start_worker, what):
    left, late = enqueue(database, "leave.something", what=what), enqueue(database, "leave.late")
    worker = start_worker(handlers=HANDLERS)
    eventually(lambda: history(database, late) == ["retry"], "interrupted")
    assert history(database, left) == ["ok"]
    assert worker.terminate() == 0


@pytest.mark.parametrize("what", [what for what in DEADLINES if "SIG_DFL" in what or "timer" in what])
def test_a_library_that_resets_the_alarm_during_a_job_does_not_remove_the_deadline(worked, what):
    database, worker, _ = worked
    late = enqueue(database, "leave.late", what=what)
    eventually(lambda: history(database, late) == ["retry"], "interrupted")
    assert worker.process.poll() is None


@pytest.mark.parametrize("what", ["the handler of SIGTERM (<Handlers.SIG_DFL", "the wakeup descriptor of signals"])
def test_a_stop_after_a_change_by_a_handler_is_clean(database, start_worker, what):
    worker = start_worker(handlers=HANDLERS)
    left = enqueue(database, "leave.something", what=what)
    eventually(lambda: history(database, left) == ["ok"], "left behind")
    assert worker.terminate() == 0


def test_a_stop_releases_a_job_that_reset_sigterm_to_its_default(database, start_worker, tmp_path):
    worker = start_worker("--grace", "0", handlers=HANDLERS)
    door = tmp_path / "door"
    job = enqueue(database, "leave.late", what="the handler of SIGTERM (<Handlers.SIG_DFL", door=str(door))
    eventually(door.exists, "changed")
    eventually(lambda: not _deadly(worker.pid, signal.SIGTERM), "taken back in mid-job")
    assert worker.terminate() == 0
    assert history(database, job) == ["released"]


def _deadly(pid, number):
    """Would this signal end the process? It does if it has no handler and is not ignored."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigCgt", "SigIgn"))]
    return not any(mask >> (number - 1) & 1 for mask in masks)


def test_a_handler_that_changes_the_database_variables_does_not_redirect_the_worker(database, start_worker):
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE"}
    way = {names[name]: str(value) for name, value in conninfo_to_dict(database.url).items() if name in names}
    worker = start_worker(handlers=HANDLERS, env={"SHITHUBD_WORKER_DATABASE_URL": "", **way})
    led_astray = enqueue(database, "leave.other_database")
    eventually(lambda: history(database, led_astray) == ["ok"], "the variables changed")
    database.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name LIKE 'shithubd-worker%%'"
    )
    after = enqueue(database, "leave.something", what="sys.setprofile")
    eventually(lambda: history(database, after) == ["ok"], "it found the same database again")
    assert "a handler changed PGDATABASE, PGHOST, which the worker connects with: the worker put it back" in worker.log
    assert worker.terminate() == 0


def test_a_handler_that_closes_the_workers_descriptors_ends_it_and_loses_no_job(database, start_worker):
    job = enqueue(database, "leave.no_descriptor")
    other = enqueue(database, "leave.something", what="sys.setprofile")
    assert start_worker(handlers=HANDLERS, ready=False).wait() == EXIT_ERROR
    assert history(database, job) in ([], ["crashed"])
    worker = start_worker("--kind", "leave.something", handlers=HANDLERS)
    eventually(lambda: history(database, other) == ["ok"], "the other job ran")
    assert database.value("SELECT state FROM jobs WHERE id = %s", job) == "queued"
    assert worker.terminate() == 0


def test_no_signal_during_exit_functions_replaces_the_exit_code(database, start_worker, tmp_path):
    path = tmp_path / "ending"
    job = enqueue(database, "leave.slow_end", path=str(path))
    worker = start_worker(handlers=HANDLERS)
    eventually(lambda: history(database, job) == ["ok"], "it will end slowly")
    worker.send(signal.SIGTERM)
    eventually(path.exists, "the exit function runs")
    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT, signal.SIGURG):
        worker.send(number)
    (path / "on").touch()
    assert worker.wait() == 0
    assert (path / "silent").exists()  # and no alarm of this job, or of an interrupted one, is still to ring
