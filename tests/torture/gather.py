"""Reads what a run left, the logs and the tables. It has no code of the product."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torture.evidence import Asked, Barrier, Change, Ended, Evidence, Live, Process, Ramp, Run, Sample, Trouble
from torture.records import Record, read


class _Clocks:
    """Converts the database's clock, which is the machine's, to the monotonic clock. It may have been slewed
    meanwhile."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._points = [(record["at"] + record["ahead"], record["at"]) for record in records]

    def monotonic(self, real: float) -> float:
        (real_0, at_0), (real_1, at_1) = self._points[0], self._points[-1]
        if real_1 == real_0:
            return at_0 + real - real_0
        return at_0 + (real - real_0) * (at_1 - at_0) / (real_1 - real_0)


def gather(logs: Path, tables: dict[str, list[dict[str, Any]]]) -> Evidence:
    """Read everything."""
    stage = [record for records in read(logs, "stage") for record in records]
    clocks = _Clocks(record for record in stage if record["what"] == "clocks")
    evidence = Evidence(processes=_processes(stage))
    _read_stage(evidence, stage)
    for records in read(logs, "enqueuer"):
        evidence.asked += _asked(records)
    for records in read(logs, "handlers"):
        evidence.runs += _runs(records, evidence.processes)
    evidence.runs.sort(key=lambda run: run.started)
    evidence.ended = [Ended(**{**row, "at": clocks.monotonic(row["at"])}) for row in tables["history"]]
    evidence.live = [Live(**row) for row in tables["jobs"]]
    evidence.changes = [Change(**{**row, "at": clocks.monotonic(row["at"])}) for row in tables["changes"]]
    evidence.stops = [(row["kind"], clocks.monotonic(row["at"])) for row in tables["stops"]]
    evidence.effects = [(row["key"], row["job"], row["token"]) for row in tables["effects"]]
    return evidence


def _read_stage(evidence: Evidence, stage: Sequence[Record]) -> None:
    last = stage[-1]["at"]
    for record in stage:
        what = record["what"]
        if what == "run":
            evidence.facts, evidence.leases = record, record["leases"]
        elif what == "begin":
            evidence.proxied = set(record["proxied"])
        elif what == "command":
            evidence.commands.append((record["command"], record["code"], record["said"]))
        elif what == "release-dead":
            evidence.commands.append(("release-dead", record["code"], ""))
        elif what == "sample":
            expired = {int(job): float(seconds or 0) for job, seconds in record["expired"]}
            evidence.samples.append(Sample(record["at"], frozenset(record["due"]), expired, record["idle"]))
        elif what == "order":
            evidence.orders.append(record)
        elif what == "fault":
            evidence.faults.append(record)
    evidence.barriers = _barriers(stage, last)
    evidence.ramps = _ramps(stage, last)
    evidence.locks = _locks(stage)
    evidence.troubles = _troubles(stage, last)


def _processes(stage: Sequence[Record]) -> list[Process]:
    found: list[Process] = []
    current: dict[int, Process] = {}  # by slot
    for record in stage:
        if record["what"] == "started":
            who = {name: record[name] for name in ("pid", "slot", "grace", "unit", "threshold")}
            process = Process(**who, started=record["at"])
            current[process.slot] = process
            found.append(process)
        elif record["what"] == "signal":
            current[record["slot"]].signals.append((record["at"], record["signal"]))
        elif record["what"] == "quota":
            current[record["slot"]].slow.append((record["at"], stage[-1]["at"]))
        elif record["what"] == "lifted":
            limited = next(each for each in found if each.slow and each.pid == record["pid"])
            limited.slow[-1] = (limited.slow[-1][0], record["at"])
        elif record["what"] == "exit":
            process = current[record["slot"]]
            process.exited, process.code = record["at"], record["code"]
            process.ready, process.last_words = record["ready"], record["last_words"]
    for process in found:
        process.stops = _stops(process)
    return found


