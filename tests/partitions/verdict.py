"""What happened in the cuts, and which promises were broken."""

from __future__ import annotations

import re
from collections import Counter
from statistics import median
from typing import Any

from partitions.fleet import THRESHOLD, Fleet
from partitions.trial import DEAF, Trial, runs

# What the history may say about a run that was cut off. Each line names the outcome, and how its text begins.
EXPLAINED = (
    ("ok", r"$"),
    ("crashed", r"its worker web\d+:\d+ was silent for \d+ s"),
    ("crashed", r"the lease expired: "),
    ("crashed", r"its worker web\d+:\d+ is dead: "),
    ("released", r"given up: "),
    ("released", r"released: the database went away during the run"),
    ("released", r"not now: ConnectionTimeout"),
    ("lease_lost", r""),
    # The handler gave the control thread no turn, so the worker cannot know that it was cut off.
    ("retry", r"interrupted: it held Python's interpreter \(the GIL\)"),
    # The handlers' connection broke, and the worker's own did not: no outage, so the attempt counts.
    ("retry", r"OperationalError: "),
)
# A sweep comes each second, by a worker with nothing to do. The rest is for a busy machine. A worker whose packets
# still reach the server releases its job there and leases it again, and hears nothing of it. A lease is a sign of life.
SOON = {sort: THRESHOLD * (2 if sort == "from the server" else 1) + 1 + 10 for sort in (*DEAF, "SIGSTOP")}


def overlaps(fleet: Fleet) -> list[str]:
    """Each run that began beside another run of its job: the lock was not free."""
    found = []
    for file in sorted(fleet.evidence.glob("*.runs")):
        job = int(file.stem)
        found += [
            f"job {job} ({r['kind']}) began on {r['worker']} beside another run"
            for r in runs(fleet, job)
            if r["event"] == "overlap"
        ]
    return found


def broken(fleet: Fleet, trials: list[Trial]) -> list[str]:
    """All promises that were broken."""
    found = overlaps(fleet)
    for trial in trials:
        found += [f"job {trial.job}, a cut of {trial.sort}: {what}" for what in _of_trial(fleet, trial)]
    for state, count in fleet.query("SELECT state, count(*) FROM jobs GROUP BY 1"):
        found.append(f"{count} jobs are still {state}")
    twice = "SELECT id, count(*) FILTER (WHERE outcome = 'ok') FROM job_history GROUP BY 1 HAVING 1 <> "
    for job, count in fleet.query(f"{twice} count(*) FILTER (WHERE outcome = 'ok')"):
        found.append(f"job {job} ended well {count} times")
    for job, outcome, error in fleet.query("SELECT id, outcome, error FROM job_history ORDER BY finished_at"):
        if not any(outcome == each and re.match(text, error or "") for each, text in EXPLAINED):
            found.append(f"job {job} ended as {outcome}, and nothing explains it: {error}")
    for job, effects in fleet.query(
        "SELECT job, effects FROM ledger JOIN job_history ON job = id"
        " WHERE outcome = 'ok' AND effects <> (kind = 'commits')::integer"
    ):
        found.append(f"job {job} had its effect {effects} times")
    return found


def _of_trial(fleet: Fleet, trial: Trial) -> list[str]:
    found = [trial.trouble] if trial.trouble else []
    if trial.must_recover and (trial.recovery is None or trial.recovery > SOON[trial.sort]):
        found.append(f"the next run began {trial.recovery} s after the cut, not within {SOON[trial.sort]:g} s")
    if not trial.lives_again:
        found.append(f"the worker on web{trial.host} did not come back")
    # A worker whose packets still reach the server may release its job there.
    left = {"crashed", "released"} if trial.sort == "from the server" else {"crashed"}
    if trial.must_recover and not left & {outcome for outcome, *_ in history(fleet, trial)}:
        found.append("no crash was counted")
    counted = [attempts for outcome, attempts, _ in history(fleet, trial) if outcome == "ok"]
    tried = [error for outcome, _, error in history(fleet, trial) if outcome == "retry"]
    if counted != [1 + len(tried)] or (tried and trial.kind not in {"holds", "commits", "asks"}):
        found.append(f"it ended well at attempt {counted}, so the cut cost an attempt")
    if trial.kind == "steps":
        found += _of_stop(fleet, trial)
    return found


def _of_stop(fleet: Fleet, trial: Trial) -> list[str]:
    """A stopped process executes nothing. When it goes on, the old run may make a last step, and settles nothing."""
    late = [r for r in runs(fleet, trial.job) if r["worker"] == f"web{trial.host}" and r["at"] > trial.healed_at]
    steps = [r for r in late if r["event"] == "step"]
    return [f"the old run made {len(steps)} steps after SIGCONT"] if len(steps) > 1 else []


def history(fleet: Fleet, trial: Trial) -> list[tuple[Any, ...]]:
    """How the runs of the trial's job ended."""
    return fleet.query("SELECT outcome, attempts, error FROM job_history WHERE id = %s ORDER BY finished_at", trial.job)


def report(fleet: Fleet, trials: list[Trial], seconds: float) -> str:
    """Figures for a reader."""
    lines = [f"{len(trials)} cuts, {len(overlaps(fleet))} overlaps, {seconds:.0f} s"]
    for sort in dict.fromkeys(trial.sort for trial in sorted(trials, key=lambda t: t.sort)):
        of = [trial for trial in trials if trial.sort == sort]
        came = sorted(trial.recovery for trial in of if trial.must_recover and trial.recovery)
        times = f"recovery {came[0]:.1f} / {median(came):.1f} / {came[-1]:.1f} s ({len(came)})" if came else "-"
        again = sum(trial.recovery is not None for trial in of)
        codes = dict(Counter(code for trial in of for code in trial.codes))
        lines.append(f"{sort:16} {len(of):3} cuts, {again:3} jobs ran elsewhere, {times}, exit codes {codes}")
    for kind in dict.fromkeys(trial.kind for trial in sorted(trials, key=lambda t: t.kind)):
        of = [trial for trial in trials if trial.kind == kind]
        codes = dict(Counter(code for trial in of for code in trial.codes))
        ended = Counter(outcome for trial in of for outcome, *_ in history(fleet, trial))
        lines.append(f"{kind:16} {len(of):3} cuts, runs ended {dict(ended)}, exit codes {codes}")
    came = sorted(trial.recovery for trial in trials if trial.must_recover and trial.recovery)
    if came:
        lines.append(
            f"recovery min / median / max: {came[0]:.1f} / {median(came):.1f} / {came[-1]:.1f} s ({len(came)})"
        )
    [short] = fleet.query("SELECT count(*) FROM job_history WHERE kind = 'quick' AND outcome = 'ok'")
    lines.append(f"{short[0]} short jobs beside them")
    return "\n".join(lines)
