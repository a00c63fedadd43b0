"""workers sweep --stale-after and workers unlock --host, as an operator sees them; and what status says of silence."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from commands import emptied_database, exact_command, one_database  # noqa: F401 (fixtures)
from conftest import eventually
from rows import add_worker, state
from test_returning import leased, locked

from shithubd_worker import Client
from shithubd_worker.errors import Refused

SWEEP = ("workers", "sweep", "--stale-after", "5m")
TABLES = ("jobs", "job_history", "workers", "beats", "audit", "audit_chunks", "leases_returned", "sweeper")


def holding(database, host="web3", pid=4711, *, silent=400.0, gives_up=300.0, jobs=1):
    """A worker that was silent for so many seconds, and its jobs, which it leased an hour ago."""
    beat_at = datetime.now(UTC) - timedelta(seconds=silent)
    worker = add_worker(database, host, pid, gives_up=gives_up, beat_at=beat_at)
    ids = leased(database, jobs, worker, expires="2100-01-01")
    database.query(
        "UPDATE jobs SET leased_by = %s, leased_at = now() - interval '1 hour' WHERE worker_id = %s",
        f"{host}:{pid}",
        worker,
    )
    return worker, ids


def everything(database):
    return [database.query(f"SELECT t::text FROM {table} t ORDER BY 1") for table in TABLES]


def unfolded(text):
    """The output with each folded line on one line."""
    return text.replace("\n  ", " ").splitlines()


def test_a_sweep_takes_the_jobs_of_a_worker_that_has_given_up_and_says_how_long_it_was_silent(database, command):
    _, (first, second) = holding(database, jobs=2)
    done = command(*SWEEP, "--recovery-delay", "30s", "--reason", "web3 is away")
    assert done.stdout.splitlines() == [
        f"job {first} (k) queued again",
        f"job {second} (k) queued again",
        "2 job(s) of web3:4711 (silent for 7 min) returned, and run in 30 s",
        "0 job(s) with an expired lease returned",
    ]
    delays = database.query("SELECT extract(epoch FROM run_at - now())::int BETWEEN 1 AND 30 FROM jobs")
    assert delays == [(True,), (True,)]
    assert database.value("SELECT count(*) FROM workers") == 0
    (row,) = database.query("SELECT action, reason, jobs, detail->'stale_after', detail->'delay' FROM audit")
    assert row == ("sweep", "web3 is away", 2, 300, 30)
    again = command(*SWEEP, "--reason", "web3 is away").stdout
    assert again == "0 job(s) with an expired lease returned\n"
    assert database.value("SELECT count(*) FROM audit") == 1


def test_a_worker_that_has_not_given_up_keeps_its_jobs_and_the_command_says_how_long(database, command):
    worker, (one,) = holding(database, silent=40)
    before = database.query("SELECT * FROM jobs")
    _, said, advice = unfolded(command(*SWEEP).stdout)
    assert said.startswith("web3:4711 has been silent for 4")
    assert ", and has 1 job(s). It gives up after 300 s. A sweep may take its jobs in 4 min." in said
    assert said.endswith(f"If it is gone: shithubd-worker workers unlock {worker}")
    assert "--accept-second-run --reason TEXT" in advice
    assert database.query("SELECT * FROM jobs") == before
    refused = command.refused(*SWEEP, "--accept-second-run", code=5)
    assert "needs a --reason" in refused
    done = command(*SWEEP[:3], "30", "--accept-second-run", "--reason", "it burned")
    assert done.stdout.splitlines()[0] == f"job {one} (k) queued again"
    assert database.value("SELECT detail->'accept_second_run' FROM audit") is True


def test_a_worker_that_promised_nothing_keeps_its_jobs_until_its_leases_end(database, command):
    worker, (one,) = holding(database, gives_up=None, silent=4000)
    said = command(*SWEEP).stdout.splitlines()[1]
    assert said.startswith("web3:4711 is silent, and 1 lease(s) of it end within ")
    assert said.endswith(f"shithubd-worker workers unlock {worker}")
    assert state(database, one) == ("processing", 1)


def test_a_sweep_without_stale_after_leaves_who_has_given_up_and_says_what_to_add(database, command):
    _, (one,) = holding(database)
    assert "A sweep may take its jobs now: add --stale-after." in unfolded(command("workers", "sweep").stdout)[1]
    assert state(database, one) == ("processing", 1)


def test_a_lease_is_a_sign_of_life_too(database, command):
    _, (one,) = holding(database)
    database.query("UPDATE jobs SET leased_at = now() - interval '100 s'")
    assert "has been silent for 1" in command(*SWEEP).stdout
    assert state(database, one) == ("processing", 1)


def test_a_worker_that_beats_is_never_in_a_sweep(database, command):
    _, (one,) = holding(database, silent=3)
    said = command.json(*SWEEP, "--accept-second-run", "--reason", "x")
    assert (said["returned"], said["workers"], said["unexpired"]) == ([], [], [])
    assert state(database, one) == ("processing", 1)


def test_a_job_that_somebody_has_locked_stays_and_the_command_fails(database, command):
    _, (held, free) = holding(database, jobs=2)
    with locked(database, "SELECT FROM jobs WHERE id = %s FOR UPDATE", held):
        done = command(*SWEEP, code=5)
    assert "1 job(s) of web3:4711 (silent for 7 min) returned" in done.stdout
    assert "1 job(s) of these workers stay leased" in done.stderr
    assert (state(database, held), state(database, free)) == (("processing", 1), ("queued", 0))
    command(*SWEEP)
    assert state(database, held) == ("queued", 0)


def test_a_dry_run_of_a_sweep_shows_the_sql_and_changes_nothing(database, command):
    holding(database, jobs=2)
    before = everything(database)
    words = (*SWEEP, "--recovery-delay", "30s", "--accept-second-run", "--reason", "x")
    *_, returned, _, statement = command(*words, "--dry-run").stdout.splitlines()
    assert returned.endswith("silent for 7 min) would be returned, and would run in 30 s")
    call = "sweep_leases_v1(p_stale_after => 300, p_accept_second_run => true, p_delay => 30)"
    assert statement == f"SELECT * FROM public.{call}"
    said = command.json(*words, "--dry-run")
    assert everything(database) == before
    done = command.json(*words)
    for answer in (said, done):
        assert [job.pop("last_error")[:35] for job in answer["returned"]] == ["its worker web3:4711 was silent for"] * 2
    assert said["returned"] == done["returned"]
    assert (said["dry_run"], done["dry_run"]) == (True, False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--stale-after", "five"], "'five' is not a duration"),
        (["--stale-after", "-5m"], "'-5m' is not a duration"),
        (["--stale-after", "nan"], "'nan' is not a duration"),
        (["--stale-after", "29s"], "--stale-after: it must be 30 s to 2 d"),
        (["--stale-after", "3d"], "--stale-after: it must be 30 s to 2 d"),
        (["--stale-after", "5m", "--recovery-delay", "1w"], "'1w' is not a duration"),
        (["--recovery-delay", "49h"], "--recovery-delay: it must be 0 s to 2 d"),
        (["--accept-second-run", "--reason", "x"], "--accept-second-run needs --stale-after"),
    ],
    ids=str,
)
def test_a_sweep_refuses_what_it_cannot_do_with_one_line(command, words, said):
    assert said in command.refused("workers", "sweep", *words, code=2)


def test_unlock_takes_the_jobs_of_all_workers_of_a_host_and_of_no_other(database, command):
    for pid in (1, 2):
        holding(database, "web3", pid)
    for other in ("web33", "web3:4", "xweb3", "web", "web3.example.org", "web%", "*"):
        holding(database, other, 1)
    done = command("workers", "unlock", "--host", "web3", "--reason", "it burned")
    assert done.stdout.splitlines()[2] == "2 job(s) of web3:1, web3:2 returned"
    assert database.query("SELECT host, count(*) FROM workers WHERE host = 'web3' GROUP BY 1") == []
    assert database.query("SELECT count(*) FROM jobs WHERE state = 'queued'") == [(2,)]
    assert database.query("SELECT action, jobs FROM audit") == [("unlock", 2)]


@pytest.mark.parametrize("host", ["a:b", "*", "web%", "it's", "-x", "häß lich", "web3:*", "x\ty"])
def test_a_host_can_have_any_name(database, command, host):
    _, (one,) = holding(database, host, 7)
    _, (other,) = holding(database, f"{host}:9", 7)
    command("workers", "unlock", f"--host={host}", "--reason", "x")
    assert (state(database, one), state(database, other)) == (("queued", 0), ("processing", 1))


def test_unlock_of_a_host_refuses_while_one_of_its_workers_beats_and_names_it(database, command):
    _, (dead,) = holding(database, pid=1)
    lives, _ = holding(database, pid=2, silent=3)
    before = everything(database)
    for more in ([], ["--dry-run"]):
        done = command("workers", "unlock", "--host", "web3", *more, code=5)
        assert f"a worker lives: web3:2 (uuid {lives}) beat " in done.stderr
        assert "web3:1" not in done.stderr
    assert everything(database) == before
    command("workers", "unlock", "--host", "web3", "--accept-second-run", "--reason", "x")
    assert state(database, dead) == ("queued", 0)
    assert database.query("SELECT state FROM jobs") == [("queued",), ("queued",)]
    assert database.query("SELECT id FROM workers") == [(lives,)]


def test_unlock_of_a_host_refuses_if_a_worker_registers_meanwhile(database, command):
    """The command waits for a job that somebody has locked. Meanwhile the host comes back."""
    _, (one,) = holding(database)
    answers = []
    with locked(database, "SELECT FROM jobs WHERE id = %s FOR UPDATE", one):
        words = ("workers", "unlock", "--host", "web3")
        asking = threading.Thread(target=lambda: answers.append(command(*words, code=5)))
        asking.start()
        waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%unlock_workers_v1%%'"
        eventually(lambda: database.query(waits), "the command waits for the job")
        add_worker(database, "web3", 99)
        asking.join()
    assert "a worker lives: web3:99" in answers[0].stderr
    assert state(database, one) == ("processing", 1)


def test_a_host_whose_workers_left_only_leases_is_found(database, command):
    _, (first,) = holding(database)
    _, (second,) = holding(database, pid=5)
    database.query("DELETE FROM workers")
    database.query("UPDATE jobs SET worker_id = NULL WHERE id = %s", second)
    done = command.json("workers", "unlock", "--host", "web3")
    assert [job["id"] for job in done["returned"]] == [first, second]
    assert done["unknown"] == []


def test_a_host_that_nobody_knows_is_said_with_the_one_that_was_meant(database, command):
    holding(database, "web3")
    said = command("workers", "unlock", "--host", "wbe3").stdout.splitlines()
    assert said[-1] == "no worker of host 'wbe3' is known, and no lease is left of one: did you mean web3?"
    assert "did you mean" not in command("workers", "unlock", "--host", "db").stdout
    assert command.json("workers", "unlock", "--host", "wbe3")["unknown"] == ["wbe3:*"]
    assert database.value("SELECT count(*) FROM audit") == 0


@pytest.mark.parametrize("words", [[], ["web3:1", "--host", "web3"], ["--host", ""], ["--host"]], ids=str)
def test_unlock_needs_workers_or_a_host(command, words):
    command.refused("workers", "unlock", *words, code=2)


def test_unlock_says_which_run_may_still_go_on_if_the_worker_is_only_cut_off(database, command):
    worker, (one,) = holding(database, silent=40)
    holding(database, pid=2, silent=400)
    database.query(
        "UPDATE beats SET job_id = %s, job_kind = 'k', job_since = beat_at WHERE worker_id = %s", one, worker
    )
    words = ("workers", "unlock", "--host", "web3")
    dry = command(*words, "--dry-run").stdout
    said = [each for each in unfolded(command(*words).stdout) if "cut off" in each]
    assert said == [
        f"if web3:4711 lives and is only cut off, it may go on with job {one} (k) for 4 min at most. It can no longer"
        " settle it"
    ]
    assert said[0] in unfolded(dry)
    assert "force_unlock_workers(ARRAY['web3:*'])" in dry


def test_a_lease_that_ends_sooner_ends_the_run_sooner(database, command):
    holding(database, silent=40)
    database.query("UPDATE jobs SET lease_expires_at = now() + interval '90 s'")
    (found,) = command.json("workers", "unlock", "web3:4711")["workers"]
    assert 60 < found["may_run_seconds"] <= 90
    assert found["job_id"] is None


def test_status_and_the_list_say_when_the_jobs_of_a_silent_worker_return(database, command):
    holding(database, "web3", 1, silent=40)
    holding(database, "web3", 2, silent=400)
    holding(database, "web3", 3, gives_up=None)
    holding(database, "web3", 4, silent=3)
    holding(database, "web3", 5, jobs=0)
    expected = [
        "web3:1 is silent: a sweep may take its jobs in 4 min",
        "web3:2 is silent: a sweep may take its jobs now",
        "web3:3 is silent: its jobs return when their leases end",
    ]
    for words in (["status"], ["workers", "list"]):
        assert [each for each in command(*words).stdout.splitlines() if "is silent:" in each] == expected
    rows = {row["leased_by"]: row for row in command.json("workers", "list")}
    assert rows["web3:3"]["gives_up_seconds"] is rows["web3:3"]["gives_up"] is None
    assert 240 < rows["web3:1"]["gives_up_seconds"] < 261
    assert rows["web3:2"]["gives_up_seconds"] < -90


def test_status_says_who_looked_for_silent_workers_last(database, command):
    database.query("UPDATE sweeper SET swept_at = '-infinity', swept_by = NULL")
    assert "silent workers: nobody has looked for them yet" in command("status").stdout
    assert command.json("status")["sweeper"] == {"at": None, "by": None, "seconds": None}
    worker = add_worker(database, "web1", 12)
    database.query("SELECT * FROM sweep_silent_v1(%s, 300, 0, 10)", worker)
    assert "silent workers: web1:12 looked for them " in command("status").stdout
    assert command.json("status")["sweeper"]["by"] == "web1:12"
    database.query("DELETE FROM sweeper")
    assert command.json("status")["sweeper"] is None
    assert "nobody has looked for them yet" in command("status").stdout
    database.query("INSERT INTO sweeper DEFAULT VALUES")


def test_a_shell_completes_the_hosts(database, command):
    holding(database)
    line = "shithubd-worker workers unlock --host we"
    env = {"COMP_WORDS": line, "COMP_CWORD": "4", "_SHITHUBD_WORKER_COMPLETE": "bash_complete"}
    assert command("workers", "unlock", "--host", "we", env=env).stdout == "plain,web3\n"


def test_a_program_sweeps_and_unlocks_a_host(database):
    _, (one,) = holding(database)
    _, (kept,) = holding(database, "web4", 1, silent=40)
    with Client(database.url, actor="ada@forge") as queue:
        (row,) = queue.sweep(stale_after=timedelta(minutes=5), recovery_delay=30, reason="web3 is away")
        assert (row.id, row.kind, row.state, row.leased_by) == (one, "k", "queued", "web3:4711")
        assert row.last_error.startswith("its worker web3:4711 was silent for 4")
        assert queue.sweep(stale_after=300) == []
        assert [job.id for job in queue.force_unlock_workers(host="web4")] == [kept]
        holding(database, "web5", 1, silent=3)
        with pytest.raises(Refused, match="a worker lives: web5:1"):
            queue.force_unlock_workers(host="web5")
    assert database.query("SELECT action, actor FROM audit ORDER BY id") == [
        ("sweep", "ada@forge"),
        ("unlock", "ada@forge"),
    ]


def test_a_program_sweeps_in_its_own_transaction(database):
    _, (one,) = holding(database)
    before = everything(database)
    with database.connect() as connection, connection.transaction(force_rollback=True):
        assert [row.id for row in Client(connection).sweep(stale_after=300)] == [one]
    assert everything(database) == before


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"stale_after": 29}, "stale_after must be 30 s to 172800 s, not 29 s"),
        ({"stale_after": float("nan")}, "at most a century"),
        ({"stale_after": 300, "recovery_delay": -1}, "recovery_delay must be 0 s to 172800 s"),
        ({"accept_second_run": True}, "accept_second_run needs stale_after"),
    ],
    ids=str,
)
def test_a_program_gets_an_error_for_a_sweep_that_cannot_be(database, given, error):
    with Client(database.url) as queue, pytest.raises(ValueError, match=error):
        queue.sweep(**given)


@pytest.mark.parametrize("given", [{}, {"worker_ids": [], "host": "web3"}, {"host": ""}], ids=json.dumps)
def test_a_program_names_workers_or_a_host(database, given):
    with Client(database.url) as queue, pytest.raises(ValueError, match=r"worker_ids or host|host must not be empty"):
        queue.force_unlock_workers(**given)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sweep-threshold", "25", "--heartbeat-interval", "8"], "three heartbeats and 5 s must fit"),
        (["--sweep-threshold", "5"], "'5' is neither 0 nor a number of seconds from 10 to 172800"),
        (["--sweep-threshold", "0", "--heartbeat-interval", "8"], None),
    ],
    ids=str,
)
def test_a_check_tells_of_beats_that_are_too_rare_for_the_threshold(command, words, said):
    arguments = ("check-config", "--handlers", "sample_jobs:registry", *words)
    if said is None:
        command(*arguments)
    else:
        assert said in command(*arguments, code=78).stderr
