"""SECURITY.md's own SQL, run unchanged: the worker works with it, and a stranger is kept out."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest
from conftest import eventually
from test_strangers import stranger

from shithubd_worker.database import schema

BLOCKS = re.findall(r"```sql\n(.*?)```", (Path(__file__).parents[2] / "SECURITY.md").read_text(), re.DOTALL)


@pytest.fixture
def owned(any_database):
    """The URL of the database for a role that only owns a queue there, and the name of the role."""
    name = f"owner_{any_database.name}"
    any_database.query(f"CREATE ROLE {name} LOGIN")
    any_database.query(f'GRANT CREATE ON DATABASE "{any_database.name}" TO {name}')
    url = psycopg.conninfo.make_conninfo(any_database.url, user=name)
    with psycopg.connect(url, autocommit=True) as connection:
        schema.migrate(connection, "queue")
    yield url, name
    any_database.query(f"DROP OWNED BY {name} CASCADE")
    any_database.query(f"DROP ROLE {name}")


# Statements that take locks by the thousand, or lock a table of ours before they check a right.
KEPT_FROM = (
    "CREATE TEMP TABLE mine (x int)",
    "SELECT lo_create(0)",
    "SELECT lo_creat(-1)",
    "SELECT lo_from_bytea(0, '')",
    "PREPARE d AS DELETE FROM public.jobs",
    "CREATE RULE r AS ON INSERT TO public.jobs DO NOTHING",
    "CREATE TRIGGER t AFTER INSERT ON public.jobs EXECUTE FUNCTION public.jobs_enqueued_v1()",
)


def of_this(database, block):
    return block.replace("DATABASE shithub", f'DATABASE "{database.name}"')


@pytest.fixture
def logins(any_database):
    """A URL for a login of each role, in a database with the roles."""
    names = {role: f"{role}_{any_database.name}" for role in ("worker", "enqueue", "operator")}
    for role, name in names.items():
        any_database.query(f"CREATE ROLE {name} LOGIN IN ROLE shithub_{role}")
    yield {role: psycopg.conninfo.make_conninfo(any_database.url, user=name) for role, name in names.items()}
    for name in names.values():
        any_database.query(f"DROP ROLE {name}")


def test_the_roles_work_after_the_revokes_of_the_page(any_database, logins, start_worker):
    for block in BLOCKS:
        any_database.query(of_this(any_database, block))
    worker = start_worker("--poll-interval", "3600", env={"SHITHUBD_WORKER_DATABASE_URL": logins["worker"]})
    eventually(any_database.at_rest, "it is at rest")
    done = "SELECT count(*) FROM job_history WHERE id = %s AND outcome = 'ok'"
    for role in ("enqueue", "operator"):
        with psycopg.connect(logins[role], autocommit=True) as theirs:
            row = theirs.execute("INSERT INTO jobs (kind) VALUES ('test.ok') RETURNING id").fetchone()
        eventually(lambda job=row[0]: any_database.value(done, job) == 1, "it was woken")
    assert worker.terminate() == 0
    assert "permission denied" not in worker.log


def test_the_worker_works_after_the_revokes_of_the_page_and_a_stranger_takes_no_lock(any_database, owned, start_worker):
    url, name = owned
    with stranger(any_database) as theirs:
        theirs.execute("SELECT pg_advisory_lock(1), pg_advisory_unlock(1)")
        for block in BLOCKS:
            any_database.query(re.sub(r"TO\s+shithub_[^;]*", f"TO {name}", of_this(any_database, block)))
        for function in ("lock", "lock_shared", "xact_lock", "xact_lock_shared"):
            for kind in ("pg_advisory", "pg_try_advisory"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    theirs.execute(f"SELECT {kind}_{function}(1)")
        for kept in KEPT_FROM:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                theirs.execute(kept)
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(psycopg.conninfo.make_conninfo(any_database.url, user=theirs.info.user))
        env = {"SHITHUBD_WORKER_DATABASE_URL": url, "SHITHUBD_WORKER_SCHEMA": "queue"}
        worker = start_worker("--poll-interval", "3600", env=env)
        eventually(any_database.at_rest, "it is at rest")
        job = any_database.value("INSERT INTO queue.jobs (kind) VALUES ('test.ok') RETURNING id")
        done = "SELECT count(*) FROM queue.job_history WHERE id = %s AND outcome = 'ok'"
        eventually(lambda: any_database.value(done, job) == 1, "it was woken")
        assert worker.terminate() == 0
        assert "permission denied" not in worker.log