def _stops(process: Process) -> list[tuple[float, float]]:
    stops, since = [], None
    for at, signal in process.signals:
        if signal == "SIGSTOP" and since is None:
            since = at
        elif signal == "SIGCONT" and since is not None:
            stops.append((since, at))
            since = None
    return [*stops, (since, process.exited)] if since is not None else stops


def _barriers(stage: Sequence[Record], last: float) -> list[Barrier]:
    resumed = {record["hold"]: record["at"] for record in stage if record["what"] == "resume"}
    idle = {record["hold"]: record["at"] for record in stage if record["what"] == "idle"}
    return [
        Barrier(
            each["scope"],
            each["target"],
            each["at"],
            resumed.get(each["hold"], last),
            each.get("pid"),
            idle.get(each["hold"]),
        )
        for each in stage
        if each["what"] == "barrier"
    ]


def _ramps(stage: Sequence[Record], last: float) -> list[Ramp]:
    """Those whose answer arrived."""
    over = {record["ramp"]: record["at"] for record in stage if record["what"] == "ramp over"}
    answered = {record["ramp"] for record in stage if record["what"] == "ramped"}
    limits = ("canary", "steps", "every", "rate")
    return [
        Ramp(each["kind"], each["at"], over.get(each["ramp"], last), **{limit: each[limit] for limit in limits})
        for each in stage
        if each["what"] == "ramp" and each["ramp"] in answered
    ]


def _locks(stage: Sequence[Record]) -> dict[int, list[tuple[float, float]]]:
    found = defaultdict(list)
    for record in stage:
        if record["what"] == "locked":
            for job in record["jobs"]:
                found[job].append((record["since"], record["at"]))
    return found


def _troubles(stage: Sequence[Record], last: float) -> list[Trouble]:
    found: list[Trouble] = []
    lasting: dict[str, list[tuple[float, str]]] = {"down": [], "burn": []}
    for record in stage:
        at, what = record["at"], record["what"]
        if what == "cut":
            found.append(Trouble(f"cut {record['how']}", at, at + record["seconds"], True, record.get("slot")))
        elif what == "backends":
            found.append(Trouble(f"{record['how']} backends", at, at))
        elif what == "late":
            found.append(Trouble("late", record["since"], at))
        elif what in lasting:
            lasting[what].append((at, record.get("how", "")))
        elif what in ("up", "burnt"):
            begin = "down" if what == "up" else "burn"
            since, how = lasting[begin].pop(0)
            found.append(Trouble(f"{begin} {how}".strip(), since, at))
    for what, begun in lasting.items():
        found += [Trouble(f"{what} {how}".strip(), since, last) for since, how in begun]
    return sorted(found, key=lambda trouble: trouble.since)


def _asked(records: Sequence[Record]) -> list[Asked]:
    found: dict[str, Asked] = {}
    for record in records:
        if record["what"] == "asked":
            for key in record["keys"]:
                found[key] = Asked(key, record["kind"], record["way"], record["at"])
        elif record["what"] == "committed":
            for key in record["keys"]:
                found[key].answered = True
    return list(found.values())


def _runs(records: Sequence[Record], processes: Sequence[Process]) -> list[Run]:
    if not records:
        return []
    born = records[0]
    # The pid may be reused: the process is the last one that was started in that slot before this time.
    mine = [process for process in processes if process.slot == int(born["slot"])]
    process = mine[bisect_right([each.started for each in mine], born["at"]) - 1]
    process.host = born["host"]
    found: list[Run] = []
    current: Run | None = None
    for record in records[1:]:
        if record["what"] == "start":
            same = {name: record[name] for name in ("job", "token", "key", "kind", "attempt", "age", "again")}
            current = Run(**same, started=record["at"], process=process, alive=record["at"])
            found.append(current)
        elif current is None or current.token != record["token"] or current.job != record["job"]:
            continue
        elif record["what"] == "alive":
            current.alive = record["at"]
        elif record["what"] == "end":
            current.alive = record["at"]
            current.ended, current.how, current.said = record["at"], record["how"], record.get("said", "")
    return found
