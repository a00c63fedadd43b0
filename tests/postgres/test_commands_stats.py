"""stats, kinds and queues, as an operator types them."""

from __future__ import annotations

import json

import pytest
from rows import add_job, add_worker

FIGURES = """
    INSERT INTO kind_stats (kind, ok, retry, waits, runs) VALUES
        ('quick', 900, 0, '{"1000": 900}', '{"2000": 900}'),
        ('slow', 3, 1, '{"60000000": 4}', '{"9000000": 3, "600000000": 1}');
    INSERT INTO jobs (kind) SELECT 'slow' FROM generate_series(1, 30);
    INSERT INTO jobs (kind) SELECT 'quick' FROM generate_series(1, 20);
    INSERT INTO jobs (kind) SELECT 'nobody' FROM generate_series(1, 10);
    INSERT INTO jobs (kind, run_at) VALUES ('quick', now() + interval '1 hour')
"""


@pytest.fixture
def busy(database):
    database.query("UPDATE worker_schema SET figures_since = now() - interval '2 days'")
    database.query(FIGURES)
    add_worker(database, "web1", kinds=("quick", "slow"))
    add_worker(database, "web2", kinds=("quick",))
    return database


def row(text, kind):
    (found,) = [line.split() for line in text.splitlines() if line.startswith(f"{kind} ")]
    return found[1:]


def test_stats_shows_rates_times_and_when_the_backlog_is_done(busy, command):
    told = command("stats").stdout
    assert "60 ready, 1 scheduled, 0 processing, 0 held, 0 failed; 61 in all" in told
    assert row(told, "quick")[1:9] == ["0%", "1ms", "1ms", "1ms", "2ms", "2ms", "2ms", "20"]
    per_second, failed, *times, backlog, done = row(told, "slow")
    assert (failed, times, backlog) == ("25%", ["60s", "60s", "60s", "9s", "10m", "10m"], "30")
    assert 0.008 <= float(per_second) <= 0.01
    assert done in {f"{minutes}m" for minutes in range(50, 61)}
    assert row(told, "nobody")[-2:] == ["10", "unknown"]
    assert "if nothing arrives" in told


def test_the_order_is_that_of_sort_and_the_window_that_of_window(busy, command):
    def order(*words):
        return [kind["kind"] for kind in json.loads(command("stats", "--json", *words).stdout)["kinds"]]

    assert order() == ["slow", "quick", "nobody"]
    assert order("--sort", "rate") == ["quick", "slow", "nobody"]
    assert order("--sort", "failures") == ["slow", "nobody", "quick"]
    assert order("--sort", "kind") == ["nobody", "quick", "slow"]
    assert order("--sort", "wait", "--window", "24h") == ["slow", "quick", "nobody"]
    told = command("stats", "slow", "--window", "all").stdout
    assert [line.split()[0] for line in told.splitlines()[3:6]] == ["slow", "1h", "24h"]


def test_stats_of_a_kind_that_nobody_knows_says_so(busy, command):
    assert "kind no.such: it has no jobs" in command("stats", "no.such").stdout
    done = command("stats", "slow", "--all-kinds")
    assert (done.returncode, "combined" in done.stderr) == (2, True)


def test_kinds_shows_who_works_and_who_paused(busy, command):
    command("pause-kind", "slow", "--reason", "the disk is full")
    add_job(busy, "quick", "failed")
    told = command("kinds").stdout
    assert told.splitlines()[:2] == command("kinds", "list").stdout.splitlines()[:2]  # a rate changes meanwhile
    assert row(told, "quick")[:4] == ["2", "web1", "web2", "21"]
    assert row(told, "nobody")[0] == "none"
    assert "slow is paused by" in told
    assert "the disk is full" in told
    (slow,) = json.loads(command("kinds", "list", "slow", "--json").stdout)["kinds"]
    assert (slow["hosts"], slow["hold"]["reason"], slow["backlog"]) == ({"web1": 1}, "the disk is full", 0)


def test_queues_says_that_there_are_none(database, command):
    assert "no serial queues" in command("queues").stdout
    assert json.loads(command("queues", "list", "--json").stdout) == []


def test_without_any_kind_the_commands_say_so(database, command):
    assert "no kinds" in command("stats").stdout
    assert "no kinds" in command("kinds").stdout
