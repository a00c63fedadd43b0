"""A lock of the whole queue is a wait, not work: a look begins after the wait, and its cost counts from there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from conftest import eventually
from rows import add_worker

LEASE = (
    "SELECT id, content::jsonb FROM lease_v1(%s, gen_random_uuid(), '{k}', '{0}', '{0}', '{-infinity}', '{0}', '{60}',"
    " '{10}')"
)


def test_a_lease_that_waited_for_a_lock_looks_by_the_clock_after_the_wait(any_database):
    """The measured cost counts from there, too. Otherwise no look from the start would follow for 200 times the wait
    (turn/frontier.py)."""
    worker = add_worker(any_database, "here", invocation="abc")
    waits = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE '%lease_v1(%' AND wait_event_type = 'Lock'"
    )
    insert = "INSERT INTO jobs (kind, run_at) VALUES ('k', clock_timestamp()) RETURNING id, date_part('epoch', run_at)"
    with ThreadPoolExecutor() as pool:
        with any_database.connect() as holder, holder.transaction():
            holder.execute("LOCK TABLE jobs")
            lease = pool.submit(any_database.query, LEASE, worker)
            eventually(lambda: any_database.value(waits), "it waits for the lock")
            job, due = holder.execute(insert).fetchone()
        [(_, report), (leased, _)] = lease.result()
    assert leased == job
    assert report["now_us"] > due * 1e6
