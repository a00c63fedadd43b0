"""The shipped units, read by systemd's own tools: no unknown key, nothing missing, and a limited exposure.

The tools read a small root of the test's own, so the machine's units and its /usr/bin do not matter.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from shithubd_worker import errors, timing
from shithubd_worker.cli import cli
from shithubd_worker.settings.config import Config

UNITS = Path(__file__).parents[2] / "units"
DROP_INS = sorted((UNITS / "drop-ins").glob("*.conf"))
PLAIN, TEMPLATE = "shithubd-worker.service", "shithubd-worker@.service"
INSTANCE = "shithubd-worker@webhooks.service"
# The units of systemd's own to which ours refer. Empty ones are enough.
THEIRS = (
    "sysinit.target",
    "basic.target",
    "shutdown.target",
    "network-online.target",
    "multi-user.target",
    "timers.target",
)

SUFFIXES = (".service", ".timer", ".target", ".slice")
HISTORY = "shithub-history.service"

# The exposure that each unit must not exceed, in tenths.
EXPOSURE = {None: 11, "webhooks.conf": 11, "long-drain.conf": 11, "offline.conf": 2, "shared-repos.conf": 12}


def _skip(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        _skip(f"{name} is missing (Debian: systemd)")
    return str(found)


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        _skip("only root can give files to others")


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    # Without these, verify could use colours, and look for the user's manager, if the environment suggests it.
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and line[0] not in "#["]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root directory with our units installed, and of the rest only what they refer to."""
    system = tmp_path / "usr/lib/systemd/system"
    system.mkdir(parents=True)
    for unit in UNITS.iterdir():
        if unit.suffix in SUFFIXES:
            shutil.copy(unit, system)
    for unit in THEIRS:
        (system / unit).write_text("[Unit]\n")  # an empty file would mean that the unit is masked
    for name in ("usr/bin/shithubd-worker", "bin/kill"):
        program = tmp_path / name
        program.parent.mkdir(parents=True)
        program.touch(mode=0o755)
    return tmp_path


def _install(root: Path, unit: str, drop_in: Path) -> None:
    directory = root / f"etc/systemd/system/{unit}.d"
    directory.mkdir(parents=True)
    shutil.copy(drop_in, directory)


def _verify(root: Path, *units: str) -> str:
    # --man=no, because the pages are not installed here; test_deb.py reads them on a host.
    done = _run(_tool("systemd-analyze"), "verify", "--man=no", f"--root={root}", *units)
    return done.stdout + done.stderr + (f"exit code {done.returncode}" if done.returncode else "")


def test_the_plain_unit_and_the_template_are_the_same_bytes() -> None:
    assert (UNITS / PLAIN).read_bytes() == (UNITS / TEMPLATE).read_bytes()


def test_systemd_verifies_the_units_without_a_warning(root: Path) -> None:
    units = [path.name for path in UNITS.iterdir() if path.suffix in SUFFIXES]
    assert len(units) == 6
    assert _verify(root, *units, INSTANCE) == ""


def test_verify_warns_about_a_broken_unit(root: Path) -> None:
    """The test above can fail: verify sees a key that systemd 252 does not know, and a program that does not exist."""
    unit = root / "usr/lib/systemd/system" / PLAIN
    unit.write_text(unit.read_text().replace("[Install]", "NoSuchKey=yes\n\n[Install]"))
    (root / "usr/bin/shithubd-worker").unlink()
    said = _verify(root, PLAIN)
    assert "Unknown key 'NoSuchKey'" in said
    assert "/usr/bin/shithubd-worker is not executable" in said


@pytest.mark.parametrize("drop_in", DROP_INS, ids=lambda path: path.name)
@pytest.mark.parametrize("unit", [PLAIN, INSTANCE])
def test_systemd_verifies_each_drop_in_without_a_warning(root: Path, unit: str, drop_in: Path) -> None:
    _install(root, unit, drop_in)
    assert _verify(root, unit) == ""


@pytest.mark.parametrize("drop_in", [None, *DROP_INS], ids=lambda path: path.name if path else "plain")
def test_no_unit_exceeds_its_exposure(root: Path, drop_in: Path | None) -> None:
    if drop_in:
        _install(root, PLAIN, drop_in)
    most = EXPOSURE[drop_in.name if drop_in else None]
    for unit in (PLAIN, *([] if drop_in else [HISTORY])):
        done = _run(
            _tool("systemd-analyze"), "security", "--offline=yes", f"--threshold={most}", f"--root={root}", unit
        )
        assert done.returncode == 0, done.stdout.splitlines()[-1:] + done.stderr.splitlines()


