"""Prove the prover: change the product where a runbook relies on it, and see that a runbook's test goes red.

    python tests/runbooks/mutants.py [--only TEXT] [--static]

Each mutant is one change in a copy of the tree, made everywhere where the product itself would be changed, so that the
product still works: by another name, by another figure, or without one of its promises. The layers try in turn: the
pages against the product's facts and the alerts' rules (seconds), then the pages on a booted host (a minute or two).

A mutant counts as found when the test of a page or of a rule failed by an assertion. An error elsewhere (nothing could
be collected, a fixture failed, a test stumbled over something else) proves nothing: such a mutant is BROKEN, and not
found. Prints what found each one, and exits 1 if fewer than 95 % were found.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

REPOSITORY = Path(__file__).parents[2]
FOUND_AT_LEAST = 0.95
EXECUTED = "tests/runbooks/test_executed.py"
LAYERS = {
    "static": ["tests/runbooks/test_pages.py"],
    "rules": ["tests/runbooks/test_alert_rules.py"],
    "booted": [EXECUTED],
    "booted, alerts": [EXECUTED, "-m", "long"],
}
STATIC = ("static", "rules")
CLI = "shithubd_worker/cli"
SQL = "sql/**/*.sql"
PYTHON = "shithubd_worker/**/*.py"
UNIT = "units/shithubd-worker*.service"
RULES = "runbooks/alerts.rules.yml"


# How a test says that it noticed something; pytest's own limit of time for a test that hangs is none of it.
_NOTICED = re.compile(r"AssertionError|assert |Failed: (?!Timeout)")


class Mutant(NamedTuple):
    """One change: every occurrence of `old` in the files of these patterns, and in their names."""

    name: str
    files: str
    old: str
    new: str


MUTANTS = (
    # Names that an operator types.
    Mutant("drain is called hold-all", f"{CLI}/holds.py", "\nCOMMANDS =", '\ndrain.name = "hold-all"\nCOMMANDS ='),
    Mutant("resume is called undrain", f"{CLI}/holds.py", "\nCOMMANDS =", '\nresume.name = "undrain"\nCOMMANDS ='),
    Mutant("pause-kind is called pause", f"{CLI}/holds.py", '"pause-kind"', '"pause"'),
    Mutant("resume-kind is called unpause", f"{CLI}/holds.py", '"resume-kind"', '"unpause"'),
    Mutant("--wait is called --sync", f"{CLI}/holds.py", '"--wait"', '"--sync", "wait"'),
    Mutant("--timeout is called --limit", f"{CLI}/deadline.py", '"--timeout"', '"--limit", "timeout"'),
    Mutant("--until is called --expires", f"{CLI}/holds.py", '"--until"', '"--expires", "until"'),
    Mutant("--host is called --node", f"{CLI}/holds.py", '"--host"', '"--node"'),
    Mutant("--reason is called --why", f"{CLI}/common.py", '"--reason"', '"--why", "reason"'),
    Mutant("--drained is called --idle", f"{CLI}/status.py", '"--drained"', '"--idle", "drained"'),
    Mutant("workers is called fleet", f"{CLI}/status.py", "\nCOMMANDS =", '\nworkers.name = "fleet"\nCOMMANDS ='),
    Mutant("--failed is called --all", f"{CLI}/jobs.py", '"--failed"', '"--all", "failed"'),
    Mutant("jobs show is called jobs view", f"{CLI}/jobs.py", "def show(", "def view("),
    Mutant("jobs release is called jobs free", f"{CLI}/jobs.py", "def release(", "def free("),
    Mutant("jobs retry is called jobs again", f"{CLI}/jobs.py", "def retry(", "def again("),
    Mutant("jobs discard is called jobs drop", f"{CLI}/jobs.py", "def discard(", "def drop("),
    Mutant("units diff is called units compare", f"{CLI}/units.py", "def diff(", "def compare("),
    Mutant("check-config is called verify", f"{CLI}/check.py", '"check-config"', '"verify"'),
    Mutant("--metrics, and its variable, are called --listen", f"{CLI}/*.py", '"--metrics"', '"--listen"'),
    Mutant("search.reindex is called search.index", PYTHON, '"search.reindex"', '"search.index"'),
    Mutant("a page has another name", "runbooks/tasks/*.md", "stuck-job", "held-job"),
    Mutant("an anchor has another name", "runbooks/tasks/stuck-job.md", "## Give it back now", "## Release it"),
    # Names in the database.
    Mutant("leased_by is called locked_by", f"{SQL} {PYTHON}", "leased_by", "locked_by"),
    Mutant("leased_at is called locked_at", f"{SQL} {PYTHON}", "leased_at", "locked_at"),
    Mutant("finished_at is called ended_at", f"{SQL} {PYTHON}", "finished_at", "ended_at"),
    Mutant("outcome is called verdict", f"{SQL} {PYTHON}", "outcome", "verdict"),
    Mutant("job_history is called job_log", f"{SQL} {PYTHON}", "job_history", "job_log"),
    Mutant("holds has another name for its targets", SQL, "target", "subject"),
    Mutant("the state paused is called parked", SQL, "'paused'", "'parked'"),
    Mutant("the outcome crashed is called died", SQL, "'crashed'", "'died'"),
    # Metrics and alerts.
    Mutant("the depth of the queue has another name", PYTHON, "job_queue_depth", "job_queue_length"),
    Mutant("db_up is called database_up", PYTHON, '"db_up"', '"database_up"'),
    Mutant("fenced writes are called lost writes", PYTHON, '"fenced_writes"', '"lost_writes"'),
    Mutant("jobs_processed says result, not outcome", PYTHON, '["kind", "outcome"]', '["kind", "result"]'),
    Mutant("the days of history have another name", PYTHON, "history_ready_seconds", "history_left_seconds"),
    Mutant("an alert has another name", RULES, "alert: WorkerDown", "alert: WorkerGone"),
    Mutant("an alert has another threshold", RULES, "> 5000", "> 50000"),
    Mutant("an alert leads elsewhere", RULES, "alerts/PoisonJobs.md", "alerts/PoisonedJobs.md"),
    # Units.
    Mutant("the unit has another name", f"units/* {PYTHON}", "shithubd-worker.service", "forge-worker.service"),
    Mutant("the instances have another name", f"units/* {PYTHON}", "shithubd-worker@", "forge-worker@"),
    Mutant("a drop-in has another name", "units/drop-ins/*", "long-drain", "patience"),
    Mutant("TimeoutStopSec is 90", UNIT, "TimeoutStopSec=30", "TimeoutStopSec=90"),
    Mutant("KillMode is control-group", UNIT, "KillMode=mixed", "KillMode=control-group"),
    Mutant("MemoryHigh is 1G", UNIT, "MemoryHigh=1536M", "MemoryHigh=1G"),
    Mutant("there is no watchdog", UNIT, "WatchdogSec=30", "WatchdogSec=0"),
    Mutant(
        "another file is loaded as the password", UNIT, "pgpass:/etc/shithub/pgpass", "pgpass:/etc/shithub/password"
    ),
    Mutant("the file of variables is elsewhere", UNIT, "/etc/shithub/worker.env", "/etc/default/shithub"),
    Mutant("an instance has no file of its own", UNIT, "EnvironmentFile=-/etc/shithub/%N.env\n", ""),
    Mutant("a wrong configuration is tried again", UNIT, "RestartPreventExitStatus=2 64 76 77 78", ""),
    Mutant("it isn't restarted", UNIT, "Restart=always", "Restart=no"),
    Mutant("it doesn't tell when it is ready", UNIT, "Type=notify\n", "Type=exec\n"),
    Mutant("nobody returns a dead worker's leases", UNIT, "ExecStopPost=-/usr/bin/shithubd-worker release-dead\n", ""),
    # What it does.
    Mutant("the lease ignores holds of kinds", "sql/functions/lease/lease_v1.sql", "v_held := held_kinds_v1();", ""),
    Mutant(
        "the lease ignores drains",
        "sql/functions/lease/lease_v1.sql",
        "IF EXISTS (SELECT FROM covering_holds_v1(p_worker)) THEN",
        "IF false THEN",
    ),
    Mutant(
        "the lease takes what is paused",
        "sql/functions/lease/lease_v1.sql",
        "j.state = 'queued'",
        "j.state IN ('queued', 'paused')",
    ),
    Mutant("all kinds have one lease timeout", "sql/functions/lease/lease_v1.sql", "secs => n.seconds", "secs => 300"),
    Mutant("an expired lease stays", "sql/functions/recover/sweep_v1.sql", "<= v_now\n", "<= '-infinity'\n"),
    Mutant("a settle needs no token", "sql/functions/settle/settle_v1.sql", "AND j.lease_token = e.token ", ""),
    Mutant("a pause marks no rows", "sql/functions/pauses/mirror_pause_v1.sql", "v_ids, 'paused'", "v_ids, 'queued'"),
    Mutant(
        "a release changes nothing", "sql/functions/jobs/release_job_v1.sql", "state = 'queued'", "state = 'processing'"
    ),
    Mutant("a retry leaves it failed", "sql/functions/jobs/retry_job_v1.sql", "state = 'queued'", "state = 'failed'"),
    Mutant("a discard leaves no trace", "sql/functions/jobs/discard_job_v1.sql", "'discarded'", "'ok'"),
    Mutant(
        "a crash takes out nothing", "sql/functions/recover/return_crashed_v1.sql", "o.crash >= 3 ", "o.crash >= 300 "
    ),
    Mutant("a timeout exits with 0", "shithubd_worker/errors.py", "EXIT_TIMEOUT = 4", "EXIT_TIMEOUT = 0"),
    Mutant("a refused login exits with 80", "shithubd_worker/errors.py", "EXIT_RIGHTS = 77", "EXIT_RIGHTS = 80"),
    Mutant("a stop waits for 60 s", "shithubd_worker/settings/config.py", "25.0", "60.0"),
    Mutant("a lease lasts for an hour", "shithubd_worker/registry.py", "timedelta = 300", "timedelta = 3600"),
    Mutant(
        "the drain doesn't wait",
        f"{CLI}/certainty.py",
        "held.idle = held.certain and wait and operations.wait_until_idle(scope, deadline.at, say)",
        "held.idle = held.certain",
    ),
    Mutant("the undo isn't told", f"{CLI}/certainty.py", '        line(f"undo: {undo}")\n', ""),
    Mutant("held jobs aren't counted", f"{CLI}/status.py", '"held": found["held"]', '"held": 0'),
    Mutant(
        "commands don't look for the host's database", f"{CLI}/__init__.py", "    host_env.adopt(sys.argv[1:])\n", ""
    ),
)


def concerned(tree: Path, mutant: Mutant) -> set[Path]:
    """The files that it changes."""
    files = {path for pattern in mutant.files.split() for path in tree.glob(pattern) if path.is_file()}
    return {path for path in files if mutant.old in path.name or mutant.old in path.read_text()}


def mutate(tree: Path, mutant: Mutant) -> None:
    """Make the change."""
    for path in concerned(tree, mutant):
        path.write_text(path.read_text().replace(mutant.old, mutant.new))
        path.rename(path.with_name(path.name.replace(mutant.old, mutant.new)))


def find(mutant: Mutant, layers: tuple[str, ...]) -> tuple[str, str]:
    """The layer that finds the mutant, and its first test that failed; or NOT FOUND or BROKEN, and why."""
    verdict = ("NOT FOUND", "")
    with tempfile.TemporaryDirectory(prefix="shw-mutant-") as directory:
        tree = Path(directory) / "tree"
        _copy(tree)
        mutate(tree, mutant)
        for layer in layers:
            check_green(layer)
            found, stumbled = run(tree, layer, "-x")
            if stumbled and layer in STATIC:  # the next one may be the one that counts, and they are quick
                found, stumbled = run(tree, layer)
            if found:
                return layer, found[0]
            if stumbled:
                verdict = ("BROKEN", stumbled[0])
    return verdict


@cache
def check_green(layer: str) -> None:
    """Raises SystemExit if a layer's tests are red without any change."""
    with tempfile.TemporaryDirectory(prefix="shw-unchanged-") as directory:
        tree = Path(directory) / "tree"
        _copy(tree)
        trouble = run(tree, layer)
    if trouble != ([], []):
        raise SystemExit(f"the tests are red without any change: {trouble}")


