"""What a user's type checker says about programs that use the package."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
from datetime import timedelta

import psycopg

from shithubd_worker import Job, NotNow, Permanent, Registry, RetryAfter, enqueue

registry = Registry()


@registry.handler("mail.send", lease_timeout=timedelta(minutes=1), max_attempts=5, retention="90d")
def send(job: Job, to: str, subject: str, body: str = "") -> None:
    if "@" not in to:
        raise Permanent(f"{to!r} is no address")
    if not job.config.repo_root:
        raise NotNow(60, "no repositories")
    job.log.info("attempt %d of job %d", job.attempt, job.id)
    with job.transaction() as connection:
        connection.execute("INSERT INTO mails_sent (address) VALUES (%s)", (to,))
    if subject == body:
        raise RetryAfter(None, "busy")


def order(connection: psycopg.Connection[tuple[str]]) -> int:
    return enqueue(connection, "mail.send", to="ada@example.org", subject="hello", delay=60)
"""
WRONG = {
    "a lease that lasts for a text": ("lease_timeout=timedelta(minutes=1)", 'lease_timeout="1 min"'),
    "a job without that member": ("job.attempt", "job.attempts"),
    "an id that is a text": ("-> int:", "-> str:"),
}


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """Checks a program as its author would, with the package installed. Returns what mypy says, and whether all is
    well."""
    directory = tmp_path_factory.mktemp("program")

    def check(text):
        (directory / "program.py").write_text(text)
        checked = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "--cache-dir=cache", "program.py"],
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
        )
        return checked.returncode == 0, checked.stdout + checked.stderr

    return check


def test_a_program_with_a_handler_and_an_enqueue_passes_a_strict_check(check):
    well, said = check(PROGRAM)
    assert well, said


@pytest.mark.parametrize("wrong", WRONG)
def test_a_mistake_in_such_a_program_is_found(check, wrong):
    well, said = check(PROGRAM.replace(*WRONG[wrong]))
    assert not well
    assert "program.py" in said
    assert "1 error" in said
