"""A trigger of the application changes the same row in each settle, and other sessions change it, too.

A worker waits in the queue for that row."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import psycopg
import pytest
from conftest import eventually
from drivers import enqueue as add
from test_beside_locked_rows import COUNT, all_told_once, batch_ended, rooms  # noqa: F401 (a fixture)

TOTALS = """
CREATE TABLE totals (jobs bigint);
INSERT INTO totals VALUES (0);
CREATE FUNCTION application() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$ BEGIN UPDATE totals SET jobs = jobs + 1; RETURN NULL; END $$;
"""
IN_THE_STATEMENT = "CREATE TRIGGER application AFTER DELETE ON jobs FOR EACH STATEMENT EXECUTE FUNCTION application()"
IN_THE_COMMIT = (
    "CREATE CONSTRAINT TRIGGER application AFTER DELETE ON jobs DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW EXECUTE FUNCTION application()"
)
WAITS = (
    "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " AND clock_timestamp() - query_start > interval '0.25 s'"
)


@contextmanager
def busy(database, look):
    """Others change the row, one after the other, until a session has waited for it for a while. `look` is called
    before its wait ends."""
    other = database.connect()
    other.execute("BEGIN")
    other.execute("UPDATE totals SET jobs = jobs")

    def end():
        eventually(lambda: gave_up.is_set() or database.query(WAITS), "a patient session")
        look()
        other.execute("COMMIT")

    gave_up = threading.Event()
    thread = threading.Thread(target=end)
    thread.start()
    try:
        yield
    finally:
        gave_up.set()
        thread.join()
        other.close()


@pytest.mark.parametrize("trigger", [IN_THE_STATEMENT, IN_THE_COMMIT])
def test_a_worker_waits_for_a_busy_lock_and_then_leases_as_many_jobs_as_before(database, rooms, trigger):  # noqa: F811
    jobs = batch_ended(database, rooms)
    add(database, 2 * COUNT)
    database.query(TOTALS)
    database.query(trigger)
    named = []
    with busy(database, lambda: named.append(rooms.settler.unsettled(time.monotonic()))):
        with pytest.raises(psycopg.errors.LockNotAvailable) as refused:
            rooms.exchange.turn()
        rooms.patience.failed(refused.value)
        rooms.exchange.turn()
    assert named == [tuple(jobs)]
    assert len(rooms.tray.leased) == COUNT
    assert all_told_once(database, rooms)
    rooms.exchange.put_down(at_last=True)
