"""Times that an UPDATE, an INSERT or a clock can make, and what each leads to. None breaks anything:
test_odd_rows.py."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import pytest
from conftest import eventually
from rows import add_worker

from shithubd_worker.database.connection import connector
from shithubd_worker.database.operations import Operations, Scope
from shithubd_worker.host.identity import identify

FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
LEASE = "INSERT INTO jobs (kind, state, leased_by, leased_at) VALUES ('k', 'processing', 'gone:1', %s)"
KIND = Scope("kind", "k")


@pytest.fixture
def operations(any_database):
    operations = Operations(connector(any_database.url, "test"), "public")
    yield operations
    operations.close()


def test_a_time_outside_of_the_calendar_becomes_its_first_or_last_moment(operations):
    for stored, read in {
        "-infinity": FIRST,
        "4714-11-24 00:00:00+00 BC": FIRST,
        "0001-12-31 23:59:59.999999+00 BC": FIRST,
        "0001-01-01 00:00:00+00": FIRST,
        "2026-11-26 10:00:00.000001+00": datetime(2026, 11, 26, 10, 0, 0, 1, tzinfo=UTC),
        "9999-12-31 23:59:59.999999+00": LAST,
        "10000-01-01 00:00:00+00": LAST,
        "294276-12-31 23:59:59.999999+00": LAST,
        "infinity": LAST,
    }.items():
        query = "SELECT %s::timestamptz, to_jsonb(readable_v1(%s::timestamptz))"
        row, shown = operations.connection.execute(query, (stored, stored)).fetchone()
        assert (row, datetime.fromisoformat(shown)) == (read, read), stored


# A lease in the future: an UPDATE, or a clock that was set back.


@pytest.mark.parametrize("leased_at", ["tomorrow", "294276-12-31 23:59:59.999999+00", "infinity"])
def test_a_lease_in_the_future_delays_the_barrier_by_one_window_at_most(any_database, operations, leased_at):
    any_database.query(LEASE, leased_at)
    operations.pause_kind("k", None, None)
    assert operations.value("barrier_v1", "kind", "k", 0.1) is False
    began = time.monotonic()
    assert operations.barrier(KIND, None, print)
    assert time.monotonic() - began >= 0.5


@pytest.mark.parametrize("leased_at", ["-infinity", "4714-11-24 00:00:00+00 BC", "yesterday"])
def test_an_old_lease_does_not_delay_the_barrier(any_database, operations, leased_at):
    any_database.query(LEASE, leased_at)
    operations.pause_kind("k", None, None)
    assert operations.value("barrier_v1", "kind", "k", 0.0)


# A hold until the end of time.


@pytest.mark.parametrize("until", ["infinity", "20000-01-01"])
def test_a_hold_whose_end_is_outside_of_the_calendar_is_shown_and_resumed(any_database, operations, until):
    any_database.query("INSERT INTO holds (scope, target, actor, until) VALUES ('kind', 'k', 'x', %s)", until)
    any_database.query("INSERT INTO jobs (kind, state) VALUES ('k', 'paused')")
    (hold,) = operations.status()["holds"]
    assert datetime.fromisoformat(hold["until"]) == LAST
    assert operations.resume_kind("k", None).until == LAST
    assert list(operations.unpause("k")) == [1]
    assert any_database.query("SELECT state FROM jobs") == [("queued",)]


def test_a_hold_until_infinity_has_no_end(any_database):
    any_database.query("SELECT pause_kind_v1('k', NULL, 'infinity')")
    assert any_database.query("SELECT until FROM holds") == [(None,)]


# A worker's row.


def test_a_worker_whose_last_beat_is_in_the_future_is_silent(any_database, operations):
    for beat_at in ("now", "tomorrow", "infinity", "-infinity", "1000-01-01 BC"):
        add_worker(any_database, "h", beat_at=beat_at)
    assert sorted(worker["silent"] for worker in operations.workers()) == [False, True, True, True, True]
    assert [kind["workers"] for kind in operations.status()["kinds"]] == [1]


def test_a_worker_starts_and_works_beside_the_oddest_rows(database, start_worker, command):
    odd = dict.fromkeys(("started_at", "beat_at", "job_since"), "infinity")
    for _ in range(2):
        add_worker(database, "h", 0, kinds=[None], machine=identify().machine_id, **odd)
    for moment in ("-infinity", "4714-11-24 00:00:00+00 BC", "infinity"):
        database.query(LEASE.replace("'k'", "'test.ok'"), moment)
        database.query("INSERT INTO jobs (kind, run_at, created_at) VALUES ('test.ok', %s, %s)", moment, moment)
    worker = start_worker("--metrics", "127.0.0.1:0")
    eventually(lambda: database.value("SELECT count(*) FROM job_history WHERE outcome = 'ok'") >= 2, "what is due ran")
    eventually(lambda: worker.metric('shithubd_jobs{kind="test.ok",state="queued"}') is not None, "a count")
    shown = command("status", "--json")
    assert shown.returncode == 0
    assert len(json.loads(shown.stdout)["workers"]) == 3
    assert worker.terminate() == 0


# The counts that all workers show in a scrape.


@pytest.mark.parametrize(
    "odd",
    ["claimed_at = 'infinity'", "claimed_at = 'tomorrow'", "claimed_at = '-infinity', seconds = 'NaN'"],
)
def test_no_claim_of_a_count_lasts_for_ever(any_database, odd):
    any_database.query("SELECT claim_count_v1(10, 2.5)")
    assert any_database.value("SELECT claim_count_v1(10, 2.5)") is None
    any_database.query(f"UPDATE queue_counts SET {odd}")
    assert any_database.value("SELECT claim_count_v1(10, 2.5)") is True


def test_a_count_with_an_endless_time_blocks_the_next_one_for_less_than_a_minute(any_database):
    any_database.query("SELECT claim_count_v1(10, 2.5)")
    any_database.query("UPDATE queue_counts SET seconds = 'Infinity', claimed_at = now() - interval '51 seconds'")
    assert any_database.value("SELECT claim_count_v1(10, 2.5)") is True
