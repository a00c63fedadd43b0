"""Each command ends if somebody has locked a table, and says who. A change that it gave up does not happen later."""

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
    "stats": ["stats", *TIME],
    "workers": ["workers", *TIME],
    "unlock": ["workers", "unlock", "nobody:1", *TIME],
    "sweep": ["workers", "sweep", "--stale-after", "5m", *TIME],
    "cleanup": ["cleanup", "GC_TASK_IDENTIFIERS", *TIME],
    "list": ["jobs", "list", *TIME],
    "show": ["jobs", "show", "1", *TIME],
    "explain": ["jobs", "explain", "1", *TIME],
    "retry": ["jobs", "retry", "2", *TIME],
    "discard": ["jobs", "discard", "3", *TIME],
    "release": ["jobs", "release", "4", "--accept-second-run", "--reason", "it hangs", *TIME],
    "enqueue": ["enqueue", "new", *TIME],
    "search": ["search", "word", *TIME],
    "migrate": ["migrate", *TIME],
    "drop": ["history", "drop", *TIME],
    "release-dead": ["release-dead", "--invocation-id", "dead", *TIME],
}
NO = {"drained": 3}  # commands whose exit code is not 0 even without a lock
HOLDS = {"drain": "fleet", "drain a host": "host", "pause-kind": "kind"}
ALL = frozenset(COMMANDS)
LOOKS = {"status", "drained"}
COUNTS = {*LOOKS, "stats"}
# The commands that wait for a lock of this table. No other command notices it.
WAITS = {
    "jobs": ALL - {"resume", "workers", "search", "migrate", "drop"},
    "holds": {*HOLDS, *COUNTS, "resume", "resume-kind", "release-dead", "unlock", "sweep", "show", "explain"},
    "ramps": {*HOLDS, "release-dead", "explain"},
    "workers": {*HOLDS, *COUNTS, "workers", "release-dead", "unlock", "sweep", "cleanup", "explain"},
    "beats": {*HOLDS, *COUNTS, "workers", "release-dead", "unlock", "sweep", "explain"},
    "audit": {*HOLDS, "retry", "discard", "release", "release-dead"},
    "job_history": {"discard", "release", "show", "release-dead"},
    "worker_schema": ALL - {"release-dead"},
    "history_drops": LOOKS | {"drop"},
    "sweeper": LOOKS | {"sweep"},
    "leases_returned": {"release-dead", "cleanup"},
    "kind_stats": {"stats", "explain"},
    "gate, queue_counts": set(),
}
# These give up at a shorter limit of the database's own, and say so: it passes, so try again.
OWN_LIMIT = {"release-dead", "drop", "unlock"}


@pytest.fixture
def queue(database):
    """One job for each command that changes a job, and the worker of a dead process."""
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
    """No statement of a command runs on in the server after its process ended."""
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'shithubd-worker%%' AND datname = %s"
    eventually(lambda: database.value(count, database.name) == 0, "the end of each command's session")


@pytest.mark.parametrize("table", WAITS)
def test_every_command_ends_while_a_table_is_locked(queue, tmp_path, table):
    """The lock stays until all commands have ended."""
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
            assert float(seconds) < CHANGE_SECONDS  # the time that it would wait without --timeout
    # Only the changes that a command reported were made, and none that it gave up.
    held = {scope for (scope,) in queue.query("SELECT scope FROM holds")}
    assert held == {scope for name, scope in HOLDS.items() if name in ended and " is held" in ended[name].said}
    if table in ("jobs", "workers", "beats"):
        assert held == set(HOLDS.values())
    for name, job in (("retry", 2), ("discard", 3), ("release", 4)):
        assert (jobs(queue).get(job) == before[job]) == (name in refused or name not in ended), name
    assert (queue.query("SELECT FROM jobs WHERE kind = 'new'") == []) == (
        "enqueue" in refused or "enqueue" not in ended
    )


def test_behind_a_lock_against_writes_reads_go_on_and_changes_give_up(queue, tmp_path):
    """CREATE INDEX without CONCURRENTLY takes such a lock. A hold is certain then, and only its mirror waits."""
    with somebody(queue, "LOCK TABLE jobs IN SHARE MODE") as pid:
        ended = at_once(queue, tmp_path, {name: COMMANDS[name] for name in ALL - {"release-dead"}})
        nobody_is_left_behind(queue)
    refused = {name: done.said for name, done in ended.items() if done.code != NO.get(name, 0)}
    assert set(refused) == {"pause-kind", "resume-kind", "retry", "discard", "release", "enqueue"}, refused
    assert all(f"pid {pid} (postgres, somebody, 127.0.0.1) holds a lock on jobs" in said for said in refused.values())
    assert "kind k is held: nothing of it starts any more" in refused["pause-kind"]
    assert {"drain", "drain a host"} <= {name for name, done in ended.items() if " is held: nothing of it" in done.said}


def test_every_command_ends_while_a_row_is_locked(queue, tmp_path):
    """The row of a job, of the hold, or of the worker."""
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
    # After a second it leaves a locked job to the expiry of its lease. That may be sooner than its own timeout.
    assert refused.keys() | {"release-dead"} == {*changes, *again}
    for said in refused.values():
        assert re.search(r"a lock on a row of (jobs|holds|workers)", said)
        # or another of these commands, which waits for the lock
        assert f"pid {pid} (postgres, somebody, 127.0.0.1)" in said
        assert f"pg_terminate_backend({pid})" in said
    assert (queue.query("SELECT * FROM holds ORDER BY id"), jobs(queue)) == before
