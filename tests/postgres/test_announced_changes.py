"""A command that changes something posts a line to a chat, after its commit. The command never waits for that."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import threading
import urllib.error
from pathlib import Path

import click
import nursery
import pytest
from command_tree import leaves
from commands import HERE, HOST, emptied_database, exact_command, one_database  # noqa: F401 (fixtures)
from conftest import PATIENCE, eventually
from helpers_webhooks import serve, speaker
from rows import add_job, add_worker

from shithubd_worker.cli import announce, needs
from shithubd_worker.cli.common import Shared
from shithubd_worker.errors import ConfigError
from shithubd_worker.host import apart

WEBHOOK = "SHITHUBD_WORKER_AUDIT_WEBHOOK_FILE"
SECRET = "T0000-very-secret"
WHO = re.escape(f"@{HOST}: ")


@pytest.fixture
def receiver():
    yield from serve()


@pytest.fixture
def webhook(tmp_path):
    """Write a URL to a file. Returns the environment of a command that posts there."""

    def write(url):
        file = tmp_path / "audit-webhook"
        file.write_text(f"{url}\n")
        return {WEBHOOK: str(file)}

    return write


def url(port):
    return f"http://127.0.0.1:{port}/{SECRET}"


def texts(receiver):
    """What was posted: the member `text`, and there is no other."""
    posts = [json.loads(body) for _, _, body in receiver.got]
    assert all(post.keys() == {"text"} for post in posts)
    return [post["text"] for post in posts]


def test_each_command_that_changes_something_posts_one_line(database, command, receiver, webhook):
    environment = webhook(url(receiver.port))
    dead = add_worker(database, silent=True)
    waits, failed = add_job(database), add_job(database, state="failed")
    leased = add_job(database, state="processing", worker=dead)
    third, planned, doomed = add_job(database), add_job(database), add_job(database, state="failed")
    plan = database.value(
        "SELECT plan FROM plan_jobs_v1('reschedule', ARRAY[%s::bigint], p_with => '{\"priority\": 3}')", planned
    )
    expired = add_job(database, state="processing", leased_by="a:1")
    database.query("UPDATE jobs SET lease_expires_at = now() - interval '1 hour' WHERE id = %s", expired)
    unlocked = add_job(database, state="processing", leased_by="gone:7")
    index = "INSERT INTO search_repos (repo, ref, commit, files, generation) VALUES ('ada/old.git', 'm', 'c', 0, 0)"
    database.query(index)
    given = {
        ("pause-kind", "k", "--until", "2h", "--reason", "a & b <!channel> @here [x](https://y)"): (
            r"pause kind k until 20\d\d-\d\d-\d\d \d\d:\d\d UTC:"
            r" a &amp; b &lt;!channel&gt; \uff20here \[x\] \(https://y\)"
        ),
        ("resume-kind", "k", "--rate", "5/s", "--until", "2h"): (
            r"ramp kind k \(at most 5/s\) until 20\d\d-\d\d-\d\d \d\d:\d\d UTC"
        ),
        ("resume-kind", "k"): "resume kind k",
        ("drain",): "drain fleet",
        ("resume", "--reason", "all\nis\x1b[31m well"): r"resume fleet: all\\nis\\x1b\[31m well",
        ("jobs", "release", leased, "--accept-second-run", "--reason", "r"): f"release job {leased}: r",
        ("jobs", "retry", failed): f"retry job {failed}",
        ("jobs", "discard", waits, "--reason", "r"): f"discard job {waits}: r",
        ("search", "forget", "ada/old.git"): "forget-index repository ada/old.git",
        ("jobs", "fail", third, "--message", "no", "--reason", "r"): f"fail job {third}: r",
        ("jobs", "reschedule", third, "--priority", "7"): f"reschedule job {third}",
        ("jobs", "complete", third, "--reason", "r"): f"complete job {third}: r",
        ("apply", plan, "--reason", "r"): f"reschedule job {planned}: r",
        ("workers", "sweep", "--reason", "r"): f"sweep job {expired}: r",
        ("workers", "unlock", "gone:7", "--reason", "r"): f"unlock job {unlocked}: r",
        ("cleanup", "DELETE_PERMAFAILED_JOBS", "--yes", "--reason", "r"): f"discard job {doomed}: r",
    }
    for number, (words, line) in enumerate(given.items(), 1):
        command(*words, env=environment)
        eventually(lambda number=number: len(receiver.got) == number, str(words))
        row = database.value("SELECT max(id) FROM audit")
        assert re.fullmatch(rf"\w+{WHO}{line} \(audit {row}\)", texts(receiver)[-1]), words
    discarded = row  # the cleanup's
    command("audit", "undo", discarded, env=environment)
    eventually(lambda: len(receiver.got) == number + 1)
    assert re.fullmatch(rf"\w+{WHO}undo of {discarded}: job {doomed} \(audit {discarded + 1}\)", texts(receiver)[-1])
    assert {request.get("content-type") for _, request, _ in receiver.got} == {"application/json"}


def test_what_changes_nothing_posts_nothing_and_others_changes_are_not_posted(database, command, receiver, webhook):
    environment = webhook(url(receiver.port))
    job = add_job(database)
    command("resume", env=environment)
    command("jobs", "discard", job + 1, code=1, env=environment)
    command("status", env=environment)
    enqueued = command("enqueue", "k", env=webhook("not a url"))  # it writes no row, so it doesn't read the URL
    assert enqueued.stderr == ""
    command("drain", "--host", "web1", "--force", "--reason", "by another", env=webhook(""))
    database.query("SELECT discard_jobs(ARRAY[%s]::bigint[], reason := 'in psql')", job)
    command("resume", "--host", "web1", "--reason", "posted", env=webhook(url(receiver.port)))
    eventually(lambda: receiver.got)
    (line,) = texts(receiver)
    assert re.fullmatch(rf"\w+{WHO}resume host web1: posted \(audit \d+\)", line)


def test_the_command_ends_while_the_receiver_still_holds_its_answer(database, command, webhook):
    """The receiver answers only after the command has ended. Meanwhile no process shows the URL."""
    asked, may_answer = threading.Event(), threading.Event()

    def hold(line):
        asked.set()
        assert may_answer.wait(PATIENCE)
        line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    plain = command("drain", "--json")
    command("resume")
    with speaker(hold) as port:
        done = command("drain", "--json", env=webhook(url(port)))
        assert asked.wait(PATIENCE)
        assert not may_answer.is_set()
        assert [each for each in Path("/proc").glob("[0-9]*/cmdline") if SECRET in shown(each)] == []
        assert [each for each in Path("/proc").glob("[0-9]*/environ") if SECRET in shown(each)] == []
        may_answer.set()
    assert (done.returncode, done.stderr) == (plain.returncode, plain.stderr)
    assert json.loads(done.stdout).keys() == json.loads(plain.stdout).keys()


def shown(path):
    """The text of a file of /proc; '' if its process has ended."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def test_a_wait_that_takes_long_does_not_delay_the_line(database, command, receiver, webhook):
    """The command waits for the job until it is killed. Its line has come before."""
    add_job(database, state="processing", worker=add_worker(database))
    environment = database.environment() | webhook(url(receiver.port))
    with Path(os.devnull).open("r+b") as null:
        waits = nursery.Process(["drain", "--wait"], env=environment, files=[null] * 3)
        eventually(lambda: receiver.got)
        assert waits.poll() is None
        os.kill(waits.pid, signal.SIGKILL)
        waits.wait()
    assert "drain fleet" in texts(receiver)[0]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)
