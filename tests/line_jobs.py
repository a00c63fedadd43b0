"""Handlers that are at some step of a transaction when the line to the database stands still."""

from __future__ import annotations

from sample_jobs import wait_at

from shithubd_worker import Registry

registry = Registry()

# A short lease, because the test waits for its end. No short max_runtime, because the test is slow on a slow machine.


@registry.handler("line.settle", lease_timeout=6, max_runtime=3600)
def settle(job, door):
    """The settle gets no answer."""
    with job.transaction() as connection:
        connection.execute("INSERT INTO effects (job) VALUES (%s)", (job.id,))
        wait_at(door)


@registry.handler("line.commit", lease_timeout=6, max_runtime=3600)
def commit(job, door):
    """The COMMIT gets no answer: a deferred trigger waits in it for the test (see commits_wait)."""
    wait_at(door)
    with job.transaction() as connection:
        connection.execute("INSERT INTO slow_effects (job) VALUES (%s)", (job.id,))


@registry.handler("line.begin", lease_timeout=6, max_runtime=3600)
def begin(job, door):
    """The BEGIN gets no answer: the interrupt falls into it, and its cancel gets no answer either."""
    job.connection.execute("SELECT 1")  # opens the connection
    wait_at(door)
    with job.transaction() as connection:
        connection.execute("INSERT INTO effects (job) VALUES (%s)", (job.id,))


@registry.handler("line.rollback", lease_timeout=6, max_runtime=3600)
def rollback(job, door):
    """The ROLLBACK gets no answer: the interrupt falls into the block."""
    with job.transaction() as connection:
        connection.execute("INSERT INTO effects (job) VALUES (%s)", (job.id,))
        wait_at(door)
