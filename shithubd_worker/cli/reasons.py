"""What explain_job_v1 found, in words: one sentence for the job, one for each check, and what changes it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from shithubd_worker.cli import ramping
from shithubd_worker.database.blockers import Blocker
from shithubd_worker.model import Scope
from shithubd_worker.plain import lasting, to_the_second

Check = Mapping[str, Any]
Command = Callable[..., str]  # Shared.command

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
        changes = (
            tuple(each for each in _changes(name, check, job, command) if each not in seen) if not check["ok"] else ()
        )
        seen.update(changes)
        said.append(Told(NAMES.get(name, name), check["ok"], _SAY[name](check, job), changes))
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
            return f"{job} runs: {_state(checks['state'], found['job'])}"
        case "failed":
            return f"{job} has failed: {_state(checks['state'], found['job'])}"
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
            how = f"at {check['by']}" if check["by"] else "by hand" if check["since"] else ""
            return f"failed{since} {how}".rstrip() + _error(check)
        case "paused":
            hand = "by hand (an UPDATE): no pause of its kind stands" if check["by_hand"] else "its kind is paused"
            return f"paused{since}, {hand}"
        case "done":
            return f"{check['outcome']}{since}" + (f" at {check['by']}" if check["by"] else "") + _error(check)
    return f"queued, {job['kind']}, attempts {job['attempts']}"


def _leased(check: Check, since: str) -> str:
    at = f"{check['leased_by']} has leased it{since}"
    if check["silent"] or check["silent"] is None:
        left = check["gives_up_seconds"]
        expires = check["expires_seconds"]
        when = f"a sweep may take it {_in(left)}" if left is not None else f"its lease ends {_in(expires)}"
        beat = _silent(check["beat_seconds"])
        return f"{at}, and is {beat}: {when}"
    if check["job_id"] is not None:
        return f"{at}, and runs job {check['job_id']} first"
    return at if check["runs"] else f"{at}, and runs it or starts it soon"


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
        more = f"; {check['drained']:,} that know the kind are drained" if check["drained"] else ""
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
    if check["ok"]:
        return "a worker is free" + (f"; {check['busy']:,} are busy" if check["busy"] else "")
    told = []
    for each in check["who"]:
        if each["job_id"] is None:
            told.append(f"{each['leased_by']} is {each['state']}")
        else:
            for_ = f" for {lasting(each['seconds'])}" if each["seconds"] is not None else ""
            told.append(f"{each['leased_by']} runs job {each['job_id']} ({each['job_kind']}){for_}")
    more = f", and {check['busy'] - len(told):,} more" if check["busy"] > len(told) else ""
    return f"each worker that could take it is busy: {', '.join(told)}{more}"


def _due(check: Check, _job: Mapping[str, Any]) -> str:
    at, seconds = to_the_second(check["run_at"]), check["seconds"]
    if check["ok"]:
        return f"due since {at}"
    when = f"at {at}, in {lasting(seconds)}" if seconds is not None else "never (run_at is infinity)"
    match check["why"]:
        case "scheduled":
            return f"it is scheduled: it may run {when}"
        case "released":
            return f"it was put off{_since(check)}: it may run {when}{_error(check)}"
        case "crashed":
            return f"its worker died{_since(check)}, and it may run {when}{_error(check)}"
    return f"it is tried again {when}, after it failed{_since(check)}{_error(check)}"


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


def _changes(name: str, check: Check, job: Mapping[str, Any], command: Command) -> Iterator[str]:
    """The commands that take a check out of the way."""
    if name == "hold" or check.get("state") == "paused":
        yield command("resume-kind", *_words(job["kind"]))
    elif check.get("state") == "failed" or name == "run_at":
        yield command("jobs retry", *_words(str(job["id"])))
    elif check.get("state") == "processing" and check["silent"] is not False:
        yield command("workers unlock", *_words(check["worker"] or check["leased_by"]))
    elif name == "drains":
        scopes = [Scope(hold["scope"], hold["target"]) for hold in check["holds"]]
        if any(scope.scope == "fleet" for scope in scopes):
            yield command("resume")  # ends all drains
        else:
            yield from (command("resume", f"--{scope.scope}", scope.target) for scope in scopes)
    elif name in ("locked", "tables"):
        of = check["locker"]
        yield (
            f"ROLLBACK PREPARED {_literal(of['prepared'] or '?')}"
            if of["pid"] == 0
            else (f"SELECT pg_terminate_backend({of['pid']})")
        )
    elif name == "workers":
        yield from _starts(check)


def _starts(check: Check) -> Iterator[str]:
    """How to start a worker that knows the kind."""
    silent = [each for each in check["who"] if each["unit"] and not each["drained"]]
    if silent:
        host = silent[0]["leased_by"].rpartition(":")[0]
        yield f"systemctl restart {silent[0]['unit']}    (on {host})"
    else:
        yield "shithubd-worker run --handlers MODULE:REGISTRY    (with a handler of the kind)"


def _words(word: str) -> Sequence[str]:
    return ("--", word) if word.startswith("-") else (word,)


def _silent(seconds: float | None) -> str:
    return "not known any more" if seconds is None else f"silent for {lasting(seconds)}"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _in(seconds: float | None) -> str:
    return f"in {lasting(seconds)}" if seconds is not None and seconds > 0 else "now"


def _since(check: Check) -> str:
    return f" since {to_the_second(check['since'])}" if check["since"] else ""


def _error(check: Check) -> str:
    error = (check["error"] or "").split("\n")[0]
    return f": {error[:MOST_OF_AN_ERROR]}" if error else ""