def test_no_setting_is_given_twice_by_mistake() -> None:
    """systemd takes the last one without a warning. A few settings are lists, to which each line adds."""
    lists = {"After", "Environment", "EnvironmentFile", "ExecReload", "SystemCallFilter"}
    names = Counter(line.partition("=")[0] for line in _lines(UNITS / PLAIN))
    assert {name for name, count in names.items() if count > 1} == lists


def test_the_times_and_exit_codes_of_the_unit_fit_the_worker() -> None:
    config = Config()
    unit = dict(line.split("=", 1) for line in _lines(UNITS / PLAIN))
    # Two pings may be late; the third must come.
    assert int(unit["WatchdogSec"]) >= 3 * timing.PING_SECONDS
    # The worker ends a job that ignores its interrupt, and returns its lease, before systemd kills the worker.
    assert int(unit["TimeoutStopSec"]) > config.grace + timing.PATIENCE_SECONDS
    assert int(unit["TimeoutStartSec"]) > config.database_wait
    given_up = {int(code) for code in unit["RestartPreventExitStatus"].split()}
    assert {errors.EXIT_USAGE, errors.EXIT_SCHEMA, errors.EXIT_RIGHTS, errors.EXIT_CONFIG} <= given_up
    assert not {errors.EXIT_DATABASE, errors.EXIT_FORCED, errors.EXIT_ERROR} & given_up


def test_the_variables_in_the_units_exist() -> None:
    """A misspelled variable of the worker would have no effect. Those in comments count, too."""
    known = {parameter.envvar for command in (cli, *cli.commands.values()) for parameter in command.params}
    known.add("SHITHUBD_WORKER_UNIT")  # read by host.identity
    for path in (UNITS / PLAIN, *DROP_INS):
        for name in re.findall(r"SHITHUBD_[A-Z_]+", path.read_text()):
            assert name in known, f"{path.name}: {name}"


@pytest.mark.usefixtures("as_root")
def test_the_user_is_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    done = _run(
        _tool("systemd-sysusers"),
        f"--root={tmp_path}",
        "--replace=/usr/lib/sysusers.d/shithubd-worker.conf",
        UNITS / "shithubd-worker.sysusers.conf",
    )
    assert (done.returncode, "failed" in done.stderr.lower()) == (0, False), done.stderr
    user = next(line for line in (tmp_path / "etc/passwd").read_text().splitlines() if line.startswith("shithub:"))
    assert user.split(":")[4:] == ["Git forge", "/var/lib/shithub", "/usr/sbin/nologin"]
    groups = (tmp_path / "etc/group").read_text().splitlines()
    assert any(line.startswith("shithub:") and line.endswith(":shithub-admin") for line in groups)


@pytest.mark.usefixtures("as_root")
def test_the_configuration_directory_is_made_and_the_password_is_protected(tmp_path: Path) -> None:
    secret = tmp_path / "etc/shithub/pgpass"
    secret.parent.mkdir(parents=True)
    secret.write_text("*:*:*:*:secret\n")
    secret.chmod(0o644)
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\nshithub:x:4711:\n")
    done = _run(_tool("systemd-tmpfiles"), "--create", f"--root={tmp_path}", UNITS / "shithubd-worker.tmpfiles.conf")
    assert done.returncode == 0, done.stderr
    assert (secret.stat().st_mode & 0o777, secret.stat().st_uid) == (0o600, 0)
    directory = secret.parent.stat()
    assert (directory.st_mode & 0o777, directory.st_uid, directory.st_gid) == (0o750, 0, 4711)


def test_the_preset_starts_no_worker(root: Path) -> None:
    presets = root / "usr/lib/systemd/system-preset"
    presets.mkdir()
    shutil.copy(UNITS / "80-shithubd-worker.preset", presets)
    done = _run(_tool("systemctl"), f"--root={root}", "preset", PLAIN, "shithubd-worker.target")
    assert done.returncode == 0, done.stderr
    wanted = root / "etc/systemd/system/multi-user.target.wants"
    assert [path.name for path in wanted.iterdir()] == ["shithubd-worker.target"]


def test_the_boot_and_the_target_start_an_enabled_worker(root: Path) -> None:
    done = _run(_tool("systemctl"), f"--root={root}", "enable", PLAIN, INSTANCE)
    assert done.returncode == 0, done.stderr
    for target in ("multi-user.target", "shithubd-worker.target"):
        links = {path.name for path in (root / f"etc/systemd/system/{target}.wants").iterdir()}
        assert links == {PLAIN, INSTANCE}
