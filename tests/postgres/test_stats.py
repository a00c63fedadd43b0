"""The figures of each kind: folded without a change, right within ten percent, and in nobody's way."""

from __future__ import annotations

import json
import math
import random
from contextlib import suppress

import psycopg
import pytest
from conftest import eventually
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rows import add_job, add_worker

from shithubd_worker.telemetry.metrics import Metrics

WINDOWS = {"5m": "1 minute", "1h": "10 minutes", "24h": "1 hour"}
SUMS = 'SELECT kind, "window", ok::int, failures::int FROM figures_v1() ORDER BY 1, 2'
NOW = "date_bin('10 seconds', clock_timestamp(), '2000-01-01 00:00:00+00')"


def write(database, *figures):
    database.query("SELECT write_stats_v1(%s)", json.dumps(figures))


def kinds(database, kind=None, most=50):
    return {found["kind"]: found for (found,) in database.query("SELECT stats_v1(%s, %s)", kind, most)}


def of_one_minute(database, ask):
    """What `ask` returns if no window began meanwhile."""
    while True:
        starts = database.query("SELECT starts FROM windows_v1()")
        found = ask()
        if database.query("SELECT starts FROM windows_v1()") == starts:
            return found


def past(database, *, rows=400, seed=1):
    """Rows of 10 seconds, spread over the last 26 hours, more of them lately."""
    draw = random.Random(seed)
    ages = [int(93_600 * draw.random() ** 3) for _ in range(rows)]
    database.query(
        "INSERT INTO kind_stats (kind, begins, ok, failed, waits, runs)"
        f' SELECT k, {NOW} - make_interval(secs => age), 3, 1, \'{{"1000": 2}}\', \'{{"500": 1, "2000": 3}}\''
        " FROM unnest(%s::int[]) age, unnest('{a,b}'::text[]) k",
        ages,
    )


def folded(database):
    """Fold until nothing is left to fold."""
    while True:
        before = database.value("SELECT max(id) FROM kind_stats")
        database.query("SELECT fold_stats_v1(2000)")
        if database.value("SELECT max(id) FROM kind_stats") == before:
            return


def test_a_fold_changes_no_window(any_database):
    past(any_database)

    def both():
        before = any_database.query(SUMS), any_database.query("SELECT * FROM percentiles_v1('{a,b}') ORDER BY 1, 2")
        folded(any_database)
        return before, (
            any_database.query(SUMS),
            any_database.query("SELECT * FROM percentiles_v1('{a,b}') ORDER BY 1, 2"),
        )

    before, after = of_one_minute(any_database, both)
    assert before == after
    assert len(before[0]) == 6
    # Each window has what began in it.
    begins = dict(any_database.query('SELECT "window", starts FROM windows_v1()'))
    for window, step in WINDOWS.items():
        whole = any_database.value(
            "SELECT date_bin(%s::interval, %s, '2000-01-01 00:00:00+00') = %s", step, *[begins[window]] * 2
        )
        assert whole, f"{window} begins inside of a row"
    spans = any_database.query(
        "SELECT seconds, count(DISTINCT begins), count(*) FROM kind_stats WHERE kind = 'a' AND seconds > 10 GROUP BY 1"
    )
    assert all(rows == different for _, different, rows in spans)
    assert {seconds for seconds, _, _ in spans} == {60, 600, 3600}
    assert any_database.value("SELECT count(*) FROM kind_stats WHERE begins < now() - interval '25 hours'") == 0


def test_two_at_once_fold_different_rows_and_nobody_waits(database):
    past(database, rows=50)
    total = database.value("SELECT sum(ok) FROM kind_stats WHERE begins > now() - interval '24 hours'")
    with database.connect() as one, database.connect() as other:
        one.execute("BEGIN")
        one.execute("SELECT fold_stats_v1(30)")
        other.execute("SET lock_timeout = '1s'")
        other.execute("SELECT fold_stats_v1(2000)")
        other.execute("""SELECT write_stats_v1('[{"kind": "a", "ok": 5}]')""")
        one.execute("COMMIT")
    assert database.value("SELECT sum(ok) FROM kind_stats WHERE begins > now() - interval '24 hours'") == total + 5


