"""Sets a run up, runs it, and ends all that it started.

If SIGKILL ends the run itself, only the database's server remains. All other processes die with it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from servers import Server, debian_bindir, embedded_bindir, free_port

from shithubd_worker.database import schema
from shithubd_worker.host.signals import signals_elsewhere
from torture.administrator import Administrator, Sweeper
from torture.faults import Lane, Lines, Locks, Postgres, Processes, Quotas, Silences
from torture.handlers import registry
from torture.operators import PAUSED_KINDS, RAMPED_KINDS, Clerk, Drainer, Operator, Pauser, Ramper
from torture.proxy import Proxy
from torture.quota import Quota
from torture.records import PARENT, Log
from torture.sampler import Sampler
from torture.schedule import LANES, SILENT, SORTS, draw
from torture.supervisor import PATIENCE, TESTS, Slot, Supervisor

ENQUEUERS = 2
# The slots whose workers reach the database through a proxy, each through its own.
PROXIED = (1, 2, 4)
# No fault hits the worker of this slot alone, so that there is one that can sweep. It is the last slot.
SPARED = 5
# Each enqueuer slows down while this many jobs wait.
LIMIT = 1500
# After the faults: if no job ends for this long, there is no progress. The longest planned wait is that after a second
# crash.
NO_PROGRESS_SECONDS = 60.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """The options of a run. `postgres`: debian, embedded, or a major version."""

    seconds: float
    seed: int
    postgres: str = "debian"
    only: Sequence[str] = SORTS


@dataclass
class Stage:
    """A run that has ended: where its logs are, and what its database held."""

    plan: Plan
    logs: Path
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def run(plan: Plan, say: Say) -> Stage:
    """One run from its beginning to its end. The logs stay. All else is gone afterwards, however the run ends."""
    logs = Path(tempfile.mkdtemp(prefix=f"torture-{plan.seed}-"))
    with ExitStack() as cleanup:
        server = cleanup.enter_context(a_server(plan.postgres))
        log = Log(logs, "stage")
        url = _database(server, log, plan)
        proxies = {}
        for number in PROXIED:
            proxies[number] = Proxy(server.port, free_port())
            cleanup.callback(proxies[number].end)
        supervisor = Supervisor(_slots(server, url, proxies), url, logs, log, plan.seed)
        cleanup.callback(supervisor.finish)
        supervisor.start()
        _until(supervisor.all_ready, "all workers are ready", supervisor)
        say(f"PostgreSQL {server_version(url)}, seed {plan.seed}: {plan.seconds:g} s of faults; logs in {logs}")
        with _sampled(url, log):
            _torture(plan, server, url, proxies, supervisor, logs, log)
            say("no more faults: what is left must come to its end")
            _drain(url, supervisor, log)
        supervisor.stop_all()
        log("clocks", ahead=time.time() - time.monotonic())
        return Stage(plan, logs, _tables(url))


@contextmanager
def a_server(which: str) -> Iterator[Server]:
    """Debian's PostgreSQL if it is wanted and installed, else the embedded one."""
    debian = debian_bindir()
    workspace = Path(tempfile.mkdtemp(prefix="torture-pg-"))
    workspace.chmod(0o755)
    try:
        wanted = debian is not None and which in ("debian", debian.parts[-2])
        server = Server(debian if wanted and debian else embedded_bindir(workspace))
        try:
            yield server
        finally:
            server.remove()
    finally:
        shutil.rmtree(workspace, ignore_errors=True)


def server_version(url: str) -> str:
    """Its major and minor version."""
    with psycopg.connect(url) as connection:
        version = connection.info.server_version
    return f"{version // 10000}.{version % 10000}"


