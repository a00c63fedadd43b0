"""doctor --bundle: what is in it, what never is, and what happens to the file."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
from datetime import UTC, datetime

import nursery
import psycopg
import pytest
from commands import Command
from conftest import PATIENCE
from rows import add_job, add_worker

from shithubd_worker.doctor import bundle, redaction
from shithubd_worker.errors import EXIT_CHECK_SAYS_NO, EXIT_DATABASE, EXIT_ERROR, EXIT_REFUSED, EXIT_USAGE

CANARY = "canary-7f3a"


def opened(path):
    """The files in a bundle by their names, without the directory, whose name is the bundle's."""
    with tarfile.open(path) as tar:
        members = tar.getmembers()
        assert {each.name.partition("/")[0] for each in members} == {path.name.removesuffix(".tar.gz")}
        assert {each.mode for each in members} == {0o600}
        files = {each.name.partition("/")[2]: tar.extractfile(each) for each in members}
        return {name: file.read().decode() for name, file in files.items() if file is not None}


@pytest.fixture(name="path")
def path_of_bundle(tmp_path):
    return tmp_path / "report.tar.gz"


def with_canaries(database):
    """Canaries wherever people and programs can put a text. Returns the environment of the command."""
    worker = add_worker(database, "web1", kinds=["kind-of-job"])
    job = add_job(database, "kind-of-job", payload=json.dumps({"token": f"{CANARY}-payload"}), attempts=1)
    database.query("UPDATE jobs SET last_error = %s WHERE id = %s", f"{CANARY}-error", job)
    leased = add_job(database, "kind-of-job", "processing", worker=worker, payload=json.dumps({"x": CANARY}))
    database.query("UPDATE beats SET job_id = %s, job_kind = 'kind-of-job', state = 'running'", leased)
    add_job(database, "kind-of-job", "failed", last_error=f"{CANARY}-failed")
    database.query(
        "INSERT INTO job_history (id, kind, outcome, attempts, finished_at, error, payload, retention)"
        " VALUES (999, 'kind-of-job', 'failed', 1, now(), %s, %s, '7d')",
        f"{CANARY}-past",
        json.dumps({"x": CANARY}),
    )
    database.query("SELECT hold_v1('kind', 'kind-of-job', %s, NULL, %s)", f"{CANARY}-reason", f"{CANARY}-actor")
    database.query("UPDATE holds SET created = '2020-01-01'")
    database.query(f"ALTER DATABASE \"{database.name}\" SET app.secret = '{CANARY}-setting'")
    database.query(f"ALTER DATABASE \"{database.name}\" SET search_path = '{CANARY}-path', public")
    database.query(f"COMMENT ON TABLE jobs IS '{CANARY}-comment'")
    return {
        "SHITHUBD_WORKER_DATABASE_URL": psycopg.conninfo.make_conninfo(database.url, password=f"{CANARY}-url"),
        "PGPASSWORD": f"{CANARY}-variable",
        "PGSERVICEFILE": f"/{CANARY}/services",
        "SHITHUBD_WORKER_AUDIT_WEBHOOK_FILE": f"/{CANARY}/webhook",
        "SHITHUBD_WORKER_HANDLERS": f"{CANARY}:registry",
        "SHITHUBD_WORKER_POLL_INTERVAL": "7",
        "SHITHUBD_WORKER_GRACE": f"{CANARY}-no-number",
        "SHITHUBD_WORKER_LOG_LEVEL": f"{CANARY}-no-level",
        "MY_SECRET": f"{CANARY}-secret",
    }


def test_no_canary_is_in_it_and_the_manifest_names_each_file(any_database, path):
    environment = with_canaries(any_database)
    said = Command(any_database)("doctor", "--bundle", path, code=EXIT_CHECK_SAYS_NO, env=environment)
    assert said.stdout.splitlines()[-1] == f"bundle: {path}"
    files = opened(path)
    assert [name for name, text in files.items() if CANARY in text] == []
    manifest = files["MANIFEST.txt"]
    inside, left_out = manifest.partition("Inside:")[2].split("Left out:")
    assert {line.split()[0] for line in inside.splitlines() if line} == {*files} - {"MANIFEST.txt"}
    assert "units.json" in left_out or "units.json" in inside
    assert "kinds of jobs" in manifest
    [status] = json.loads(files["status.json"])
    assert {each["kind"]: each["failed"] for each in status["answer"]["kinds"]} == {"kind-of-job": 1}
    assert (
        status["answer"]["holds"][0] | {"reason": "(left out)", "actor": "(left out)"} == status["answer"]["holds"][0]
    )
    assert status["answer"]["leases"][0]["leased_by"] == "web1:1"
    settings = json.loads(files["settings.json"])["this command"]
    assert settings["SHITHUBD_WORKER_POLL_INTERVAL"] == 7
    assert settings["SHITHUBD_WORKER_GRACE"] == settings["PGPASSWORD"] == "set"
    assert "MY_SECRET" not in settings
    findings = {each["name"]: each for each in json.loads(files["findings.json"])["findings"]}
    assert findings["forgotten-hold"]["evidence"]["target"] == "kind-of-job"
    assert {"jobs", "beats"} <= {each["table"] for each in json.loads(files["tables.json"])}
    datetime.fromisoformat(json.loads(files["server.json"])[0]["started_at"])


