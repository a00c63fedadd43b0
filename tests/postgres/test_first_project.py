"""`shithubd-worker init`: each file that it writes works at once, and it overwrites nothing. tests/systemd has the
commands of its README for a host; README.md of the product runs its first job in a fresh virtual environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import emptied_database, exact_command, one_database  # noqa: F401 (fixtures)
from page import Page

from shithubd_worker.cli.init import FILES
from shithubd_worker.host import shipped
from shithubd_worker.settings import env_file

NEXT = """\
  cd first && shithubd-worker migrate
  shithubd-worker enqueue hello '{"name": "Ada"}'
  shithubd-worker run --handlers jobs:registry --until-empty
"""


@pytest.fixture
def first(command, tmp_path):
    """What `init first` wrote."""
    done = command("init", "first", cwd=tmp_path)
    assert done.stdout.partition("\n")[2] == NEXT
    return tmp_path / "first"


def names(directory):
    return sorted(each.name for each in directory.iterdir())


def run(directory, *words):
    """A program of the virtual environment, which has nothing of the tests in its path."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=directory, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_writes_all_files_of_the_project_and_no_others(first):
    assert names(first) == sorted(FILES)
    assert sorted(FILES) == sorted(each.name for each in shipped.PROJECT.iterdir() if each.is_file())


def test_what_it_prints_next_runs_the_first_job(database, command, first):
    for line in NEXT.splitlines()[1:]:
        words = [word.strip("'") for word in line.split(maxsplit=3)[1:]]
        done = command(*(words if words[0] == "enqueue" else line.split()[1:]), cwd=first)
    assert "hello, Ada" in done.stderr
    assert database.query("SELECT kind, outcome FROM job_history") == [("hello", "ok")]


def test_a_run_tells_which_jobs_it_leaves_and_why(database, command, first):
    """A newcomer mistypes a kind, mends a handler before its retry is due, or forgets --handlers."""
    run = ("run", "--until-empty", "--metrics", "off")
    database.query("INSERT INTO jobs (kind) SELECT 'helo' FROM generate_series(1, 3)")
    for later in ("now() + interval '1 hour'", "'infinity'"):
        database.query(f"INSERT INTO jobs (kind, attempts, run_at) VALUES ('hello', 1, {later})")
    told = command(*run, "--handlers", "jobs:registry", cwd=first).stderr
    assert "3 job(s) of helo still wait: this worker has no handler for it" in told
    assert "2 job(s) of hello still wait: the next retry is in 60 min" in told
    told = command(*run, "--handlers", "forge", cwd=first).stderr
    assert "2 job(s) of hello still wait: this worker has no handler for it" in told
    database.query("UPDATE jobs SET attempts = 0, kind = 'k' || id")
    database.query("INSERT INTO jobs (kind, run_at) SELECT 'a' || n, 'infinity' FROM generate_series(1, 7) n")
    database.query("INSERT INTO jobs (kind, run_at) VALUES ('hello', now() + interval '1 hour')")
    told = command(*run, "--handlers", "jobs:registry", cwd=first).stderr
    assert "1 job(s) of hello still wait: they are held, or due later" in told
    assert told.count("still wait: this worker has no handler for it") == 9
    assert "jobs of 3 more kinds still wait: see shithubd-worker status" in told
    database.query("TRUNCATE jobs")
    assert "still wait" not in command(*run, "--handlers", "jobs:registry", cwd=first).stderr


def test_its_tests_pass(first):
    assert "3 passed" in run(first, "pytest", "-q", "-p", "no:cacheprovider", "--strict-config", "-W", "error")


def test_it_is_strictly_typed(first):
    assert "no issues found in 2 source files" in run(first, "mypy", "--strict", "--cache-dir=/dev/null", *PYTHON)


PYTHON = [each for each in FILES if each.endswith(".py")]


def test_its_file_of_variables_has_no_fault(command, first):
    read = env_file.read(first / "worker.env")
    assert read.left_out == []
    told = command.json("check-config", env=read.variables | {"PYTHONPATH": "/srv/jobs"}, cwd=first)
    assert [each["kind"] for each in told["kinds"]] == ["hello"]


def test_its_readme_names_its_files_and_is_a_page(first):
    page = Page(first / "README.md")
    assert [block.language for block in page.blocks] == ["sh", "sh"]
    assert all(name in page.text for name in FILES if name != "README.md")


def test_it_prints_the_same_for_programs(command, tmp_path):
    told = command.json("init", "first", cwd=tmp_path)
    assert told == {"files": [f"first/{name}" for name in FILES], "next": [each.strip() for each in NEXT.splitlines()]}


@pytest.mark.parametrize("there", FILES)
def test_it_overwrites_nothing(command, tmp_path, there):
    (tmp_path / there).write_text("mine")
    told = command.refused("init", ".", code=5, cwd=tmp_path)
    assert told == f"shithubd-worker: {there} is there already, and init overwrites nothing: name another DIR"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {there: "mine"}


def test_a_link_that_leads_nowhere_is_not_followed(command, tmp_path):
    (tmp_path / "jobs.py").symlink_to("elsewhere.py")
    assert "jobs.py is there already" in command.refused("init", ".", code=5, cwd=tmp_path)
    assert names(tmp_path) == ["jobs.py"]


@pytest.mark.parametrize(
    ("directory", "code", "says"),
    [
        ("", 2, "Invalid value for 'DIR': is empty"),
        ("file", 5, "file is there already"),
        ("file/first", 1, "file/first cannot be written: Not a directory"),
        ("/proc/first", 1, "/proc/first cannot be written: No such file or directory"),
        ("x" * 300, 1, "cannot be written: File name too long"),
    ],
)
def test_a_directory_that_cannot_be_made_is_one_line(command, tmp_path, directory, code, says):
    (tmp_path / "file").touch()
    assert says in command.refused("init", directory, code=code, cwd=tmp_path)


def test_other_files_are_left_alone_and_odd_names_can_be_pasted(command, tmp_path):
    for name, pasted in (("-x", "./-x"), ("a b", "'a b'"), ("deep/er", "deep/er")):
        done = command("init", "--", name, cwd=tmp_path)
        assert f"  cd {pasted} && shithubd-worker migrate\n" in done.stdout
        shutil.rmtree(tmp_path / Path(name).parts[0])
    (tmp_path / ".git").mkdir()
    assert "cd " not in command("init", ".", cwd=tmp_path).stdout
    assert names(tmp_path) == sorted([".git", *FILES])


def test_a_full_disk_leaves_no_half_of_a_project(command, tmp_path):
    """A directory that is a file system of one page is filled by the first file."""
    full = tmp_path / "full"
    full.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", full], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount")
    try:
        assert "cannot be written: No space left on device" in command.refused("init", full, code=1)
        assert names(full) == []
    finally:
        subprocess.run(["umount", full], check=True)
