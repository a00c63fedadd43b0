"""workers unlock, workers sweep and cleanup, as an operator sees them."""

from __future__ import annotations

import json

import pytest
from commands import emptied_database, exact_command, one_database  # noqa: F401 (fixtures)
from rows import add_job, add_worker, state
from test_returning import leased, locked

FOREVER = "2100-01-01"
TABLES = ("jobs", "job_history", "workers", "audit", "audit_chunks", "leases_returned", "holds")


def holding(database, host="web3", pid=4711, *, jobs=1, silent=True, expires=FOREVER):
    """A worker, and the jobs that it has leased."""
    worker = add_worker(database, host, pid, silent=silent)
    ids = leased(database, jobs, worker, expires=expires)
    database.query("UPDATE jobs SET leased_by = %s WHERE worker_id = %s", f"{host}:{pid}", worker)
    return worker, ids


def everything(database):
    return [database.query(f"SELECT t::text FROM {table} t ORDER BY 1") for table in TABLES]


@pytest.fixture(autouse=True)
def no_counts(database):
    database.query("TRUNCATE leases_returned")


def test_workers_alone_lists_them_and_its_options_need_no_name(database, command):
    holding(database)
    assert command("workers").stdout == command("workers", "list").stdout
    (row,) = json.loads(command("workers", "--json", "--timeout", "9").stdout)
    assert row["leased_by"] == "web3:4711"


def test_unlock_says_what_became_of_each_job_and_a_second_time_finds_nothing(database, command):
    _, (first, second) = holding(database, jobs=2)
    done = command("workers", "unlock", "web3:4711", "--reason", "it burned")
    assert done.stdout.splitlines() == [
        f"job {first} (k) queued again",
        f"job {second} (k) queued again",
        "2 job(s) of web3:4711 returned",
        "if web3:4711 lives and is only cut off, it may go on with one of its jobs for",
        *done.stdout.splitlines()[4:],
    ]
    assert database.query("SELECT action, reason, jobs FROM audit") == [("unlock", "it burned", 2)]
    again = command("workers", "unlock", "web3:4711", "--reason", "it burned").stdout
    assert again == "0 job(s) returned\nno worker is called web3:4711, and no lease is left of it\n"
    assert database.value("SELECT count(*) FROM audit") == 1


def test_unlock_in_json_has_the_jobs_the_workers_and_the_unknown_names(database, command):
    worker, (one,) = holding(database)
    database.query("UPDATE jobs SET crashes = 2")
    done = command.json("workers", "unlock", str(worker), "no:1")
    (found,) = done["workers"]
    assert (found["id"], found["leased_by"], found["lives"]) == (str(worker), "web3:4711", False)
    (job,) = done["returned"]
    assert (job["id"], job["kind"], job["state"]) == (one, "k", "failed")
    assert job["last_error"].startswith("poison: crash number 3: its worker was unlocked by ")
    assert (done["unknown"], done["left_over"], done["dry_run"]) == (["no:1"], 0, False)


def test_unlock_refuses_a_worker_that_beats_and_says_what_to_do(database, command):
    worker, _ = holding(database, silent=False)
    before = everything(database)
    for more in ([], ["--dry-run"]):
        done = command("workers", "unlock", "web3:4711", *more, code=5)
        said, todo = done.stderr.splitlines()
        assert said.startswith(f"shithubd-worker: a worker lives: web3:4711 (uuid {worker}) beat ")
        assert "systemctl stop" in todo
        assert "--accept-second-run --reason TEXT" in todo
    assert "needs a --reason" in command.refused("workers", "unlock", "web3:4711", "--accept-second-run", code=5)
    assert everything(database) == before
    command("workers", "unlock", "web3:4711", "--accept-second-run", "--reason", "its disk is gone")
    assert database.query("SELECT state FROM jobs") == [("queued",)]


def test_unlock_says_which_jobs_stay_and_fails(database, command):
    _, (held, free) = holding(database, jobs=2)
    with locked(database, "SELECT FROM jobs WHERE id = %s FOR UPDATE", held):
        done = command("workers", "unlock", "web3:4711", code=5)
    assert f"job {free} (k) queued again" in done.stdout
    assert "1 job(s) of these workers stay leased" in done.stderr
    assert state(database, held) == ("processing", 1)


def test_sweep_returns_what_has_expired_and_names_the_silent_workers_whose_leases_have_not(database, command):
    _, expired = holding(database, jobs=2, expires="2000-01-01")
    worker, (kept,) = holding(database, "web4", 1)
    done = command("workers", "sweep", "--reason", "all are busy")
    *_, summary, silent = done.stdout.splitlines()
    assert summary == "2 job(s) with an expired lease returned"
    assert silent.startswith("web4:1 is silent, and 1 lease(s) of it end within ")
    assert silent.endswith(f"shithubd-worker workers unlock {worker}")
    assert [state(database, one) for one in (*expired, kept)] == [("queued", 0), ("queued", 0), ("processing", 1)]
    assert database.query("SELECT action, reason, jobs, job_ids FROM audit") == [("sweep", "all are busy", 2, expired)]
    assert command.json("workers", "sweep")["returned"] == []
    assert database.value("SELECT count(*) FROM audit") == 1