def test_a_fold_of_few_rows_takes_those_that_become_one(database):
    database.query(
        "INSERT INTO kind_stats (kind, begins, ok)"
        " SELECT 'k' || k, date_bin('1 minute', now(), '2000-01-01 00:00:00+00') - make_interval(secs => 10 * n), 1"
        " FROM generate_series(1, 6) n, generate_series(1, 9) k"
    )
    for _ in range(9):
        database.query("SELECT fold_stats_v1(6)")
    assert database.query("SELECT seconds, count(*), sum(ok)::int FROM kind_stats GROUP BY 1") == [(60, 9, 54)]


def test_a_write_folds_few_rows(database):
    past(database, rows=500)
    before = database.value("SELECT count(*) FROM kind_stats WHERE seconds = 10")
    write(database, {"kind": "a", "ok": 1})
    assert before - database.value("SELECT count(*) FROM kind_stats WHERE seconds = 10") < 110


def test_a_worker_is_not_kept_waiting_by_a_table_that_somebody_has_locked(database):
    with database.connect() as stranger, database.connect() as worker:
        stranger.execute("BEGIN; LOCK TABLE kind_stats")
        with pytest.raises(Exception, match="lock timeout"):
            worker.execute("""SELECT write_stats_v1('[{"kind": "a", "ok": 5}]')""")


def test_rows_in_the_future_and_odd_ones_do_no_harm(any_database):
    write(any_database, {"kind": "a", "ok": 1})
    any_database.query(
        "INSERT INTO kind_stats (kind, seconds, begins, ok) VALUES"
        " ('a', 10, now() + interval '1 hour', 7), ('a', 60, now() + interval '2 days', 7),"
        " ('a', 3600, '4714-11-24 00:00:00+00 BC', 7), ('a', 600, '294276-12-31 23:59:59+00', 7),"
        " ('b', 10, now() - interval '3 hours 7 seconds', 1000000000000000)"
    )
    any_database.query(
        "INSERT INTO kind_stats (kind, seconds, begins, ok, runs)"
        " SELECT kind, seconds, begins, ok, '{\"5\": 1e15}' FROM kind_stats, generate_series(1, 3) WHERE kind = 'b'"
    )
    any_database.query("UPDATE worker_schema SET figures_since = now() + interval '10 years'")
    folded(any_database)
    assert kinds(any_database)["a"]["windows"]["24h"]["ok"] == 1
    assert kinds(any_database)["a"]["windows"]["5m"]["seconds"] >= 300
    assert any_database.value("SELECT max(begins) < now() + interval '25 hours' FROM kind_stats")
    assert any_database.value("SELECT min(begins) > now() - interval '26 hours' FROM kind_stats")
    assert any_database.value("SELECT sum(ok) FROM kind_stats WHERE kind = 'b'") == 10**15


def test_beside_a_held_snapshot_each_row_leaves_one_dead_version_at_most(database):
    with database.connect() as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM kind_stats")
        past(database, rows=300)
        folded(database)
        for _ in range(20):
            write(database, {"kind": "a", "ok": 1})
        database.query("ANALYZE kind_stats")
        dead, written = database.query(
            "SELECT n_dead_tup, n_tup_ins FROM pg_stat_user_tables WHERE relname = 'kind_stats'"
        )[0]
        assert dead <= written
        assert dead <= 2 * 2 * 300  # the rows, and those into which they were folded before
    assert sum(row[2] for row in database.query(SUMS) if row[1] == "24h") > 0


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.floats(0.0001, 86_400.0), min_size=1, max_size=60),
    st.lists(st.floats(0.0001, 0.05), max_size=200),
)
def test_percentiles_are_at_most_ten_percent_wrong(database, slow, quick):
    values = sorted([*slow, *quick])
    metrics = Metrics(["k"], "web1:1")
    metrics.ran("k", values)
    database.query("TRUNCATE kind_stats")
    write(database, *metrics.tally.take(1))
    run = kinds(database)["k"]["windows"]["5m"]["run"]
    for part, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        exact = values[math.ceil(share * len(values)) - 1]
        assert run[part] == pytest.approx(exact, rel=0.1, abs=0.0001), part


