"""What `workers unlock` and `workers sweep` say: which jobs came back, and which workers may still run theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

from shithubd_worker.cli.screen import folded, line
from shithubd_worker.plain import lasting

MOST_JOBS = 20
EXAMPLES = 3
LONGEST_LINE = 120


def jobs(returned: Sequence[dict[str, Any]], which: str, *, dry_run: bool) -> None:
    """Each job that came back, up to a limit, and how many."""
    _each(returned, dry_run=dry_run)
    _sum(returned, which, "", dry_run=dry_run)


def swept(returned: Sequence[dict[str, Any]], silent: Sequence[dict[str, Any]], delay: float, *, dry_run: bool) -> None:
    """What a sweep took back: from each silent worker, and whose lease had expired."""
    later = f", and would run in {delay:g} s" if dry_run else f", and run in {delay:g} s"
    _each(returned, dry_run=dry_run)
    owners = {worker["leased_by"] for worker in silent}
    for worker in silent:
        its = [job for job in returned if job["leased_by"] == worker["leased_by"]]
        which = f"of {worker['leased_by']} (silent for {lasting(worker['seconds'])})"
        _sum(its, which, later if delay and its else "", dry_run=dry_run)
    expired = [job for job in returned if job["leased_by"] not in owners]
    _sum(expired, "with an expired lease", later if delay and expired else "", dry_run=dry_run)


def waiting(owners: Sequence[dict[str, Any]], stale_after: float | None, command: Callable[..., str]) -> None:
    """The silent workers whose jobs no sweep may take yet: how long that takes, and what to do."""
    for owner in owners:
        who, unlock = owner["leased_by"], command("workers unlock", owner["worker"] or owner["leased_by"])
        if owner["gives_up"] is None:
            line(
                f"{who} is silent, and {owner['leases']} lease(s) of it end within {owner['seconds']} s."
                f" If it is gone: {unlock}"
            )
            continue
        left = max(owner["gives_up"], stale_after or 0.0) - (owner["silent"] or 0.0)
        when = f"in {lasting(left)}" if left > 0 else "now: add --stale-after"
        folded(
            f"{who} has been silent for {lasting(owner['silent'] or 0.0)}, and has {owner['leases']} job(s)."
            f" It gives up after {owner['gives_up']:g} s. A sweep may take its jobs {when}. If it is gone: {unlock}"
        )
    if owners and stale_after is not None:
        folded(
            "Wait, if a worker may only be cut off from the database. --accept-second-run --reason TEXT takes its jobs"
            " all the same. Then one of them may run twice at the same time."
        )


def may_go_on(workers: Sequence[dict[str, Any]]) -> None:
    """The runs that may still go on at workers that live and are only cut off."""
    for worker in workers:
        if (left := worker["may_run_seconds"] or 0.0) > 0:
            job = f"job {worker['job_id']} ({worker['job_kind']})" if worker["job_id"] else "one of its jobs"
            folded(
                f"if {worker['leased_by']} lives and is only cut off, it may go on with {job} for {lasting(left)} at"
                " most. It can no longer settle it"
            )


def arguments(stale_after: float | None, delay: float, *, accept: bool) -> str:
    """The arguments of sweep_leases_v1 that are not their defaults."""
    given = [] if stale_after is None else [f"p_stale_after => {stale_after:g}"]
    given += ["p_accept_second_run => true"] if accept else []
    given += [f"p_delay => {delay:g}"] if delay else []
    return ", ".join(given)


def left(leases: int) -> str:
    """Why jobs of workers that are gone did not come back."""
    return (
        f"{leases} job(s) of these workers stay leased: somebody has locked them, or the database refuses to return"
        " them. They return when their leases expire"
    )


def still_there(said: str) -> list[str]:
    """What to do about a worker that beats."""
    return [
        said,
        "stop the worker first: `systemctl stop` on its host returns its jobs. If it only seems to live, add"
        " --accept-second-run --reason TEXT",
    ]


def no_worker_of(host: str, workers: Sequence[dict[str, Any]]) -> str:
    """What to say if a host has no worker and has left no lease: most likely it was mistyped."""
    near = get_close_matches(host, sorted({worker["host"] for worker in workers}), n=3)
    return f"no worker of host {host!r} is known, and no lease is left of one" + (
        f": did you mean {' or '.join(near)}?" if near else ""
    )


def _each(returned: Sequence[dict[str, Any]], *, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    most = EXAMPLES if dry_run else MOST_JOBS
    for job in returned[:most]:
        became = f"{would}queued again" if job["state"] == "queued" else f"{would}failed: {job['last_error']}"
        line(f"job {job['id']} ({job['kind']}) {became}", longest=LONGEST_LINE)
    if len(returned) > most:
        line(f"... and {len(returned) - most:,} more")


def _sum(returned: Sequence[dict[str, Any]], which: str, later: str, *, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    failed = sum(job["state"] == "failed" for job in returned)
    how_many = f"{len(returned):,} job(s) {which}".rstrip()
    line(f"{how_many} {would}returned" + later + (f", {failed:,} of them failed" if failed else ""))