def test_a_command_that_is_killed_after_its_commit_has_posted_its_line_once(database, receiver, webhook, how):
    """A full pipe stops the command at its first word, which it says after the commit."""
    job = add_job(database)
    reads, writes = os.pipe()
    os.write(writes, b"-" * fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 4096))
    words = ["jobs", "discard", str(job), "--reason", "r"]
    environment = database.environment() | webhook(url(receiver.port))
    with Path(os.devnull).open("r+b") as null, os.fdopen(writes, "wb", closefd=False) as full:
        process = nursery.Process(words, env=environment, files=[null, full, null], session=True)
    os.close(writes)
    eventually(lambda: database.query("SELECT FROM audit"), "the commit")
    assert process.poll() is None
    os.kill(process.pid, how)
    if how is signal.SIGINT:  # the command says what it has done, and ends
        os.read(reads, 4096)
    process.wait()
    os.close(reads)
    eventually(lambda: receiver.got)
    (line,) = texts(receiver)
    assert f"discard job {job}: r" in line


@pytest.mark.parametrize("fault", ["refuses", "hangs up", "500", "redirects", "no such name", "another protocol"])
def test_no_fault_of_the_receiver_changes_what_the_command_says(database, command, receiver, webhook, fault):
    def fails(line):
        line.sendall({"hangs up": b"", "another protocol": b"220 mail.example ESMTP\r\n"}.get(fault, b""))
        came.set()

    came = threading.Event()
    receiver.status = 302 if fault == "redirects" else 500
    with speaker(fails) as port:
        receiver.headers = {"Location": url(port)}
        wanted = {"refuses": url(1), "500": url(receiver.port), "redirects": url(receiver.port)}
        wanted |= {"no such name": f"https://{'x' * 64}.example/{SECRET}"}
        job = [add_job(database) for _ in range(2)]
        plain = command("jobs", "discard", job[0], "--reason", "r")
        done = command("jobs", "discard", job[1], "--reason", "r", env=webhook(wanted.get(fault, url(port))))
        if fault in ("500", "redirects"):
            eventually(lambda: receiver.got)
            assert not came.is_set(), "the redirect leads nowhere"
        elif fault not in wanted:
            assert came.wait(PATIENCE)
    told = plain.stdout.replace(str(job[0]), str(job[1]))
    assert re.sub(r"\d+", "N", done.stdout) == re.sub(r"\d+", "N", told)
    assert (done.returncode, done.stderr) == (plain.returncode, plain.stderr) == (0, "")


