"""A ramp in words, and as the options that set it. A ramp is an object of shown_ramp_v1, or of the audit record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from shithubd_worker.plain import lasting, shell_word
from shithubd_worker.ramps import STOP_AT

Ramp = Mapping[str, Any]


def planned(ramp: Ramp) -> str:
    """What a ramp does from its begin to its end: `1 job first, then 10, 50, 100 % of the workers for 2m each`."""
    told = []
    if ramp.get("canary"):
        told.append(f"{_jobs(ramp['canary'])} first")
    if ramp.get("steps"):
        told.append(f"{'then ' if told else ''}{_steps(ramp)}")
    if ramp.get("rate"):
        told.append(f"at most {rate(ramp['rate'])}")
    elif not ramp.get("steps"):
        told.append("then all")
    return ", ".join(told)


def now(ramp: Ramp) -> str:
    """Where a ramp is now, in one line: `step 2 of 3 (50 % of the workers), next step in 70 s; 120 ok and 3 not ok`."""
    if ramp["state"] == "stopped":
        return f"STOPPED since {ramp['stopped_at'][:19].replace('T', ' ')}: {ramp['stopped']}"
    over = "over: the next worker that is between two jobs ends the pause"
    told = over if ramp["state"] == "over" else ", ".join(_goes_on(ramp))
    return f"{told}; {ramp['ok']:,} ok and {ramp['bad']:,} not ok" if ramp["ok"] + ramp["bad"] else told


def _goes_on(ramp: Ramp) -> Iterator[str]:
    """What a ramp lets through now, and what comes next."""
    ends = "" if ramp["ends_in"] is None else f"the pause ends in {lasting(ramp['ends_in'])}"
    if ramp["state"] == "canary":
        yield f"the canary waits for {_jobs(max(ramp['canary'] - ramp['ok'], 0))} to end ok"
        if ramp["steps"]:
            yield f"then {_steps(ramp)}"
        elif not ramp["rate"] and not ends:
            yield "then the pause ends"
        ends = ends and f"{ends} at the latest"
    elif ramp["state"] == "steps":
        yield f"step {ramp['step']} of {len(ramp['steps'])} ({ramp['percent']} % of the workers)"
        if ramp["step"] < len(ramp["steps"]) and ramp["ends_in"] > ramp["next_in"]:
            yield f"next step in {lasting(ramp['next_in'])}"
            ends = ""
    if ramp["rate"]:
        yield f"at most {rate(ramp['rate'])}"
    if ends:
        yield ends


def standing(hold: Mapping[str, Any]) -> Iterator[str]:
    """The ramp of a hold, if it has one. Of a ramp that has stopped also what to do."""
    ramp = hold["ramp"]
    if ramp is None:
        return
    yield f"ramp: {now(ramp)}"
    if ramp["state"] == "stopped":
        kind = [*(["--"] if hold["target"].startswith("-") else []), hold["target"]]
        again, let_go = (
            " ".join(map(shell_word, ["shithubd-worker", "resume-kind", *words, *kind]))
            for words in (options(ramp), [])
        )
        yield f"to try the ramp again: {again}"
        yield f"to let everything go: {let_go}"


def next_times(ramp: Ramp, until: datetime | None) -> Iterator[str]:
    """When the next steps come, and when the pause ends at the latest."""
    if ramp["passed_at"] and ramp["steps"]:
        began = datetime.fromisoformat(ramp["passed_at"])
        times = [began + timedelta(seconds=ramp["every"] * step) for step in range(len(ramp["steps"]))]
        come = [(percent, at) for percent, at in zip(ramp["steps"], times, strict=True) if not until or at < until][1:]
        if come:
            steps = ", ".join(f"{percent} % at {_clock(at, began)}" for percent, at in come[:3])
            yield f"next: {steps}{', ...' if come[3:] else ''} (UTC)"
    elif ramp["steps"]:
        yield f"after the canary, the steps last {_duration(ramp['every'] * len(ramp['steps']))} in all"
    ends = [datetime.fromisoformat(ramp["over_at"])] if ramp["over_at"] else []
    ends += [until] if until else []
    if ends:
        latest = " at the latest" if ramp["state"] == "canary" else ""
        yield f"the pause ends at {min(ends):%Y-%m-%d %H:%M:%S%z}{latest}, unless the ramp stops"
    elif ramp["rate"]:
        yield "the pause has no end: `resume-kind` without options ends it"


def stops(ramp: Ramp) -> str:
    """When it stops."""
    later = f"when {_figure(ramp['stop_at'] * 100)} % of at least 10 runs do not end ok"
    if not ramp["canary"]:
        return later
    only = not ramp["steps"] and not ramp["rate"]
    return f"when a job of the canary does not end ok{'' if only else f'; afterwards {later}'}"


def options(ramp: Ramp) -> list[str]:
    """The options of resume-kind that set this ramp."""
    words = []
    if ramp["canary"]:
        words += ["--canary", str(ramp["canary"])]
    if ramp["steps"]:
        words += ["--ramp", ",".join(map(str, ramp["steps"])), "--every", _duration(ramp["every"])]
    if ramp["rate"]:
        words += ["--rate", rate(ramp["rate"])]
    if ramp["stop_at"] != STOP_AT and (ramp["steps"] or ramp["rate"]):
        words += ["--stop-at", f"{ramp['stop_at']:.12g}"]
    return words


def rate(of: float) -> str:
    """A rate, as the option takes it: `50/s`, `30/m`."""
    unit, size = next((each for each in (("s", 1), ("m", 60)) if of * each[1] >= 1), ("h", 3600))
    return f"{_figure(of * size)}/{unit}"


def _clock(when: datetime, began: datetime) -> str:
    """The time of day. With the day, if that is not the day of the begin."""
    at = when.astimezone(UTC)
    return f"{at:%H:%M:%S}" if at.date() == began.astimezone(UTC).date() else f"{at:%Y-%m-%d %H:%M:%S}"


def _steps(ramp: Ramp) -> str:
    return f"{', '.join(map(str, ramp['steps']))} % of the workers for {_duration(ramp['every'])} each"


def _jobs(count: int) -> str:
    return f"{count:,} job{'' if count == 1 else 's'}"


def _duration(seconds: float) -> str:
    """As an option takes it: `2m`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds % size == 0:
            return f"{_figure(seconds / size)}{unit}"
    return f"{_figure(seconds)}s"


def _figure(number: float) -> str:
    """Without an exponent, which no option takes."""
    return f"{number:.9f}".rstrip("0").rstrip(".")
