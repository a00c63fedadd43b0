"""Doing what a page of documentation says, block by block, as its reader: in a shell that goes on from block to block,
with a database of one's own, and with a virtual environment into which the product was installed as README.md says.

The marks of a page are those of the runbooks (runbooks/README.md), with three differences. A block of Python whose
first line is `# path/file.py` is written to that file; each other one is executed with `connection` at hand, a
connection in autocommit mode. `<!-- not run: reason -->` leaves a block out. With `<!-- run times=vary people=vary -->`
the moments and durations, or the names of people and their hosts, need not be those that the page shows.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from conftest import Database, WorkerProcess
from page import Block, filled, prints
from waiting import PATIENCE, eventually

RUN = {
    "sh": ("bash", "-eu"),
    "sql": ("psql", "-X", "-v", "ON_ERROR_STOP=1"),
}
RUNNABLE = (*RUN, "python")
OPTIONS = {"rc", "timeout", "times", "people"}
# What other products' code is written in, beside ours in a page for somebody who comes from them.
OF_OTHERS = ("elixir", "go", "ruby", "typescript")
# Files and output that a page quotes: shown, and compared by a test of their own where they could go stale.
SHOWN = ("ini", "json", "yaml")

_FILE = re.compile(r"# ([\w/]+\.py)\n")
_VARIES = {
    "times": r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?|\b\d+(\.\d+)? (ms|s|min|h|days?)\b",
    "people": r"[\w.-]+@[\w.-]+",
}


# What an interpreter of the reader's runs: each block sees what those above it have left.
_PYTHON = """
import contextlib, importlib, io, json, sys, traceback
import psycopg
names = {"__name__": "page"}
for order in sys.stdin:
    text, url = json.loads(order)
    code, said = 0, io.StringIO()
    importlib.invalidate_caches()
    with psycopg.connect(url, autocommit=True) as names["connection"], contextlib.redirect_stdout(said):
        try:
            exec(compile(text, "a block of the page", "exec"), names)
        except BaseException:
            code = 1
            traceback.print_exc(file=said)
    print(json.dumps([code, said.getvalue()]), flush=True)