def _copy(tree: Path) -> None:
    """What git knows or would add, as it stands now."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).is_file():
            target = tree / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, target)


def run(tree: Path, layer: str, *more: str) -> tuple[list[str], list[str]]:
    """The tests of a layer that failed by an assertion, and what else went wrong. They import the copy's package."""
    report = tree.parent / "report.xml"
    options = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", *options, *LAYERS[layer], *more]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1, 2):  # 2: not even collected
        return [], [f"pytest exited {done.returncode}: {done.stderr.strip()}"]
    found, stumbled = [], []
    for case in ElementTree.parse(report).iter("testcase"):
        for trouble in case:
            message = trouble.get("message", "").splitlines()
            if trouble.tag == "failure" and _NOTICED.match(message[0]):
                found.append(case.get("name", ""))
            elif trouble.tag in ("failure", "error"):
                stumbled.append(f"{case.get('name')}: {' '.join(message)[:200]}")
    return found, stumbled


def main() -> int:
    """Try all mutants and tell."""
    parser = argparse.ArgumentParser(description="Change the product, and see that a runbook's test goes red.")
    parser.add_argument("--only", metavar="TEXT", default="", help="only mutants whose name has this text")
    parser.add_argument("--static", action="store_true", help="the static layers alone, without a booted host")
    chosen = parser.parse_args()
    layers = STATIC if chosen.static else tuple(LAYERS)
    for layer in [layer for layer in layers if layer != "booted, alerts"]:  # that one is hardly ever asked
        check_green(layer)
    counts = dict.fromkeys([*LAYERS, "NOT FOUND", "BROKEN"], 0)
    mutants = [mutant for mutant in MUTANTS if chosen.only in mutant.name]
    with ThreadPoolExecutor(max_workers=2) as pool:  # a boot mostly waits
        for mutant, (verdict, why) in zip(mutants, pool.map(partial(find, layers=layers), mutants), strict=True):
            counts[verdict] += 1
            print(f"{verdict:<14}  {mutant.name}  ({why})", flush=True)
    found = sum(counts[layer] for layer in LAYERS)
    print(f"{found} of {len(mutants)} found: {', '.join(f'{n} {verdict}' for verdict, n in counts.items() if n)}")
    return 0 if found >= FOUND_AT_LEAST * len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
