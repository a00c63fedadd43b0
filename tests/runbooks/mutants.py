"""Prove the prover: change the product where a runbook relies on it, and see that a runbook's test goes red.

    python tests/runbooks/mutants.py [--only NAME] [--static]

Each mutant is one replacement in a copy of the tree. The static layer (seconds) tries first; what it lets through goes
to the pages on a booted host. Prints what found each mutant, and exits 1 if fewer than 95 % were found.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[2]
FOUND_AT_LEAST = 0.95
STATIC = ("tests/runbooks/test_pages.py", "tests/runbooks/test_alert_rules.py")
EXECUTED = ("tests/runbooks/test_executed.py",)
CLI = "shithubd_worker/cli"
QUEUE = "sql/migrations/0001_queue.sql"
UNIT = "units/shithubd-worker.service"


class Mutant(NamedTuple):
    """One change of one file: every occurrence of `old`."""

    name: str
    file: str
    old: str
    new: str


MUTANTS = (
    # Names that an operator types.
    Mutant("drain is called hold", f"{CLI}/holds.py", "def drain(", "def hold_all("),
    Mutant(
        "resume is called release",
        f"{CLI}/holds.py",
        "@click.command()\n@with_database\n@_scope_options\n@reason_option\n@json_option\ndef resume(",
        '@click.command("undrain")\n@with_database\n@_scope_options\n@reason_option\n@json_option\ndef resume(',
    ),
    Mutant("pause-kind is called pause", f"{CLI}/holds.py", '"pause-kind"', '"pause"'),
    Mutant("resume-kind is called unpause", f"{CLI}/holds.py", '"resume-kind"', '"unpause"'),
    Mutant("--wait is called --sync", f"{CLI}/holds.py", '"--wait"', '"--sync", "wait"'),
    Mutant("--timeout is called --limit", f"{CLI}/holds.py", '"--timeout"', '"--limit", "timeout"'),
    Mutant("--until is called --expires", f"{CLI}/holds.py", '"--until"', '"--expires", "until"'),
    Mutant("--host is called --node", f"{CLI}/holds.py", '("--host",', '("--node",'),
    Mutant("--reason is called --why", f"{CLI}/common.py", '"--reason"', '"--why", "reason"'),
    Mutant("--drained is called --idle", f"{CLI}/status.py", '"--drained"', '"--idle", "drained"'),
    Mutant(
        "workers is called fleet",
        f"{CLI}/status.py",
        "@click.command()\n@with_database\n@json_option\ndef workers",
        '@click.command("fleet")\n@with_database\n@json_option\ndef workers',
    ),
    Mutant("--failed is called --all", f"{CLI}/jobs.py", '"--failed"', '"--all", "failed"'),
    Mutant("jobs show is called jobs view", f"{CLI}/jobs.py", "def show(", "def view("),
    Mutant("jobs release is called jobs free", f"{CLI}/jobs.py", "def release(", "def free("),
    Mutant("jobs retry is called jobs again", f"{CLI}/jobs.py", "def retry(", "def again("),
    Mutant("jobs discard is called jobs drop", f"{CLI}/jobs.py", "def discard(", "def drop("),
    Mutant("units diff is called units compare", f"{CLI}/units.py", "def diff(", "def compare("),
    Mutant("check-config is called verify", f"{CLI}/run.py", '"check-config"', '"verify"'),
    # Names in the database.
    Mutant("leased_by is called locked_by", QUEUE, "leased_by", "locked_by"),
    Mutant("leased_at is called locked_at", QUEUE, "leased_at", "locked_at"),
    Mutant(
        "holds.reason is called why",
        QUEUE,
        "    reason  text,\n    actor   text        NOT NULL,\n    until",
        "    why     text,\n    actor   text        NOT NULL,\n    until",
    ),
    Mutant("job_history.outcome is called result", QUEUE, "outcome", "result"),
    Mutant("jobs is called queue", QUEUE, "CREATE TABLE jobs (", "CREATE TABLE queue ("),
    Mutant("the state paused is called held", QUEUE, "'paused'", "'held'"),
    # Units.
    Mutant("TimeoutStopSec is 90", UNIT, "TimeoutStopSec=30", "TimeoutStopSec=90"),
    Mutant("KillMode is control-group", UNIT, "KillMode=mixed", "KillMode=control-group"),
    Mutant(
        "no credential is loaded",
        UNIT,
        "LoadCredential=pgpass:/etc/shithub/pgpass",
        "LoadCredential=pgpass:/etc/shithub/password",
    ),
    Mutant("the unit's file of variables is elsewhere", UNIT, "/etc/shithub/worker.env", "/etc/default/shithub"),
    Mutant("an instance has no file of its own", UNIT, "EnvironmentFile=-/etc/shithub/%N.env\n", ""),
    Mutant(
        "systemd gives up on no exit code", UNIT, "RestartPreventExitStatus=2 64 76 77 78", "RestartPreventExitStatus=2"
    ),
    Mutant("it isn't restarted", UNIT, "Restart=always", "Restart=no"),
    Mutant("it doesn't tell when it is ready", UNIT, "Type=notify\n", "Type=oneshot\n"),
    # What it does.
    Mutant(
        "the lease ignores holds of kinds",
        "sql/functions/10_lease_v1.sql",
        "v_held := held_kinds_v1();",
        "v_held := '{}';",
    ),
    Mutant(
        "the lease ignores drains",
        "sql/functions/10_lease_v1.sql",
        "IF EXISTS (SELECT FROM covering_holds_v1(p_worker)) THEN",
        "IF false THEN",
    ),
    Mutant("a pause marks no rows", "sql/functions/45_mirror_pause_v1.sql", "state = 'paused'", "state = 'queued'"),
    Mutant(
        "a release changes nothing", "sql/functions/50_release_job_v1.sql", "state = 'queued'", "state = 'processing'"
    ),
    Mutant("a retry leaves it failed", "sql/functions/51_retry_job_v1.sql", "state = 'queued'", "state = 'failed'"),
    Mutant("a discard leaves no trace", "sql/functions/52_discard_job_v1.sql", "'discarded'", "'ok'"),
    Mutant(
        "a crash takes out nothing", "sql/functions/20_return_crashed_v1.sql", "crashes + 1 >= 3", "crashes + 1 >= 300"
    ),
    Mutant("a timeout exits with 0", "shithubd_worker/errors.py", "EXIT_TIMEOUT = 4", "EXIT_TIMEOUT = 0"),
    Mutant(
        "the drain doesn't wait",
        f"{CLI}/holds.py",
        "idle = certain and wait and operations.wait_until_idle(scope, deadline, say)",
        "idle = certain",
    ),
    Mutant("the undo isn't told", f"{CLI}/holds.py", '    click.echo(f"undo: {undo}")\n', ""),
    Mutant("held jobs aren't counted", f"{CLI}/status.py", '"held": found["held"]', '"held": 0'),
    Mutant(
        "commands don't look for the host's database", f"{CLI}/__init__.py", "    host_env.adopt(sys.argv[1:])\n", ""
    ),
)


def found_by(mutant: Mutant, *, static_only: bool) -> str | None:
    """Which layer finds the mutant: static, executed, or None."""
    with tempfile.TemporaryDirectory(prefix="shw-mutant-") as directory:
        tree = Path(directory) / "tree"
        _copy(tree)
        path = tree / mutant.file
        text = path.read_text()
        if mutant.old not in text:
            raise SystemExit(f"{mutant.name}: {mutant.file} doesn't say {mutant.old!r}")
        path.write_text(text.replace(mutant.old, mutant.new))
        if mutant.file == UNIT:  # the two have the same bytes
            shutil.copyfile(path, path.with_name("shithubd-worker@.service"))
        if not _green(tree, STATIC):
            return "static"
        return None if static_only or _green(tree, EXECUTED) else "executed"


def _copy(tree: Path) -> None:
    """What git knows or would add, as it stands now."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).is_file():
            target = tree / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, target)


