"""What `status` and `workers` write on the screen. It is short, no matter how many kinds and workers there are."""

from __future__ import annotations

from typing import Any

from shithubd_worker.cli import needs, ramping
from shithubd_worker.cli.screen import folded, line, table
from shithubd_worker.database.leased import counted, running
from shithubd_worker.model import Scope
from shithubd_worker.plain import lasting

MOST_LEASES = 20
MOST_HOLDS = 20
MOST_WORKERS = 40
MOST_SILENT = 5
MOST_OF_AN_ERROR = 100  # characters


def summary(found: dict[str, Any]) -> str:
    """`running 1 of 500 leased, held 499 (queued 5, paused 499, failed 0)`."""
    figures = {**found["states"], "held": found["held"], "capped": found["capped"]}
    parts = ", ".join(f"{name} {_figure(figures, name)}" for name in ("queued", "paused", "failed"))
    return f"running {counted(found['running'], found['leased'])}, held {_figure(figures, 'held')} ({parts})"


def status(found: dict[str, Any], kind: str | None = None) -> None:
    """All of it. With `kind`, of the kinds only this one."""
    line(summary(found))
    if kind is not None and not found["kinds"]:
        line(f"kind {kind}: it has no jobs, no pause and no worker")
    if found["history_days_ready"] < 2:  # noqa: PLR2004 (one day to act)
        line(f"warning: the history is ready for {found['history_days_ready']} day(s) only: run a worker, or migrate")
    drops = found["history_drops"]
    if drops["late"]:
        how = needs.by_admin("shithubd-worker history drop")
        folded(f"warning: {drops['late']} day(s) of the history should have been dropped 2 days ago or earlier: {how}")
    _holds(found["holds"], found["hold_count"])
    _kinds(found["kinds"], found["more_kinds"])
    _retries(found["kinds"], found["more_kinds"])
    leases(found)
    workers(found["workers"], found["worker_states"])
    line()
    if drops["at"]:
        folded(f"old history: dropped {_ago(drops['seconds'])} by {drops['actor']} (login {drops['login']})")
    else:
        line("old history: nobody has dropped a day yet")
    if (sweeper := found["sweeper"]) and sweeper["at"]:
        folded(f"silent workers: {sweeper['by'] or 'a worker'} looked for them {_ago(sweeper['seconds'])}")
    else:
        line("silent workers: nobody has looked for them yet")


def leases(found: dict[str, Any]) -> None:
    """What runs. Not what is only leased."""
    rows: list[tuple[list[str], None]] = []
    for one in running(found["leases"])[:MOST_LEASES]:
        first = one.leases[0]
        who = (one.kinds, first["leased_by"], first["unit"] or "")
        rows.append(([one.job, *who, _seconds(first["seconds"]), _time(first["lease_expires_at"])], None))
    if found["running"] > len(rows):
        rows.append((["...", f"{found['running'] - len(rows):,} more"], None))
    table(("running", "kind", "leased by", "unit", "for", "expires"), rows, right=(0, 4))


def workers(found: list[dict[str, Any]], states: dict[str, int] | None = None) -> None:
    """The workers. With `states`, which counts all: those that are silent first, up to a limit."""
    some = found if states is None else sorted(found, key=lambda worker: not worker["silent"])[:MOST_WORKERS]
    rows = []
    for worker in some if len(some) < len(found) else found:
        leased = f"{worker['leases']:,} leased" if worker["leases"] else ""
        runs = leased if worker["job_id"] is None else f"{worker['job_kind']} {worker['job_id']}"
        state = "silent" if worker["silent"] else worker["state"]
        cells = [worker["leased_by"], worker["unit"] or "", state, runs, _ago(worker["beat_seconds"])]
        rows.append((cells, "red" if worker["silent"] else None))
    more = sum(states.values()) - len(rows) if states else 0
    if states and more:
        of_all = ", ".join(f"{count:,} {state}" for state, count in states.items())
        rows.append((["...", f"{more:,} more", "", f"of all: {of_all}"], None))
    table(("worker", "unit", "state", "runs", "last beat"), rows, right=(4,))
    _when_their_jobs_return([worker for worker in found if worker["silent"] and worker["leases"]])


def _when_their_jobs_return(silent: list[dict[str, Any]]) -> None:
    for worker in silent[:MOST_SILENT]:
        left = worker["gives_up_seconds"]
        soon = f"a sweep may take its jobs {f'in {lasting(left)}' if left and left > 0 else 'now'}"
        when = "its jobs return when their leases end" if left is None else soon
        line(f"{worker['leased_by']} is silent: {when}")
    if len(silent) > MOST_SILENT:
        line(f"... and {len(silent) - MOST_SILENT:,} more silent workers with jobs")


def _holds(holds: list[dict[str, Any]], count: int) -> None:
    for hold in holds[:MOST_HOLDS]:
        until = f" until {_time(hold['until'])}" if hold["until"] else ""
        why = f": {hold['reason']}" if hold["reason"] else ""
        folded(f"hold: {hold['mode']} of {Scope(hold['scope'], hold['target'])}{why}")
        folded(f"      by {hold['actor']} since {_time(hold['created'])}{until}")
        for told in ramping.standing(hold):
            line(f"      {told}")
    if count > MOST_HOLDS:
        line(f"hold: ... and {count - MOST_HOLDS:,} more (in the table standing_holds)")


def _kinds(kinds: list[dict[str, Any]], more: dict[str, Any] | None) -> None:
    rows = []
    for kind in kinds + ([more] if more else []):
        unhandled = kind["queued"] and kind["workers"] == 0
        cells = [
            kind["kind"] or f"and {kind['kinds']:,} more kinds",
            _figure(kind, "queued"),
            counted(kind["running"], kind["processing"]).removesuffix(" leased"),
            *(_figure(kind, name) for name in ("paused", "failed", "held")),
            _seconds(kind["oldest_seconds"]),
            "none" if unhandled else "" if kind["workers"] is None else str(kind["workers"]),
        ]
        rows.append((cells, "red" if kind["failed"] else "yellow" if kind["held"] or unhandled else None))
    columns = ("kind", "queued", "running", "paused", "failed", "held", "oldest", "workers")
    table(columns, rows, right=range(1, 8))
    if more:
        line("to see the others: shithubd-worker status KIND, or --all-kinds")


def _retries(kinds: list[dict[str, Any]], more: dict[str, Any] | None) -> None:
    rows = []
    for kind in kinds + ([more] if more else []):
        if kind["retries"]:
            error = kind["last_error"] or ""
            error = error if len(error) <= MOST_OF_AN_ERROR else f"{error[: MOST_OF_AN_ERROR - 3]}..."
            left = kind["next_retry_seconds"]
            due = "" if left is None else f"in {lasting(left)}" if left > 0 else "now"
            name = kind["kind"] or f"and {kind['kinds']:,} more kinds"
            rows.append(([_figure(kind, "retries"), name, due, error], None))
    table(("retries", "kind", "next", "why the next one failed last"), rows, right=(0,))
    if any("retries" in kind["capped"] for kind in kinds) or (more and "retries" in more["capped"]):
        line("where queued has a +, more retries may wait behind the jobs that were counted")


def _figure(figures: dict[str, Any], name: str) -> str:
    """A number of jobs. With a + if there are more than were counted."""
    return f"{figures[name]:,}{'+' if name in figures['capped'] else ''}"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return lasting(seconds)  # below 0 if it lies in the future


def _ago(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return f"{lasting(seconds)} ago" if seconds >= 0 else f"{lasting(-seconds)} ahead"


def _time(text: str | None) -> str:
    return "" if text is None else text[:19].replace("T", " ")
