"""The result of a run in plain words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from statistics import median

from torture.check_workers import crashes
from torture.evidence import Evidence
from torture.verdict import PROMISES, Verdict

SHOWN = 8  # shown violations of one promise
# What a barrier waits for (ARCHITECTURE.md, "Timing inequalities"): an older start might have missed one.
YOUNG = 0.8


def report(evidence: Evidence, verdict: Verdict) -> str:
    """The summary that ends a run."""
    return "\n".join([*_happened(evidence), *_explained(verdict), "", *_verdict(verdict)])


def _happened(evidence: Evidence) -> Iterator[str]:
    facts = evidence.facts
    yield f"seed {facts['seed']}, PostgreSQL {facts['postgres']}, {facts['seconds']:g} s of faults"
    answered = sum(each.answered for each in evidence.asked)
    rolled_back = sum(each.way == "rollback" for each in evidence.asked)
    unknown = len(evidence.asked) - answered - rolled_back
    yield f"jobs: {answered} committed, {unknown} whose COMMIT had no answer, {rolled_back} rolled back"
    again = len(evidence.runs) - len({run.job for run in evidence.runs})
    yield f"runs: {len(evidence.runs)}, of them {again} of a job that had run before"
    faults = Counter(f"{each['sort']} {each['how']}".strip() for each in evidence.faults)
    yield "faults: " + (_counted(faults) or "none")
    yield f"barriers: {len(evidence.barriers)} ({_counted(Counter(each.scope for each in evidence.barriers))})"
    ramps = Counter(" ".join(n for n in ("canary", "steps", "rate") if getattr(each, n)) for each in evidence.ramps)
    yield f"ramps: {len(evidence.ramps)} ({_counted(ramps)}), and starts beside them: {_beside(evidence)}"
    codes = Counter(str(process.code) for process in evidence.processes)
    yield f"worker processes: {len(evidence.processes)}; exit codes {_counted(codes)}"
    yield f"commands: {_counted(Counter(f'{name} {code}' for name, code, _ in evidence.commands)) or 'none'}"
    yield f"orders by hand: {_counted(Counter(each['order'] for each in evidence.orders)) or 'none'}"
    yield from _times(evidence)
    yield from _costs(evidence)


def _beside(evidence: Evidence) -> int:
    return sum(
        run.kind == ramp.kind and ramp.since < run.started < ramp.until
        for ramp in evidence.ramps
        for run in evidence.runs
    )


def _times(evidence: Evidence) -> Iterator[str]:
    ways: dict[str, list[float]] = {}
    for row, process in crashes(evidence):
        error = row.error or ""
        said = {
            "systemd says": "release-dead",
            "expired": "expiry",
            "was silent": "a sweep",
            "unlocked by": "an operator",
        }
        way = next((name for words, name in said.items() if words in error), "the next start")
        ways.setdefault(way, []).append(row.at - process.exited)
    for way, seconds in sorted(ways.items()):
        yield f"from a death to the return of its leases, by {way}: {_spread(seconds)}"
    if back := list(_reconnects(evidence)):
        yield f"from the database's return to a worker's next start of a job: {_spread(back)}"


def _reconnects(evidence: Evidence) -> Iterator[float]:
    """Of the workers that lived through a restart and were not stopped."""
    by_process: dict[int, list[float]] = {}
    for run in evidence.runs:
        by_process.setdefault(id(run.process), []).append(run.started)
    for trouble in evidence.troubles:
        if not trouble.sort.startswith("down"):
            continue
        for process in evidence.processes:
            stopped = any(begin < trouble.until + 6 and end > trouble.since for begin, end in process.stops)
            if process.started > trouble.since or process.exited < trouble.until + 6 or stopped:
                continue
            first = next((at for at in by_process.get(id(process), ()) if at > trouble.until), None)
            if first is not None:
                yield first - trouble.until


def _costs(evidence: Evidence) -> Iterator[str]:
    """What the faults cost that no promise forbids."""
    started = {(run.job, run.token) for run in evidence.runs}
    unstarted = [
        row
        for row in evidence.ended
        if row.outcome == "released"
        and row.token
        and (row.job, row.token) not in started
        and not (row.error or "").startswith("released by ")
    ]
    yield f"rows 'released' of leases that never started: {len(unstarted)}"
    planned = {(run.job, run.token) for run in evidence.runs if run.how in ("Planned", "RetryAfter", "Permanent")}
    burnt = Counter(
        (row.error or "").split("\n")[0].split(" after ")[0][:70]
        for row in evidence.ended
        if row.token and row.outcome in ("retry", "failed") and (row.job, row.token) not in planned
    )
    yield f"attempts that faults used up: {sum(burnt.values())}" + "".join(
        f"\n    {n} {what}" for what, n in burnt.most_common(8)
    )
    old = [run.age for run in evidence.runs if run.age > YOUNG]
    yield f"starts under a lease older than {YOUNG:g} s: {len(old)}" + (f", the oldest {max(old):.3f} s" if old else "")
    fenced = sum(row.outcome == "lease_lost" for row in evidence.ended)
    yield f"settles that were fenced off: {fenced}"


def _explained(verdict: Verdict) -> Iterator[str]:
    yield "explained:"
    yield from (f"    {count} {what}" for what, count in sorted(verdict.explained.items()))


def _verdict(verdict: Verdict) -> Iterator[str]:
    by_promise = Counter(each.promise for each in verdict.violations)
    for promise, words in PROMISES.items():
        yield f"{by_promise[promise]:6} {words}"
        broken = [each.what for each in verdict.violations if each.promise == promise]
        yield from (f"         {what}" for what in broken[:SHOWN])
        if len(broken) > SHOWN:
            yield f"         and {len(broken) - SHOWN} more"
    yield "verdict: " + ("clean" if not verdict.violations else f"{len(verdict.violations)} violations")


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counter.most_common())


def _spread(seconds: list[float]) -> str:
    finite = [each for each in seconds if math.isfinite(each)]
    return f"{len(finite)} times, median {median(finite):.2f} s, longest {max(finite):.2f} s"
