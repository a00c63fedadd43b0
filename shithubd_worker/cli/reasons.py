"""What explain_job_v1 found, in words: one sentence for the job, one for each check, and what changes it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from shithubd_worker.cli import ramping
from shithubd_worker.cli.ways_out import Check, Command, changes
from shithubd_worker.database.blockers import Blocker
from shithubd_worker.model import Scope
from shithubd_worker.plain import lasting, to_the_second

MOST_OF_AN_ERROR = 200  # characters
NAMES = {"run_at": "time", "locked": "row lock", "tables": "table lock"}  # of checks whose own names say too little
# An order in which one reason makes the others matter less: the first that is in the way is in the first line.
WEIGHT = ("state", "hold", "tables", "drains", "run_at", "workers", "locked", "busy")


@dataclass(frozen=True, slots=True)
class Told:
    """A check in words. `changes` are commands; with all of those of all checks the job can run."""

    name: str
    ok: bool
    said: str
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explained:
    """The whole answer in words."""

    verdict: str
    checks: tuple[Told, ...]


def told(found: Mapping[str, Any], command: Command) -> Explained:
    """All of it. `command` makes the text of another command for the same queue."""
    job, checks = found["job"], {check["check"]: check for check in found["checks"]}
    seen: set[str] = set()
    said = []
    for name, check in checks.items():
        ways = () if check["ok"] else tuple(each for each in changes(name, check, job, command) if each not in seen)
        seen.update(ways)
        said.append(Told(NAMES.get(name, name), check["ok"], _SAY[name](check, job), ways))
    return Explained(_verdict(found, checks), tuple(said))


def _verdict(found: Mapping[str, Any], checks: Mapping[str, Check]) -> str:
    job = f"job {found['job']['id']}"
    way = [name for name in WEIGHT if name in checks and not checks[name]["ok"]]
    match found["verdict"]:
        case "leasable":
            return f"{job} can run now: {_place(found)}"
        case "waits":
            more = f" (and {len(way) - 1} more: see below)" if len(way) > 1 else ""
            first = (
                way[1] if way[:2] == ["state", "hold"] else way[0]
            )  # the pause says more than the state that shows it
            return f"{job} does not run: {_SAY[first](checks[first], found['job'])}{more}"
        case "runs":
            runs = "is leased" if checks["state"]["silent"] or _expired(checks["state"]) else "runs"
            return f"{job} {runs}: {_state(checks['state'], found['job'])}"
        case "failed":
            return f"{job} has {_state(checks['state'], found['job'])}"
    return f"{job} is done: {_state(checks['state'], found['job'])}"


def _place(found: Mapping[str, Any]) -> str:
    if found["place"] is None:
        return "a worker takes it at its next look"
    ahead = found["place"] - 1
    if not ahead:
        return "it is the first of its kind, and a worker takes it at its next look"
    more = " or more" if found["ahead_capped"] else ""
    eta = found["eta_seconds"]
    if eta is None:
        when = "; no job of the kind ended lately, so nobody knows when its turn comes"
    else:
        when = f", its turn comes in about {lasting(eta)}{more}, as fast as in the last {found['eta_window']}"
    come = "due job of its kind comes" if ahead == 1 else "due jobs of its kind come"
    return f"{ahead:,}{more} {come} first{when}"


def _state(check: Check, job: Mapping[str, Any]) -> str:
    since = _since(check)
    match check["state"]:
        case "processing":
            return _leased(check, since)
        case "failed":
            how = f" at {check['by']}" if check["by"] else " by hand" if check["since"] else ""
            return f"failed{since}{how}{_error(job['last_error'])}"
        case "paused" if check["ended"]:
            return f"paused: its kind was paused until {to_the_second(check['ended'])}, and a worker puts it back soon"
        case "paused":
            hand = "by hand (an UPDATE): no pause of its kind stands" if check["by_hand"] else "its kind is paused"
            return f"paused{since}, {hand}"
        case "done":
            at = f" at {check['by']}" if check["by"] else ""
            return f"{check['outcome']}{_at(check)}{at}{_error(check['error'])}"
    return f"queued, {job['kind']}, attempts {job['attempts']}"


def _leased(check: Check, since: str) -> str:
    at = f"{check['leased_by']} has leased it{since}"
    expires, left = check["expires_seconds"], check["gives_up_seconds"]
    if check["silent"]:
        at = f"{at}, and is {_silent(check['beat_seconds'])}"
    if _expired(check):
        return f"{at}; its lease is over, and the next sweep takes it"
    if check["silent"]:
        told = []
        if left is not None and (expires is None or left < expires):
            told.append(f"a sweep may take it {_in(left)}")
        if expires is not None:
            told.append(f"its lease ends {_in(expires)}")
        return f"{at}: {', and '.join(told) or 'its lease never ends'}"
    if check["unsettled"]:
        return f"{at}, and has run it, but could not settle it yet"
    if check["job_id"] is not None:
        return f"{at}, and runs job {check['job_id']} first"
    return at if check["runs"] else f"{at}, and runs it or starts it soon"


def _expired(check: Check) -> bool:
    return check["expires_seconds"] is not None and check["expires_seconds"] <= 0


def _hold(check: Check, _job: Mapping[str, Any]) -> str:
    hold = check["hold"]
    if hold is None:
        return "the kind is not paused"
    told = f"the kind {hold['target']} is {_held(hold, 'paused')}"
    if hold["ramp"] is None:
        return told
    room = (
        ""
        if check["ok"]
        else " (it lets no more through now)"
        if not check["room"]
        else (f" (it lets {check['room']:,} through now, and others come first)")
    )
    return f"{told}; it is resumed in steps: {ramping.now(hold['ramp'])}{room}"


def _drains(check: Check, _job: Mapping[str, Any]) -> str:
    if check["ok"]:
        drained = check["drained"]
        know = "that knows the kind is" if drained == 1 else "that know the kind are"
        more = f"; {_count(drained, 'worker')} {know} drained" if drained else ""
        return f"no drain is in the way{more}"
    return "; ".join(f"{Scope(hold['scope'], hold['target'])} is {_held(hold, 'drained')}" for hold in check["holds"])


def _held(hold: Mapping[str, Any], how: str) -> str:
    until = f" until {to_the_second(hold['until'])}" if hold["until"] else ""
    why = f": {hold['reason']}" if hold["reason"] else ""
    return f"{how} by {hold['actor']} since {to_the_second(hold['created'])}{until}{why}"


def _workers(check: Check, job: Mapping[str, Any]) -> str:
    if check["ok"]:
        silent = f", {check['silent']:,} more are silent" if check["silent"] else ""
        return f"{_count(check['living'], 'living worker')} know{'s' if check['living'] == 1 else ''} the kind{silent}"
    parts = [f"no living worker knows the kind {job['kind']}"]
    if check["who"]:
        names = ", ".join(f"{each['leased_by']} ({_silent(each['seconds'])})" for each in check["who"][:3])
        more = f", and {check['silent'] - 3:,} more" if check["silent"] > 3 else ""  # noqa: PLR2004
        parts.append(f"it was known by {names}{more}")
    if check["stopping"]:
        parts.append(
            f"{_count(check['stopping'], 'worker')} that know{'s' if check['stopping'] == 1 else ''} it stop now"
        )
    if near := get_close_matches(job["kind"], check["kinds"] or [], n=1):
        parts.append(f"they know {near[0]}: is the kind mistyped?")
    return "; ".join(parts)


def _busy(check: Check, _job: Mapping[str, Any]) -> str:
    busy, free = check["busy"], check["free"]
    if check["ok"]:
        if not free:
            return "there is no worker that could take it"
        others = f"; {_count(busy, 'other')} {'is' if busy == 1 else 'are'} busy" if busy else ""
        rest = "is at rest, or runs" if free == 1 else "are at rest, or run"
        return f"{_count(free, 'worker')} {rest} short jobs{others}"
    told = []
    for each in check["who"]:
        if each["job_id"] is None:
            told.append(f"{each['leased_by']} is {each['state']}")
        else:
            for_ = f" for {lasting(each['seconds'])}" if each["seconds"] is not None else ""
            told.append(f"{each['leased_by']} runs job {each['job_id']} ({each['job_kind']}){for_}")
    more = f", and {check['busy'] - len(told):,} more" if check["busy"] > len(told) else ""
    return f"each worker that could take it is busy: {', '.join(told)}{more}"


def _due(check: Check, job: Mapping[str, Any]) -> str:
    at, seconds = to_the_second(check["run_at"]), check["seconds"]
    if check["ok"]:
        return f"due since {at}" if seconds is not None else "always due (run_at is -infinity)"
    then = f"it may run at {at}, in {lasting(seconds)}" if seconds is not None else "it never runs (run_at is infinity)"
    match check["why"]:
        case "scheduled":
            return f"it is scheduled: {then}"
        case "released":
            before = "it was put off"
        case "crashed":
            before = "its worker died"
        case _:
            before = "it failed"
    return f"{before}{_at(check)}, and {then}{_error(job['last_error'])}"


def _locked(check: Check, _job: Mapping[str, Any]) -> str:
    return "nobody has locked its row" if check["ok"] else f"its row is locked: {_blocker(check, 'its row')}"


def _tables(check: Check, _job: Mapping[str, Any]) -> str:
    return "nobody has locked the queue" if check["ok"] else f"no lease begins: {_blocker(check, check['what'])}"


def _blocker(check: Check, what: str) -> str:
    of = dict(check["locker"])
    prepared = of.pop("prepared")
    del of["since"]
    told = str(Blocker(**of, what=what))
    return f"{told}; its name is {prepared}" if prepared else told


def _alone(check: Check, _job: Mapping[str, Any]) -> str:
    if not check["alone"]:
        return "it may be leased together with others"
    crashes = check["crashes"]
    why = (
        f"its worker died {crashes} time{'' if crashes == 1 else 's'}"
        if crashes
        else "it was at hand when a worker died"
    )
    return f"it is leased alone, because {why}: it may come one turn later"


_SAY: Mapping[str, Callable[[Check, Mapping[str, Any]], str]] = {
    "state": _state,
    "hold": _hold,
    "drains": _drains,
    "workers": _workers,
    "busy": _busy,
    "run_at": _due,
    "tables": _tables,
    "locked": _locked,
    "alone": _alone,
}


def _silent(seconds: float | None) -> str:
    return "not known any more" if seconds is None else f"silent for {lasting(seconds)}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _in(seconds: float | None) -> str:
    return f"in {lasting(seconds)}" if seconds is not None and seconds > 0 else "now"


def _since(check: Check) -> str:
    return f" since {to_the_second(check['since'])}" if check["since"] else ""


def _at(check: Check) -> str:
    return f" at {to_the_second(check['since'])}" if check["since"] else ""


def _error(error: str | None) -> str:
    first = (error or "").split("\n")[0]
    return f": {first[:MOST_OF_AN_ERROR]}" if first else ""
