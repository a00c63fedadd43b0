"""units install, diff, uninstall: the systemd units of a host."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from shithubd_worker.cli.common import json_option
from shithubd_worker.cli.screen import emit, line, say
from shithubd_worker.errors import EXIT_CHECK_SAYS_NO, EXIT_OK, ConfigError, Refused, RightsMissing
from shithubd_worker.host import shipped, units, units_asked
from shithubd_worker.settings.config import SETTINGS

F = TypeVar("F", bound=Callable[..., Any])


def _root_option(function: F) -> F:
    return click.option(
        "--root",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        default=Path("/"),
        metavar="DIR",
        help="Work on the image or package below this directory. systemd is not called, and no user is made."
        "  [default: /, this host]",
    )(function)


def _program_option(function: F) -> F:
    return click.option(
        "--program",
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="The program that the units start.  [default: this program]",
    )(function)


_dry_run_option = click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")


@click.group("units", no_args_is_help=True)
def group() -> None:
    """Install, compare or remove the systemd units of this host.

    The units go to /usr/local/lib. To change one, use `systemctl edit`: it writes to /etc, which wins. The Debian
    package brings its own units. Beside it, `install` and `diff` are refused (exit 5).

    \b
    Examples:
      shithubd-worker units install --dry-run
      sudo shithubd-worker units install
      shithubd-worker units diff
    """


@group.command()
@_program_option
@_root_option
@_dry_run_option
@json_option
def install(program: Path | None, root: Path, *, dry_run: bool, as_json: bool) -> int:
    """Write the units to this host, and reload systemd.

    The command also writes the preset, and makes the user and the directories. It starts no worker, and leaves alone
    what you have enabled or disabled. Run it again after an upgrade: it writes what has changed. Running workers go on
    until you restart them. To undo it: `units uninstall`.

    \b
    Exit codes:
      0    the units are written, or they were up to date
      5    the Debian package has the units, systemd does not run, or the program
           lies where units cannot reach it
      77   you may not write there: run it as root

    \b
    Examples:
      shithubd-worker units install --dry-run
      sudo shithubd-worker units install
      sudo systemctl enable --now shithubd-worker
      shithubd-worker units install --root /mnt --program /opt/forge/bin/worker
    """
    files = _plan(program, root)
    fresh = not any(file.found for file in files)
    changed = [file for file in files if file.change != "unchanged"]
    steps = _after_install(files, root, fresh=fresh)
    if not dry_run:
        _need_systemd(root)
        for file in changed:
            _write(file)
        for step in steps:
            _run(step)
    _tell(as_json, [(file.change, file.path) for file in files], steps, dry_run=dry_run)
    if not as_json and not dry_run and root == Path("/"):
        say("next: name the database in /etc/shithub/worker.env; shithubd-worker migrate --roles; make logins; then")
        say("      systemctl enable --now shithubd-worker shithub-history.timer: see shithubd-worker runbook day-one")
        say(f"drop-ins for long drains, webhooks and more: {shipped.UNITS / 'drop-ins'}")
    return EXIT_OK


@group.command()
@_program_option
@_root_option
@json_option
def diff(program: Path | None, root: Path, *, as_json: bool) -> int:
    """Show what `units install` would change, as a unified diff.

    The command does not compare drop-ins: `systemctl cat shithubd-worker` shows those. It changes nothing.

    \b
    Exit codes:
      0    there is no difference
      3    there are differences
      5    the Debian package has the units

    \b
    Example:
      shithubd-worker units diff || sudo shithubd-worker units install
    """
    files = _plan(program, root)
    if as_json:
        emit([{"path": str(file.path), "change": file.change} for file in files])
    else:
        for each in (each for file in files for each in file.diff()):
            line(each)
    return EXIT_OK if all(file.change == "unchanged" for file in files) else EXIT_CHECK_SAYS_NO


@group.command()
@_root_option
@_dry_run_option
@json_option
def uninstall(root: Path, *, dry_run: bool, as_json: bool) -> int:
    """Disable the units and remove them from this host.

    It removes only what `units install` has written. The configuration in /etc/shithub, the data in /var/lib/shithub,
    the users, the database and drop-ins in /etc/systemd/system stay. The units of the Debian package stay, too, enabled
    or not. To undo it: `units install`.

    \b
    Exit codes:
      0    the units are removed, or there were none
      5    a worker still runs, or systemd does not run here
      77   you may not write there: run it as root

    \b
    Examples:
      shithubd-worker units uninstall --dry-run
      sudo systemctl stop 'shithubd-worker*'
      sudo shithubd-worker units uninstall
    """
    files = [file for file in units.plan(Path(units.PROGRAM), root) if file.found is not None]
    steps: list[list[str]] = []
    if files and root == Path("/"):
        if not dry_run:
            _need_systemd(root)
        if running := _running():
            raise Refused(f"still active: {', '.join(running)}. First: systemctl stop 'shithubd-worker*'")
        if not units.packaged(root):
            steps = [
                ["systemctl", "stop", *units.names(files, ending=".timer")],
                ["systemctl", "disable", "--quiet", *units.names(files)],
            ]
    if not dry_run:
        for step in steps:
            _run(step)
        for file in files:
            _remove(file)
    if files and root == Path("/"):
        steps.append(["systemctl", "daemon-reload"])
        if not dry_run:
            _run(steps[-1])
    _tell(as_json, [("removed", file.path) for file in files], steps, dry_run=dry_run)
    return EXIT_OK


@group.command()
def targets() -> int:
    """Print where this host's workers serve their metrics.

    The output is a file of targets for Prometheus, for its `file_sd_configs`. It names the workers that run and those
    that start at boot. Print it again after you add or remove a worker. A worker that has no metrics is left out, and a
    line on stderr says why. The command changes nothing.

    \b
    Exit codes:
      0    the file is printed; without a worker it is an empty list
      5    systemd does not answer
      77   you may not read the files of a unit: run it as root

    \b
    Example:
      shithubd-worker units targets | tee /etc/prometheus/shithubd-worker.json
    """
    found = []
    for unit in units_asked.workers():
        try:
            host, port = unit.metrics()
        except ConfigError as error:
            say(f"left out: {error}")
            continue
        if not port:
            none = "no port is chosen for it" if port is None else "its port differs after each start"
            say(f"left out: {unit.name}: {none if host else 'its metrics are off'}: {SETTINGS['metrics'].spelled}")
            continue
        host = socket.gethostname() if host in units_asked.EVERY_ADDRESS else f"[{host}]" if ":" in host else host
        found.append({"targets": [f"{host}:{port}"], "labels": {"unit": unit.name}})
    emit(found)
    return EXIT_OK


COMMANDS = (group,)


def _plan(program: Path | None, root: Path) -> list[units.File]:
    if units.packaged(root):
        raise Refused(
            f"a package has brought the units ({units.PACKAGED}) and keeps them up to date: nothing to install."
            " To have them start another program, first: apt remove shithubd-worker"
        )
    if program is None:
        called = shutil.which(sys.argv[0]) or shutil.which("shithubd-worker")
        if called is None or called.endswith(".py"):
            raise Refused("can't tell which program this is: name the installed one with --program")
        program = Path(called)
    return units.plan(units.check_program(program), root)


def _after_install(files: Sequence[units.File], root: Path, *, fresh: bool) -> list[list[str]]:
    """The commands that activate the written files."""
    if root != Path("/"):
        return []
    steps = [
        ["systemd-sysusers", "shithubd-worker.conf"],
        ["systemd-tmpfiles", "--create", "shithubd-worker.conf"],
        ["journalctl", "--update-catalog"],
        ["systemctl", "daemon-reload"],
    ]
    # Presets only once: what an operator enabled or disabled survives upgrades.
    return [*steps, ["systemctl", "preset", "--quiet", *units.names(files, ending=".target")]] if fresh else steps


def _need_systemd(root: Path) -> None:
    if root == Path("/") and not Path("/run/systemd/system").is_dir():
        raise Refused("systemd doesn't run here; for an image or a package: --root DIR")


def _write(file: units.File) -> None:
    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        file.path.write_text(file.wanted)
        file.path.chmod(0o644)
    except PermissionError as error:
        raise RightsMissing(f"can't write {file.path}: {error.strerror}. Run it as root") from error


def _remove(file: units.File) -> None:
    try:
        file.path.unlink()
    except PermissionError as error:
        raise RightsMissing(f"can't remove {file.path}: {error.strerror}. Run it as root") from error


def _run(step: Sequence[str]) -> None:
    try:
        done = subprocess.run(step, capture_output=True, encoding="utf-8", errors="replace", check=False)  # noqa: S603 (the steps are ours)
    except FileNotFoundError as error:
        raise Refused(f"{step[0]} is not installed (Debian: systemd)") from error
    if done.returncode:
        raise Refused(f"`{' '.join(step)}` failed ({done.returncode}): {done.stderr.strip() or done.stdout.strip()}")


def _running() -> list[str]:
    states = "active,activating,deactivating,reloading"
    command = ["systemctl", "list-units", "--no-legend", "--plain", f"--state={states}", "shithubd-worker*.service"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)  # noqa: S603
    return [line.split()[0] for line in done.stdout.splitlines() if line.split()]


def _tell(as_json: bool, files: Sequence[tuple[str, Path]], steps: Sequence[Sequence[str]], *, dry_run: bool) -> None:
    if as_json:
        emit(
            {
                "dry_run": dry_run,
                "files": [{"path": str(path), "change": change} for change, path in files],
                "commands": [list(step) for step in steps],
            }
        )
        return
    for change, path in files:
        line(f"{'would be ' if dry_run and change != 'unchanged' else ''}{change}: {path}")
    for step in steps:
        line(f"{'would run' if dry_run else 'ran'}: {' '.join(step)}")
    if not files:
        line("nothing to do")