def _green(tree: Path, files: tuple[str, ...]) -> bool:
    """Do these tests of the copy pass? They import the copy's package, not the installed one."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1, 2):  # 2: not even collected
        raise SystemExit(f"pytest exited {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def main() -> int:
    """Try all mutants and tell."""
    parser = argparse.ArgumentParser(description="Change the product, and see that a runbook's test goes red.")
    parser.add_argument("--only", metavar="TEXT", default="", help="only mutants whose name has this text")
    parser.add_argument("--static", action="store_true", help="the static layer alone, without a booted host")
    chosen = parser.parse_args()
    if not _green(REPOSITORY, STATIC):
        raise SystemExit("the tests are red without any change")
    results: list[tuple[Mutant, str | None]] = []
    for mutant in [mutant for mutant in MUTANTS if chosen.only in mutant.name]:
        began = time.monotonic()
        results.append((mutant, found_by(mutant, static_only=chosen.static)))
        seconds = time.monotonic() - began
        print(f"{results[-1][1] or 'NOT FOUND':<9}  {seconds:4.0f} s  {mutant.name}  ({mutant.file})", flush=True)
    caught = sum(layer is not None for _, layer in results)
    static = sum(layer == "static" for _, layer in results)
    print(f"{caught} of {len(results)} found, {static} of them by the static layer")
    return 0 if caught >= FOUND_AT_LEAST * len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
