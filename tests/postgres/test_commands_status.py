"""What `status` and `workers` print about a queue."""

from __future__ import annotations

import re
from datetime import timedelta
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
    assert command.json("status", "--drained") == {"drained": True, "running": []}
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
