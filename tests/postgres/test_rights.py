"""The rights that a worker needs: schema.RIGHTS names them all, and no other."""

from __future__ import annotations

import dataclasses
import os
from contextlib import closing
from uuid import uuid4

import psycopg
import pytest
from bare import BareWorker
from test_refusals import HANDLERS, enqueue, gone
from test_returning import leased, worker_row

from shithubd_worker import schema
from shithubd_worker.host import identify
from shithubd_worker.model import Finished, How, Outcome
from shithubd_worker.registry import Registry
from shithubd_worker.session import connector
from shithubd_worker.store import Beat, record_lost

registry = Registry()
registry.handler("k")(lambda job: None)
EACH = [(table, right) for table, rights in schema.RIGHTS.items() for right in rights]


@pytest.fixture
def role(database):
    """A role with exactly these rights."""
    name = f"worker_{os.getpid()}_{database.name}"
    database.query(f"CREATE ROLE {name} LOGIN")
    for table, rights in schema.RIGHTS.items():
        database.query(f"GRANT {', '.join(rights)} ON {table} TO {name}")
    yield name
    database.query(
        "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
        " WHERE usename = %s AND datname = current_database()",
        name,
    )
    database.query(f"DROP OWNED BY {name}; DROP ROLE {name}")


class LeftBehind(Exception):
    """A job of a dead owner was not returned."""


def work(database, url):
    """All that a worker asks of the database, once."""
    me = dataclasses.replace(identify(), id=uuid4())
    bare, beat = BareWorker(url, "public", me.id), Beat(connector(url, "beat"), "public")
    database.query("DELETE FROM jobs")
    leased(database, 2, worker_row(database))
    dead = worker_row(database)
    leased(database, 1, dead)
    database.query("UPDATE jobs SET kind = 'd'")
    database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 3)")
    database.query("INSERT INTO jobs (kind, state) VALUES ('p', 'paused')")
    database.query("DELETE FROM holds")
    database.query("INSERT INTO holds (scope, target, actor, until) VALUES ('kind', 'p', 'me', '2000-01-01')")
    with closing(bare), closing(beat):
        schema.check(bare.queue.connection, "public")
        beat.register(me, ["k"])
        beat.beat(me.id, "idle", None, None, None)
        beat.housemates(me)
        beat.release_worker(dead, "it is dead")
        bare.queue.kind_holds()
        bare.queue.sweep(timeouts={"k": 300.0})
        if database.value("SELECT count(*) FROM jobs WHERE state = 'processing'"):
            raise LeftBehind  # what is refused for a job of a dead owner is but a warning
        done, retried, lost = bare.lease_all([registry["k"]], most=3)
        beat.renew(done, 300.0)
        bare.queue.start([done], done.token, [300.0])
        bare.queue.payloads([done])
        bare.queue.fate(done)
        bare.settle(done, Outcome(How.OK))
        bare.settle(retried, Outcome(How.RETRY, "no", 1000.0))
        record_lost(bare.queue, me.leased_by, Finished(lost, Outcome(How.LEASE_LOST, "late"), "7d", 0.0))
        bare.queue.housekeep()
        beat.unregister(me.id, [])
        counted = bare.queue.value("claim_count_v1", 0.0, 5.0)
        bare.queue.value("recount_v1")
        bare.queue.value("queue_gauges_v1")
        assert counted


def test_a_role_with_these_rights_does_all_that_a_worker_does_and_with_any_one_less_it_does_not(database, role):
    url = psycopg.conninfo.make_conninfo(database.url, user=role)
    work(database, url)
    needless = []
    for table, right in EACH:
        database.query(f"REVOKE {right} ON {table} FROM {role}")
        try:
            work(database, url)
            needless.append((table, right))
        except (psycopg.errors.InsufficientPrivilege, LeftBehind):
            pass
        database.query(f"GRANT {right} ON {table} TO {role}")
    assert needless == []


def test_a_worker_process_needs_no_other_right(database, start_worker):
    database.query("CREATE ROLE exact LOGIN")
    for table, rights in schema.RIGHTS.items():
        database.query(f"GRANT {', '.join(rights)} ON {table} TO exact")
    url = psycopg.conninfo.make_conninfo(database.url, user="exact")
    worker = start_worker("--metrics", "127.0.0.1:0", handlers=HANDLERS, env={"SHITHUBD_WORKER_DATABASE_URL": url})
    gone(database, [*enqueue(database, 20), *enqueue(database, how="transaction")])
    assert worker.metric('shithub_worker_claims_total{result="error"}') == 0
    assert worker.terminate() == 0
    assert database.value("SELECT count(*) FROM workers") == 0
    assert "permission denied" not in worker.log
    database.query("DROP OWNED BY exact; DROP ROLE exact")
