"""What is read from a unit's command and files. tests/systemd/test_check_unit.py checks all of it on a real host."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shithubd_worker.errors import ConfigError
from shithubd_worker.host.units_asked import Unit, starts

FILE = """
ExecStart=in no section
[Service]
# Environment=A=1
Environment=A=2 \\
  ; in the middle
  B=3 \\
  "C=%n %i %I %j %%"
[Install]
WantedBy=x
[Service]
RuntimeDirectory=%N
ExecPaths=/usr
TimeoutStopSec=5
ProtectHome=yes
"""


def unit(*words: str, file: Path | None = None) -> Unit:
    start = ["/bin/x", list(words), False, 0, 0, 0, 0, 0, 0, 0]
    told = {"ExecStart": [start], "FragmentPath": str(file), "DropInPaths": [], "EnvironmentFiles": []}
    return Unit("forge-jobs@a-\\x2d.service", told)


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (["/usr/bin/shithubd-worker", "run"], ([], [])),
        (["/x/shithubd-worker", "--schema", "s", "run", "--kind", "k"], (["--schema", "s"], ["--kind", "k"])),
        (["/usr/bin/nice", "-n5", "/x/shithubd-worker", "run", "--grace=3"], ([], ["--grace=3"])),
        (["/usr/bin/python3", "-m", "shithubd_worker", "run"], ([], [])),
    ],
)
def test_the_flags_of_a_command_are_those_after_its_program(words, flags):
    assert unit(*words).flags == flags


@pytest.mark.parametrize("words", [[], ["/usr/bin/shithubd-worker", "history", "drop"]])
def test_a_command_without_run_starts_no_worker(words):
    with pytest.raises(ConfigError, match="starts no worker"):
        unit(*words).flags  # noqa: B018


def test_a_continued_line_counts_as_one_and_has_the_number_of_its_first(tmp_path):
    file = tmp_path / "x.service"
    file.write_text(FILE)
    found = [(line.place, line.key, line.value) for line in unit("run", file=file).lines()]
    assert found[0] == (f"{file}:5", "Environment", 'A=2  B=3  "C=%n %i %I %j %%"')
    assert [key for _, key, _ in found[1:]] == ["RuntimeDirectory", "ExecPaths", "TimeoutStopSec", "ProtectHome"]
    assert unit("run", file=file).where("--b", "B") == f"{file}:5"
    assert unit("run", file=file).where("--c", "XC") is None
    assert unit("run", "--b=1", file=file).where("--b", "B") is None  # no file has the line


def test_the_check_starts_in_the_units_sandbox_without_what_belongs_to_the_worker(tmp_path):
    file = tmp_path / "x.service"
    file.write_text(FILE)
    text = starts("check.service", unit("run", file=file), ["/bin/x", 'a "b" \\ 5%'], tmp_path)
    assert '"C=forge-jobs@a-\\x2d.service a-\\x2d a/- jobs %%"' in text
    assert 'ExecStart="/bin/x" "a \\"b\\" \\\\ 5%%"' in text
    assert "ProtectHome=yes\n" in text
    assert "ExecPaths=/usr\n" in text
    assert "RuntimeDirectory" not in text
    assert "TimeoutStopSec" not in text
    assert "TimeoutStartSec=90\n" in text  # otherwise a module that hangs would stop an upgrade of the package for ever
    assert "WantedBy" not in text


def test_without_systemd_a_unit_is_not_checked_and_the_command_says_so():
    done = subprocess.run(
        [sys.executable, "-m", "shithubd_worker", "check-config", "--unit", "shithubd-worker"],
        env={"PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (5, "")
    assert "systemd can't be asked: busctl: No such file or directory" in done.stderr
