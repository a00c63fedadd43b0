"""The end of a real worker, and its log: what handlers leave behind, and how many lines many jobs make."""

from __future__ import annotations

import json
import re
import signal

import exiting_jobs
from rows import enqueue
from waiting import eventually

HANDLERS = "exiting_jobs:registry"


def test_exit_functions_run_though_a_handler_left_pools_and_a_thread(database, start_worker, tmp_path):
    enqueue(database, "exit.leaves", path=str(tmp_path / "ran"))
    worker = start_worker("--until-empty", handlers=HANDLERS, ready=False)
    assert worker.wait() == 0
    assert (tmp_path / "ran").exists()
    assert "ending 1 thread(s) that handlers left running: forgotten" in worker.log
    assert re.search(r" ERROR Exception ignored in atexit callback.*\n  \| Traceback", worker.log)


def test_an_exit_function_that_hangs_is_left_and_the_log_says_so(database, start_worker):
    enqueue(database, "exit.hangs")
    worker = start_worker(handlers=HANDLERS)
    eventually(lambda: "exit.hangs ok" in worker.log, "it is registered")
    assert worker.terminate() == 0
    assert "an exit function still runs after 2.0 s: ending the process without it" in worker.log


def test_each_line_of_a_handler_names_its_job(database, start_worker):
    job = enqueue(database, "exit.tells")
    worker = start_worker("--until-empty", "--log-format", "json", handlers=HANDLERS, ready=False)
    assert worker.wait() == 0
    lines = worker.log.splitlines()
    assert "printed" in lines  # print() goes past the log
    told = [json.loads(line) for line in lines if line != "printed"]
    of_job = [line for line in told if line.get("job_id") == job]
    assert [line["logger"] for line in of_job] == [
        *("myforge", "py.warnings", "myforge", "shithubd_worker.job", "shithubd_worker.telemetry.logs")
    ]
    assert all((line["kind"], line["attempt"]) == ("exit.tells", 1) for line in of_job)
    assert [line.get("repo") for line in of_job] == ["alice/site", None, None, "alice/site", None]
    assert of_job[2]["thread"] == "author"


def test_a_handler_that_changes_the_logging_silences_no_later_job(database, start_worker):
    worker = start_worker(handlers=HANDLERS)
    for how in exiting_jobs.LOGGING:
        enqueue(database, "exit.silences", how=how)
        job = enqueue(database, "exit.quick")
        eventually(lambda job=job: f"INFO job {job} exit.quick ok" in worker.log, f"its line, after {how}")


def test_a_thousand_quick_jobs_have_few_lines_and_a_stop_loses_none(database, start_worker):
    worker = start_worker(handlers=HANDLERS)
    with database.connect() as connection:
        for _ in range(200):  # most of them find an idle worker
            connection.execute("INSERT INTO jobs (kind) SELECT 'exit.quick' FROM generate_series(1, 5)")
    eventually(lambda: database.value("SELECT count(*) FROM jobs") == 0, "all ended")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    own = len(re.findall(r"INFO job \d+ exit.quick ok", worker.log))
    summaries = [int(count) for count in re.findall(r"INFO exit.quick: (\d+) more jobs ok in", worker.log)]
    assert own + sum(summaries) == 1000
    assert len(summaries) <= 10
