"""A process that a handler forks is not the worker: it ends, and does not disturb the worker."""

from __future__ import annotations

import ast
import json
import os
import signal

import pytest
from conftest import WorkerProcess, eventually, new_database
from forking_jobs import CHILDREN, sockets

HANDLERS = "forking_jobs:registry"
WAYS = ["os.fork", "os.forkpty", "c"]


@pytest.fixture(scope="module")
def fork(server, tmp_path_factory):
    """Have a worker run one of the handlers, and check the worker afterwards. All tests share the worker."""
    made = new_database(server)
    database = next(made)
    database.query(CHILDREN)
    options = ("--handlers", HANDLERS, "--grace", "3600", "--metrics", "127.0.0.1:0")
    worker = WorkerProcess(database, tmp_path_factory.mktemp("worker"), *options)
    worker.wait_for(" ready\n")

    def run(kind, **members):
        assert worker.process.poll() is None, worker.log
        job = enqueue(database, kind, **members)
        eventually(lambda: history(database, job), "the job ended")
        assert history(database, job) == [("ok", None)]
        after = enqueue(database, "fork.nothing")
        eventually(lambda: history(database, after), "the worker goes on")
        assert history(database, after) == [("ok", None)]
        assert worker.metrics()
        assert not database.query("SELECT 1 FROM children WHERE job = 0")  # no line by a child
        return database.query("SELECT status, said FROM children WHERE job = %s", job)

    yield run
    try:
        assert worker.terminate() == 0
        assert not database.query("SELECT 1 FROM jobs")
    finally:
        worker.end()
        next(made, None)


def enqueue(database, kind, **members):
    return database.value("INSERT INTO jobs (kind, payload) VALUES (%s, %s) RETURNING id", kind, json.dumps(members))


def history(database, job):
    return database.query("SELECT outcome, error FROM job_history WHERE id = %s", job)


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("returns", 0),
        ("raises", 1),
        ("exits", 7),
        ("exits with a word", 1),
        ("is interrupted", 130),
        ("executes nothing", 1),
        ("closes", 0),
        ("in a transaction", 1),
        ("disarms faulthandler", 0),
    ],
)
def test_a_child_that_comes_back_ends_with_pythons_exit_code_and_the_job_is_done_once(fork, how, code):
    assert fork("fork.comes_back", how=how) == [(code, how)]


@pytest.mark.parametrize("way", WAYS)
def test_a_child_of_any_fork_uses_nothing_of_the_worker(fork, way, tmp_path):
    said = tmp_path / "said"
    assert fork("fork.comes_back", how="uses all", said=str(said), way=way) == [(0, "uses all")]
    uses = dict(line.split(": ", 1) for line in said.read_text().splitlines())
    assert set(uses) >= {"held connection", "job.connection", "job.transaction", "enqueue", "job.popen", "job.extend"}
    for use, answer in uses.items():
        assert answer.startswith("NotTheWorker: "), use


@pytest.mark.parametrize("way", ["os.fork", "os.forkpty"])
def test_a_child_has_default_signals_and_no_socket_of_the_worker(fork, way, tmp_path):
    said = tmp_path / "said"
    fork("fork.comes_back", how="looks at itself", said=str(said), way=way)
    assert ast.literal_eval(said.read_text()) == ([], [], -1, 0.0, [])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "SIGALRM", "SIGHUP"])
def test_a_signal_to_a_child_ends_the_child_and_does_not_stop_the_worker(fork, how, way):
    code = 130 if how == "SIGINT" else -signal.Signals[how]  # Python's default: KeyboardInterrupt
    assert fork("fork.comes_back", how=how, way=way) == [(code, how)]


def test_a_fork_inside_the_jobs_transaction_leaves_it_to_the_worker(fork):
    assert fork("fork.inside") == [(1, "")]


@pytest.mark.parametrize(
    "way",
    [
        *("multiprocessing fork", "multiprocessing spawn", "multiprocessing forkserver"),
        *("pool fork", "pool spawn", "preexec_fn", "posix_spawn", "system", "daemon", "thread"),
    ],
)
def test_a_child_of_a_library_does_its_work_once_and_with_default_signals(fork, way, tmp_path):
    assert fork("fork.library", way=way, path=str(tmp_path / "written")) == [(0, "x")]
    if way == "daemon":
        assert eventually((tmp_path / "written.log").read_text, "its own files") == "y" * 40


@pytest.mark.parametrize("how", ["job.popen", "subprocess", "preexec_fn"])
def test_a_program_starts_with_default_signals(fork, how):
    assert fork("fork.looks", how=how) == [(0, "[]")]


def test_a_child_that_outlives_its_handler_keeps_nothing_of_the_worker_open(fork, tmp_path):
    pid_path = tmp_path / "pid"
    fork("fork.lives_on", pid_path=str(pid_path))
    pid = int(pid_path.read_text())
    try:
        assert not sockets(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
