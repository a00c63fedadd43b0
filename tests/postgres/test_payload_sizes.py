"""Payloads that are small in the table and huge as text, and the reverse: one row stops no other."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import eventually

from shithubd_worker.admin.change import Change, change_batch
from shithubd_worker.database.connection import connector
from shithubd_worker.database.operations import Operations

MIB = 1024 * 1024
MOST = 64 * MIB
WIDE = ("--prefetch", "3600")

# In SQL, because most of them can't be sent as text: the value that is stored, and the message about it.
NUMBERS = "(SELECT jsonb_build_object('n', jsonb_agg(1e131071)) FROM generate_series(1, {}))"
HUGE = {
    # 1.6 MB of text: a handler gets it.
    "numbers with exponents": (NUMBERS.format(100).replace("1e131071", "1e-16000"), None),
    "more of them": (NUMBERS.format(600), r"its text has 78\d+ bytes; at most 67108864 are given"),
    "compressed": ("jsonb_build_object('n', repeat('x', 80000000))", r"its text has 800000\d+ bytes"),
    "control characters": (
        "jsonb_build_object('n', repeat(E'\\u0001', 12000000))",
        r"its text has 720000\d+ bytes",
    ),
    "empty objects": ("(SELECT jsonb_build_object('n', jsonb_agg('{}'::jsonb)) FROM generate_series(1, 500000))", None),
}


def put(database, payload):
    return database.value(f"INSERT INTO jobs (kind, payload) VALUES ('test.ok', {payload}) RETURNING id")


def peak_memory(worker):
    """The most memory that the process ever had, in bytes."""
    status = Path(f"/proc/{worker.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


@pytest.mark.timeout(300)
def test_only_a_payload_that_no_handler_can_take_ends_as_poison(database, start_worker):
    says = {}
    for name in ("numbers with exponents", "more of them", "compressed", "control characters"):
        payload, said = HUGE[name]
        says[put(database, payload)] = said
        database.query("INSERT INTO jobs (kind, payload) SELECT 'test.ok', '{\"n\": 1}' FROM generate_series(1, 50)")
    worker = start_worker(*WIDE)
    eventually(lambda: database.value("SELECT count(*) FROM jobs WHERE state <> 'failed'") == 0, "the ends of all", 120)
    failed = dict(database.query("SELECT id, last_error FROM jobs"))
    assert set(failed) == {job for job, said in says.items() if said}
    for job, error in failed.items():
        assert re.match(r"the payload can't be given to its handler: " + says[job], error), error
    assert database.query("SELECT outcome, count(*) FROM job_history GROUP BY 1 ORDER BY 1") == [
        ("ok", 201),
        ("poison", 3),
    ]
    assert peak_memory(worker) < 4 * MOST
    assert worker.terminate() == 0


def test_five_hundred_such_rows_do_not_lengthen_a_lease(database, start_worker):
    """The lease makes text of payloads that are certain to be short; of the others at most 32 KiB of rows, as
    stored."""
    payload = NUMBERS.format(20).replace("1e131071", "1e-16000")  # 300 bytes stored, 320 kB as text
    for _ in range(3):
        database.query(f"INSERT INTO jobs (kind, payload) SELECT 'test.ok', {payload} FROM generate_series(1, 20)")
    worker = start_worker(*WIDE)
    eventually(lambda: not database.query("SELECT FROM jobs LIMIT 1"), "the end of all")
    assert peak_memory(worker) < 4 * MOST
    assert worker.terminate() == 0


def test_no_such_payload_breaks_a_command(database, command):
    jobs = [put(database, payload) for payload, _ in HUGE.values()]
    listed = json.loads(command("jobs", "list", "--json").stdout)
    assert [job["id"] for job in listed] == jobs
    for job in listed:
        assert "bytes" in job["payload_cut"]
        assert len(job["payload"] or "") <= 200
    operations = Operations(connector(database.url, "test"), "public")
    for job in jobs:
        assert "bytes" in operations.job(job)["payload_cut"]
        assert change_batch(operations, Change("discard", "me"), [job]).changed == 1
        assert "bytes" in operations.job(job)["payload_cut"]
    operations.close()
    done = command("jobs", "show", str(jobs[1]))
    assert (done.returncode, len(done.stdout) < 5000) == (0, True), done.stderr


def test_a_payload_of_a_usual_size_is_shown_whole(database, command):
    job = put(database, "jsonb_build_object('n', repeat('x', 3000))")
    (listed,) = json.loads(command("jobs", "list", "--json").stdout)
    shown = json.loads(command("jobs", "show", str(job), "--json").stdout)
    assert listed["payload"] == shown["payload"] == {"n": "x" * 3000}
    assert "payload_cut" not in {**listed, **shown}
