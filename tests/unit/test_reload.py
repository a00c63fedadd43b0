"""What a reload reads, what it applies, and what it refuses."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from shithubd_worker.cli import cli
from shithubd_worker.cli.reload import reload_of
from shithubd_worker.errors import ConfigError
from shithubd_worker.settings import env_file, host_files
from shithubd_worker.settings.reload import Reload

UNIT = "shithubd-worker@2.service"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A host whose units read these files, with no variables set."""
    for name in list(os.environ):
        if name.startswith(("PG", "SHITHUBD_WORKER_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(host_files, "ENV_FILE", tmp_path / "worker.env")
    level = logging.getLogger().level
    yield tmp_path
    logging.getLogger().setLevel(level)


@pytest.fixture
def start(files: Path, monkeypatch: pytest.MonkeyPatch):
    """A process as systemd starts it: first the unit's Environment=, then the files, which override it."""

    def start(*flags: str, environment: dict[str, str] | None = None, said: str = "") -> Reload:
        (files / "worker.env").write_text(said)
        for name, value in {**(environment or {}), **env_file.parse(said.encode()).variables}.items():
            monkeypatch.setenv(name, value)
        with click.Context(cli, **cli.context_settings) as above:
            return reload_of(cli.commands["run"].make_context("run", list(flags), parent=above), UNIT)

    return start


def test_a_reload_applies_the_files_and_the_units_own_file_wins(start, files, caplog):
    caplog.set_level(logging.INFO)
    reload = start(said="SHITHUBD_WORKER_GRACE=5\nSHITHUBD_WORKER_PREFETCH=0\n")
    assert (reload().grace, reload().prefetch) == (5.0, 0.0)
    (files / "worker.env").write_text("SHITHUBD_WORKER_GRACE=6\nSHITHUBD_WORKER_LOG_LEVEL=WARNING\n")
    (files / "shithubd-worker@2.env").write_text("SHITHUBD_WORKER_GRACE=7\n")
    caplog.clear()
    config = reload()
    assert (config.grace, config.prefetch) == (7.0, 0.0)  # a setting that no file names any more stays
    assert logging.getLogger().level == logging.WARNING


def test_a_change_is_reported_once_and_a_setting_that_needs_a_restart_each_time(start, files, caplog):
    caplog.set_level(logging.INFO)
    reload = start(said="SHITHUBD_WORKER_PREFETCH=0\nPGHOST=one\n")
    (files / "worker.env").write_text("SHITHUBD_WORKER_GRACE=6\nPGHOST=two\nPGPASSWORD=hush\n")
    later = "only a restart changes PGHOST, PGPASSWORD, SHITHUBD_WORKER_PREFETCH"
    reload()
    assert caplog.messages == ["reloaded: SHITHUBD_WORKER_GRACE=6", later]
    caplog.clear()
    reload()
    assert caplog.messages == ["reloaded: nothing that changes a running worker", later]


def test_a_setting_of_the_unit_stays_and_a_flag_wins(start, files):
    reload = start("--prefetch", "0.5", environment={"SHITHUBD_WORKER_GRACE": "9"}, said="SHITHUBD_WORKER_PREFETCH=1\n")
    (files / "worker.env").write_text("SHITHUBD_WORKER_PREFETCH=2\n")
    config = reload()
    assert (config.grace, config.prefetch) == (9.0, 0.5)


def test_a_removed_override_of_the_unit_changes_nothing_before_a_restart(start, files, caplog):
    reload = start(environment={"SHITHUBD_WORKER_GRACE": "900"}, said="SHITHUBD_WORKER_GRACE=5\n")
    (files / "worker.env").write_text("")
    assert reload().grace == 5.0  # the value is not 25, the default, or 900, which the environment no longer shows
    assert "only a restart changes SHITHUBD_WORKER_GRACE" in caplog.text


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("SHITHUBD_WORKER_GRACE=soon", "--grace .SHITHUBD_WORKER_GRACE.: 'soon' is not a number"),
        ("SHITHUBD_WORKER_LOG_LEVEL=loud", "--log-level .SHITHUBD_WORKER_LOG_LEVEL.: 'loud' is not one of"),
        ("SHITHUBD_WORKER_POLL_ONLY=perhaps", "SHITHUBD_WORKER_POLL_ONLY"),
        ("SHITHUBD_WORKER_SCHEMA=100%", "schema '100%'"),
        ("SHITHUBD_WORKER_DATABASE_URL=nonsense://", "SHITHUBD_WORKER_DATABASE_URL"),
        ("SHITHUBD_WORKER_REPO_ROOT=/nowhere", "SHITHUBD_WORKER_REPO_ROOT.: '/nowhere' is not a directory"),
        ("SHITHUBD_WORKER_EXCLUDE_KINDS=a", "EXCLUDE_KINDS is not a setting: did you mean .*EXCLUDE_KIND?"),
        ("export PGHOST=db", "worker.env: line 2: what stands before = is not the name of a variable"),
    ],
)
def test_any_fault_refuses_the_whole_reload(start, files, said, fault):
    reload = start()
    level = logging.getLogger().level
    (files / "worker.env").write_text(f"SHITHUBD_WORKER_LOG_LEVEL=error\n{said}\n")
    with pytest.raises(ConfigError, match=fault):
        reload()
    assert logging.getLogger().level == level
    (files / "worker.env").write_text("SHITHUBD_WORKER_GRACE=3\n")
    assert reload().grace == 3.0


def test_all_faults_are_shown_at_once_including_switches_and_choices(start, files):
    reload = start()
    names = ("GRACE", "POLL_ONLY", "LOG_LEVEL", "REPO_ROOT", "GRACES")
    (files / "worker.env").write_text("".join(f"SHITHUBD_WORKER_{name}=/perhaps\n" for name in names))
    with pytest.raises(ConfigError) as caught:
        reload()
    assert len(caught.value.args) == len(names)
    assert all(any(f"SHITHUBD_WORKER_{name}" in fault for fault in caught.value.args) for name in names)


def test_a_missing_file_is_ignored_and_an_unreadable_file_is_a_fault(start, files):
    reload = start(said="SHITHUBD_WORKER_GRACE=5\n")
    (files / "worker.env").unlink()
    assert reload().grace == 5.0
    (files / "worker.env").write_bytes(b"\xff=\xff\n")
    with pytest.raises(ConfigError, match=r"worker\.env: systemd takes nothing from this file: line 1 is not UTF-8"):
        reload()
    (files / "worker.env").unlink()
    (files / "worker.env").mkdir()
    with pytest.raises(ConfigError, match=r"worker\.env can't be read"):
        reload()


def test_a_reload_loads_no_other_handlers(start, files, caplog):
    reload = start()
    (files / "worker.env").write_text("SHITHUBD_WORKER_HANDLERS=no_such:registry\nSHITHUBD_WORKER_KIND=its.own\n")
    reload()
    assert "only a restart changes SHITHUBD_WORKER_HANDLERS, SHITHUBD_WORKER_KIND" in caplog.text