FILES = {
    "": "is empty",
    SECRET: "must have a URL",
    f"ftp://h/{SECRET}": "must begin with https://",
    f"http://example.org/{SECRET}": "http:// goes only to this host itself",
    f"http://192.0.2.1/{SECRET}": "http:// goes only to this host itself",
    f"https:///{SECRET}": "must have a URL",
    f"https://user:{SECRET}@h/": "must have no user",
    f"https://h:x/{SECRET}": "must have a URL",
    f"https://h/{SECRET}\nhttps://h/": "must have one line",
    f"https://h/{SECRET} x": "without blanks",
    f"https://h/{SECRET}{'x' * 2000}": "is longer than 2000 characters",
    f"https://h/ü{SECRET}": "must have one line",
}


@pytest.mark.parametrize(("content", "fault"), FILES.items(), ids=FILES.values())
def test_a_url_that_cannot_work_is_refused_and_never_shown(webhook, content, fault):
    refused = ""
    try:
        announce.read_url(webhook(content)[WEBHOOK])
    except ConfigError as error:
        refused = str(error)
    assert refused.startswith(f"--audit-webhook-file ({WEBHOOK}): '")
    assert fault in refused
    assert SECRET not in refused


@pytest.mark.parametrize("good", ["https://h/x", "http://127.0.0.1:1/x", "http://[::1]/", "http://localhost:8065/x"])
def test_a_url_that_can_work_is_read_without_its_line_end(webhook, good):
    assert announce.read_url(webhook(good)[WEBHOOK]) == good


def test_a_wrong_url_costs_a_change_one_line_and_check_config_finds_it(command, webhook):
    environment = webhook(f"ftp://h/{SECRET}")
    done = command("drain", env=environment)
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"shithubd-worker: no line is posted: --audit-webhook-file ({WEBHOOK}): '")
    assert "undo: shithubd-worker resume" in done.stdout
    assert command("status", "--json", env=environment).stderr == "", "it posts nothing anyway"
    checked = command("check-config", "--handlers", "sample_jobs:registry", code=78, env=environment, cwd=HERE.parent)
    assert "must begin with https://" in checked.stderr
    assert SECRET not in said + checked.stderr + checked.stdout


