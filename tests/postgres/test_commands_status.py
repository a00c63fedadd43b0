"""What `status` and `workers` print about a queue."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from commands import emptied_database, exact_command, moment, one_database  # noqa: F401 (fixtures)
from rows import add_job, add_worker


def test_the_status_of_an_empty_queue_has_all_four_states(command):
    told = command.json("status")
    assert told["states"] == {"queued": 0, "processing": 0, "paused": 0, "failed": 0}
    assert (told["kinds"], told["leases"], told["holds"], told["workers"]) == ([], [], [], [])
    assert command("status").stdout.startswith("running 0, held 0")


def test_the_status_shows_what_runs_and_what_is_held(database, command):
    worker = add_worker(database, unit="shithubd-worker@1.service", kinds=["search.reindex", "webhook.deliver"])
    job = add_job(database, "search.reindex", "processing", worker=worker)
    database.query("UPDATE beats SET job_id = %s, job_kind = 'search.reindex', job_since = now()", job)
    database.query("INSERT INTO jobs (kind, state) SELECT 'search.reindex', 'paused' FROM generate_series(1, 499)")
    database.query("INSERT INTO jobs (kind, state) VALUES ('webhook.deliver', 'queued'), ('webhook.deliver', 'failed')")
    database.query("SELECT pause_kind_v1('search.reindex', 'schema work', now() + interval '1 hour', 'alice@web1')")

    text = command("status").stdout
    assert text.splitlines()[0].startswith("running 1, held 499")
    assert max(map(len, text.splitlines())) <= 80
    for word in (
        "search.reindex",
        "webhook.deliver",
        "web1:1",
        "shithubd-worker@1.service",
        "schema work",
        "alice@web1",
    ):
        assert word in text

    told = command.json("status", env={"PGTZ": "Asia/Tokyo"})
    assert told["states"] == {"queued": 1, "processing": 1, "paused": 499, "failed": 1}
    (lease,) = told["leases"]
    assert set(lease) >= {"id", "kind", "leased_by", "leased_at", "started"}
    assert (lease["id"], lease["kind"], lease["leased_by"]) == (job, "search.reindex", "web1:1")
    assert moment(lease["leased_at"]) < moment(lease["started"])
    (hold,) = told["holds"]
    assert (hold["scope"], hold["target"], hold["reason"], hold["actor"]) == (
        "kind",
        "search.reindex",
        "schema work",
        "alice@web1",
    )
    assert moment(hold["created"]) < moment(hold["until"])
    assert {kind["kind"]: kind["held"] for kind in told["kinds"]} == {"search.reindex": 499, "webhook.deliver": 0}
    assert [row["leased_by"] for row in told["workers"]] == ["web1:1"]


def test_waiting_jobs_are_counted_up_to_a_hundred_thousand_and_larger_counts_are_marked(database, command):
    database.query("INSERT INTO jobs (kind, state) SELECT 'many', 'paused' FROM generate_series(1, 100001)")
    for kind in ("many", "few"):
        add_job(database, kind, "processing", worker=uuid4())
    add_job(database, "few", "failed")
    text = command("status").stdout
    assert text.splitlines()[0] == "running 2, held 100,000+ (queued 0, paused 100,000+, failed 1)"
    assert re.search(r"^many +0 +1 +100,000\+ +0 +100,000\+", text, re.MULTILINE)
    told = command.json("status")
    assert told["states"] == {"queued": 0, "processing": 2, "paused": 100000, "failed": 1}
    assert sorted(told["capped"]) == ["held", "paused"]
    assert {kind["kind"]: kind["capped"] for kind in told["kinds"]} == {"many": ["paused", "held"], "few": []}


def test_queued_jobs_count_as_held_while_a_hold_covers_them(database, command):
    for kind in ("a", "a", "b"):
        add_job(database, kind)
    add_worker(database, kinds=["a"])
    command("pause-kind", "a")
    add_job(database, "a")
    assert command("status").stdout.startswith("running 0, held 3 ")
    command("drain")
    assert command("status").stdout.startswith("running 0, held 4 ")
    command("resume")
    command("resume-kind", "a")
    assert command("status").stdout.startswith("running 0, held 0 ")


def test_the_exit_code_says_whether_the_queue_is_drained(database, command):
    assert command("status", "--drained").stdout.startswith("drained")
    assert command.json("status", "--drained") == {"drained": True, "running": [], "leased": 0}
    job = add_job(database, state="processing", worker=uuid4())
    assert command("status", "--drained", code=3).stdout.startswith("running 1, held 0")
    told = command.json("status", "--drained", code=3)
    assert (told["drained"], [lease["id"] for lease in told["running"]]) == (False, [job])


def test_a_strange_name_in_the_table_does_not_control_the_terminal(database, command):
    add_job(database, "[red]kind[/red]")
    add_job(database, "a" * 200, "processing", leased_by="\x1b[31mweb")
    database.query("SELECT drain_v1('fleet', '', E'\\x1b[31mreason\\nsecond line', NULL, E'\\x1b[31mme')")
    text = command("status").stdout  # Command checks for escape codes
    assert "[red]kind[/red]" in text
    assert max(map(len, text.splitlines())) <= 80
    command("jobs", "list")


def test_workers_are_listed(database, command):
    kinds = [f"some.kind.number.{n}" for n in range(12)]
    alive = add_worker(database, "web1", 7, unit="shithubd-worker@1.service", kinds=kinds)
    silent = add_worker(database, "web2", 8, silent=True)
    told = command.json("workers", env={"PGTZ": "Asia/Tokyo"})
    assert [(row["id"], row["leased_by"], row["silent"]) for row in told] == [
        (str(alive), "web1:7", False),
        (str(silent), "web2:8", True),
    ]
    assert (told[0]["kinds"], told[0]["unit"]) == (kinds, "shithubd-worker@1.service")
    assert moment(told[0]["started_at"]) >= moment(told[0]["beat_at"]) - timedelta(hours=1)
    text = command("workers").stdout
    assert max(map(len, text.splitlines())) <= 80
    for word in ("web1:7", "web2:8", str(alive), kinds[0], kinds[-1], "silent"):
        assert word in text


def test_jobs_that_are_leased_ahead_do_not_count_as_running(database, command):
    worker = add_worker(database, "web1", 7)
    jobs = [add_job(database, "slow", "processing", worker=worker, leased_by="web1:7") for _ in range(500)]
    database.query("UPDATE beats SET job_id = %s, job_kind = 'slow', job_since = now()", jobs[300])
    quick = add_worker(database, "web2", 8)
    for kind in ("quick", "quick", "other"):
        add_job(database, kind, "processing", worker=quick, leased_by="web2:8")

    told = command.json("status")
    assert (told["running"], told["leased"], told["states"]["processing"]) == (2, 503, 503)
    assert {kind["kind"]: kind["running"] for kind in told["kinds"] if kind["processing"]} == {
        "slow": 1,
        "quick": 1,  # at most
        "other": 1,  # at most
    }
    assert Counter(lease["runs"] for lease in told["leases"]) == {True: 1, False: 499, None: 3}
    assert [lease["id"] for lease in told["leases"] if lease["runs"]] == [jobs[300]]
    drained = command.json("status", "--drained", code=3)
    assert (len(drained["running"]), drained["leased"]) == (4, 503)

    text = command("status").stdout
    assert text.startswith("running 2 of 503 leased, held 0 ")
    assert re.search(r"^slow +0 +1 of 500 ", text, re.MULTILINE)
    assert re.search(rf"^ *{jobs[300]} +slow +web1:7", text, re.MULTILINE)
    assert re.search(r"^ *1 of 3 +quick, other +web2:8", text, re.MULTILINE)
    assert text.count("slow ") == 3  # among the kinds, of what runs, of its worker
    workers = command("workers").stdout
    assert f"slow {jobs[300]}" in workers
    assert "3 leased" in workers

    said = command("drain", "--wait", "--timeout", "1s", code=4)
    assert "timeout: still running: 2 of 503 leased" in said.stdout
    assert "waiting for 2 of 503 leased: " in said.stderr + said.stdout
    command("resume")
    said = command("pause-kind", "slow").stdout
    assert "still running: 1 of 500 leased" in said
    assert f"  slow {jobs[300]} by web1:7 for " in said


def test_a_job_whose_beat_is_older_than_its_end_does_not_count_as_running(database, command):
    worker = add_worker(database, "web1", 7)
    over = add_job(database, "k", "processing", worker=worker)
    database.query("UPDATE beats SET job_id = %s, job_kind = 'k', job_since = now()", over)
    database.query("DELETE FROM jobs WHERE id = %s", over)
    [told] = command.json("workers")
    assert (told["job_id"], told["job_kind"], told["job_since"], told["leases"]) == (None, None, None, 0)
    add_job(database, "k", "processing", worker=worker)
    [lease] = command.json("status")["leases"]
    assert lease["runs"] is None
    unsettled = add_job(database, "k", "processing", worker=worker)
    database.query("UPDATE beats SET job_id = %s, unsettled = ARRAY[%s::bigint]", unsettled, unsettled)
    assert {lease["runs"] for lease in command.json("status")["leases"]} == {None}  # it is over, and another may run


def test_the_status_shows_the_retries_of_each_kind(database, command):
    later = {"attempts": 1, "run_at": datetime.now(UTC) + timedelta(hours=3)}
    soon = {"attempts": 2, "run_at": datetime.now(UTC) + timedelta(minutes=10)}
    add_job(database, "mail.send", last_error="TimeoutError: an hour ago", **later)
    add_job(database, "mail.send", last_error="SMTPError: 451 \x1b[2Jtry " + "again " * 99 + "\n stack", **soon)
    add_job(database, "mail.send", priority=7, last_error="no", **later)
    add_job(database, "mail.send", run_at=later["run_at"])  # never ran
    add_job(database, "crashed", crashes=1, last_error="its worker died")
    add_job(database, "new")

    told = command.json("status")
    assert told["retries"] == 4
    kinds = {kind["kind"]: kind for kind in told["kinds"]}
    assert {name: kind["retries"] for name, kind in kinds.items()} == {"mail.send": 3, "crashed": 1, "new": 0}
    assert 500 < kinds["mail.send"]["next_retry_seconds"] <= 600
    assert moment(kinds["mail.send"]["next_retry"]) == soon["run_at"]
    assert kinds["mail.send"]["last_error"].startswith("SMTPError: 451 ")
    assert len(kinds["mail.send"]["last_error"]) == 200
    assert kinds["new"]["last_error"] is None

    text = command("status").stdout  # Command checks for escape codes
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"^ +3 +mail.send +in 10 min +SMTPError: 451", text, re.MULTILINE)
    assert re.search(r"^ +1 +crashed +now +its worker died *$", text, re.MULTILINE)
    assert "stack" not in text
    assert "an hour ago" not in text


def test_a_kind_that_nobody_has_is_told(database, command):
    add_job(database, "mail.send")
    text = command("status", "mail.sent").stdout
    assert "kind mail.sent: it has no jobs, no pause and no worker" in text
    assert "it has no jobs" not in command("status", "mail.send").stdout
    assert command.json("status", "mail.sent")["kinds"] == []


def test_retries_behind_the_counted_jobs_are_not_denied(database, command):
    database.query("INSERT INTO jobs (kind) SELECT 'many' FROM generate_series(1, 100001)")
    add_job(database, "many", attempts=1, run_at=datetime.now(UTC) + timedelta(minutes=1))
    text = command("status").stdout
    assert "where queued has a +, more retries may wait behind the jobs that were counted" in text
    assert "retries" in command.json("status")["capped"]
    database.query("DELETE FROM jobs")
    assert "more retries may wait" not in command("status").stdout


def test_long_lists_of_holds_and_workers_are_cut_and_counted(database, command):
    database.query(
        "INSERT INTO holds (scope, target, actor) SELECT 'kind', 'k' || n, 'me' FROM generate_series(1, 30) n"
    )
    for pid in range(50):
        add_worker(database, "web1", pid)
    add_worker(database, "web2", 1, silent=True)
    text = command("status").stdout
    assert "hold: ... and 10 more (in the table standing_holds)" in text
    assert re.search(r"^\.\.\. +11 more +of all: 1 silent, 50 starting", text, re.MULTILINE)
    assert "web2:1" in text  # a silent worker is shown first
    told = command.json("status")
    assert (told["hold_count"], told["worker_states"]) == (30, {"starting": 50, "silent": 1})
