"""Handlers in a worker's process: what they raise, hold, leave and write, and how they are ended."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest
from conftest import eventually
from rows import EFFECTS, enqueue, history, job, running


def test_max_runtime_interrupts_the_handler_and_the_attempt_counts_as_failed(database, start_worker):
    late, extended = enqueue(database, "test.runtime"), enqueue(database, "test.runtime", extend=30)
    worker = start_worker()
    eventually(lambda: history(database, late) == ["retry"] and history(database, extended) == ["ok"], "both ended")
    assert job(database, late)[:3] == ("queued", 1, 0)
    error = job(database, late)[3]
    assert "longer than max_runtime (3 s)" in error
    assert error.splitlines()[-2].endswith("in runtime")  # the place where it stood
    assert worker.terminate() == 0


def test_a_handler_that_ignores_max_runtime_ends_with_its_process_and_counts_as_failed(database, start_worker):
    stubborn = enqueue(database, "test.stubborn", runtime=1)
    worker = start_worker()
    assert worker.wait() == 70
    assert job(database, stubborn)[:3] == ("queued", 1, 0)
    assert history(database, stubborn) == ["retry"]
    assert "sample_jobs.py" in job(database, stubborn)[3]  # the place where it stood
    assert re.search(r"test\.stubborn retry after [1-9]", worker.log)


@pytest.mark.parametrize("how", ["spin", "deadlock"])
def test_a_handler_that_holds_the_gil_ends_before_its_lease_and_its_job_returns(database, start_worker, how):
    hog = enqueue(database, "test.gil", how=how)
    worker = start_worker("--kind", "test.gil")
    assert worker.wait() == -signal.SIGVTALRM
    assert "sample_jobs.py" in worker.log  # the stack for the journal, which the process wrote last
    ended = worker.log_path.stat().st_mtime
    assert database.value("SELECT lease_expires_at > to_timestamp(%s) FROM jobs WHERE id = %s", ended, hog)
    start_worker("--kind", "test.ok")
    eventually(lambda: job(database, hog)[:3] == ("queued", 0, 1), "the job returned, its crash counted")


def test_a_handler_that_starves_the_control_thread_loses_an_attempt(database, start_worker):
    hog = enqueue(database, "test.gil", how="regex")
    # The alarm rings 1.5 s before the dead man. If the machine stands still for that long, the dead man comes first: a
    # crash, as in the test above. Then the job runs again. The dead man may also come after the settle. On a busy
    # machine the control thread may have asked the database just before it lost its turn. Then the job is released, and
    # runs again.
    for _ in range(5):
        worker = start_worker("--kind", "test.gil")
        eventually(
            lambda ended=worker.process.poll: history(database, hog)[-1:] == ["retry"] or ended() is not None,
            "interrupted before its lease ended",
        )
        if history(database, hog)[-1:] == ["retry"]:
            break
        database.query(
            "UPDATE jobs SET state = 'queued', leased_at = NULL, leased_by = NULL, attempts = 0 WHERE id = %s", hog
        )
    assert history(database, hog)[-1] == "retry"
    assert job(database, hog)[:3] == ("queued", 1, 0)


@pytest.mark.parametrize(
    ("how", "outcome", "state"),
    [
        ("error", "retry", "queued"),
        ("permanent", "failed", "failed"),
        ("after", "retry", "queued"),
        ("exit", "retry", "queued"),
        ("megabytes", "retry", "queued"),
    ],
)
def test_the_worker_survives_any_exception_of_a_handler_and_the_job_has_one_clear_error(
    database, start_worker, how, outcome, state
):
    bad = enqueue(database, "test.fails", how=how, text="bad luck")
    good = enqueue(database, "test.ok")
    worker = start_worker()
    eventually(lambda: history(database, bad) == [outcome] and history(database, good) == ["ok"], "both ended")
    assert job(database, bad)[:3] == (state, 1, 0)
    assert "bad luck" in job(database, bad)[3]
    assert len(job(database, bad)[3].encode()) <= 8192
    assert worker.terminate() == 0


@pytest.mark.parametrize("payload", ['{"nope": 1}', '{"job": 1}', json.dumps({"x": 1}).replace("1", "9" * 5000)])
def test_a_payload_that_does_not_fit_is_poison(database, start_worker, payload):
    kind = "test.ok" if "999" in payload else "test.sleep"
    bad = database.value("INSERT INTO jobs (kind, payload) VALUES (%s, %s::jsonb) RETURNING id", kind, payload)
    worker = start_worker()
    eventually(lambda: history(database, bad) == ["poison"], "poison")
    assert job(database, bad)[:2] == ("failed", 1)
    assert worker.terminate() == 0


def test_a_job_fails_when_its_attempts_are_used_up(database, start_worker):
    bad = enqueue(database, "test.fails")
    worker = start_worker()
    eventually(lambda: history(database, bad) == ["retry"], "first attempt")
    database.query("UPDATE jobs SET run_at = now()")
    eventually(lambda: history(database, bad) == ["retry", "failed"], "second attempt")
    assert job(database, bad)[:2] == ("failed", 2)
    # The runbook's forced re-lease of a failed row.
    database.query("UPDATE jobs SET leased_at = NULL, leased_by = NULL, state = 'queued' WHERE id = %s", bad)
    eventually(lambda: history(database, bad) == ["retry", "failed", "failed"], "third attempt")
    assert worker.terminate() == 0


def test_effects_in_the_jobs_transaction_happen_with_the_settle_or_not_at_all(database, start_worker):
    database.query(EFFECTS)
    inside = enqueue(database, "test.transaction", then="raise inside")
    after = enqueue(database, "test.transaction", then="raise after")
    worker = start_worker()
    eventually(lambda: history(database, inside) == ["retry"] and history(database, after) == ["ok"], "both ended")
    assert [row[0] for row in database.query("SELECT job FROM effects")] == [after]
    assert worker.terminate() == 0


def test_the_transaction_that_ends_the_job_cannot_stand_inside_another(database, start_worker):
    nested = enqueue(database, "test.nested")
    assert start_worker("--until-empty", ready=False).wait() == 0
    assert job(database, nested)[0] == "failed"
    assert "can't be used inside another transaction" in job(database, nested)[3]


def test_a_handler_that_breaks_its_own_connection_loses_an_attempt(database, start_worker):
    bad = enqueue(database, "test.kills_its_backend")
    assert start_worker("--until-empty", ready=False).wait() == 0
    assert job(database, bad)[:3] == ("queued", 1, 0)
    assert history(database, bad) == ["retry"]


def test_a_thread_that_a_handler_left_does_not_stop_the_worker_from_ending(database, start_worker):
    enqueue(database, "test.leaves_a_thread")
    worker = start_worker("--until-empty", ready=False)
    assert worker.wait() == 0
    assert "ending 1 thread(s) that handlers left running" in worker.log


def test_a_row_factory_of_a_handler_affects_no_other(database, start_worker):
    for _ in range(2):
        enqueue(database, "test.dict_rows")
    assert start_worker("--until-empty", ready=False).wait() == 0
    assert database.query("SELECT kind, outcome FROM job_history") == [("test.dict_rows", "ok")] * 2


def test_a_settled_handler_may_go_on_beyond_its_lease(database, start_worker):
    settled = enqueue(database, "test.works_on", seconds=5)
    worker = start_worker()
    worker.wait_for("worked on")
    assert history(database, settled) == ["ok"]
    assert worker.terminate() == 0


def test_a_handler_may_wait_for_notifications_for_a_limited_time(database, start_worker):
    listener = enqueue(database, "test.listens")
    assert start_worker("--until-empty", ready=False).wait() == 0
    assert history(database, listener) == ["ok"]


def test_a_cleanup_that_fails_does_not_hide_the_interrupt(database, start_worker):
    slow = enqueue(database, "test.fails_in_cleanup")
    worker = start_worker("--grace", "0")
    running(database, slow)
    assert worker.terminate() == 0
    assert job(database, slow)[:3] == ("queued", 0, 0)
    assert history(database, slow) == ["released"]


def test_no_transaction_of_the_worker_is_open_while_a_handler_runs(database, start_worker):
    database.query(EFFECTS)
    for _ in range(20):
        enqueue(database, "test.looks")
    assert start_worker("--until-empty", ready=False).wait() == 0
    assert database.query("SELECT count(*), max(pid) FROM effects") == [(20, 0)]


def test_the_children_of_a_handler_end_with_its_job_and_not_by_a_signal_to_the_worker(database, start_worker):
    parent = enqueue(database, "test.children")
    worker = start_worker("--grace", "1")
    worker.wait_for("children started")
    children = eventually(lambda: _descendants(worker.pid), "children")
    assert all(os.getsid(pid) != os.getsid(worker.pid) for pid in children)
    assert worker.terminate() == 0
    eventually(lambda: not any(_alive(pid) for pid in children), "the children's end")
    assert job(database, parent)[0] == "queued"


def _descendants(pid):
    found = []
    for child in _children(pid):
        found += [child, *_descendants(child)]
    return found


def _children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
