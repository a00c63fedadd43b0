"""The kinds of the incidents, and how they behave. The tests copy this module to the booted host."""

from __future__ import annotations

import ctypes
import socket
import time

from page_jobs import STATE, registry

RUNS = STATE / "runs"  # a line for each run that began: shows what ran twice, without the database


def _begins(job):
    with RUNS.open("a") as file:
        file.write(f"{job.id}\n")


def _until(name):
    while not (STATE / name).exists():
        time.sleep(0.01)


@registry.handler("forge.tick")
def tick(job):
    """The usual work: a row in the transaction that settles it."""
    _begins(job)
    with job.transaction() as connection:
        connection.execute(
            "INSERT INTO effects (id, waited) SELECT id, clock_timestamp() - run_at FROM jobs WHERE id = %s", (job.id,)
        )


@registry.handler("forge.import", lease_timeout=60)
@registry.handler("forge.mirror", lease_timeout=600)
def long_job(job, door, may_run=900):
    """Takes until somebody opens its door."""
    _begins(job)
    job.extend(may_run)
    _until(door)


@registry.handler("forge.sign", lease_timeout=60, max_runtime=2, backoff=1)
def hangs_in_c(job):
    """A deadlock inside a C library, which no signal ends. The interpreter is free. The mended library has none."""
    _begins(job)
    if not (STATE / "mended").exists():
        library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
        library.pthread_mutex_lock(mutex)
        library.pthread_mutex_lock(mutex)


@registry.handler("forge.render", lease_timeout=3)
def holds_the_gil(job):
    """One call holds the interpreter. The mended library does not do that."""
    _begins(job)
    if not (STATE / "mended").exists():
        sum(range(10**18))


@registry.handler("forge.notify", lease_timeout=60, max_runtime=1, backoff=2)
def hangs_in_the_network(job):
    """Asks a service that accepts the connection and does not answer."""
    _begins(job)
    with socket.create_connection(("127.0.0.1", 4004)) as service:
        service.sendall(b"hello\n")
        service.recv(1)


@registry.handler("forge.mail")
def slow(job):
    """Takes 30 ms, until the slow service is fast again."""
    if not (STATE / "mended").exists():
        time.sleep(0.03)


@registry.handler("forge.badge", max_attempts=3, backoff=1)
def badge(job):
    """A short one."""
    _begins(job)
    # The line that a faulty release changes.
