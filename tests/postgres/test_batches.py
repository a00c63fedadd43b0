"""A change to many jobs: what is told is what was done, after Ctrl-C, a lost connection, a lost answer and a lock."""

from __future__ import annotations

import json
import signal
import time
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from tempfile import TemporaryFile

import nursery
import psycopg
import pytest
from commands import emptied_database, exact_command, one_database  # noqa: F401 (fixtures)
from conftest import PATIENCE, eventually
from locked_tables import somebody
from rows import add_job

from shithubd_worker.admin import work as admin_work
from shithubd_worker.admin.change import BATCH, Change, change_batch
from shithubd_worker.admin.work import Work
from shithubd_worker.database.connection import connector
from shithubd_worker.database.operations import Operations

MANY = 3 * BATCH
GATE = 4711
DONE = "SELECT count(*) FROM jobs WHERE priority = 9"
WAITS = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"


def fill(database):
    """Many jobs. Returns their ids."""
    return [
        job
        for (job,) in database.query(
            "INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, %s) RETURNING id", MANY
        )
    ]


@contextmanager
def gate(database, job):
    """The change of this job waits for an advisory lock, until the block opens it."""
    database.query(
        "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF OLD.id = {job} THEN PERFORM pg_advisory_xact_lock({GATE}); END IF; RETURN NEW; END $$;"
        " CREATE TRIGGER gate BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION gate()"
    )
    with somebody(database, f"SELECT pg_advisory_lock({GATE})"):
        try:
            yield
        finally:
            database.query("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
    database.query("DROP TRIGGER gate ON jobs; DROP FUNCTION gate")


WORDS = {"reschedule": ["jobs", "reschedule", "--priority", "9"], "discard": ["jobs", "discard"]}


class Running:
    """`jobs reschedule` of all jobs, with --json, in the middle of its work."""

    def __init__(self, database, *more, words="reschedule"):
        self.out, self.err = TemporaryFile(), TemporaryFile()  # noqa: SIM115 (`end` closes them)
        with open("/dev/null", "rb") as stdin:
            words = WORDS[words] + ["--kind", "k", "--yes", "--json", *more]
            self.process = nursery.Process(words, env=database.environment(), files=(stdin, self.out, self.err))

    def end(self):
        code = self.process.wait(PATIENCE)
        said = []
        for file in (self.out, self.err):
            file.seek(0)
            said.append(file.read().decode())
            file.close()
        return code, json.loads(said[0]), said[1]


def test_ctrl_c_in_a_batch_leaves_a_true_account(database):
    ids = fill(database)
    with gate(database, ids[BATCH + 5]):
        running = Running(database)
        eventually(lambda: database.query(WAITS), "the second batch")
        running.process.send_signal(signal.SIGINT)
        code, told, said = running.end()
    assert code == 130
    done = told["changed"]  # a slow machine cuts a batch
    assert database.value(DONE) == done
    assert 0 < done <= BATCH + 5
    assert (told["jobs"], told["not_tried"], told["unknown"]) == (MANY, MANY - done, [])
    assert database.query("SELECT id, jobs FROM audit") == [(told["audit"], done)]
    assert f"interrupted: {done:,} of {MANY:,} jobs rescheduled; to go on, run the command again" in said
    assert told["undo"] == f"shithubd-worker audit undo {told['audit']}"
    code, told, _ = Running(database).end()
    assert (code, told["changed"], database.value(DONE)) == (0, MANY - done, MANY)


def test_a_lost_connection_is_opened_again_and_the_change_goes_on(database):
    ids = fill(database)
    with gate(database, ids[BATCH + 5]):
        running = Running(database)
        [(pid,)] = eventually(lambda: database.query(WAITS), "the second batch")
        database.query("SELECT pg_terminate_backend(%s)", pid)
        eventually(lambda: [row for row in database.query(WAITS) if row != (pid,)], "the second batch anew")
        database.query("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
        code, told, said = running.end()
    assert (code, told["changed"], told["refused"], database.value(DONE)) == (0, MANY, {}, MANY)
    assert database.query("SELECT id, jobs FROM audit") == [(told["audit"], MANY)]
    assert "the connection broke; the command tries again" in said


def test_at_the_end_of_its_time_a_change_says_how_far_it_came(database):
    ids = fill(database)
    with gate(database, ids[BATCH + 5]):
        code, told, said = Running(database, "--timeout", "1").end()
    done = told["changed"]
    assert (code, database.value(DONE)) == (4, done)
    assert 0 < done <= BATCH + 5
    assert f"{done:,} of {MANY:,} jobs rescheduled; to go on, run the command again: gave up after" in said


def test_jobs_that_are_locked_during_a_batch_are_changed_at_the_end(database):
    ids = fill(database)
    with somebody(database, f"SELECT FROM jobs WHERE id = {ids[3]} FOR UPDATE"):
        running = Running(database)
        eventually(lambda: database.value(DONE) == MANY - 1, "all but the locked one")
    code, told, _ = running.end()
    assert (code, told["changed"], database.value(DONE)) == (0, MANY, MANY)
    assert database.query("SELECT jobs FROM audit") == [(MANY,)]


def test_two_operators_discard_the_same_jobs_and_each_job_is_counted_once(database):
    fill(database)
    both = [Running(database, words="discard") for _ in range(2)]
    codes, told, _ = zip(*(each.end() for each in both), strict=True)
    assert codes == (0, 0)
    assert sum(each["changed"] for each in told) == MANY
    assert database.value("SELECT sum(jobs) FROM audit") == MANY
    assert database.value("SELECT count(*) FROM jobs") == 0


# The answer to a COMMIT is lost: the connection ends right before it, or right after it.


class Cut(Operations):
    """Its connection breaks around the COMMITs whose numbers are given."""

    def __init__(self, url, *, before=(), after=()):
        super().__init__(connector(url, "test", pooled=True), "public")
        self.commits, self.before, self.after = 0, before, after

    @property
    def connection(self):
        connection = super().connection
        if "transaction" not in vars(connection):
            original = connection.transaction

            @contextmanager
            def transaction(*given):
                if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                    yield
                    return
                with original(*given) as inner:
                    yield inner
                    if self.counts:
                        self.commits += 1
                        if self.commits in self.before:
                            connection.close()
                            raise psycopg.OperationalError("cut")
                if self.counts and self.commits in self.after:
                    connection.close()
                    raise psycopg.OperationalError("cut")

            connection.transaction = transaction
        return connection

    counts = False

    def rows(self, function, *arguments):
        self.counts = function == "change_batch_v1"
        return super().rows(function, *arguments)


@pytest.mark.parametrize(
    "cut", [{"before": (1,)}, {"after": (1,)}, {"before": (2, 3)}, {"after": (2,)}, {"before": (1, 4), "after": (2, 3)}]
)
def test_after_a_lost_answer_to_a_commit_no_batch_is_counted_twice_or_forgotten(database, cut):
    ids = fill(database)
    operations = Cut(database.url, **cut)
    change = Change("reschedule", "me", values={"priority": 9})
    told = []
    work = Work(operations, partial(change_batch, operations, change), ids, told.append)
    assert list(work.go_on())[-1] == MANY
    assert (work.sums.changed, work.refused, work.unknown) == (MANY, {}, ())
    assert database.value(DONE) == MANY
    assert database.query("SELECT id, jobs FROM audit") == [(work.audit, MANY)]
    assert database.value("SELECT sum(cardinality(job_ids)) FROM audit_chunks") == MANY
    assert bool(told) == ("before" in cut)
    operations.close()


def test_a_batch_whose_fate_is_not_found_out_is_told_as_unknown(database, monkeypatch):
    monkeypatch.setattr(admin_work, "AWAY_SECONDS", 0.0)
    ids = fill(database)
    operations = Cut(database.url, after=(2,))
    change = Change("reschedule", "me", values={"priority": 9})
    work = Work(operations, partial(change_batch, operations, change), ids, lambda _: None)
    steps = work.go_on()
    next(steps)
    operations._connect = connector("postgresql://127.0.0.1:1/away", "test", pooled=True)
    with pytest.raises(psycopg.OperationalError, match="cut"):
        list(steps)
    done = work.sums.tried
    assert work.sums.changed == done
    assert work.unknown == ids[done : done + len(work.unknown)] != []
    assert database.value(DONE) == done + len(work.unknown)


def test_after_each_batch_a_change_rests_as_long_as_the_batch_took_and_a_long_batch_becomes_smaller(database):
    ids, times = fill(database), []
    operations = Operations(connector(database.url, "test", pooled=True), "public")

    def slow(some, audit):
        began = time.monotonic()
        batch = change_batch(operations, Change("reschedule", "me", values={"priority": 9}), some, audit)
        if len(times) < 2:
            operations.connection.execute("SELECT pg_sleep(%s)", (admin_work.LONG_BATCH_SECONDS,))
        times.append((len(some), began, time.monotonic()))
        return batch

    work = Work(operations, slow, ids, lambda _: None)
    assert list(work.go_on())[-1] == work.sums.changed == MANY
    operations.close()
    assert [size for size, _, _ in times[:3]] == [BATCH, BATCH // 2, BATCH // 4]
    for (_, began, ended), (_, again, _) in pairwise(times):
        assert again - ended >= min(ended - began, admin_work.LONGEST_REST_SECONDS)


def test_a_single_job_that_is_locked_is_waited_for_and_the_session_is_named(database, command):
    job = add_job(database)
    with somebody(database, f"SELECT FROM jobs WHERE id = {job} FOR UPDATE") as pid:
        done = command("jobs", "complete", job, "--timeout", "1", code=4)
    assert f"job {job} is not completed: gave up after" in done.stderr
    assert f"pid {pid} (postgres, somebody" in done.stderr
