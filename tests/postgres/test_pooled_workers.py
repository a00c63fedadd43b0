"""Workers behind PgBouncer, with a pool of one session and of many."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from conftest import Database, Door, WorkerProcess, eventually
from test_pooled_commands import WRITABLE, do, leave_settings, look, stranger

from shithubd_worker.database.connection import connector
from shithubd_worker.database.pooled import NoSession
from shithubd_worker.errors import EXIT_CONFIG

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]

Start = Callable[..., WorkerProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts workers with the handlers of tests/pooled_jobs.py, and ends all of them after the test."""
    started: list[WorkerProcess] = []

    def go(
        behind: Database,
        *arguments: str,
        handlers: str = "pooled_jobs:registry",
        env: dict[str, str] | None = None,
    ) -> WorkerProcess:
        given = ("--handlers", handlers, *arguments)
        if "--metrics" not in arguments:
            given = (*given, "--metrics", "off")
        started.append(WorkerProcess(behind, tmp_path, *given, env=env))
        return started[-1]

    yield go
    for worker in started:
        worker.end()


def outcomes(database: Database) -> dict[tuple[str, str], int]:
    rows = database.query("SELECT kind, outcome, count(*) FROM job_history GROUP BY kind, outcome")
    return {(kind, outcome): count for kind, outcome, count in rows}


def fill(database: Database) -> None:
    database.query("CREATE TABLE effects (job bigint, as_what text)")
    database.query("INSERT INTO jobs (kind) SELECT 'pooled.ok' FROM generate_series(1, 3000)")
    for kind in ("pooled.fails_once", "pooled.writes"):
        database.query("INSERT INTO jobs (kind) SELECT %s FROM generate_series(1, 40)", kind)


DONE = {
    ("pooled.ok", "ok"): 3000,
    ("pooled.fails_once", "retry"): 40,
    ("pooled.fails_once", "ok"): 40,
    ("pooled.writes", "ok"): 40,
}


@pytest.mark.parametrize(("pool", "workers"), [(1, 3), (20, 5)])
def test_workers_that_poll_run_each_job_once_and_leave_the_pools_sessions_unchanged(
    any_database: Database, pooler: Callable[..., Database], start: Start, pool: int, workers: int
) -> None:
    fill(any_database)
    behind = pooler(any_database, pool=pool)
    before = look(behind)
    fleet = [start(behind, "--poll-only", "--metrics", "127.0.0.1:0") for _ in range(workers)]
    eventually(lambda: any_database.value("SELECT count(*) FROM jobs") == 0, "the end of all jobs")
    for worker in fleet:
        eventually(lambda worker=worker: worker.metric("shithubd_queue_scrape_success") == 1, "a scrape")
        assert worker.terminate() == 0
    assert outcomes(any_database) == DONE
    assert any_database.query("SELECT count(*), count(DISTINCT job) FROM effects") == [(40, 40)]
    assert any_database.value("SELECT count(*) FROM workers") == 0
    after = look(behind)
    if pool == 1:
        assert after == before
    assert {name for name in after if after[name] != before.get(name)} <= {"process"}


def test_a_worker_ignores_what_a_stranger_left_in_the_session(
    any_database: Database, pooler: Callable[..., Database], start: Start
) -> None:
    fill(any_database)
    behind = pooler(any_database)
    leave_settings(behind)
    before = look(behind)
    worker = start(behind, "--poll-only", "--until-empty")
    assert worker.wait() == 0, worker.log
    assert outcomes(any_database) == DONE
    assert any_database.query("SELECT DISTINCT as_what FROM effects") == [
        ('(postgres,"""$user"", public","read committed")',)
    ]
    assert {name: was for name, was in look(behind).items() if name not in WRITABLE} == {
        name: was for name, was in before.items() if name not in WRITABLE
    }


@pytest.mark.parametrize(("mode", "pool"), [("transaction", 1), ("transaction", 20), ("statement", 1)])
def test_a_worker_that_listens_refuses_a_shared_session_and_leaves_nothing_in_it(
    any_database: Database, pooler: Callable[..., Database], start: Start, mode: str, pool: int
) -> None:
    behind = pooler(any_database, mode=mode, pool=pool)
    before = look(behind)
    worker = start(behind)
    assert worker.wait() == EXIT_CONFIG, worker.log
    assert ("run --poll-only" if mode == "transaction" else "pool_mode = transaction or session") in worker.log
    after = look(behind)
    if mode == "statement":  # such a pooler ends the session, too
        after["process"] = before["process"]
    assert after == before


@pytest.mark.parametrize("robin", [0, 1])
def test_a_shared_session_is_detected_while_others_use_the_pool(
    database: Database, pooler: Callable[..., Database], robin: int
) -> None:
    behind = pooler(database, pool=4, settings=[f"server_round_robin = {robin}"])
    with stranger(behind) as first, stranger(behind) as second:
        for _ in range(10):
            with first.transaction():
                first.execute("SELECT")
                with second.transaction():
                    second.execute("SELECT")
                    with pytest.raises(NoSession):
                        connector(behind.url, "test")()
            with pytest.raises(NoSession):
                connector(behind.url, "test")()


def test_a_worker_that_listens_is_woken_through_a_pooler_in_session_mode(
    any_database: Database, pooler: Callable[..., Database], start: Start
) -> None:
    worker = start(pooler(any_database, mode="session", pool=20), "--poll-interval", "3600")
    eventually(lambda: any_database.at_rest() == 1, "a worker at rest")
    any_database.query("INSERT INTO jobs (kind) VALUES ('pooled.ok')")
    eventually(lambda: outcomes(any_database) == {("pooled.ok", "ok"): 1}, "the end of the job")
    assert worker.terminate() == 0


