"""A ramp in words, and as the options that set it. A ramp is an object of shown_ramp_v1, or of the audit record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from shithubd_worker.plain import lasting, shell_word, to_the_second
from shithubd_worker.ramps import STOP_AT

Ramp = Mapping[str, Any]

RATES = {"s": 1, "m": 60, "h": 3600}  # a rate of 90/m is 90 in so many seconds


def planned(ramp: Ramp) -> str:
    """What a ramp does from its begin to its end: `1 job first, then 10, 50, 100 % of the workers for 2m each`."""
    told = []
    if ramp.get("canary"):
        told.append(f"{_jobs(ramp['canary'])} first")
    if ramp.get("steps"):
        told.append(f"{'then ' if told else ''}{_steps(ramp)}")
    if ramp.get("rate"):
        told.append(f"at most {rate(ramp['rate'])}")
    return ", ".join(told)


def now(ramp: Ramp) -> str:
    """Where a ramp is now, in one line: `step 2 of 3 (50 % of the workers), next step in 70 s; 120 ok and 3 not ok`."""
    state, told = ramp["state"], []
    if state == "stopped":
        told.append(f"STOPPED since {to_the_second(ramp['stopped_at'])}: {ramp['stopped']}")
    elif state == "canary":
        left = max(ramp["canary"] - ramp["ok"], 0)
        told.append(f"the canary waits for {_jobs(left)} to end ok")
        if ramp["steps"]:
            told.append(f"then {_steps(ramp)}")
    elif state == "steps":
        last = ramp["step"] == len(ramp["steps"])
        told.append(f"step {ramp['step']} of {len(ramp['steps'])} ({ramp['percent']} % of the workers)")
        told.append(f"{'the pause ends' if last else 'next step'} in {lasting(ramp['next_in'])}")
    elif state == "over":
        told.append("over, and a worker ends the pause soon")
    if ramp["rate"] and state not in ("stopped", "over"):
        told.append(f"at most {rate(ramp['rate'])}")
    if state != "stopped" and ramp["ok"] + ramp["bad"]:
        return f"{', '.join(told)}; {ramp['ok']:,} ok and {ramp['bad']:,} not ok"
    return ", ".join(told)


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
        steps = [f"{percent} % at {_clock(at)}" for percent, at in zip(ramp["steps"], times, strict=True)][1:4]
        if steps:
            more = ", ..." if len(times) > len(steps) + 1 else ""
            yield f"next: {', '.join(steps)}{more} (UTC)"
    elif ramp["steps"]:
        yield f"after the canary, the steps last {_duration(ramp['every'] * len(ramp['steps']))} in all"
    ends = [datetime.fromisoformat(ramp["over_at"])] if ramp["over_at"] else []
    ends += [until] if until else []
    if ends:
        yield f"the pause ends at {min(ends):%Y-%m-%d %H:%M:%S%z} at the latest"
    elif ramp["rate"]:
        yield "the pause has no end: `resume-kind` without options ends it"


def stops(ramp: Ramp) -> str:
    """When it stops."""
    later = f"when {_figure(ramp['stop_at'] * 100)} % of the runs do not end ok"
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
    if ramp["stop_at"] != STOP_AT:
        words += ["--stop-at", f"{ramp['stop_at']:.12g}"]
    return words


def rate(of: float) -> str:
    """A rate, as the option takes it: `50/s`, `30/m`."""
    unit, size = next((each for each in RATES.items() if of * each[1] >= 1), ("h", RATES["h"]))
    return f"{_figure(of * size)}/{unit}"


def _steps(ramp: Ramp) -> str:
    return f"{', '.join(map(str, ramp['steps']))} % of the workers for {_duration(ramp['every'])} each"


def _clock(when: datetime) -> str:
    return f"{when.astimezone(UTC):%H:%M:%S}"


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
