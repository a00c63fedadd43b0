"""What a handler is given: its arguments, its log, and children that do not outlive its job."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys

import pytest
from attempts import Scene
from conftest import eventually

from shithubd_worker.model import How
from shithubd_worker.settings.config import Config


def test_the_members_of_the_payload_are_the_handlers_arguments():
    seen = {}

    def handler(job, repo, ref="HEAD", **more):
        seen.update(repo=repo, ref=ref, more=more, job=job)

    outcome = Scene(handler, '{"repo": "a.git", "depth": 3}', attempt=2).run()
    assert outcome.how is How.OK
    assert (seen["repo"], seen["ref"], seen["more"]) == ("a.git", "HEAD", {"depth": 3})
    assert (seen["job"].id, seen["job"].kind, seen["job"].attempt) == (7, "some.kind", 2)
    assert (seen["job"].schema, seen["job"].config) == ("public", Config())


@pytest.mark.parametrize(
    "payload",
    [
        "{}",
        '{"repo": 1, "unknown": 2}',
        '{"repo": 1, "job": 2}',
        "[]",
        "7",
        "{",
        '{"repo": ' + "9" * 5000 + "}",
        '{"repo": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
    ids=["missing", "unknown", "job", "list", "number", "broken", "digits", "nested"],
)
def test_a_payload_that_does_not_fit_the_handler_is_poison_and_never_runs(payload):
    ran = []
    scene = Scene(lambda job, repo: ran.append(job), payload)
    outcome = scene.run()
    assert outcome.how is How.POISON
    assert outcome.error.startswith("the payload doesn't fit the handler: ")
    assert not ran
    assert scene.attempt.over


def test_the_children_of_a_handler_are_gone_when_it_ends():
    started = []

    def handler(job):
        started.append(job.popen(["sleep", "3600"]))
        started.append(job.popen(["sh", "-c", "sleep 3600 & echo $!; wait"], stdout=subprocess.PIPE))
        started.append(int(started[1].stdout.readline()))
        raise ValueError("and nobody waits for them")

    assert Scene(handler).run().how is How.RETRY
    first, shell, grandchild = started
    for child in (first, shell):
        eventually(lambda c=child: c.poll() is not None, "the child's end")
        assert child.returncode == -signal.SIGKILL
    eventually(lambda: _gone(grandchild), "the grandchild's end")


def _gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_child_sees_none_of_the_workers_secrets(monkeypatch):
    hidden = {
        "PGPASSWORD": "1",
        "SHITHUBD_WORKER_DATABASE_URL": "2",
        "NOTIFY_SOCKET": "3",
        "CREDENTIALS_DIRECTORY": "4",
        "WATCHDOG_USEC": "5",
        "INVOCATION_ID": "6",
    }
    for name, value in hidden.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HARMLESS", "yes")
    code = "import json, os; print(json.dumps([dict(os.environ), os.getsid(0) == os.getpid()]))"
    seen = []

    def handler(job):
        child = job.popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env={"ADDED": "too"})
        seen.extend(json.loads(child.communicate()[0]))

    assert Scene(handler).run().how is How.OK
    environment, in_a_session_of_its_own = seen
    assert not set(hidden) & set(environment)
    assert (environment["HARMLESS"], environment["ADDED"]) == ("yes", "too")
    assert in_a_session_of_its_own


def test_the_jobs_log_lines_carry_the_job(caplog):
    caplog.set_level(logging.INFO)
    assert Scene(lambda job: job.log.info("hello %s", "there"), attempt=3).run().how is How.OK
    (record,) = [record for record in caplog.records if record.getMessage() == "hello there"]
    assert (record.name, record.job_id, record.kind, record.attempt) == ("shithubd_worker.job", 7, "some.kind", 3)
