"""`units install|diff|uninstall --root`, and which program a unit may start. tests/systemd shows their effect on a
running systemd."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shithubd_worker.cli import cli
from shithubd_worker.errors import EXIT_CHECK_SAYS_NO, EXIT_OK, Refused, ShithubdError
from shithubd_worker.host import shipped, units

PROGRAM = Path("/usr/bin/env").resolve()  # a program that every host has
PLACE = "usr/local/lib/systemd/system/shithubd-worker.service"


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(cli, ["units", *map(str, arguments)], standalone_mode=False)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def install(root: Path, *more: str) -> Result:
    return run("install", "--root", root, "--program", PROGRAM, *more)


def test_every_shipped_unit_is_installed_and_starts_the_given_program(tmp_path: Path) -> None:
    assert install(tmp_path).return_value == EXIT_OK
    written = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(written) == len([path for path in shipped.UNITS.iterdir() if path.is_file()]) == 10
    unit = written[Path(PLACE)]
    assert f"ExecStart={PROGRAM} run\n" in unit
    assert f"ExecStopPost=-{PROGRAM} release-dead\n" in unit
    assert not [text for text in written.values() if units.PROGRAM in text]


def test_a_second_install_changes_nothing_and_says_so(tmp_path: Path) -> None:
    first = install(tmp_path).output
    second = install(tmp_path).output
    assert first.count("new: ") == second.count("unchanged: ") == 10


def test_a_dry_run_says_what_it_would_do_and_does_nothing(tmp_path: Path) -> None:
    assert install(tmp_path, "--dry-run").output.count("would be new: ") == 10
    assert not list(tmp_path.iterdir())


def test_diff_shows_what_an_install_would_change(tmp_path: Path) -> None:
    install(tmp_path)
    compare = ("diff", "--root", tmp_path, "--program", PROGRAM)
    same = run(*compare)
    assert (same.return_value, same.output) == (EXIT_OK, "")
    unit = tmp_path / PLACE
    unit.write_text(unit.read_text().replace("TimeoutStopSec=30", "TimeoutStopSec=90"))
    other = run(*compare)
    assert other.return_value == EXIT_CHECK_SAYS_NO
    assert {"-TimeoutStopSec=90", "+TimeoutStopSec=30"} <= set(other.output.splitlines())
    changes = {Path(row["path"]).name: row["change"] for row in json.loads(run(*compare, "--json").output)}
    assert changes["shithubd-worker.service"] == "changed"
    assert changes["shithubd-worker@.service"] == "unchanged"
    install(tmp_path)
    assert run(*compare).return_value == EXIT_OK


def test_uninstall_removes_exactly_what_install_wrote(tmp_path: Path) -> None:
    install(tmp_path)
    drop_in = tmp_path / "etc/systemd/system/shithubd-worker.service.d/mine.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\n")
    assert run("uninstall", "--root", tmp_path, "--dry-run").output.count("would be removed: ") == 10
    assert (tmp_path / PLACE).exists()
    told = json.loads(run("uninstall", "--root", tmp_path, "--json").output)
    assert len(told["files"]) == 10
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [drop_in]
    assert "nothing to do" in run("uninstall", "--root", tmp_path).output


def test_install_refuses_beside_the_units_of_a_package_and_uninstall_removes_a_former_install(
    tmp_path: Path,
) -> None:
    install(tmp_path)
    packaged = units.below(tmp_path, units.PACKAGED)
    packaged.parent.mkdir(parents=True)
    packaged.touch()
    for command in ("install", "diff"):
        with pytest.raises(Refused, match="a package has brought the units"):
            run(command, "--root", tmp_path, "--program", PROGRAM)
    assert run("uninstall", "--root", tmp_path).output.count("removed: ") == 10
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [packaged]


@pytest.mark.parametrize("hidden", ["/tmp/here", "/root/bin/x", "/home/ada/x"])
def test_a_program_that_the_units_cannot_reach_is_refused(hidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    monkeypatch.setattr(units.os, "access", lambda *_: True)
    monkeypatch.setattr(units, "_interpreter", lambda _: None)
    monkeypatch.setattr(Path, "resolve", lambda self: self)
    with pytest.raises(Refused, match="which the units can't reach"):
        units.check_program(Path(hidden))


def test_a_program_whose_interpreter_is_in_a_home_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, interpreter = tmp_path / "worker", tmp_path / "home/python3"
    interpreter.parent.mkdir()
    interpreter.touch()
    script.write_text(f"#!{interpreter} -I\n")
    script.chmod(0o755)
    monkeypatch.setattr(units, "_hidden", lambda: iter([interpreter.parent]))
    with pytest.raises(Refused, match=f"python3, the interpreter of {script}, lies in {interpreter.parent}"):
        units.check_program(script)
    monkeypatch.setattr(units, "_hidden", lambda: iter([]))
    assert units.check_program(script) == script


@pytest.mark.parametrize(("name", "mode"), [("missing", None), ("not executable", 0o644), ("with space", 0o755)])
def test_a_path_that_is_no_program_or_that_systemd_would_misread_is_refused(
    tmp_path: Path, name: str, mode: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "_hidden", lambda: iter([]))
    program = tmp_path / name
    if mode is not None:
        program.touch()
        program.chmod(mode)
    with pytest.raises(ShithubdError):
        install(tmp_path, "--program", str(program))
    assert not (tmp_path / "usr").exists()
