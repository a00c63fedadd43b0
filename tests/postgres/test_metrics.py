"""The metrics endpoint of a real worker: valid, true, cheap, and silent about a queue that it cannot see."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request

import psycopg
import pytest
from conftest import eventually


@pytest.fixture
def worker(start_worker):
    return start_worker("--metrics", "127.0.0.1:0", "--kind", "test.ok", "--kind", "test.fails", "--kind", "test.sleep")


def get(worker, path, **headers):
    request = urllib.request.Request(worker.metrics_url + path, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_a_scrape_passes_promtool(database, worker):
    if shutil.which("promtool") is None:
        assert os.environ.get("CI") != "true", "promtool is missing (Debian: prometheus)"
        pytest.skip("no promtool on this machine (Debian: prometheus)")
    database.query("INSERT INTO jobs (kind) VALUES ('test.ok'), ('nobody.knows')")
    database.query("SELECT pause_kind_v1('nobody.knows')")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=worker.metrics(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_endpoint_counts_what_happened(database, worker):
    one_after_the_other = (
        ("test.ok", {}),
        ("test.ok", {}),
        ("test.fails", {}),
        ("test.fails", {"how": "permanent"}),
        ("test.sleep", {"x": 1}),
    )
    for ended, (kind, payload) in enumerate(one_after_the_other, 1):  # so that each is a claim of its own
        database.query("INSERT INTO jobs (kind, payload) VALUES (%s, %s)", kind, json.dumps(payload))
        eventually(lambda n=ended: database.value("SELECT count(*) FROM job_history") == n, "it ended")
    counted = "SELECT kind, outcome, count(*) FROM job_history GROUP BY 1, 2"
    for kind, outcome, count in database.query(counted):
        sample = f'shithub_worker_jobs_processed_total{{kind="{kind}",outcome="{outcome}"}}'
        eventually(lambda s=sample, n=count: worker.metric(s) == n, f"{sample} {count}")
    assert worker.metric('shithub_worker_job_duration_seconds_count{kind="test.ok"}') == 2
    assert worker.metric('shithub_worker_job_wait_seconds_count{kind="test.fails"}') == 2
    assert worker.metric('shithub_worker_claims_total{result="job"}') == 5
    eventually(lambda: worker.metric('shithub_worker_in_flight{kind="test.ok"}') == 0, "none in flight")
    assert worker.metric("shithub_worker_db_up") == 1
    assert worker.metric("process_resident_memory_bytes") > 0
    assert worker.metric("shithub_worker_schema_version") == worker.metric("shithubd_schema_version")
    # Every pair of kind and outcome exists from the start, so that a rate never misses its first event.
    assert worker.metric('shithub_worker_jobs_processed_total{kind="test.sleep",outcome="lease_lost"}') == 0
    assert worker.metric('shithubd_leases_returned_total{kind="test.sleep",outcome="poison"}') == 0


def test_the_endpoint_shows_the_running_job(database, worker):
    database.query("INSERT INTO jobs (kind) VALUES ('test.sleep')")
    eventually(lambda: worker.metric('shithub_worker_in_flight{kind="test.sleep"}') == 1, "in flight")
    since = 'shithub_worker_job_started_timestamp_seconds{kind="test.sleep"}'
    eventually(lambda: worker.metric(since) > 1.7e9, "since when")
    eventually(lambda: worker.metric('shithub_worker_state{state="running"}') == 1, "running")
    assert get(worker, "/readyz") == (200, b"running\n")


def test_without_a_database_the_queue_gauges_are_absent_and_the_process_still_answers(database, worker):
    with psycopg.connect(database.server.url("postgres"), autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{database.name}" ALLOW_CONNECTIONS false')
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database.name,)
        )
        eventually(lambda: worker.metric("shithub_worker_db_up") == 0, "noticed")
        assert worker.metric("shithubd_queue_scrape_success") == 0
        assert "shithubd_jobs{" not in worker.metrics()
        assert "shithubd_job_queue_depth{" not in worker.metrics()
        eventually(lambda: get(worker, "/readyz") == (503, b"reconnecting\n"), "not ready")
        assert get(worker, "/healthz") == (200, b"ok\n")
        connection.execute(f'ALTER DATABASE "{database.name}" ALLOW_CONNECTIONS true')
    eventually(lambda: worker.metric("shithub_worker_db_up") == 1, "back")
    assert get(worker, "/readyz")[0] == 200


def test_a_job_counts_as_late_if_it_waited_longer_than_its_kind_may(database, worker):
    starts = 'shithub_worker_job_starts_total{kind="test.fails",start="%s"}'
    assert worker.metric('shithub_worker_job_wait_objective_seconds{kind="test.fails"}') == 3600
    assert (worker.metric(starts % "in_time"), worker.metric(starts % "late")) == (0, 0)
    database.query(
        "INSERT INTO jobs (kind, run_at) SELECT 'test.fails', now() - minutes * interval '1 minute'"
        " FROM unnest(ARRAY[0, 59, 61, 90, 10000]) AS minutes"
    )
    database.query("INSERT INTO jobs (kind, run_at) VALUES ('test.fails', '-infinity'), ('test.ok', '2001-01-01')")
    eventually(lambda: worker.metric(starts % "late") == 3, "three are late")
    eventually(lambda: worker.metric(starts % "in_time") == 3, "three are in time")
    text = worker.metrics()
    assert 'starts_total{kind="test.ok"' not in text
    assert 'objective_seconds{kind="test.ok"' not in text
    assert "_created" not in text


CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'shithubd-worker metrics'"


def test_connections_that_were_cut_while_idle_cost_no_scrape(database, worker):
    eventually(lambda: worker.metric("shithubd_queue_scrape_success") == 1, "counted")
    for _ in range(3):
        assert len(database.query(CUT)) > 0
        eventually(lambda: not database.query(CUT), "they are gone")
        assert worker.metric("shithubd_schema_version") is not None
        assert worker.metric("shithubd_queue_scrape_success") == 1
    database.query("UPDATE queue_counts SET counted_at = now() - interval '15 s', claimed_at = '-infinity'")
    eventually(lambda: not database.query(CUT), "they are gone")
    worker.metrics()
    recounted = "SELECT counted_at > now() - interval '5 s' FROM queue_counts"
    eventually(lambda: database.value(recounted), "the count needed no second claim")
    assert "WARNING" not in worker.log


def test_a_held_worker_is_ready(database, worker):
    database.query("SELECT drain_v1()")
    eventually(lambda: get(worker, "/readyz") == (200, b"held\n"), "held")


def test_the_endpoint_can_compress_and_lists_its_paths(worker):
    status, body = get(worker, "/metrics", **{"Accept-Encoding": "gzip"})
    assert status == 200
    assert b"shithub_worker_build_info" in gzip.decompress(body)
    assert get(worker, "/nothing")[0] == 404
    assert get(worker, "/")[0] == 200


def test_unknown_kinds_make_no_series_of_the_process(database, worker):
    database.query(
        "INSERT INTO jobs (kind, state, leased_by, leased_at) VALUES ('stranger', 'processing', 'h:1', now())"
    )
    eventually(lambda: worker.metric('shithubd_leases_returned_total{kind="stranger",outcome="crashed"}') == 1, "swept")
    assert not re.search(r'^shithub_worker.*kind="stranger"', worker.metrics(), re.MULTILINE)