"""


def shell_environment(home: Path) -> dict[str, str]:
    """The environment of a person whose Python is the one that the tests were made with, without their packages."""
    ours = {str(Path(sys.prefix, "bin"))}
    path = [each for each in os.environ["PATH"].split(":") if each not in ours]
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("PG", "PYTHON", "SHITHUBD_WORKER_", "VIRTUAL_ENV"))
    }
    return {
        "PIP_CACHE_DIR": str(Path.home() / ".cache/pip"),
        **kept,
        "PATH": ":".join([f"{sys.base_prefix}/bin", *path]),
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "COLUMNS": "100",
    }


class Reader:
    """Somebody who does what a page says. Their home has a virtual environment `try`, which comes first in PATH."""

    def __init__(self, database: Database, home: Path, directory: Path) -> None:
        self.database = database
        self.directory = directory  # where the shell is
        self.values: dict[str, str] = {}
        self._workers: list[WorkerProcess] = []
        self._door = directory.parent / "door"
        self._state = directory.parent / "shell"
        self._python: subprocess.Popen[str] | None = None
        clean = shell_environment(home)
        self.environment = {
            **clean,
            "PATH": f"{home}/try/bin:{clean['PATH']}:{database.server.bindir}",  # the last for psql
            "PGHOST": "127.0.0.1",
            "PGPORT": str(database.server.port),
            "PGUSER": "postgres",
            "PGDATABASE": database.name,
        }

    def do(self, block: Block) -> None:
        """Set its scene and run it. Fails if it ends or prints otherwise than the page says."""
        for name, arguments in block.scenes:
            self.values |= arguments | (SCENES[name](self, **arguments) or {})
        text = filled(block.text, self.values)
        code, said = self._run_python(text) if block.language == "python" else self._run(block, text)
        assert code == int(block.options.get("rc", "0")), f"{block}\n{text}\n{said}"
        if block.prints is not None:
            shown = filled(block.prints, self.values)
            same = prints(_steady(shown, block), _steady(said, block))
            assert same, f"{block} shows\n{shown}\nbut\n{text}\nprints\n{said}"

    def leave(self) -> None:
        """End what is still at work."""
        self._door.touch()
        for worker in self._workers:
            worker.end()
        if self._python:
            self._python.communicate()

    def worker(self, *arguments: str, **env: str) -> WorkerProcess:
        """Start a worker that goes on until the page is over."""
        given = {"PYTHONPATH": f"{self.directory}:{Path(__file__).parent}", **env}
        self._workers.append(WorkerProcess(self.database, self.directory.parent, *arguments, env=given))
        self._workers[-1].wait_for(" ready\n")
        return self._workers[-1]

    def worker_of(self, kind: str, end: str) -> WorkerProcess:
        """Start a worker of one kind, all of whose jobs end like this."""
        jobs = {"JOBS": kind, "JOBS_END": end, "JOBS_DOOR": str(self._door)}
        return self.worker("--handlers", "document_jobs:registry", "--kind", kind, "--metrics", "off", **jobs)

    def enqueue(self, kind: str, payload: str = "{}", count: int = 1) -> int:
        """Enqueue jobs as any program may; the id of the first."""
        insert = "INSERT INTO jobs (kind, payload) SELECT %s, %s::jsonb FROM generate_series(1, %s) RETURNING id"
        return int(self.database.query(insert, kind, payload, count)[0][0])

    def _run(self, block: Block, text: str) -> tuple[int, str]:
        if block.language == "sh":  # what its directory and its variables are at the end, the next block begins with
            text = f"trap '(pwd; env -0) >\"{self._state}\"' EXIT\n{text}"
        done = subprocess.run(
            RUN[block.language],
            input=f"{text}\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.directory,
            env=self.environment,
            timeout=float(block.options.get("timeout", PATIENCE)),
            check=False,
        )
        if block.language == "sh":
            directory, _, variables = self._state.read_text().partition("\n")
            self.directory = Path(directory)
            pairs = (each.partition("=") for each in variables.split("\0") if each)
            self.environment = {name: value for name, _, value in pairs if name not in ("_", "SHLVL", "PWD", "OLDPWD")}
        return done.returncode, done.stdout

    def _run_python(self, text: str) -> tuple[int, str]:
        if named := _FILE.match(text):
            path = self.directory / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
            compile(text, str(path), "exec")
            return 0, ""
        if self._python is None:
            self._python = subprocess.Popen(
                ["python", "-c", _PYTHON],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=self.directory,
                env=self.environment,
            )
        assert self._python.stdin
        assert self._python.stdout
        print(json.dumps([text, self.database.url]), file=self._python.stdin, flush=True)
        code, said = json.loads(self._python.stdout.readline())
        return code, said


def _steady(text: str, block: Block) -> str:
    for name, varies in _VARIES.items():
        if block.options.get(name) == "vary":
            text = re.sub(varies, f"<{name}>", text)
    return text


# What a page starts from. Each returns what its placeholders stand for.


def queued(reader: Reader, kind: str, count: str = "1", payload: str = "{}") -> dict[str, str]:
    """Jobs wait, and no worker is there."""
    return {"job-id": str(reader.enqueue(kind, payload, int(count)))}


def running(reader: Reader, kind: str, waiting: str = "0", payload: str = "{}") -> dict[str, str]:
    """A worker is inside a job, and others wait behind it. The job goes on until the page is over."""
    job = reader.enqueue(kind, payload)
    reader.worker_of(kind, "at the door")
    state = "SELECT state FROM jobs WHERE id = %s"
    eventually(lambda: reader.database.value(state, job) == "processing", "the job runs")
    if int(waiting):
        reader.enqueue(kind, payload, int(waiting))
    return {"job-id": str(job)}


def failed(reader: Reader, kind: str, payload: str = "{}") -> dict[str, str]:
    """A job has failed for good, and no worker is there."""
    return _ended(reader, kind, payload, "failed", "SELECT FROM jobs WHERE id = %s AND state = 'failed'")


def done(reader: Reader, kind: str, payload: str = "{}") -> dict[str, str]:
    """A job has run, and no worker is there."""
    return _ended(reader, kind, payload, "ok", "SELECT FROM job_history WHERE id = %s AND outcome = 'ok'")


def worker(reader: Reader, handlers: str) -> None:
    """A worker with the handlers of the page, which goes on until the page is over."""
    reader.worker("--handlers", handlers, "--metrics", "off")


def incident(reader: Reader, host: str) -> None:
    """A host at work: its worker runs one of 500 jobs of search.reindex, and others wait behind it."""
    reader.database.query(
        "INSERT INTO workers (id, host, pid, machine_id, boot_id, pid_namespace, start_ticks, unit, version,"
        " schema_version, kinds) SELECT gen_random_uuid(), %s, 1181, 'm', 'b', 1, 1, 'shithubd-worker.service',"
        " '0.1.0', version, '{repo.maintenance,search.reindex,webhook.deliver}' FROM worker_schema",
        host,
    )
    reader.database.query(
        "INSERT INTO jobs (kind, created_at, run_at) SELECT kind, now() - since, now() - since"
        " FROM (VALUES ('repo.maintenance', 2, interval '4 s'), ('search.reindex', 500, interval '95 s'),"
        " ('webhook.deliver', 3, interval '1 s')) AS waiting (kind, n, since), generate_series(1, n)"
    )
    reader.database.query(
        "UPDATE jobs SET state = 'processing', leased_by = host || ':' || pid, worker_id = w.id, attempts = 1,"
        " leased_at = now() - interval '12 s', lease_expires_at = now() + interval '108 s',"
        " lease_token = gen_random_uuid() FROM workers w WHERE jobs.id = (SELECT min(id) FROM jobs WHERE kind ="
        " 'search.reindex')"
    )
    reader.database.query(
        "INSERT INTO beats (worker_id, state, job_id, job_kind, job_since)"
        " SELECT worker_id, 'running', id, kind, leased_at FROM jobs WHERE state = 'processing'"
    )


def graphile_worker(reader: Reader) -> None:
    """What of Graphile Worker's tables a page reads, with one job that waits, and one that is not for us."""
    reader.database.query(
        "CREATE SCHEMA graphile_worker;"
        " CREATE TABLE graphile_worker._private_tasks (id int PRIMARY KEY, identifier text NOT NULL);"
        " CREATE TABLE graphile_worker._private_jobs (task_id int NOT NULL, payload json NOT NULL DEFAULT '{}',"
        " priority smallint NOT NULL DEFAULT 0, run_at timestamptz NOT NULL DEFAULT now(),"
        " attempts smallint NOT NULL DEFAULT 0, max_attempts smallint NOT NULL DEFAULT 25, locked_at timestamptz);"
        " INSERT INTO graphile_worker._private_tasks VALUES (1, 'mail.welcome');"
        """ INSERT INTO graphile_worker._private_jobs (task_id, payload) VALUES (1, '{"user_id": 9}'), (1, '[1]')"""
    )


def _ended(reader: Reader, kind: str, payload: str, end: str, seen: str) -> dict[str, str]:
    job = reader.enqueue(kind, payload)
    at_work = reader.worker_of(kind, end)
    eventually(lambda: reader.database.query(seen, job), "it has ended")
    assert at_work.terminate() == 0
    return {"job-id": str(job)}


SCENES: dict[str, Callable[..., dict[str, str] | None]] = {
    scene.__name__: scene for scene in (queued, running, failed, done, worker, incident, graphile_worker)
}