def test_a_full_session_pool_does_not_count_as_shared(database: Database, pooler: Callable[..., Database]) -> None:
    with connector(pooler(database, mode="session", pool=1).url, "test")() as connection:
        assert connection.execute("SHOW default_transaction_isolation").fetchone() == ("read committed",)


def test_a_transaction_that_keeps_the_only_session_beyond_its_lease_is_given_up(
    any_database: Database, pooler: Callable[..., Database], start: Start, door: Door
) -> None:
    any_database.query("CREATE TABLE effects (job bigint)")
    behind = pooler(any_database)
    worker = start(behind, "--poll-only")
    payload = psycopg.types.json.Jsonb({"door": door.path})
    any_database.query("INSERT INTO jobs (kind, payload) VALUES ('pooled.keeps', %s)", payload)
    given_up = ("pooled.keeps", "released")
    eventually(lambda: outcomes(any_database).get(given_up, 0) > 0, "the first run's end")
    door.open()
    eventually(lambda: any_database.value("SELECT count(*) FROM jobs") == 0, "the end of the job")
    assert worker.terminate() == 0
    assert any_database.value("SELECT count(*) FROM effects") == 1
    assert set(outcomes(any_database)) == {given_up, ("pooled.keeps", "ok")}
    assert "no free connection in its pooler" in worker.log


def test_leases_are_renewed_and_returned_through_a_pool_of_one(
    any_database: Database, pooler: Callable[..., Database], start: Start, door: Door
) -> None:
    behind = pooler(any_database)
    worker = start(behind, "--poll-only", env={"INVOCATION_ID": "ab" * 16})
    payload = psycopg.types.json.Jsonb({"door": door.path})
    any_database.query("INSERT INTO jobs (kind, payload) VALUES ('pooled.waits', %s)", payload)
    lease = "SELECT lease_expires_at FROM jobs WHERE state = 'processing'"
    first = eventually(lambda: any_database.query(lease), "a lease")
    eventually(lambda: any_database.query(lease) > first, "its renewal")
    do(behind, "pause-kind", ["pooled.waits"])
    worker.send(signal.SIGKILL)
    worker.wait()
    do(behind, "release-dead", ["--invocation-id", "ab" * 16])
    assert any_database.query("SELECT state, crashes FROM jobs") == [("queued", 1)]
    other = start(behind, "--poll-only", "--grace", "0")
    other.wait_for(" ready\n")
    do(behind, "resume-kind", ["pooled.waits"])
    eventually(lambda: Path(f"{door.path}.started").read_text() == "xx", "another run")
    assert other.terminate() == 0
    assert any_database.query("SELECT state FROM jobs") == [("queued",)]
    assert outcomes(any_database) == {("pooled.waits", "crashed"): 1, ("pooled.waits", "released"): 1}


def test_nothing_of_a_kind_starts_after_its_pause_through_a_pool_of_one(
    any_database: Database, pooler: Callable[..., Database], start: Start
) -> None:
    any_database.query("INSERT INTO jobs (kind) SELECT 'pooled.ok' FROM generate_series(1, 200000)")
    behind = pooler(any_database)
    fleet = [start(behind, "--poll-only") for _ in range(2)]
    done = "SELECT count(*) FROM job_history WHERE kind = %s"
    eventually(lambda: any_database.value(done, "pooled.ok") > 0, "the first jobs")
    do(behind, "pause-kind", ["pooled.ok", "--wait"])
    paused = any_database.value(done, "pooled.ok")
    assert any_database.value("SELECT count(*) FROM jobs WHERE state = 'processing'") == 0
    assert any_database.value("SELECT count(*) FROM jobs") > 0
    any_database.query("INSERT INTO jobs (kind) SELECT 'pooled.fails_once' FROM generate_series(1, 20)")
    eventually(lambda: any_database.value(done, "pooled.fails_once") == 40, "the end of jobs that came later")
    assert any_database.value(done, "pooled.ok") == paused
    assert [worker.terminate() for worker in fleet] == [0, 0]


def test_a_silent_worker_is_swept_through_a_pool_of_one(
    database: Database, pooler: Callable[..., Database], start: Start, tmp_path: Path
) -> None:
    behind, path = pooler(database), tmp_path / "runs.txt"
    before = look(behind)
    quick = ("--poll-only", "--heartbeat-interval", "1", "--sweep-threshold", "10", "--sweep-interval", "1")
    silent, other = (start(behind, *quick, handlers="silent_jobs:registry") for _ in range(2))
    for worker in (silent, other):
        worker.wait_for(" ready\n")
    payload = psycopg.types.json.Jsonb({"path": str(path)})
    job = database.value("INSERT INTO jobs (kind, payload) VALUES ('silent.obeys', %s) RETURNING id", payload)
    running = "SELECT pid FROM beats JOIN workers ON id = worker_id WHERE job_id = %s"
    if eventually(lambda: database.query(running, job), "a run")[0][0] == other.pid:
        silent, other = other, silent
    silent.send(signal.SIGSTOP)
    eventually(lambda: outcomes(database) == {("silent.obeys", "crashed"): 1, ("silent.obeys", "ok"): 1}, "two runs")
    assert "was silent for" in database.value("SELECT error FROM job_history WHERE outcome = 'crashed'")
    silent.send(signal.SIGCONT)
    assert silent.wait() == -signal.SIGVTALRM
    assert other.terminate() == 0
    assert look(behind) == before
