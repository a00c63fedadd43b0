"""Each command ends though somebody has locked a table, says who, and what it gave up does not happen afterwards."""

from __future__ import annotations

import re

import pytest
from conftest import eventually
from locked_tables import at_once, somebody
from rows import add_job, add_worker

from shithubd_worker.cli.deadline import CHANGE_SECONDS

TIME = ["--timeout", "1"]
COMMANDS = {
    "drain": ["drain", *TIME],
    "drain a host": ["drain", "--host", "web1", *TIME],
    "resume": ["resume", "--host", "elsewhere", *TIME],
    "pause-kind": ["pause-kind", "k", *TIME],
    "resume-kind": ["resume-kind", "parked", *TIME],
    "status": ["status", *TIME],
    "drained": ["status", "--drained", "--json", *TIME],
    "workers": ["workers", *TIME],
    "list": ["jobs", "list", *TIME],
    "show": ["jobs", "show", "1", *TIME],
    "retry": ["jobs", "retry", "2", *TIME],
    "discard": ["jobs", "discard", "3", *TIME],
    "release": ["jobs", "release", "4", "--force", "--reason", "it hangs", *TIME],
    "enqueue": ["enqueue", "new", *TIME],
    "search": ["search", "word", *TIME],
    "migrate": ["migrate", *TIME],
    "drop": ["history", "drop", *TIME],
    "release-dead": ["release-dead", "--invocation-id", "dead", *TIME],
}
NO = {"drained": 3}  # what is not 0 where nobody is in the way
HOLDS = {"drain": "fleet", "drain a host": "host", "pause-kind": "kind"}
ALL = frozenset(COMMANDS)
LOOKS = {"status", "drained"}
# Who waits for a lock of this table; all others don't notice it.
WAITS = {
    "jobs": ALL - {"resume", "workers", "search", "migrate", "drop"},
    "holds": {*HOLDS, *LOOKS, "resume", "resume-kind", "release-dead"},
    "workers": {*HOLDS, *LOOKS, "workers", "release-dead"},
    "beats": {*HOLDS, *LOOKS, "workers", "release"} | {"release-dead"},
    "audit": {*HOLDS, "retry", "discard", "release", "release-dead"},
    "job_history": {"discard", "release", "show", "release-dead"},
    "worker_schema": ALL - {"release-dead"},
    "history_drops": LOOKS | {"drop"},
    "leases_returned": {"release-dead"},
    "gate, queue_counts": set(),
}
# These give up by a shorter limit of the database's own, and say so: it passes, try again.
OWN_LIMIT = {"release-dead", "drop"}


@pytest.fixture
def queue(database):
    """One job for each command that changes one, and the worker of a dead process."""
    for kind, state in (("k", "queued"), ("k", "failed"), ("k", "failed")):
        add_job(database, kind, state)
    add_job(database, "k", "processing", worker=add_worker(database))
    dead = add_worker(database, "web9", silent=True)
    add_job(database, "k", "processing", worker=dead)
    database.query("UPDATE workers SET invocation_id = 'dead' WHERE id = %s", dead)
    add_job(database, "parked", "paused")
    return database


def jobs(database):
    return dict(database.query("SELECT id, state FROM jobs"))


def nobody_is_left_behind(database):
    """No command's statement goes on in the server after its process ended."""
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'shithubd-worker%%' AND datname = %s"
    eventually(lambda: database.value(count, database.name) == 0, "the end of each command's session")