def test_a_backlog_is_done_at_the_rate_of_the_shortest_window_with_any(database):
    for kind in ("quick", "slow", "idle", "held"):
        database.query("INSERT INTO jobs (kind, priority) SELECT %s, n %% 3 FROM generate_series(1, 600) n", kind)
        database.query("INSERT INTO jobs (kind, run_at) VALUES (%s, now() + interval '1 hour')", kind)
    database.query("UPDATE worker_schema SET figures_since = now() - interval '2 days'")
    write(database, {"kind": "quick", "ok": 20, "failed": 9, "poison": 1, "retry": 50}, {"kind": "held", "ok": 1})
    database.query(f"INSERT INTO kind_stats (kind, begins, ok) VALUES ('slow', {NOW} - interval '30 minutes', 60)")
    database.query("SELECT pause_kind_v1('held', 'no disk')")
    found = kinds(database)
    quick, slow, idle, held = (found[kind] for kind in ("quick", "slow", "idle", "held"))
    assert [each["backlog"] for each in (quick, slow, idle, held)] == [600, 600, 600, 0]
    assert (quick["backlog_window"], slow["backlog_window"], idle["backlog_window"]) == ("5m", "1h", None)
    assert (idle["backlog_seconds"], held["backlog_seconds"]) == (None, 0)
    assert 10 * 20 <= quick["backlog_seconds"] <= 30 * 20  # the first of 30 ended at most 20 s ago
    assert 1800 * 10 <= slow["backlog_seconds"] <= 1830 * 10
    five = quick["windows"]["5m"]
    assert (five["runs"], five["failures"], five["failure_ratio"]) == (80, 60, 0.75)
    [(per_second, window)] = database.query("SELECT * FROM rate_v1('quick')")
    assert (round(600 / per_second / 60), window) == (round(quick["backlog_seconds"] / 60), "5m")
    assert database.query("SELECT * FROM rate_v1('idle')") == []


def test_a_few_jobs_tell_no_more_than_the_whole_window(database):
    database.query("UPDATE worker_schema SET figures_since = now() - interval '2 days'")
    write(database, {"kind": "few", "ok": 18, "failed": 1}, {"kind": "enough", "ok": 18, "poison": 2})
    few, enough = (database.query("SELECT * FROM rate_v1(%s)", kind)[0][0] for kind in ("few", "enough"))
    assert 19 / 361 <= few <= 19 / 300
    assert 20 / 30 <= enough <= 20 / 10


def test_after_the_installation_a_rate_counts_from_then(database):
    database.query("UPDATE worker_schema SET figures_since = now() - interval '20 seconds'")
    write(database, {"kind": "k", "ok": 200})
    assert [5 < kinds(database)["k"]["windows"][window]["per_second"] <= 10 for window in WINDOWS] == [True] * 3


def test_a_long_backlog_is_counted_on(database):
    """Where the count of all kinds stopped: at 10,000 of a kind and priority."""
    database.query("INSERT INTO jobs (kind, priority) SELECT 'long', n % 2 FROM generate_series(1, 25000) n")
    database.query("INSERT INTO jobs (kind) SELECT 'also' FROM generate_series(1, 11000)")
    found = kinds(database)
    assert [(found[kind]["backlog"], "backlog" in found[kind]["capped"]) for kind in ("long", "also")] == [
        (25000, False),
        (11000, False),
    ]
    rows = database.query("SELECT * FROM backlogs_v1('{long,also}', 26000)")
    counted = {kind: (jobs, capped) for kind, jobs, capped in rows}
    assert counted == {"long": (25000, False), "also": (1000, True)}


