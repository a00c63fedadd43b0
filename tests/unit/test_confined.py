"""A confined program opens only what it is given, and uses no more memory and time than it is given."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import enumerate as threads

import pytest

from shithubd_worker.attempt.children import Children
from shithubd_worker.handlers import confined
from shithubd_worker.handlers.confined import CHANGE, EXECUTE, READ, READ_WRITE_FILE, Confined, Rule

ENOUGH = 1024 * 1024 * 1024
SYSTEM = [
    *(Rule(Path(path), READ | EXECUTE) for path in ("/usr", "/bin", "/lib", "/lib64") if Path(path).exists()),
    Rule(Path(sys.base_prefix), READ | EXECUTE),
    Rule(Path(os.devnull), READ_WRITE_FILE),
]
needs_landlock = pytest.mark.skipif(not confined.landlock(), reason="this kernel has no Landlock")


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    path = tmp_path / "inside"
    path.mkdir()
    return path


def starter(*command: str, stdout: int = subprocess.DEVNULL) -> Callable[..., subprocess.Popen[bytes]]:
    return partial(Children().popen, command, stdin=subprocess.DEVNULL, stdout=stdout)


def python(text: str, *rules: Rule, seconds: float = 60.0, memory: int = ENOUGH) -> tuple[int, str, str]:
    """How a confined Python ends, what it prints, and the end of its complaints."""
    start = starter(sys.executable, "-I", "-S", "-c", text, stdout=subprocess.PIPE)
    with Confined(start, [*SYSTEM, *rules], seconds=seconds, memory=memory) as program:
        child = program.started()
        assert child.stdout
        said = child.stdout.read().decode()
        child.stdout.close()
    return child.wait(), said, program.complaints.decode().strip().rpartition("\n")[2]


@needs_landlock
@pytest.mark.parametrize(
    "attempt",
    [
        "open('{outside}/file').read()",
        "open('{outside}/file', 'a')",
        "open('{outside}/new', 'w')",
        "open('{inside}/link').read()",
        "open('{inside}/link', 'a')",
        "__import__('os').listdir('{outside}')",
        "__import__('os').unlink('{outside}/file')",
        "__import__('os').rename('{inside}/file', '{outside}/file')",
        "__import__('os').rename('{outside}/file', '{inside}/file')",
        "__import__('os').link('{outside}/file', '{inside}/another')",
        "__import__('os').mkdir('{outside}/directory')",
        "__import__('os').symlink('x', '{inside}/symbolic')",
        "__import__('os').mkfifo('{inside}/pipe')",
        "__import__('os').execv('{inside}/program', ['program'])",
        "__import__('socket').create_connection(('127.0.0.1', {port}))",
    ],
)
def test_a_confined_program_opens_nothing_that_it_was_not_given(inside, tmp_path, attempt):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("outside")
    (inside / "file").write_text("inside")
    (inside / "link").symlink_to(outside / "file")
    (inside / "program").write_text("#!/bin/sh\n")
    (inside / "program").chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        text = attempt.format(outside=outside, inside=inside, port=listener.getsockname()[1])
        status, _, complaint = python(text, Rule(inside, CHANGE))
    assert status == 1
    assert complaint.startswith(("PermissionError", "OSError: [Errno 18]"))
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert (outside / "file").read_text() == "outside"


@needs_landlock
def test_a_confined_program_reads_and_changes_what_it_was_given(inside):
    text = f"import os; os.chdir('{inside}'); open('a', 'w'); os.rename('a', 'b'); print(*os.listdir('.'))"
    assert python(text, Rule(inside, CHANGE)) == (0, "b\n", "")
    assert python(text, Rule(inside, READ))[0] == 1


@needs_landlock
def test_a_rule_beneath_a_root_follows_no_link(inside, tmp_path):
    (tmp_path / "real").mkdir()
    (inside / "link").symlink_to(tmp_path / "real")
    start = starter("true")
    rule = Rule(inside / "link", READ, beneath=inside)
    with pytest.raises(OSError, match="Not a directory"), Confined(start, [rule], seconds=60, memory=ENOUGH) as program:
        program.started()


@needs_landlock
def test_the_worker_itself_stays_free(inside, tmp_path):
    python("pass", Rule(inside, READ))
    (tmp_path / "new").write_text("x")
    assert not [thread for thread in threads() if thread.name == "keeper"]


def test_the_limit_of_memory_also_holds_for_the_programs_that_it_starts():
    child = "[sys.executable, '-I', '-S', '-c', 'bytearray(300_000_000)']"
    text = f"import subprocess, sys; sys.exit(subprocess.call({child}))"
    assert python(text, memory=ENOUGH)[0] == 0
    status, _, complaint = python(text, memory=200_000_000)
    assert (status, complaint) == (1, "MemoryError")


def test_endless_complaints_are_read_and_their_end_is_kept():
    status, _, last = python("import sys; [sys.stderr.write('x' * 99 + '\\n') for _ in range(50_000)]; sys.exit('why')")
    assert (status, last) == (1, "why")


def test_a_program_that_ignores_sigterm_is_killed_when_its_time_is_over(monkeypatch):
    monkeypatch.setattr(confined, "OVERTIME_SECONDS", 0.1)
    text = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"
    began = time.monotonic()
    start = starter(sys.executable, "-I", "-S", "-c", text)
    with Confined(start, SYSTEM, seconds=1.0, memory=ENOUGH) as program:
        child = program.started()
    assert (child.wait(), program.overran) in ((-9, True), (-15, True))  # -15: it had not yet begun to ignore SIGTERM
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("has_started", [True, False])
def test_a_block_that_raises_ends_the_program(has_started):
    def interrupted(program: Confined) -> None:
        with program:
            if has_started:
                program.started()
            raise KeyboardInterrupt

    program = Confined(starter("sleep", "1000"), SYSTEM, seconds=1000, memory=ENOUGH)
    with pytest.raises(KeyboardInterrupt):
        interrupted(program)
    assert (program.started().wait(), program.overran) == (-15, False)