@pytest.mark.parametrize("table", WAITS)
def test_every_command_ends_though_a_table_is_locked(queue, tmp_path, table):
    """The lock stands until all have ended."""
    before, waits = jobs(queue), WAITS[table]
    with somebody(queue, f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE") as pid:
        ended = at_once(queue, tmp_path, {name: COMMANDS[name] for name in COMMANDS if name in (waits or COMMANDS)})
        nobody_is_left_behind(queue)
    refused = {name: done.said for name, done in ended.items() if done.code != NO.get(name, 0)}
    assert set(refused) == waits, refused
    for name, said in refused.items():
        code = 75 if name in OWN_LIMIT and "gave up" not in said else 4
        assert ended[name].code == code, said
        assert re.search(
            rf"pid {pid} \(postgres, somebody, [0-9.]+\) holds a lock on {table}, idle in transaction", said
        )
        assert f"SELECT pg_terminate_backend({pid}), as postgres" in said
        for seconds in re.findall(r"gave up after ([0-9.]+) s", said):
            assert float(seconds) < CHANGE_SECONDS  # what it would wait without --timeout
    # What was done, and nothing that was given up.
    held = {scope for (scope,) in queue.query("SELECT scope FROM holds")}
    assert held == {scope for name, scope in HOLDS.items() if name in ended and " is held" in ended[name].said}
    if table in ("jobs", "workers", "beats"):
        assert held == set(HOLDS.values())
    for name, job in (("retry", 2), ("discard", 3), ("release", 4)):
        assert (jobs(queue).get(job) == before[job]) == (name in refused or name not in ended), name
    assert (queue.query("SELECT FROM jobs WHERE kind = 'new'") == []) == (
        "enqueue" in refused or "enqueue" not in ended
    )


def test_behind_a_lock_that_only_forbids_to_write_looks_go_on_and_changes_end(queue, tmp_path):
    """CREATE INDEX without CONCURRENTLY, say. A hold is certain then, and only its mirror waits."""
    with somebody(queue, "LOCK TABLE jobs IN SHARE MODE") as pid:
        ended = at_once(queue, tmp_path, {name: COMMANDS[name] for name in ALL - {"release-dead"}})
        nobody_is_left_behind(queue)
    refused = {name: done.said for name, done in ended.items() if done.code != NO.get(name, 0)}
    assert set(refused) == {"pause-kind", "resume-kind", "retry", "discard", "release", "enqueue"}, refused
    assert all(f"pid {pid} (postgres, somebody, 127.0.0.1) holds a lock on jobs" in said for said in refused.values())
    assert "kind k is held: nothing of it starts any more" in refused["pause-kind"]
    assert {"drain", "drain a host"} <= {name for name, done in ended.items() if " is held: nothing of it" in done.said}


def test_every_command_ends_though_a_row_is_locked(queue, tmp_path):
    """Of a job, of the hold, of the worker."""
    queue.query("SELECT pause_kind_v1('parked'), drain_v1('host', 'elsewhere')")
    rows = [f"SELECT FROM {table} FOR UPDATE" for table in ("jobs", "holds", "workers")]
    changes = {
        name: COMMANDS[name] for name in ("retry", "discard", "release", "resume", "resume-kind", "release-dead")
    }
    again = {
        "pause again": ["pause-kind", "parked", *TIME],
        "drain again": ["drain", "--host", "elsewhere", "--force", *TIME],
    }
    looks = {name: COMMANDS[name] for name in ("status", "drained", "workers", "list", "show")}
    before = queue.query("SELECT * FROM holds ORDER BY id"), jobs(queue)
    with somebody(queue, *rows) as pid:
        ended = at_once(queue, tmp_path, {**changes, **again, **looks})
        nobody_is_left_behind(queue)
    refused = {name: done.said for name, done in ended.items() if done.code != NO.get(name, 0)}
    # It leaves a locked job to its expiry after a second, which may be sooner than its time is over.
    assert refused.keys() | {"release-dead"} == {*changes, *again}
    for said in refused.values():
        assert re.search(r"a lock on a row of (jobs|holds|workers)", said)
        assert f"pid {pid} (postgres, somebody, 127.0.0.1)" in said  # or another one of these, which waits for him
        assert f"pg_terminate_backend({pid})" in said
    assert (queue.query("SELECT * FROM holds ORDER BY id"), jobs(queue)) == before