def test_sweep_goes_in_batches_and_has_one_audit_row(database, command):
    holding(database, jobs=4100, expires="2000-01-01")
    assert len(command.json("workers", "sweep")["returned"]) == 4100
    assert database.query("SELECT jobs, cardinality(job_ids) FROM audit") == [(4100, 100)]
    assert database.value("SELECT count(*) > 2 FROM audit_chunks")


def test_sweep_takes_nothing_if_only_the_databases_clock_says_that_it_expired(database, command):
    """Somebody has set that clock ahead. A lease that ends in an hour by this machine's clock stays."""
    holding(database, expires="2000-01-01")
    database.query("UPDATE jobs SET lease_expires_at = now() - interval '1 second'")
    swept = "SELECT jsonb_array_length(returned) FROM sweep_leases_v1(p_earliest => extract(epoch FROM now()) - 3600)"
    assert database.value(swept) == 0
    assert len(command.json("workers", "sweep")["returned"]) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("workers", "unlock", "web3:4711", "web4:1", "no:1"),
        ("workers", "unlock", "web1:1", "--accept-second-run", "--reason", "x"),
        ("workers", "sweep"),
        ("cleanup", "DELETE_PERMAFAILED_JOBS", "--yes"),
        ("cleanup", "gc_task_identifiers,", "GC_JOB_QUEUES"),
    ],
    ids=" ".join,
)
def test_a_dry_run_changes_nothing_and_says_what_the_run_then_does(database, command, words):
    holding(database, jobs=2)
    holding(database, "web4", 1, expires="2000-01-01")
    holding(database, "web1", 1, silent=False)
    database.query("UPDATE jobs SET crashes = 2 WHERE leased_by = 'web4:1'")
    add_job(database, "failed", "failed")
    database.query("SELECT count_ended_v1('{old}', '{crashed}', '{1}')")
    before = everything(database)
    said = command.json(*words, "--dry-run")
    assert everything(database) == before
    text = command(*words, "--dry-run").stdout
    assert everything(database) == before
    done = command.json(*words)
    assert (said.pop("dry_run"), done.pop("dry_run")) == (True, False)
    if words[0] == "workers":
        assert "SELECT * FROM public." in text
        said, done = said["returned"], done["returned"]
        assert len(done) > 0
    elif "--yes" in words:
        assert "j.state = 'failed'" in text
        said, done = said["DELETE_PERMAFAILED_JOBS"]["count"], done["DELETE_PERMAFAILED_JOBS"]["changed"]
        assert done == 1
    else:
        assert done["GC_TASK_IDENTIFIERS"] == {"removed": ["old"], "kept": 0}
    assert said == done


def test_cleanup_takes_its_tasks_in_any_case_with_blanks_or_commas(database, command):
    add_job(database, state="failed")
    tasks = ["gc_job_queues,Gc_Task_Identifiers", " delete_permafailed_jobs "]
    done = command("cleanup", *tasks, "--yes", "--reason", "x")
    assert [line.partition(":")[0] for line in done.stdout.splitlines() if "_" in line.partition(":")[0]] == [
        "DELETE_PERMAFAILED_JOBS",
        "GC_TASK_IDENTIFIERS",
        "GC_JOB_QUEUES",
    ]
    assert "there are no named queues" in done.stdout
    assert database.query("SELECT action, reason FROM audit") == [("discard", "x")]


def test_cleanup_discards_nothing_that_nobody_confirmed(database, command):
    add_job(database, state="failed")
    done = command("cleanup", "DELETE_PERMAFAILED_JOBS", code=5)
    assert "--yes does it" in done.stderr
    assert database.value("SELECT count(*) FROM jobs") == 1
    command("cleanup", "GC_TASK_IDENTIFIERS")  # this one asks nothing


@pytest.mark.parametrize("words", [[], [","], ["GC_JOBS"], ["GC_JOB_QUEUES", "x"], ["\x1b[31m"]])
def test_cleanup_refuses_other_words_and_names_the_tasks(database, command, words):
    said = command.refused("cleanup", *words, code=2)
    assert "DELETE_PERMAFAILED_JOBS, GC_TASK_IDENTIFIERS, GC_JOB_QUEUES" in said
    assert "\x1b" not in said


def test_a_shell_completes_the_workers_and_the_tasks(database, command):
    worker, _ = holding(database)

    def offered(*words):
        line = ["shithubd-worker", *words]
        env = {"COMP_WORDS": " ".join(line), "COMP_CWORD": str(len(line) - 1)}
        done = command(*words, env={**env, "_SHITHUBD_WORKER_COMPLETE": "bash_complete"})
        return {each.partition(",")[2] for each in done.stdout.splitlines()}

    assert offered("workers", "") >= {"list", "sweep", "unlock"}
    assert offered("workers", "unlock", "we") == {"web3:4711"}
    assert offered("workers", "unlock", str(worker)[:8]) == {str(worker)}
    assert offered("cleanup", "gc_") == {"GC_TASK_IDENTIFIERS", "GC_JOB_QUEUES"}
