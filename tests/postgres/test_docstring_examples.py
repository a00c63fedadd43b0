"""The examples in the docstrings of the public names are executed: each handler of them runs a job on a database."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import psycopg
import pytest
from examples import PUBLIC, example, program
from helpers_handlers import Bench

from shithubd_worker.model import How
from shithubd_worker.settings.config import Config


@pytest.fixture
def read(database, monkeypatch, tmp_path):
    """Execute a name's example where it finds its tables. Returns a bench with the example's registry, if it has
    one."""
    database.query("CREATE TABLE stars (repo text, stars int)")
    database.query("CREATE TABLE exports (path text)")
    for variable, value in psycopg.conninfo.conninfo_to_dict(database.url).items():
        monkeypatch.setenv(f"PG{'DATABASE' if variable == 'dbname' else variable.upper()}", str(value))
    monkeypatch.chdir(tmp_path)
    opened = []

    def read(name):
        names = {"__name__": "an_example"}
        exec(compile(program(example(name)), f"the example of {name}", "exec"), names)
        opened.append(names.get("connection"))
        if "registry" in names:
            opened.append(Bench(database.url, database.schema, Config(), names["registry"]))
        return opened[-1]

    yield read
    for each in opened:
        if each is not None:
            each.close()


EXECUTED = {
    "": ("stars.add", {"repo": "ada/engine"}, How.OK, None),
    "Job": ("stars.add", {"repo": "ada/engine", "stars": 2}, How.OK, None),
    "NotNow": ("backup.copy", {"name": "monday"}, How.RELEASED, "/mnt/backups is not mounted"),
    "NotTheWorker": ("numbers.add", {}, How.OK, None),
    "Permanent": ("stars.add", {"repo": "engine"}, How.FAILED, "'engine' is not owner/name"),
    "Registry": ("stars.add", {"repo": "ada/engine"}, How.OK, None),
    "RetryAfter": ("mail.send", {"to": "ada@example.org"}, How.RETRY, "the receiver is busy"),
}


@pytest.mark.parametrize("name", EXECUTED)
def test_the_handler_of_an_example_does_what_the_example_is_for(read, name):
    kind, members, how, error = EXECUTED[name]
    outcome = read(name).run(kind, **members)
    assert (outcome.how, outcome.error) == (how, error)


def test_every_other_example_is_executed_below():
    assert {*PUBLIC, ""} - {*EXECUTED} == {"Client", "Interrupted", "LeaseLost", "enqueue"}


def test_the_example_of_a_job_writes_what_it_says_and_knows_its_last_attempt(read, database, caplog):
    bench = read("Job")
    for attempts in (0, 4):
        attempt = bench.lease("stars.add", repo="ada/engine", stars=2)
        attempt.lease = attempt.lease._replace(attempt=attempts + 1)
        bench.finish(attempt)
    assert database.query("SELECT repo, stars FROM stars") == [("ada/engine", 2)] * 2
    assert [record.message for record in caplog.records if "the last of" in record.message] == [
        "the last of 5 attempts: None"
    ]


def test_the_example_of_a_registry_prints_what_it_registered(read, capsys):
    read("Registry")
    assert capsys.readouterr().out == "<Registry ['stars.add']> 5\n"


def test_the_example_of_enqueue_adds_a_job(read, database, capsys):
    read("enqueue")
    [(number, payload, waits)] = database.query("SELECT id, payload, run_at > now() FROM jobs WHERE kind = 'stars.add'")
    assert (payload, waits) == ({"repo": "ada/engine", "stars": 2}, True)
    assert capsys.readouterr().out == f"job {number} waits for a minute\n"


def test_the_example_of_a_client_discards_its_job_and_is_recorded(read, database, capsys):
    read("Client")
    assert capsys.readouterr().out == "job 1 of kind stars.add was queued\n"
    assert database.query("SELECT action, actor, reason, job_ids FROM audit") == [
        ("discard", "ada@example.org", "the repository is gone", [1])
    ]


def test_the_example_of_a_lost_lease_rolls_back_and_leaves_the_job_to_its_owner(read, database, caplog):
    attempt = read("LeaseLost").lease("export.write", path="out.csv")
    database.query("UPDATE jobs SET lease_token = gen_random_uuid()")
    assert attempt.prepare() is None
    assert attempt.run().outcome.how is How.RELEASED
    assert "another worker writes out.csv" in caplog.text
    assert database.query("SELECT FROM exports") == []


def test_the_example_of_an_interrupt_cleans_up_and_is_released(read, tmp_path, monkeypatch):
    """A program ffmpeg stands in for the real one. It has written a part when the worker must stop."""
    ffmpeg = tmp_path / "ffmpeg"
    ffmpeg.write_text('#!/bin/sh\necho part > "$3"\ntouch seen\nkill -USR1 $PPID\nexec sleep 600\n')
    ffmpeg.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    attempt = read("Interrupted").lease("video.convert", path="film")
    attempt._stop = SimpleNamespace(release_at=0.0)
    before = signal.signal(signal.SIGUSR1, lambda *_: attempt.interrupt_if_due())
    try:
        assert attempt.prepare() is None
        outcome = attempt.run().outcome
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (outcome.how, outcome.error) == (How.RELEASED, "released: the worker stops")
    assert {path.name for path in tmp_path.iterdir()} == {"ffmpeg", "seen"}
