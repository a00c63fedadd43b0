"""Workers as processes: what an operator, a signal and a crash do to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from conftest import eventually
from rows import EFFECTS, LONGER, enqueue, history, job, running
from servers import debian_bindir


@pytest.mark.timeout(900)
def test_two_workers_run_each_of_10000_jobs_exactly_once(database, start_worker):
    database.query(EFFECTS)
    database.query("INSERT INTO jobs (kind) SELECT 'test.effect' FROM generate_series(1, 10000)")
    first, second = start_worker("--until-empty", ready=False), start_worker("--until-empty", ready=False)
    assert first.wait(within=600) == 0
    assert second.wait() == 0
    assert database.value("SELECT count(*) FROM jobs") == 0
    assert database.query("SELECT count(*), count(DISTINCT job), count(DISTINCT pid) FROM effects") == [
        (10000, 10000, 2)
    ]
    assert database.query("SELECT outcome, count(*), count(DISTINCT id) FROM job_history GROUP BY 1") == [
        ("ok", 10000, 10000)
    ]


def test_a_worker_finishes_its_job_on_sigterm_and_leases_no_other(database, start_worker, door):
    slow = enqueue(database, "test.waits", door=door.path)
    worker = start_worker("--grace", "3600")
    running(database, slow)
    waiting = enqueue(database, "test.ok")
    worker.send(signal.SIGTERM)
    eventually(lambda: database.value("SELECT state FROM beats") == "stopping", "the signal heard")
    door.open()
    assert worker.wait() == 0
    assert history(database, slow) == ["ok"]
    assert job(database, waiting)[0] == "queued"
    assert database.value("SELECT count(*) FROM workers") == 0


def test_a_job_that_outlasts_the_grace_is_released_without_losing_an_attempt(database, start_worker):
    slow = enqueue(database, "test.sleep")
    worker = start_worker("--grace", "1")
    running(database, slow)
    assert worker.terminate() == 0
    assert job(database, slow)[:3] == ("queued", 0, 0)
    assert history(database, slow) == ["released"]


def test_a_second_signal_releases_at_once(database, start_worker):
    slow = enqueue(database, "test.sleep")
    worker = start_worker()
    running(database, slow)
    worker.send(signal.SIGINT)
    eventually(lambda: database.value("SELECT state FROM beats") == "stopping", "the first signal heard")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert job(database, slow)[:3] == ("queued", 0, 0)


def test_a_stop_ends_a_handler_that_ignores_its_interrupt_and_releases_its_job(database, start_worker):
    slow = enqueue(database, "test.stubborn")
    worker = start_worker("--grace", "1")
    running(database, slow)
    assert worker.terminate() == 0
    assert job(database, slow)[:3] == ("queued", 0, 0)
    assert database.value("SELECT count(*) FROM workers") == 0


def test_a_stop_without_a_job_needs_no_database(database, start_worker):
    worker = start_worker()
    database.query("SELECT 1")
    with_nobody = [
        pid
        for (pid,) in database.query(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'shithubd-worker%%'",
        )
    ]
    assert with_nobody
    assert worker.terminate() == 0


@pytest.mark.parametrize("kind", ["test.segfault", "test.exit_now"])
def test_a_crash_affects_no_other_job_and_the_third_one_fails_the_job(database, start_worker, kind):
    neighbours = [enqueue(database, "test.ok") for _ in range(3)]
    bad = enqueue(database, kind)
    # Each worker that starts here returns the jobs of the dead one before it, long before their leases end.
    for crash in range(1, 4):
        worker = start_worker(ready=False)
        assert worker.wait() in (-signal.SIGSEGV, 9)
        assert job(database, bad)[:3] == ("processing", 1, crash - 1)
        database.query("UPDATE jobs SET run_at = now() WHERE run_at > now()")
        if crash < 3:
            survivor = start_worker("--kind", "test.ok")
            eventually(lambda n=crash: job(database, bad)[:3] == ("queued", 0, n), "its job is back in the queue")
            database.query("UPDATE jobs SET run_at = now()")
            assert survivor.terminate() == 0
    worker = start_worker()
    eventually(lambda: job(database, bad)[0] == "failed", "poison")
    assert "crash number 3" in job(database, bad)[3]
    assert history(database, bad) == ["crashed", "crashed", "poison"]
    # A job that a worker had leased when it was asked to stop was given back unstarted: no crash, and one run.
    eventually(lambda: all(history(database, n)[-1:] == ["ok"] for n in neighbours), "the neighbours ran")
    assert {how for n in neighbours for how in history(database, n)} <= {"ok", "released"}
    assert worker.terminate() == 0


def test_a_killed_workers_job_is_leased_again_when_its_lease_ends(database, start_worker):
    slow = enqueue(database, "test.short_lease", seconds=3600)
    first = start_worker()
    # For the database this is another host. No proof of death is possible, so only the lease counts.
    database.query("UPDATE workers SET machine_id = 'elsewhere'")
    running(database, slow)
    first.send(signal.SIGKILL)
    first.wait()
    second = start_worker("--grace", "0")
    again = eventually(
        lambda: (row := job(database, slow))[0] == "processing" and row[4].endswith(f":{second.pid}") and row,
        "leased again",
    )
    assert again[:3] == ("processing", 1, 1)
    late = database.value(
        "SELECT extract(epoch FROM finished_at - leased_at) FROM job_history WHERE id = %s AND outcome = 'crashed'",
        slow,
    )
    assert late < 2 + 2 + 30  # its lease of 2 s, which was renewed while it lived; the rest allows for a slow machine
    assert second.terminate() == 0


def test_a_stopped_worker_that_comes_back_late_settles_nothing(database, start_worker, door):
    database.query(EFFECTS)
    slow = enqueue(database, "test.transaction", door=door.path)
    first = start_worker()
    eventually(lambda: database.value("SELECT job_id FROM beats") == slow, "the handler runs, not only the lease")
    first.send(signal.SIGSTOP)
    database.query("UPDATE jobs SET lease_expires_at = now()")
    door.open()
    # Its open transaction must not be in the way: it touches the row that it settles only when the block ends.
    second = start_worker()
    eventually(lambda: "ok" in history(database, slow), "the second worker did it")
    first.send(signal.SIGCONT)
    first.wait_for("lease_lost")
    assert database.query("SELECT count(*), max(pid) FROM effects WHERE job = %s", slow) == [(1, second.pid)]
    assert history(database, slow).count("ok") == 1
    assert job(database, slow) is None


def test_a_lease_is_renewed_as_long_as_the_handler_runs(database, start_worker, door):
    slow = enqueue(database, "test.five_seconds", door=door.path)
    worker = start_worker("--metrics", "127.0.0.1:0")
    eventually(lambda: database.query(LONGER, "5 s"), "it ran longer than its lease")
    door.open()
    eventually(lambda: history(database, slow) == ["ok"], "settled")
    assert worker.metric('shithub_worker_lease_renewals_total{result="ok"}') >= 2
    processed = 'shithub_worker_jobs_processed_total{kind="test.five_seconds",outcome="ok"}'
    eventually(lambda: worker.metric(processed) == 1, "counted")


def test_an_enqueue_wakes_an_idle_worker(database, start_worker):
    worker = start_worker("--poll-interval", "3600", "--metrics", "127.0.0.1:0")
    eventually(database.at_rest, "idle")
    woken = enqueue(database, "test.ok")
    eventually(lambda: history(database, woken) == ["ok"], "woken")
    assert worker.metric('shithub_worker_wakeups_total{source="notify"}') >= 1
    assert worker.terminate() == 0


def test_a_flood_of_a_paused_kind_wakes_an_idle_worker_only_sometimes(database, start_worker):
    database.query("SELECT pause_kind_v1('test.sleep', 'flood')")
    worker = start_worker("--poll-interval", "3600", "--metrics", "127.0.0.1:0")
    eventually(database.at_rest, "idle")
    with database.connect() as connection:
        for _ in range(3000):
            connection.execute("INSERT INTO jobs (kind) VALUES ('test.sleep')")
    assert worker.metric('shithub_worker_wakeups_total{source="notify"}') < 1000
    eventually(database.at_rest, "it wants to be woken again")
    woken = enqueue(database, "test.ok")
    eventually(lambda: history(database, woken) == ["ok"], "woken")
    assert worker.terminate() == 0


def test_a_worker_that_only_polls_finds_its_jobs(database, start_worker):
    worker = start_worker("--poll-only", "--poll-interval", "0.05")
    found = enqueue(database, "test.ok")
    eventually(lambda: history(database, found) == ["ok"], "polled")
    assert not database.query("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN%%' AND pid <> pg_backend_pid()")
    assert worker.terminate() == 0


def test_a_flood_of_one_kind_does_not_starve_another(database, start_worker):
    database.query("INSERT INTO jobs (kind) SELECT 'test.ok' FROM generate_series(1, 500)")
    rare = enqueue(database, "test.sleep", seconds=0)
    assert start_worker("--until-empty", ready=False).wait() == 0
    before = database.value(
        "SELECT count(*) FROM job_history WHERE finished_at < (SELECT finished_at FROM job_history WHERE id = %s)",
        rare,
    )
    assert before <= 2


def test_priorities_order_the_jobs_of_a_kind(database, start_worker):
    database.query("INSERT INTO jobs (kind, priority) VALUES ('test.ok', 5), ('test.ok', -5), ('test.ok', 0)")
    database.query("INSERT INTO jobs (kind, priority, run_at) VALUES ('test.ok', -9, now() + interval '1 day')")
    assert start_worker("--until-empty", ready=False).wait() == 0
    assert [row[0] for row in database.query("SELECT id FROM job_history ORDER BY finished_at")] == [2, 3, 1]
    assert job(database, 4)[0] == "queued"


def test_jobs_of_a_kind_that_nobody_handles_stay_queued(database, start_worker):
    orphan = enqueue(database, "nobody.knows")
    assert start_worker("--until-empty", ready=False).wait() == 0
    assert job(database, orphan)[:2] == ("queued", 0)


def test_a_worker_listens_again_no_matter_which_thread_found_the_lost_connection(database, start_worker, door):
    database.query(EFFECTS)
    worker = start_worker("--poll-interval", "3600", "--metrics", "127.0.0.1:0")
    broken = enqueue(database, "test.transaction", door=door.path)
    running(database, broken)
    ours = "datname = current_database() AND application_name LIKE 'shithubd-worker%'"
    database.query(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")
    door.open()
    eventually(lambda: job(database, broken) is None, "it has run again")
    eventually(database.at_rest, "nothing is left to do")
    notified = 'shithub_worker_wakeups_total{source="notify"}'
    before = worker.metric(notified)
    enqueue(database, "test.ok")
    eventually(lambda: worker.metric(notified) > before, "it was woken")


@pytest.mark.skipif(os.geteuid() != 0 and debian_bindir() is not None, reason="the server is another user's")
def test_leases_whose_answer_a_worker_never_got_are_given_back(database, start_worker):
    """The server stands still during a lease query until the worker gives it up. Then the server leases."""
    worker = start_worker()
    frozen = _freeze(database, "shithubd-worker")
    stray = enqueue(database, "test.ok")
    worker.wait_for("the database is back")
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: history(database, stray) == ["ok"], "given back without a mark, and run")
    assert worker.terminate() == 0


def test_odd_defaults_of_a_role_change_nothing(database, start_worker, command):
    with database.connect() as connection:
        for setting in (
            "default_transaction_isolation = 'repeatable read'",
            "datestyle = 'German'",
            "timezone = 'Asia/Kolkata'",
        ):
            connection.execute(f'ALTER DATABASE "{database.name}" SET {setting}')
    fine = enqueue(database, "test.ok")
    worker = start_worker()
    eventually(lambda: history(database, fine) == ["ok"], "ran")
    paused = command("pause-kind", "test.ok", "--wait")
    assert (paused.returncode, paused.stderr) == (0, "")
    assert "paused by" in command("resume-kind", "test.ok").stdout
    assert worker.terminate() == 0


def test_a_restart_of_the_database_costs_no_attempt_and_loses_no_job(database, start_worker, door):
    database.query(EFFECTS)
    slow = enqueue(database, "test.effect", door=door.path)
    worker = start_worker("--metrics", "127.0.0.1:0")
    running(database, slow)
    # leases do not wait for the disk, but this commit does, so the lease survives
    database.query("CREATE TABLE any_commit ()")
    database.server.stop("immediate")
    database.server.start()
    door.open()
    eventually(lambda: history(database, slow) == ["ok"], "settled after the restart")
    assert database.value("SELECT count(*) FROM effects") == 1
    # The job was settled on its own connection. Only afterwards does the main thread find that its own connection is
    # gone.
    back = 'shithub_worker_db_reconnects_total{thread="main"}'
    eventually(lambda: worker.metric(back) >= 1, "the main thread is back, too")
    eventually(lambda: worker.metric("shithub_worker_db_up") == 1, "and says so")
    assert worker.terminate() == 0


def _freeze(database, name):
    """SIGSTOP the backends of a connection name: a server that accepts and acknowledges, but never answers."""
    pids = [
        row[0]
        for row in database.query(
            "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()", name
        )
    ]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return pids


@pytest.mark.skipif(os.geteuid() != 0 and debian_bindir() is not None, reason="the server is another user's")
def test_a_frozen_control_connection_costs_the_job_no_lease(database, start_worker, door):
    slow = enqueue(database, "test.nine_seconds", door=door.path)
    worker = start_worker()
    running(database, slow)
    frozen = _freeze(database, "shithubd-worker control")
    try:
        eventually(lambda: database.query(LONGER, "9 s"), "it ran longer than its lease")
        door.open()
        eventually(lambda: history(database, slow) == ["ok"], "settled: it was renewed over another connection")
        assert worker.terminate() == 0
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)


def test_a_worker_that_starts_as_a_new_python_collects_its_handlers_garbage(database, tmp_path):
    (tmp_path / "garbage_jobs.py").write_text(
        "import gc\nfrom shithubd_worker import Registry\n\nregistry = Registry()\n\n\n"
        "@registry.handler('looks')\ndef looks(job):\n    job.log.info('collecting: %s', gc.isenabled())\n"
    )
    enqueue(database, "looks")
    program = [sys.executable, "-m", "shithubd_worker", "run", "--until-empty", "--metrics", "off"]
    done = subprocess.run(
        [*program, "--handlers", "garbage_jobs:registry"],
        env=database.environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "collecting: True" in done.stderr
