"""`enqueue` and the commands below `jobs`: what they do to a job, and what they print about it."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from commands import HOST, emptied_database, exact_command, handlers_module, moment, one_database  # noqa: F401 (fixtures)
from rows import add_job, add_worker, audit, state


def test_enqueue_prints_only_the_id(database, command):
    done = command("enqueue", "nobody.knows.this", '{"repo": "a.git", "depth": 2}')
    assert re.fullmatch(r"\d+\n", done.stdout)
    assert done.stderr == ""
    rows = database.query("SELECT id, kind, payload, state, priority, run_at = created_at FROM jobs")
    assert rows == [(int(done.stdout), "nobody.knows.this", {"repo": "a.git", "depth": 2}, "queued", 0, True)]


def test_enqueue_reads_the_payload_from_stdin_or_does_without(database, command):
    from_stdin = command.json("enqueue", "k", "-", input='{"größe": "🚀"}')
    without = command.json("enqueue", "k")
    assert database.query("SELECT id, payload FROM jobs ORDER BY id") == [
        (from_stdin["id"], {"größe": "🚀"}),
        (without["id"], {}),
    ]


def test_enqueue_takes_a_time_and_a_priority(database, command):
    later = command.json("enqueue", "k", "--delay", "90m", "--priority", "-7")["id"]
    at = [
        command.json("enqueue", "k", "--run-at", text)["id"]
        for text in ("2030-01-01T12:00:00", "2030-01-01T12:00:00Z", "2030-01-01T13:00:00+01:00")
    ]
    assert database.query("SELECT run_at - created_at, priority FROM jobs WHERE id = %s", later) == [
        (timedelta(minutes=90), -7)
    ]
    assert database.query("SELECT DISTINCT run_at FROM jobs WHERE id = ANY (%s)", at) == [
        (datetime(2030, 1, 1, 12, tzinfo=UTC),)
    ]


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        ("[]", "object"),
        ("7", "object"),
        ("null", "object"),
        ('"text"', "object"),
        ("{", "JSON"),
        ("", "JSON"),
        ("{'a': 1}", "JSON"),
        ('{"a": NaN}', "JSON"),
        ('{"a": "\\u0000"}', "NUL"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"a": ' + "[" * 10_000 + "]" * 10_000 + "}", "deep"),
        ('{"a": ' + "9" * 5000 + "}", "digits"),
    ],
    ids=["list", "number", "null", "text", "broken", "empty", "quotes", "nan", "nul", "surrogate", "nested", "digits"],
)
def test_enqueue_refuses_an_invalid_payload(database, command, payload, says):
    for arguments in ((payload,), ("-",)):
        told = command.refused("enqueue", "k", *arguments, code=2, input=payload)
        assert says in told
        assert len(told) < 300
    assert database.value("SELECT count(*) FROM jobs") == 0


@pytest.mark.parametrize("kind", ["", "a" * 201, "a\nb", "\x1b[31m", "a\x85b"])
def test_enqueue_refuses_an_invalid_kind(database, command, kind):
    assert "1 to 200 characters" in command.refused("enqueue", kind, code=2)
    assert database.value("SELECT count(*) FROM jobs") == 0


def test_a_payload_of_50_megabytes_is_accepted_and_run(database, command, module):
    env = module(
        "big_jobs",
        "@registry.handler('big', retention='none')\n"
        "def big(job, text):\n"
        "    job.connection.execute('INSERT INTO weighed VALUES (%s, %s)', (job.id, len(text)))\n",
    )
    database.query("CREATE TABLE weighed (job bigint, size bigint)")
    try:
        job = command.json("enqueue", "big", "-", input=json.dumps({"text": "x" * 50_000_000}))["id"]
        arguments = ("run", "--until-empty", "--metrics", "off", "--kind", "big", "--handlers", "big_jobs:registry")
        command(*arguments, env=env)
        assert database.query("SELECT * FROM weighed") == [(job, 50_000_000)]
    finally:
        database.query("DROP TABLE weighed")
    assert state(database, job) is None


JOB_COLUMNS = {"id", "kind", "payload", "state", "priority", "run_at", "attempts", "max_attempts", "crashes"}
JOB_COLUMNS |= {"leased_by", "leased_at", "lease_expires_at", "lease_token", "last_error", "created_at"}


def test_jobs_are_listed_and_shown_with_their_columns(database, command):
    tokyo = {"PGTZ": "Asia/Tokyo"}
    waiting = add_job(database, "a", payload='{"x": 1}', last_error="it\x1b[31m\nfailed")
    running = add_job(database, "b", "processing", worker=add_worker(database))
    failed = add_job(database, "b", "failed", last_error="no\nstack")
    listed = command.json("jobs", "list", env=tokyo)
    assert [row["id"] for row in listed] == [waiting, running, failed]
    for row in listed:
        assert set(row) >= JOB_COLUMNS
        moment(row["run_at"])
        moment(row["created_at"])
    moment(listed[1]["leased_at"])
    assert (listed[0]["payload"], listed[0]["leased_by"], listed[1]["leased_by"]) == ({"x": 1}, None, "web1:1")
    assert [row["id"] for row in command.json("jobs", "list", "--state", "failed")] == [failed]
    assert [row["id"] for row in command.json("jobs", "list", "--kind", "b", "--limit", "1")] == [running]
    assert command.json("jobs", "list", "--kind", "nobody") == []

    shown = command.json("jobs", "show", running, env=tokyo)
    assert shown.pop("history") == []
    assert shown == listed[1]
    text = command("jobs", "show", waiting).stdout
    assert re.search(r"^last_error +it\\x1b\[31m\n +\| failed$", text, re.MULTILINE)

    text = command("jobs", "list").stdout
    assert len(text.splitlines()) == 3
    assert max(map(len, text.splitlines())) <= 80
    assert command("jobs", "list", "--kind", "nobody").stdout == "no such jobs\n"


def test_a_finished_job_is_shown_from_its_history(database, command):
    job = add_job(database, "test.ok", payload='{"x": 1}')
    command("run", "--until-empty", "--metrics", "off", "--handlers", "sample_jobs:registry")
    shown = command.json("jobs", "show", job)
    assert (shown["id"], shown["kind"], shown["outcome"], shown["payload"]) == (job, "test.ok", "ok", {"x": 1})
    (ended,) = shown["history"]
    assert ended["outcome"] == "ok"
    assert moment(ended["leased_at"]) <= moment(ended["finished_at"])
    assert "ok (attempt 1) by" in command("jobs", "show", job).stdout


PASTED = [
    '{"a": "it\'s \\"größe\\" $(x) `y` !z \\\\ 🚀", "b": "\\n\\t\\u007f\\u200b\\u202e\\u2028"}',
    '{"e": 1e400, "s": 1e-400, "i": 123456789012345678901234567890, "f": 0.1000000000000000055511151231257827,'
    f' "z": -0, "y": -0.0, "m": 1.10, "d": 1, "d": 2, "t": true, "n": null, "digits": {"9" * 4300},'
    f' "deep": {"[" * 800}{"]" * 800}, "nothing": {{}}}}',
]


@pytest.mark.parametrize("letters", ["utf-8", "latin-1", "ascii"])
def test_the_payload_of_a_shown_job_can_be_pasted_into_enqueue(database, command, letters):
    """In each encoding of the terminal, and from the JSON as well: every letter and every digit comes back."""
    jobs = [database.value("INSERT INTO jobs (kind, payload) VALUES ('k', %s) RETURNING id", each) for each in PASTED]
    env = {"PYTHONIOENCODING": letters}
    again = []
    for job in jobs:
        [word] = re.findall(r"^payload +(.*)$", command("jobs", "show", job, env=env).stdout, re.MULTILINE)
        [text] = subprocess.run(
            ["bash", "-c", f"printf '%s\\n' {word}"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        again.append(command.json("enqueue", "k", text)["id"])
        shown = command("jobs", "show", job, "--json", env=env).stdout
        assert isinstance(json.loads(shown)["payload"], dict)
        [text] = re.findall(r'^  "payload": (.*?),?$', shown, re.MULTILINE)
        again.append(command.json("enqueue", "k", "-", input=text)["id"])
    stored = "SELECT payload::text FROM jobs WHERE id = ANY (%s) ORDER BY id"
    assert database.query(stored, again) == [row for row in database.query(stored, jobs) for _ in range(2)]


def test_a_payload_that_was_cut_is_not_shown_as_a_word_to_paste(database, command):
    job = add_job(database, payload=json.dumps({"a": "x" * 1_100_000}))
    text = command("jobs", "show", job).stdout
    assert re.search(r"^payload +{\"a\": \"x+$", text, re.MULTILINE)
    assert re.search(r"^payload_cut +its text has 1100009 bytes", text, re.MULTILINE)


def test_no_value_of_a_job_is_shown_as_python_writes_it(database, command):
    text = command("jobs", "show", add_job(database, payload='{"a": [true, null]}')).stdout
    assert re.search(r"^alone +false$", text, re.MULTILINE)
    assert re.search(r"^payload +'{\"a\": \[true, null\]}'$", text, re.MULTILINE)
    assert not re.search(r"\b(True|False|None)\b", text)


@pytest.mark.parametrize("payload", ['{"a": 1e4300}', '{"a": 1e-4301}', '{"a": 1E9999999999999999999}'])
def test_enqueue_refuses_a_number_that_no_worker_could_read(database, command, payload):
    assert "a number has" in command.refused("enqueue", "k", payload, code=2)
    assert database.value("SELECT count(*) FROM jobs") == 0


@pytest.mark.parametrize("job", ["1", "0", "9223372036854775807"])
def test_a_missing_job_is_reported_in_one_line(database, command, job):
    database.query("DELETE FROM jobs")
    for step in ("show", "release", "retry", "discard", "complete"):
        assert f"no job {job}" in command.refused("jobs", step, job, code=1)


def test_a_number_that_no_job_can_have_is_a_usage_error(command):
    for step in ("show", "release", "retry", "discard"):
        assert "not in the range" in command.refused("jobs", step, str(2**63), code=2)


def test_a_job_whose_worker_lives_is_released_only_if_a_second_run_is_accepted_with_a_reason(database, command):
    job = add_job(database, state="processing", worker=add_worker(database))
    assert "alive: web1:1 beat" in command.refused("jobs", "release", job, code=5)
    assert "--reason" in command.refused("jobs", "release", job, "--accept-second-run", code=5)
    assert state(database, job) == ("processing", 1)
    assert audit(database) == []
    env = {"SUDO_USER": "alice"}
    done = command("jobs", "release", job, "--accept-second-run", "--reason", "it hangs", env=env)
    number = database.value("SELECT id FROM audit")
    assert done.stdout == f"job {job} released\naudit: {number}; this has no undo\n"
    assert state(database, job) == ("queued", 0)
    assert audit(database) == [("release", f"job {job}", "it hangs", f"alice@{HOST}", [job])]
    assert "it is queued, and not running" in command.refused("jobs", "release", job, code=5)


@pytest.mark.parametrize("owner", ["silent", "gone"])
def test_a_job_of_a_silent_or_missing_worker_is_released(database, command, owner):
    worker = add_worker(database, silent=True) if owner == "silent" else uuid4()
    job = add_job(database, state="processing", worker=worker)
    told = command.json("jobs", "release", job)
    assert (told["action"], told["changed"], told["refused"], told["undo"]) == ("release", 1, {}, None)
    assert state(database, job) == ("queued", 0)


def test_a_command_for_several_jobs_reports_each(database, command):
    worker = add_worker(database)
    first, second = (add_job(database, state="processing", worker=uuid4()) for _ in range(2))
    held = add_job(database, state="processing", worker=worker)
    missing = held + 1000
    done = command("jobs", "release", first, second, held, missing, code=5)
    assert done.stdout.startswith(f"job {first} released\njob {second} released\naudit: ")
    assert f"job {held} is not released: its worker is alive: web1:1 beat" in done.stderr
    assert f"no job {missing}" in done.stderr
    assert [state(database, job)[0] for job in (first, second, held)] == ["queued", "queued", "processing"]


def test_failed_and_postponed_jobs_are_retried(database, command):
    failed = add_job(database, state="failed", attempts=10, crashes=2)
    other = add_job(database, "other", state="failed", attempts=10)
    postponed = add_job(database, attempts=3, run_at=datetime.now(UTC) + timedelta(days=1))
    env = {"SUDO_USER": "alice"}
    told = command("jobs", "retry", postponed, env=env).stdout
    assert re.fullmatch(rf"job {postponed} retried\nundo: shithubd-worker audit undo \d+\n", told)
    command("jobs", "retry", "--kind", "k", "--reason", "receiver is back", "--yes", env=env)
    rows = "SELECT state, attempts, crashes, run_at <= now() FROM jobs WHERE id = %s"
    assert database.query(rows, failed) == [("queued", 0, 0, True)]
    assert database.query(rows, postponed) == [("queued", 3, 0, True)]
    assert state(database, other) == ("failed", 10)
    assert audit(database) == [
        ("retry", f"job {postponed}", None, f"alice@{HOST}", [postponed]),
        ("retry", f"job {failed}", "receiver is back", f"alice@{HOST}", [failed]),
    ]


def test_jobs_are_discarded_into_the_history(database, command):
    jobs = [add_job(database, state=name, last_error="no") for name in ("failed", "queued", "paused")]
    command("jobs", "discard", *jobs, "--reason", "repository was deleted", env={"SUDO_USER": "alice"})
    assert database.value("SELECT count(*) FROM jobs") == 0
    assert audit(database) == [("discard", "jobs", "repository was deleted", f"alice@{HOST}", jobs)]
    told = command.json("jobs", "show", jobs[0])
    assert (told["outcome"], told["error"], told["retention"]) == ("discarded", "no", "90d")


@pytest.mark.parametrize(("step", "says"), [("retry", "not retried"), ("discard", "not discarded")])
def test_a_running_job_cannot_be_retried_or_discarded(database, command, step, says):
    job = add_job(database, state="processing", worker=uuid4())
    assert f"{says}: it is running" in command.refused("jobs", step, job, code=5)
    assert state(database, job) == ("processing", 1)
    assert audit(database) == []


def test_a_selection_that_means_no_job_changes_nothing(command):
    assert command("jobs", "retry", "--kind", "k").stdout == "no such jobs\n"
    assert command.json("jobs", "discard", "--kind", "k")["changed"] == 0
