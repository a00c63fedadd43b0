"""Workers as processes that fall silent: each has ended its run before another worker begins it again."""

from __future__ import annotations

import signal
import time

from conftest import eventually
from psycopg.types.json import Jsonb

QUICK = ("--heartbeat-interval", "1", "--sweep-threshold", "10", "--sweep-interval", "1")
# Each silent worker: what its handler does, and the exit code of its process; None: it lives on.
SILENT = {
    "obeys": ("silent.obeys", {}, None),
    "swallows": ("silent.swallows", {}, -signal.SIGVTALRM),
    "holds the interpreter from its first line": ("silent.holds", {"after": 0}, -signal.SIGVTALRM),
    "holds the interpreter after three seconds": ("silent.holds", {"after": 3}, -signal.SIGVTALRM),
    "is stopped": ("silent.swallows", {}, -signal.SIGVTALRM),
}
REFUSE = (
    "CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no beat of yours'; END $$;"
    "CREATE TRIGGER refuses BEFORE UPDATE ON beats FOR EACH ROW WHEN (OLD.worker_id IN ({})) EXECUTE FUNCTION refuses()"
)


def runs(path):
    """When the runs of a job lived: the first and the last moment of each, in the order of their begin."""
    found = {}
    for line in path.read_text().splitlines():
        run, at = line.split()
        found.setdefault(run, []).append(float(at))
    return [(moments[0], moments[-1]) for moments in found.values()]


def test_every_silent_worker_has_ended_its_run_before_another_begins_it(database, start_worker, tmp_path):
    """Their beats are refused, while their other questions are answered: a silence without an outage. One stands
    still."""
    kinds = sorted({kind for kind, *_ in SILENT.values()})
    only = [word for kind in kinds for word in ("--kind", kind)]
    workers, jobs, ended = {}, {}, {}
    for name, (kind, members, _) in SILENT.items():
        workers[name] = start_worker(*QUICK, *only, handlers="silent_jobs:registry")
        path = tmp_path / f"{name}.txt"
        jobs[name] = database.value(
            "INSERT INTO jobs (kind, payload) VALUES (%s, %s) RETURNING id", kind, Jsonb({"path": str(path), **members})
        )
        eventually(path.exists, f"{name} has begun")
    ids = database.query("SELECT string_agg(quote_literal(id), ', ') FROM workers")[0][0]
    database.query(REFUSE.format(ids))
    workers["is stopped"].send(signal.SIGSTOP)
    start_worker(*QUICK, handlers="silent_jobs:registry")

    def finished():
        for name, worker in workers.items():
            if name not in ended and worker.process.poll() is not None:
                ended[name] = time.monotonic()
        return database.value("SELECT count(*) = 5 FROM job_history WHERE outcome = 'ok'")

    eventually(finished, "every job has run to its end", within=90)
    workers["is stopped"].send(signal.SIGCONT)
    for name, (_, _, code) in SILENT.items():
        if code is not None:
            assert workers[name].wait(within=30) == code, name
        else:
            assert workers[name].process.poll() is None
        (_, last), *others = runs(tmp_path / f"{name}.txt")
        assert others, name
        assert last < others[0][0], name
        if name.startswith("holds"):  # it writes nothing while it holds the interpreter
            assert ended[name] < others[0][0]
        ends = database.query("SELECT outcome FROM job_history WHERE id = %s ORDER BY finished_at", jobs[name])
        assert ends == [("released" if code is None else "crashed",), ("ok",)], name
    assert database.value("SELECT error FROM job_history WHERE outcome = 'released'").startswith(
        "given up: the database recorded no beat for "
    )
    said = "SELECT bool_and(error ~ 'its worker .* was silent for \\d+ s') FROM job_history WHERE outcome = 'crashed'"
    assert database.value(said)
    assert database.value("SELECT count(*) FROM jobs") == 0


def test_a_worker_that_stands_still_for_less_than_its_time_goes_on_with_its_job(database, start_worker, door):
    first, _second = start_worker(*QUICK, "--kind", "test.waits"), start_worker(*QUICK, "--kind", "test.ok")
    job = database.value(
        "INSERT INTO jobs (kind, payload) VALUES ('test.waits', %s) RETURNING id", Jsonb({"door": str(door.path)})
    )
    eventually(lambda: database.value("SELECT count(*) = 1 FROM beats WHERE job_id = %s", job), "it runs")
    first.send(signal.SIGSTOP)
    silent = "SELECT max(clock_timestamp() - beat_at) > interval '3 s' FROM beats"
    eventually(lambda: database.value(silent), "it missed beats")
    first.send(signal.SIGCONT)
    door.open()
    eventually(lambda: database.query("SELECT outcome FROM job_history") == [("ok",)], "it ended well, once")