def _database(server: Server, log: Log, plan: Plan) -> str:
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE torture")
    url = server.url("torture")
    with psycopg.connect(url, autocommit=True) as connection:
        schema.migrate(connection, "public")
        connection.execute("CREATE TABLE torture_effects (key text NOT NULL, job bigint NOT NULL, token text NOT NULL)")
    leases = {kind.name: kind.lease_timeout for kind in registry.values()}
    asked = {"seed": plan.seed, "seconds": plan.seconds, "only": list(plan.only)}
    log("run", **asked, postgres=server_version(url), leases=leases, server=str(server.directory))
    log("clocks", ahead=time.time() - time.monotonic())
    return url


def _slots(server: Server, url: str, proxies: dict[int, Proxy]) -> list[Slot]:
    def through(number: int) -> str:
        return url.replace(f":{server.port}/", f":{proxies[number].port}/") if number in proxies else url

    return [
        Slot(0, through(0), returns="release-dead", unit=True, grace=3),
        Slot(1, through(1), returns="restart", unit=True, grace=3, delay=1.5),
        Slot(2, through(2), returns="nobody", unit=False, grace=25),
        Slot(3, through(3), returns="nobody", unit=False, grace=3),
        Slot(4, through(4), returns="release-dead", unit=True, grace=10, threshold=SILENT + 3),
        Slot(SPARED, through(SPARED), returns="restart", unit=False, grace=3),
    ]


def _torture(
    plan: Plan, server: Server, url: str, proxies: dict[int, Proxy], supervisor: Supervisor, logs: Path, log: Log
) -> None:
    log("begin", proxied=list(PROXIED))
    with ExitStack() as cleanup:
        through = url.replace(f":{server.port}/", f":{proxies[PROXIED[0]].port}/")
        enqueuers = []
        for number in range(ENQUEUERS):
            enqueuers.append(_enqueuer(url if number % 2 == 0 else through, logs, plan, number))
            cleanup.callback(_end, enqueuers[-1])  # set at once, because an interrupt may come at any moment
        quota = Quota()
        cleanup.callback(quota.end)
        carriers = {
            "processes": Processes(supervisor, log),
            "quotas": Quotas(supervisor, quota, log),
            "lines": Lines(proxies, url, log),
            "silences": Silences(supervisor, proxies, url, log),
            "database": Postgres(server, url, log),
            "locks": Locks(url, log),
        }
        lanes = [Lane(lane, draw(plan.seed, lane, plan.only, SPARED), carriers[lane]) for lane in LANES]
        actors: list[Lane | Operator] = [*lanes, *_operators(plan, url, supervisor, log)]
        for actor in actors:
            with signals_elsewhere():  # nobody can join a thread whose start was interrupted
                actor.start()
                cleanup.callback(actor.finish)
        deadline = time.monotonic() + plan.seconds
        while time.monotonic() < deadline:
            time.sleep(0.2)
            _check_alive(actors, enqueuers, supervisor)
    _check_failures(actors, supervisor)
    log("calm")


def _operators(plan: Plan, url: str, supervisor: Supervisor, log: Log) -> list[Operator]:
    units = [slot.unit for slot in supervisor.slots if slot.unit]
    found: list[Operator] = []
    if "barrier" in plan.only:
        found += [Pauser(f"pauser {kinds[0]}", url, log, plan.seed, kinds) for kinds in PAUSED_KINDS]
        found.append(Drainer("drainer", url, log, plan.seed, units))
    if "ramp" in plan.only:
        found.append(Ramper("ramper", url, log, plan.seed, RAMPED_KINDS))
    if "jobs" in plan.only:
        found.append(Clerk("clerk", url, log, plan.seed))
        found.append(Administrator("administrator", url, log, plan.seed))
    if "sweep" in plan.only:
        found.append(Sweeper("sweeper", url, log, plan.seed))
    return found