@pytest.mark.parametrize("kind", ["missing", "directory", "not utf-8", "pipe"])
def test_a_file_that_cannot_be_read_costs_a_change_one_line(command, tmp_path, kind):
    file = tmp_path / "webhook"
    if kind == "directory":
        file.mkdir()
    elif kind == "not utf-8":
        file.write_bytes(b"\xff\xfe")
    elif kind == "pipe":
        os.mkfifo(file)
    done = command("--audit-webhook-file", file, "drain")
    (said,) = done.stderr.splitlines()
    assert f"'{file}' {'is empty' if kind == 'pipe' else 'can' + chr(39) + 't be read: '}" in said


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_a_line_for_this_host_never_goes_through_a_proxy(receiver, monkeypatch, name):
    asked = []
    with speaker(asked.append) as port:
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        announce.post(url(receiver.port), "x")
        assert (len(receiver.got), asked) == (1, [])


def test_a_proxy_reads_no_line_that_goes_elsewhere(monkeypatch):
    asked = []

    def refuses(line):
        line.sendall(b"HTTP/1.1 502 No\r\n\r\n")
        asked.append(line)

    with speaker(refuses) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        with pytest.raises(OSError, match="Tunnel connection failed: 502"):
            announce.post(f"https://hooks.example/{SECRET}", "x")
    assert len(asked) == 1


def test_a_receiver_that_answers_without_end_is_given_up_and_the_journal_is_told(
    database, webhook, tmp_path, monkeypatch
):
    told, forever = tmp_path / "told", threading.Event()

    def drips(line):
        line.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not forever.wait(0.1):
            line.sendall(b"x")

    monkeypatch.setattr(announce, "WHOLE_SECONDS", 1)
    monkeypatch.setattr("syslog.syslog", lambda _, text: told.write_text(text))
    with speaker(drips) as port:
        announcer = announce.Announcer(url(port))
        database.query(
            "SELECT set_config('shithubd_worker.command', %s, false), pause_kind_v1('k', 'r')", announcer.command
        )
        announcer.start(Shared(database.url, None))
        announcer.now()
        eventually(lambda: told.exists() and told.read_text() != "")
        forever.set()
    assert told.read_text() == "the line about a change was not posted: TimeoutError"


def test_a_line_goes_to_its_receiver_alone(receiver):
    receiver.status = 302
    elsewhere = []
    with speaker(elsewhere.append) as port:
        receiver.headers = {"Location": url(port)}
        error = None
        try:
            announce.post(url(receiver.port), "x")
        except OSError as refused:
            error = refused
        assert (len(receiver.got), elsewhere) == (1, [])
    assert isinstance(error, urllib.error.HTTPError)
    error.close()


def test_the_process_apart_is_in_a_session_of_its_own_and_inherits_nothing(tmp_path):
    told = tmp_path / "told"

    def tell(reads):
        links = {int(each.name): each for each in Path("/proc/self/fd").iterdir()}
        places = {number: str(each.readlink()) for number, each in links.items() if each.exists()}
        assert os.read(reads, 1) == b"", "the end of the pipe"
        facts = {"session": os.getsid(0), "others": [*{*places} - {0, 1, 2, reads}], "out": places[1]}
        told.with_suffix(".new").write_text(json.dumps(facts | {"parent": os.getppid()}))
        told.with_suffix(".new").rename(told)

    os.close(apart.start(tell))
    eventually(told.exists)
    facts = json.loads(told.read_text())
    assert facts["session"] != os.getsid(0)
    assert facts["parent"] != os.getpid()
    assert (facts["others"], facts["out"]) == ([], "/dev/null")


def test_every_command_that_asks_for_a_reason_is_one_that_posts():
    asking = {
        each.name
        for each in leaves()
        if any(isinstance(option, click.Option) and option.name == "reason" for option in each.command.params)
    }
    assert "drain" in asking
    assert {name for name in asking if not needs.changes(name.split())} == set()


def test_many_changes_of_one_command_are_cut():
    row = {"action": "undo", "target": "jobs", "job_ids": [1, 2, 3, 4], "jobs": 2500, "undoes": 7}
    rows = [{**row, "id": n, "actor": "ada", "reason": None, "detail": "{}"} for n in range(30)]
    *lines, last = announce.text(rows).splitlines()
    assert len(lines) == announce.MOST_LINES
    assert lines[0] == "ada: undo of 7: 2,500 jobs (1, 2, 3, ...) (audit 0)"
    assert last == "... and 10 more changes"