def test_of_very_many_kinds_the_busiest_and_the_worst_are_named(database):
    database.query(
        "INSERT INTO kind_stats (kind, ok, failed) SELECT 'k' || n, 10, 0 FROM generate_series(1, 300) n"
        " UNION ALL SELECT 'busy', 1000, 0 UNION ALL SELECT 'bad', 0, 90"
    )
    found = kinds(database)
    assert len(found) < 60
    assert {"busy", "bad", None} <= found.keys()
    more = found[None]
    assert more["kinds"] + len(found) - 1 == 302
    assert sum(each["windows"]["1h"]["ok"] for each in found.values()) == 4000
    assert len(kinds(database, most=None)) == 302
    assert kinds(database, "k7").keys() == {"k7"}


def test_the_crash_of_a_worker_counts(database):
    dead = add_worker(database, "web9")
    add_job(database, "k", "processing", worker=dead)
    other = add_worker(database, "web9", 2)
    add_job(database, "k", "processing", worker=other, crashes=2, alone=True)
    for worker in (dead, other):
        database.query("SELECT release_worker_v1(%s, 'it is gone')", worker)
    five = kinds(database)["k"]["windows"]["5m"]
    assert (five["crashed"], five["poison"], five["runs"], five["failures"]) == (1, 1, 2, 2)


@pytest.mark.parametrize("trouble", ["LOCK TABLE kind_stats", "ALTER TABLE kind_stats ADD CHECK (crashed = 0)"])
def test_no_lock_and_no_fault_in_the_figures_keeps_a_job_from_its_recovery(database, trouble):
    dead = add_worker(database, "web9")
    job = add_job(database, "k", "processing", worker=dead)
    with database.connect() as stranger:
        stranger.execute("BEGIN")
        stranger.execute(trouble)
        if not trouble.startswith("LOCK"):
            stranger.execute("COMMIT")
        with database.connect() as session, suppress(psycopg.Error):
            session.execute("SET lock_timeout = '1s'")
            session.execute("SELECT release_worker_v1(%s, 'it is gone')", (dead,))
    assert database.query("SELECT state, crashes FROM jobs WHERE id = %s", job) == [("queued", 1)]
    assert database.value("SELECT sum(crashed) FROM leases_returned") == 1


def test_a_worker_writes_what_it_did_while_it_works_and_at_its_end(database, start_worker, command):
    database.query("INSERT INTO jobs (kind) SELECT 'test.ok' FROM generate_series(1, 30)")
    worker = start_worker()
    eventually(lambda: database.value("SELECT sum(ok) FROM kind_stats") == 30, "its figures", within=30)
    told = json.loads(command("stats", "test.ok", "--json").stdout)["kinds"][0]
    five = told["windows"]["5m"]
    assert (five["ok"], five["runs"], told["backlog"], told["workers"]) == (30, 30, 0, 1)
    assert five["wait"]["p95"] is not None
    assert five["run"]["p50"] is not None
    database.query("INSERT INTO jobs (kind) SELECT 'test.ok' FROM generate_series(1, 5)")
    eventually(lambda: database.value("SELECT count(*) FROM jobs") == 0, "the end of all jobs")
    assert worker.terminate() == 0
    assert database.value("SELECT sum(ok) FROM kind_stats") == 35


def test_jobs_that_leave_no_history_count_too(database, start_worker):
    database.query("INSERT INTO jobs (kind) SELECT 'exit.quick' FROM generate_series(1, 7)")
    start_worker("--until-empty", handlers="exiting_jobs:registry").process.wait(60)
    assert database.value("SELECT count(*) FROM job_history") == 0
    assert kinds(database)["exit.quick"]["windows"]["5m"]["ok"] == 7