def _enqueuer(url: str, logs: Path, plan: Plan, number: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "torture.enqueuers", url, str(logs), str(plan.seed), str(number), str(LIMIT)]
    command += ["meddle"] if "meddle" in plan.only else []
    with (logs / f"enqueuer-{number}.err").open("wb") as errors:
        environment = {**os.environ, PARENT: str(os.getpid())}
        return subprocess.Popen(command, cwd=TESTS, env=environment, stdin=subprocess.DEVNULL, stderr=errors)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _check_alive(
    actors: Sequence[Lane | Operator], enqueuers: Sequence[subprocess.Popen[bytes]], supervisor: Supervisor
) -> None:
    """If a part of the run ends early, the rest is not tested."""
    _check_failures(actors, supervisor)
    for number, enqueuer in enumerate(enqueuers):
        if enqueuer.poll() is not None:
            raise RuntimeError(f"enqueuer {number} ended early with {enqueuer.returncode}: see enqueuer-{number}.err")


def _check_failures(actors: Sequence[Lane | Operator], supervisor: Supervisor) -> None:
    for actor in (*actors, supervisor):
        if actor.failure is not None:
            raise RuntimeError(f"{actor.name} failed: {actor.failure!r}") from actor.failure


@contextmanager
def _sampled(url: str, log: Log) -> Iterator[None]:
    sampler = Sampler(url, log)
    sampler.start()
    try:
        yield
    finally:
        sampler.finish()


def _drain(url: str, supervisor: Supervisor, log: Log) -> None:
    """Until only failed jobs remain, or nothing has moved for a long time. The checker then says what is stuck."""
    moved, before = time.monotonic(), None
    with psycopg.connect(url, autocommit=True) as connection:
        while time.monotonic() - moved < NO_PROGRESS_SECONDS:
            _check_failures([], supervisor)
            row = connection.execute(
                "SELECT (SELECT count(*) FROM jobs WHERE state <> 'failed'), (SELECT count(*) FROM job_history)"
            ).fetchone()
            if row is None or row[0] == 0:
                break
            if row != before:
                moved, before = time.monotonic(), row
            # A job that crashed twice waits for half a minute. Make it due, as an operator would.
            connection.execute(
                "SELECT count(*) FROM retry_jobs(ARRAY(SELECT id FROM jobs WHERE state = 'queued' AND crashes > 0"
                " AND run_at > clock_timestamp() + interval '10 seconds'), 'the torture run: no more faults')"
            )
            time.sleep(0.2)
    log("drained")


def _until(condition: Callable[[], bool], what: str, supervisor: Supervisor) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        _check_failures([], supervisor)
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {PATIENCE:g} s in vain until {what}")
        time.sleep(0.05)


def _tables(url: str) -> dict[str, list[dict[str, Any]]]:
    queries = {
        "jobs": "SELECT id AS job, kind, state, payload->>'key' AS key, attempts, crashes, last_error FROM jobs",
        "history": "SELECT id AS job, kind, outcome, attempts, leased_by, error, payload->>'key' AS key,"
        " extract(epoch FROM finished_at)::float8 AS at, lease_token::text AS token"
        " FROM job_history ORDER BY finished_at",
        "changes": "SELECT c.job, a.action, extract(epoch FROM k.at)::float8 AS at,"
        " c.after IS NULL AS gone, c.before IS NULL AS back,"
        " coalesce((a.detail->>'accept_second_run')::boolean, false) AS accepted"
        " FROM audit a JOIN audit_chunks k ON k.audit_id = a.id,"
        " ROWS FROM (unnest(k.job_ids), unnest(k.before), unnest(k.after)) c (job, before, after) ORDER BY k.at",
        "stops": "SELECT substr(target, length('kind ') + 1) AS kind, extract(epoch FROM at)::float8 AS at"
        " FROM audit WHERE action = 'stop'",
        "effects": "SELECT key, job, token FROM torture_effects",
    }
    with psycopg.connect(url, row_factory=psycopg.rows.dict_row) as connection:
        return {name: connection.execute(query).fetchall() for name, query in queries.items()}  # type: ignore[call-overload]


def stop_on_sigterm() -> None:
    """A SIGTERM to the run acts as Ctrl-C: it ends all that the run started."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