def test_what_a_replaced_function_says_is_not_in_it(database, path):
    database.query(
        "CREATE OR REPLACE FUNCTION workers_v1() RETURNS SETOF jsonb LANGUAGE plpgsql"
        f" AS $$ BEGIN RAISE EXCEPTION '{CANARY}'; END $$"
    )
    Command(database)("doctor", "function-drift", "--bundle", path, code=EXIT_CHECK_SAYS_NO)
    files = opened(path)
    assert [name for name, text in files.items() if CANARY in text] == []
    left_out = files["MANIFEST.txt"].partition("Left out:")[2]
    assert "the database refuses it: RaiseException (P0001)" in left_out
    assert {"status.json", "workers.json"} <= {line.split()[0] for line in left_out.splitlines() if line}
    [finding] = json.loads(files["findings.json"])["findings"]
    assert finding["evidence"] == {"changed": ["workers_v1"]}


def test_only_its_maker_can_read_it_and_no_file_is_replaced(database, path, tmp_path):
    command = Command(database)
    command("doctor", "history-days", "--bundle", path, cwd=tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    assert "exists already" in command.refused("doctor", "--bundle", path, code=EXIT_REFUSED)
    assert path.read_bytes() == before
    victim, link = tmp_path / "victim", tmp_path / "link.tar.gz"
    link.symlink_to(victim)
    assert "exists already" in command.refused("doctor", "--bundle", link, code=EXIT_REFUSED)
    assert not victim.exists()
    assert "a bundle is a file" in command.refused("doctor", "--bundle", "-", code=EXIT_USAGE)
    missing = tmp_path / "none" / "x.tar.gz"
    assert "No such file or directory" in command.refused("doctor", "--bundle", missing, code=EXIT_ERROR)


def test_without_a_name_it_has_that_of_the_host_and_the_time(database, tmp_path):
    told = Command(database).json("doctor", "history-days", "--bundle", cwd=tmp_path)
    [made] = tmp_path.glob("shithubd-doctor-*.tar.gz")
    assert told["bundle"] == made.name
    when = datetime.strptime(made.name.removesuffix(".tar.gz")[-16:], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - when).total_seconds()) < PATIENCE
    assert "findings.json" in opened(made)


@pytest.mark.parametrize("most", [0, 1000])
def test_a_full_disk_is_one_line_and_leaves_no_file(database, path, most):
    """The limit on a file's size refuses a write as a full disk does, with another word."""
    first = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))"
    with open(os.devnull, "rb") as nothing:
        reader, writer = os.pipe()  # the limit is for all files
        with os.fdopen(reader) as told, os.fdopen(writer, "wb") as errors:
            process = nursery.Process(
                ["doctor", "history-days", "--bundle", str(path)],
                env=database.environment(),
                files=(nothing, errors, errors),
                first=first,
            )
            errors.close()
            assert process.wait(PATIENCE) == EXIT_ERROR
            said = told.read()
    assert said == f"shithubd-worker: {path} can't be written: File too large; name a file on another disk\n"
    assert not path.exists()


def test_without_a_database_it_has_the_host_and_says_what_is_missing(database, path):
    url = "postgresql://nobody@127.0.0.1:1/none"
    done = Command(database)("doctor", "--bundle", path, "--database-url", url, code=EXIT_DATABASE)
    assert len(done.stderr.splitlines()) == 1
    files = opened(path)
    assert {"versions.json", "settings.json", "findings.json"} <= {*files}
    assert "tables.json" not in files
    left_out = files["MANIFEST.txt"].partition("Left out:")[2]
    assert left_out.count("the database could not be asked") == 9


def test_a_password_that_is_taken_for_a_host_is_not_in_it(database, path):
    """The @ in this password should be %40."""
    url = f"postgresql://nobody:secret@{CANARY}@127.0.0.1:1/none"
    done = Command(database)("doctor", "--bundle", path, "--database-url", url, code=EXIT_DATABASE)
    assert CANARY in done.stderr  # only its user sees that
    files = opened(path)
    assert [name for name, text in files.items() if CANARY in text] == []
    assert {each["why"] for each in json.loads(files["findings.json"])["unchecked"]} >= {"DatabaseUnavailable"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_no_half_file(path, number):
    before = signal.getsignal(number)

    def write():
        with bundle.opened(path) as file:
            file.write(b"half")
            signal.raise_signal(number)

    with pytest.raises((SystemExit, KeyboardInterrupt)):
        write()
    assert not path.exists()
    assert signal.getsignal(number) is before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_who_became_another_user_leaves_an_empty_file_after_an_error(tmp_path):
    path = tmp_path / "report.tar.gz"
    code = (
        "import os, pathlib, sys\n"
        "from shithubd_worker.doctor import bundle\n"
        "with bundle.opened(pathlib.Path(sys.argv[1])) as file:\n"
        "    os.setresuid(65534, 65534, 65534)\n"
        "    file.write(b'half')\n"
        "    file.flush()\n"
        "    raise KeyboardInterrupt\n"
    )
    tmp_path.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=False)
    assert b"KeyboardInterrupt" in done.stderr
    assert path.stat().st_size == 0


def test_a_schema_that_is_not_there_leaves_out_what_needs_it(database, path):
    database.query("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    Command(database)("doctor", "--bundle", path, code=EXIT_CHECK_SAYS_NO)
    files = opened(path)
    assert json.loads(files["schema.json"])["database"]["schema_version"] == 0
    assert "server.json" in files
    assert "status.json" not in files


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (f"job 7 kind ok after 0.010 s (attempt 1): {CANARY}", "job %d %s %s after %.3f s (attempt %d)%s"),
        (f"{CANARY} of a handler", "(left out)"),
        (f"{CANARY}\nTraceback (most recent call last):", "(left out)"),
        ("", "(left out)"),
    ],
)
def test_a_line_of_the_journal_shows_our_words_and_not_what_was_filled_in(message, shown):
    assert redaction.template(message) == shown


def test_no_line_of_ours_is_only_what_is_filled_in():
    """Such a line would stand for every message, and hide which of ours it was."""
    assert [text for text, pattern in redaction._templates() if pattern.fullmatch("zzz")] == []
