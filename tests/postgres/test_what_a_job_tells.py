"""What a handler learns of its job: from the lease, and from the database if it asks."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from helpers_handlers import Bench
from psycopg.rows import dict_row
from psycopg.types.numeric import NumericLoader

from shithubd_worker import Job, LeaseLost, NotNow, NotTheWorker, Registry
from shithubd_worker.database.connection import connector
from shithubd_worker.database.handler_session import HandlerSession
from shithubd_worker.model import FIRST, LAST, How
from shithubd_worker.settings.config import Config

# Warnings about objects that a handler left open.
pytestmark = pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")

AT = datetime(2026, 1, 31, 12, 30, 45, 123456, tzinfo=UTC)


class Author:
    """Writes one handler after the other for the kind k, which has 3 attempts, and has each run."""

    def __init__(self, database):
        self.database = database
        self.kinds = Registry()
        self.kinds.handler("k", max_attempts=3, backoff=0)(self._call)
        self.bench = Bench(database.url, database.schema, Config(), self.kinds)

    def _call(self, job, **members):
        return self.handler(job, **members)

    def insert(self, payload="{}", **columns):
        """Insert a job as any program may, and return its id."""
        names = ", ".join(["kind", "payload", *columns])
        marks = ", ".join(["%s"] * (2 + len(columns)))
        return self.database.value(
            f"INSERT INTO jobs ({names}) VALUES ({marks}) RETURNING id", "k", payload, *columns.values()
        )

    def run(self, handler: Callable[..., object]):
        """The outcome of the next job, with this handler."""
        self.handler = handler
        return self.bench.finish(self.bench.next("k"))

    def ask(self, question: Callable[[Job], Any], payload="{}", **columns):
        """What question(job) returns in the handler of a new job."""
        answers = []
        self.insert(payload, **columns)
        outcome = self.run(lambda job, **_: answers.append(question(job)))
        assert outcome.how is How.OK, outcome.error
        return answers[0]


@pytest.fixture
def author(database):
    made = Author(database)
    yield made
    made.bench.close()


def test_a_job_tells_what_its_row_says(author):
    def question(job):
        return job.payload, job.priority, job.run_at, job.created_at, job.max_attempts, job.is_last_attempt

    told = author.ask(question, '{"a": [1, {"b": null}]}', priority=-7, run_at=AT, created_at=AT - timedelta(days=1))
    assert told == ({"a": [1, {"b": None}]}, -7, AT, AT - timedelta(days=1), 3, False)
    assert author.ask(lambda job: (job.max_attempts, job.is_last_attempt), max_attempts=1) == (1, True)
    number = author.insert(max_attempts=5)
    assert (
        author.run(lambda job: print(1 / (repr(job) != f"<Job {number} of kind 'k', attempt 1 of 5>"))).how is How.RETRY
    )


@pytest.mark.parametrize(
    ("time", "told"), [("infinity", LAST), ("-infinity", FIRST), ("0044-03-15 BC", FIRST), ("12026-01-01", LAST)]
)
def test_a_time_that_python_does_not_know_is_told_as_the_nearest(author, time, told):
    assert author.ask(lambda job: job.created_at, created_at=time) == told
    if told is FIRST:  # a job of the other times never becomes due
        assert author.ask(lambda job: job.run_at, run_at=time) == told


def test_a_job_tells_of_its_last_error_and_of_its_last_attempt(author):
    told = []

    def handler(job):
        told.append((job.attempt, job.is_last_attempt, job.last_error and job.last_error.splitlines()[0]))
        if len(told) == 2:
            raise NotNow(1, "the disk is away")
        raise ValueError(f"run {len(told)}")

    author.insert()
    for _ in range(3):
        author.run(handler)
        author.database.query("UPDATE jobs SET run_at = now()")
    assert author.run(handler).how is How.FAILED
    assert told == [
        (1, False, None),
        (2, False, "ValueError: run 1"),
        (2, False, "the disk is away"),
        (3, True, "ValueError: run 3"),
    ]


def test_the_payload_of_a_job_the_arguments_and_what_a_handler_does_to_either_are_apart(author):
    def handler(job, names):
        names.append("more")
        job.payload["names"].append("others")
        told.append(job.payload)

    told = []
    author.insert('{"names": ["ada"]}')
    assert author.run(handler).how is How.OK
    assert told == [{"names": ["ada"]}]


def test_a_job_without_questions_opens_no_connection_for_handlers(author):
    def cheap(job):
        return (job.payload, job.run_at, job.max_attempts, job.is_last_attempt, job.priority, repr(job), job.schema)

    author.ask(cheap)
    assert not author.bench._ledger.opened
    assert author.ask(lambda job: job.last_error) is None
    assert author.bench._ledger.opened


def in_a_transaction(job):
    with job.connection.transaction():
        return job.created_at


def in_the_transaction_that_ends_the_job(job):
    with job.transaction():
        return job.created_at


def in_a_pipeline(job):
    with job.connection.pipeline():
        job.connection.execute("SELECT 1")
        return job.created_at


def with_other_settings(job):
    connection = job.connection
    connection.row_factory, connection.cursor_factory = dict_row, psycopg.RawCursor
    connection.adapters.register_loader("float8", NumericLoader)
    connection.execute("SET search_path = pg_catalog; SET datestyle = 'German'; SET timezone = 'Asia/Tokyo'")
    connection.read_only = True
    return job.created_at


def without_autocommit(job):
    job.connection.autocommit = False
    told = job.created_at
    with job.transaction():  # no transaction was left open
        return told


@pytest.mark.parametrize(
    "where",
    [
        in_a_transaction,
        in_the_transaction_that_ends_the_job,
        in_a_pipeline,
        with_other_settings,
        without_autocommit,
    ],
    ids=lambda where: where.__name__,
)
def test_a_handler_may_ask_wherever_its_connection_is(author, where):
    assert author.ask(where, created_at=AT) == AT


@pytest.mark.parametrize("pooled", [True, False], ids=["through a pooler", "with the rights of a worker"])
def test_a_handler_may_ask(author, login, pooler, pooled):
    url = pooler(author.database).url if pooled else login("shithub_worker")
    session = HandlerSession(connector(url, "handler", pooled=pooled, ours=False), "public", pooled=pooled)
    for where in (lambda job: job.created_at, in_a_transaction, in_the_transaction_that_ends_the_job):
        author.insert(created_at=AT)
        attempt = author.bench.next("k")
        attempt._database = session
        told = []
        author.handler = lambda job, where=where, told=told: told.append(where(job))
        assert author.bench.finish(attempt).how is How.OK
        assert told == [AT]
    session.close()


def test_a_transaction_settles_whatever_cursors_the_handler_makes(author):
    def handler(job):
        job.connection.cursor_factory = psycopg.RawCursor
        with job.transaction() as connection:
            connection.execute("SELECT $1", (1,))

    author.insert()
    assert author.run(handler).how is How.OK


def test_a_handler_that_asks_after_the_end_of_its_job_is_told_to_ask_before(author):
    def handler(job):
        with job.transaction():
            pass
        with pytest.raises(RuntimeError, match="has ended the job: read"):
            job.last_error  # noqa: B018
        assert job.payload == {}
        told.append("all")

    told = []
    author.insert()
    assert author.run(handler).how is How.OK
    assert told == ["all"]


def test_a_handler_that_asks_once_another_worker_has_the_job_loses_its_lease(author):
    def handler(job):
        author.database.query("UPDATE jobs SET lease_token = gen_random_uuid() WHERE id = %s", job.id)
        with pytest.raises(LeaseLost):
            job.last_error  # noqa: B018
        author.database.query("UPDATE jobs SET lease_token = %s WHERE id = %s", job._running.lease.token, job.id)

    author.insert()
    assert author.run(handler).how is How.OK


def test_a_forked_child_knows_the_lease_and_asks_nothing(author):
    def handler(job):
        child = os.fork()
        if child == 0:
            try:
                assert (job.payload, job.attempt, job.is_last_attempt) == ({"n": 1}, 1, False)
                job.created_at  # noqa: B018
            except NotTheWorker:
                os._exit(0)
            finally:
                os._exit(1)
        return os.waitpid(child, 0)[1]

    assert author.ask(handler, '{"n": 1}') == 0
