"""The doctor between this host and the database: a pooler, the disk. And it finds nothing where nothing is wrong."""

from __future__ import annotations

import os
import subprocess
from contextlib import closing

import psycopg
import pytest
from conftest import WorkerProcess, eventually
from diagnoses import ON_PURPOSE, own_server
from fresh_databases import SERVERS, server_of
from rows import add_worker

from shithubd_worker.database.connection import connector
from shithubd_worker.doctor import disk, query
from shithubd_worker.doctor import pooler as of_pooler
from shithubd_worker.doctor.finding import Severity, Unchecked
from shithubd_worker.host import shipped

CHECKS = sorted((shipped.SQL / "doctor").glob("*.sql"))
# Those that ask PostgreSQL itself. The others look at jobs, workers and holds.
OF_SERVER = {
    *("old-transaction", "prepared-transaction", "replication-slot", "standby", "wraparound"),
    *("bloat", "stale-statistics", "unfinished-index", "notify-queue", "connections", "blocked"),
    *("disk", "durability", "read-only"),
}


def pooled_at(url):
    """What the doctor finds of a pooler at a URL."""

    def another(seconds):
        return connector(url, "doctor", pooled=True, answer_seconds=seconds)()

    with closing(another(None)) as connection:
        return list(of_pooler.shares(connection, "public", another))


def test_a_pooler_that_shares_its_sessions_is_found(database, pooler):
    assert pooled_at(database.url) == []
    for pool in (1, 3):
        behind = pooler(database, pool=pool)
        (found,) = pooled_at(behind.url)
        assert (found.severity, found.page) == (Severity.WARNING, "pooler")
        assert found.said.endswith("no worker lives, and without --poll-only none starts there")
        assert found.evidence["port"] == int(psycopg.conninfo.conninfo_to_dict(behind.url)["port"])
    add_worker(database)
    (found,) = pooled_at(behind.url)
    assert (found.severity, found.evidence["a_worker_lives"]) == (Severity.NOTICE, True)


def test_a_pooler_in_session_mode_is_no_finding(database, pooler):
    assert pooled_at(pooler(database, mode="session", pool=2).url) == []
    assert pooled_at(pooler(database, mode="session", pool=1).url) == []  # there is none left for a second client


def test_free_space_is_seen_on_the_servers_own_host(any_database):
    with any_database.connect() as connection:
        assert [each for each in disk.examine(connection, "public") if isinstance(each, Unchecked)] == []


def test_what_a_login_may_not_see_of_the_disk_is_said(database, login):
    look = login("shithub_metrics")
    with psycopg.connect(look) as connection:
        (unchecked,) = disk.examine(connection, "public")
    assert unchecked.why.startswith("only in part: the login shithub_metrics_0_")
    database.query(unchecked.why.rpartition(": ")[2])  # as it says
    with psycopg.connect(look) as connection:
        assert list(disk.examine(connection, "public")) == []


def test_free_space_of_a_server_that_is_not_here_is_not_guessed(database, monkeypatch):
    monkeypatch.setattr(disk, "_is_here", lambda *_: False)
    with psycopg.connect(database.url) as connection:
        (unchecked,) = disk.examine(connection, "public")
    assert "on the database's own host" in unchecked.why
    monkeypatch.undo()
    assert not disk._is_here(os.getpid(), database.name)  # another process has the number


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place], check=False).returncode:
        pytest.skip("mount needs root")
    yield place
    subprocess.run(["umount", place], check=True)


def test_little_free_space_is_found_until_there_is_more(small_disk):
    (small_disk / "pg_wal").mkdir()
    assert list(disk.free(small_disk)) == []
    full = small_disk / "full"
    full.write_bytes(bytes(60 << 20))
    (found,) = disk.free(small_disk, small_disk)
    assert (found.severity, found.evidence["path"]) == (Severity.WARNING, str(small_disk))
    assert 0 < found.evidence["free"] <= 4 << 20
    assert found.evidence["size"] == 64 << 20
    full.write_bytes(bytes(63 << 20))
    assert [each.severity for each in disk.free(small_disk)] == [Severity.CRITICAL]
    full.unlink()
    assert list(disk.free(small_disk)) == []
    (unchecked,) = disk.free(small_disk, small_disk / "gone")
    assert "No such file" in unchecked.why


@pytest.fixture(name="healthy", scope="module", params=SERVERS)
def healthy_database(request):
    """A database in a server of its own: in a shared one other tests do what the doctor finds."""
    with own_server(server_of(request)) as database:
        yield database


def all_found(url):
    found = []
    with psycopg.connect(url, autocommit=True) as connection:
        for path in CHECKS:
            found += [each for each in query.found(connection, "public", path) if each.name not in ON_PURPOSE]
    return found


def test_a_fresh_database_has_nothing_to_find(healthy):
    assert all_found(healthy.url) == []


def test_a_busy_queue_has_nothing_to_find(healthy, tmp_path):
    workers = [
        WorkerProcess(healthy, tmp_path, "--handlers", "sample_jobs:registry", "--metrics", "off") for _ in range(8)
    ]
    try:
        for each in workers:
            each.wait_for(" ready\n")
        for _ in range(5):
            healthy.query("INSERT INTO jobs (kind) SELECT 'test.ok' FROM generate_series(1, 3000)")
            assert all_found(healthy.url) == []
        eventually(lambda: healthy.value("SELECT count(*) FROM jobs") == 0, "the jobs are done")
        assert all_found(healthy.url) == []
    finally:
        for each in workers:
            each.end()


def test_what_threatens_the_server_is_found_without_reading_the_queue(healthy):
    """So it costs the same with a million jobs. It also works while somebody has locked the table."""
    reads = "SELECT coalesce(sum(seq_scan + coalesce(idx_scan, 0)), 0) FROM pg_stat_xact_user_tables"
    with psycopg.connect(healthy.url) as connection:
        for path in CHECKS:
            if path.stem not in OF_SERVER:
                continue
            list(query.found(connection, "public", path))
            assert connection.execute(reads).fetchone() == (0,), path.stem
    assert len(OF_SERVER) == len([path for path in CHECKS if path.stem in OF_SERVER])
