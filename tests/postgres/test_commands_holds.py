"""`drain`, `resume`, `pause-kind` and `resume-kind`, and what a hold does to jobs and workers."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from commands import HOST, emptied_database, exact_command, moment, one_database  # noqa: F401 (fixtures)
from conftest import PATIENCE, eventually
from rows import add_job, add_worker, audit, holds, state


@pytest.mark.parametrize(
    ("arguments", "hold"),
    [
        ((), ("fleet", "")),
        (("--host", "web1"), ("host", "web1")),
        (("--unit", "w@1.service"), ("unit", "w@1.service")),
    ],
)
def test_drain_and_resume_of_a_scope_can_be_repeated(database, command, arguments, hold):
    env = {"SUDO_USER": "alice"}
    add_worker(database, unit="w@1.service")
    done = command("drain", *arguments, "--reason", "first", env=env)
    assert "nothing of it starts any more" in done.stdout
    assert "drained" in done.stdout
    assert "undo: shithubd-worker resume" in done.stdout
    command("drain", *arguments, env=env)
    assert holds(database) == [(*hold, "first")]  # the second drain changed nothing
    resumed = command("resume", *arguments, "--reason", "done", env=env).stdout
    assert f"alice@{HOST}" in resumed
    assert "first" in resumed
    assert "nothing to resume" in command("resume", *arguments, env=env).stdout
    assert holds(database) == []
    target = " ".join(filter(None, hold))
    assert audit(database) == [
        ("drain", target, "first", f"alice@{HOST}", []),
        ("drain", target, None, f"alice@{HOST}", []),
        ("resume", target, "done", f"alice@{HOST}", []),
    ]


def test_resume_without_a_scope_ends_all_drains_and_no_pause(database, command):
    add_worker(database)
    command("drain")
    command("drain", "--host", "web1")
    command("pause-kind", "k")
    told = command.json("resume")
    assert {(hold["scope"], hold["target"]) for hold in told["ended"]} == {("fleet", ""), ("host", "web1")}
    assert holds(database) == [("kind", "k", None)]
    assert command.json("resume") == {"ended": []}


def test_resume_of_a_scope_leaves_other_holds(database, command):
    add_worker(database)
    command("drain")
    command("drain", "--host", "web1")
    command("resume", "--host", "web1")
    assert holds(database) == [("fleet", "", None)]


def test_a_worker_is_named_by_its_host_and_pid_or_by_its_uuid(database, command):
    worker, other = add_worker(database, "web1", 7), add_worker(database, "web1", 8)
    told = command.json("drain", "--worker", "web1:7")
    assert (told["hold"]["scope"], told["hold"]["target"]) == ("worker", str(worker))
    command("resume", "--worker", "web1:7")
    command("drain", "--worker", other)
    assert holds(database) == [("worker", str(other), None)]
    for stranger in ("web1:9", "7", str(uuid4())):
        assert f"no worker called '{stranger}'" in command.refused("drain", "--worker", stranger, code=5)


def test_a_pid_that_is_used_again_names_the_living_worker(database, command):
    add_worker(database, "web1", 7, silent=True)
    alive = add_worker(database, "web1", 7)
    assert command.json("drain", "--worker", "web1:7")["hold"]["target"] == str(alive)
    add_worker(database, "web1", 7)
    assert "2 workers" in command.refused("drain", "--worker", "web1:7", code=5)


def test_a_hold_with_an_end_ends_then(database, command):
    add_worker(database)
    for step, name in ((("drain",), "fleet"), (("pause-kind", "k"), "kind")):
        for until in ("2h", (datetime.now(UTC) + timedelta(hours=2)).isoformat(timespec="seconds")):
            told = command.json(*step, "--until", until, env={"PGTZ": "Asia/Tokyo"})
            left = database.value("SELECT until - clock_timestamp() FROM holds WHERE scope = %s", name)
            assert timedelta(minutes=119) < left <= timedelta(hours=2)
            assert moment(told["hold"]["until"]) > datetime.now(UTC) + timedelta(minutes=119)
    for until in ("2020-01-01", "0"):
        assert "past" in command.refused("drain", "--until", until, code=5)
    for until in ("tomorrow", "999999999d", "99999999999999999999d"):
        command.refused("drain", "--until", until, code=2)


def test_a_timeout_leaves_the_hold_and_names_the_running_jobs(database, command):
    worker = add_worker(database)
    job = add_job(database, state="processing", worker=worker)
    for step in (("drain",), ("pause-kind", "k"), ("drain", "--worker", worker), ("drain", "--host", "web1")):
        done = command(*step, "--wait", "--timeout", "0.2", code=4)
        assert f"k {job} by web1:1" in done.stdout
        assert "undo: shithubd-worker resume" in done.stdout
    assert len(holds(database)) == 4
    told = command.json("drain", "--wait", "--timeout", "0.2", code=4)
    assert (told["drained"], told["barrier"], [lease["id"] for lease in told["running"]]) == (False, True, [job])
    # Without --wait the command names the running jobs and succeeds. In another scope no job runs.
    assert f"k {job} by web1:1" in command("drain").stdout
    assert command.json("drain", "--host", "web2", "--force", "--wait", "--timeout", "5")["drained"] is True


def test_a_stuck_lease_query_makes_the_barrier_wait_until_the_timeout(database, command):
    with database.connect() as stuck, stuck.transaction():
        stuck.execute("LOCK TABLE gate IN ROW SHARE MODE")
        done = command("drain", "--timeout", "0.2", code=4)
        assert "not certain yet" in done.stdout
        assert holds(database) == [("fleet", "", None)]
    assert "nothing of it starts any more" in command("drain", "--timeout", "30").stdout


@contextmanager
def drain_that_waits(database):
    """`drain --wait` as a process, which is gone afterwards even if the test fails."""
    waiting = subprocess.Popen(
        [sys.executable, "-m", "shithubd_worker", "drain", "--wait"],
        env=database.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with waiting:
        try:
            yield waiting
        finally:
            waiting.kill()


def test_wait_ends_when_the_last_job_does(database):
    job = add_job(database, state="processing", worker=add_worker(database))
    with drain_that_waits(database) as waiting:
        assert f"k {job} by web1:1" in waiting.stderr.readline()
        database.query("DELETE FROM jobs")
        assert waiting.wait(PATIENCE) == 0
        assert "drained: nothing of it is running" in waiting.stdout.read()


def test_an_interrupted_wait_leaves_the_hold_and_says_how_to_undo_it(database):
    add_job(database, state="processing", worker=add_worker(database))
    with drain_that_waits(database) as waiting:
        assert next(line for line in waiting.stderr if line.startswith("waiting for 1"))
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(PATIENCE) == 130
        assert waiting.stderr.read() == "interrupted; the hold stays: undo with shithubd-worker resume\n"
    assert holds(database) == [("fleet", "", None)]


def test_an_unknown_kind_is_paused_only_by_force_and_with_a_reason(database, command):
    assert "--force" in command.refused("pause-kind", "serach.reindex", code=5)
    assert "--reason" in command.refused("pause-kind", "serach.reindex", "--force", code=5)
    assert holds(database) == []
    command("pause-kind", "serach.reindex", "--force", "--reason", "before it is deployed")
    assert holds(database) == [("kind", "serach.reindex", "before it is deployed")]
    command("pause-kind", "serach.reindex")  # the kind is known by now
    assert "other was not paused" in command("resume-kind", "other").stdout


@pytest.mark.parametrize("known_by", ["job", "history", "worker"])
def test_a_kind_of_a_job_the_history_or_a_worker_is_known(database, command, known_by):
    if known_by == "job":
        add_job(database, "some.kind")
    elif known_by == "worker":
        add_worker(database, kinds=["some.kind"])
    else:
        command("jobs", "discard", add_job(database, "some.kind"))
    command("pause-kind", "some.kind")
    assert holds(database) == [("kind", "some.kind", None)]


def test_pause_and_resume_of_a_kind_can_be_repeated_and_flip_its_jobs(database, command):
    env = {"SUDO_USER": "alice"}
    waiting = [add_job(database) for _ in range(3)]
    scheduled = add_job(database, run_at=datetime.now(UTC) + timedelta(days=1))
    other = add_job(database, "other")
    told = command.json("pause-kind", "k", "--reason", "first", env=env)
    assert (told["paused"], told["drained"]) == (4, True)
    assert command.json("pause-kind", "k", env=env)["paused"] == 0
    by_hand = add_job(database, state="paused")
    later = add_job(database)
    assert (
        command.json("pause-kind", "k", env=env)["paused"] == 0
    )  # the job is held all the same; the mirror only covers jobs that waited when the pause began
    paused = {*waiting, scheduled, by_hand}
    assert {row["id"] for row in command.json("jobs", "list", "--state", "paused")} == paused
    assert {row["id"] for row in command.json("jobs", "list", "--state", "queued")} == {other, later}
    assert holds(database) == [("kind", "k", "first")]

    told = command.json("resume-kind", "k", "--reason", "done", env={"SUDO_USER": "bob"})
    assert (told["requeued"], told["ended"]["actor"], told["ended"]["reason"]) == (5, f"alice@{HOST}", "first")
    assert command.json("jobs", "list", "--state", "paused") == []
    again = command.json("resume-kind", "k", env={"SUDO_USER": "bob"})
    assert (again["requeued"], again["ended"]) == (0, None)
    assert [row[:4] for row in audit(database)] == [
        ("pause", "kind k", "first", f"alice@{HOST}"),
        ("pause", "kind k", None, f"alice@{HOST}"),
        ("pause", "kind k", None, f"alice@{HOST}"),
        ("resume", "kind k", "done", f"bob@{HOST}"),
    ]


@contextmanager
def said_while_the_jobs_are_locked(database, *arguments):
    """Start a command while no job can be changed. Returns the first line that it prints then; it goes on
    afterwards."""
    with database.connect() as locker, locker.transaction():
        locker.execute("LOCK TABLE jobs IN SHARE MODE")
        process = subprocess.Popen(
            [sys.executable, "-m", "shithubd_worker", *arguments],
            env=database.environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        yield process.stdout.readline()
    with process:
        assert process.wait(PATIENCE) == 0


def test_a_pause_is_certain_before_any_job_is_marked_and_says_so(database):
    job = add_job(database)
    with said_while_the_jobs_are_locked(database, "pause-kind", "k") as line:
        assert line.startswith("kind k is held: nothing of it starts any more")
        assert state(database, job) == ("queued", 0)
    assert state(database, job) == ("paused", 0)


def test_a_pause_is_over_before_any_job_is_flipped_back_and_says_so(database, command):
    job = add_job(database)
    command("pause-kind", "k")
    with said_while_the_jobs_are_locked(database, "resume-kind", "k") as line:
        assert line == "resumed k\n"
        assert holds(database) == []
        assert state(database, job) == ("paused", 0)
    assert state(database, job) == ("queued", 0)


def test_resume_kind_also_flips_jobs_that_were_only_paused_by_hand(database, command):
    job = add_job(database, state="paused")
    told = command("resume-kind", "k").stdout
    assert "k was not paused" in told
    assert "1 paused job(s) back in the queue" in told
    assert state(database, job)[0] == "queued"


def test_a_pause_covers_jobs_enqueued_retried_or_released_afterwards(database, command, start_worker):
    worker = start_worker("--kind", "test.ok", "--kind", "test.other")
    database.query("CREATE TABLE starts (job bigint, kind text, at timestamptz)")
    try:
        command("pause-kind", "test.ok")
        later = int(command("enqueue", "test.ok").stdout)
        retried = add_job(database, "test.ok", "failed", attempts=10)
        command("jobs", "retry", retried)
        released = add_job(database, "test.ok", "processing", worker=uuid4())
        command("jobs", "release", released)
        after = [int(command("enqueue", "test.other").stdout) for _ in range(2)]
        gone = "SELECT count(*) FROM job_history WHERE id = ANY (%s) AND outcome = 'ok'"
        eventually(lambda: database.value(gone, after) == 2, "the other kind went on, twice past the held jobs")
        held = [later, retried, released]
        assert {state(database, job)[0] for job in held} == {"queued"}
        assert command("status").stdout.startswith("running 0, held 3 ")
        command("resume-kind", "test.ok")
        eventually(lambda: database.value(gone, held) == 3, "the held jobs ran")
    finally:
        database.query("DROP TABLE starts")
    assert worker.terminate() == 0


def test_a_drained_worker_stays_up_and_goes_on_after_resume(database, command, start_worker):
    worker = start_worker("--kind", "test.ok", "--metrics", "127.0.0.1:0")
    told = command.json("drain", "--worker", f"{HOST}:{worker.pid}", "--wait", "--timeout", "30")
    assert told["drained"] is True
    job = int(command("enqueue", "test.ok").stdout)
    eventually(lambda: command.json("workers")[0]["state"] == "held", "held")
    assert "/readyz" in worker.metrics_url + "/readyz"
    assert state(database, job) == ("queued", 0)
    assert worker.process.poll() is None
    command("resume", "--worker", f"{HOST}:{worker.pid}")
    eventually(lambda: state(database, job) is None, "it ran")
    command("drain", "--worker", f"{HOST}:{worker.pid}")
    assert worker.terminate() == 0
    assert holds(database) == []  # a drain of a worker ends with that worker
