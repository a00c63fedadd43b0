"""The first view: the kinds, and below them the holds, what runs, and the workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from shithubd_worker.cli import ramping, shown
from shithubd_worker.cli.top.jobs import JobsView
from shithubd_worker.cli.top.table import CURSOR, Column, Line, brief, figure, laid_out, rate, with_cursor, wrapped
from shithubd_worker.cli.top.view import View
from shithubd_worker.cli.ways_out import Command
from shithubd_worker.database.leased import running
from shithubd_worker.model import Scope
from shithubd_worker.plain import lasting, to_the_second

if TYPE_CHECKING:
    from shithubd_worker.database.operations import Operations

WINDOWS = ("5m", "1h", "24h")
FIGURES_SECONDS = 10.0
# Of very many kinds the database names some. A filter finds so many others whose names begin with it.
MOST_LIKE = 5
Kind = dict[str, Any]


class Shown(NamedTuple):
    """A column of the kinds: how a kind is shown there, and by what it is sorted."""

    column: Column
    cell: Callable[[Kind], str]
    order: Callable[[Kind], Any]


def _ran(name: str) -> Callable[[Kind], Any]:
    return lambda kind: kind["ran"].get(name)


def _percentile(of: str) -> Callable[[Kind], Any]:
    return lambda kind: (kind["ran"].get(of) or {}).get("p95")


def _percent(kind: Kind) -> str:
    ratio = kind["ran"].get("failure_ratio")
    return "" if ratio is None else f"{ratio * 100:.1f} %"


def _done_in(kind: Kind) -> str:
    return "" if kind.get("backlog_seconds") is None else lasting(kind["backlog_seconds"])


def _counted(name: str) -> Callable[[Kind], str]:
    return lambda kind: figure(kind, name)


def _value(name: str) -> Callable[[Kind], Any]:
    return lambda kind: kind.get(name)


# In the order of the screen. The second word of a Column says which of them give way on a narrow screen.
COLUMNS = (
    Shown(Column("kind", 0, text=True), lambda kind: kind["kind"], _value("kind")),
    Shown(Column("queued", 1), _counted("queued"), _value("queued")),
    Shown(Column("running", 2), _counted("running"), _value("running")),
    Shown(Column("held", 3), _counted("held"), _value("held")),
    Shown(Column("failed", 4), _counted("failed"), _value("failed")),
    Shown(Column("per s", 6), lambda kind: rate(kind["ran"].get("per_second")), _ran("per_second")),
    Shown(Column("wait p95", 7), lambda kind: brief(_percentile("wait")(kind)), _percentile("wait")),
    Shown(Column("run p95", 9), lambda kind: brief(_percentile("run")(kind)), _percentile("run")),
    Shown(Column("failing", 8), _percent, _ran("failure_ratio")),
    Shown(Column("done in", 5), _done_in, _value("backlog_seconds")),
    Shown(Column("ready", 13), _counted("runnable"), _value("runnable")),
    Shown(Column("oldest", 10), lambda kind: brief(kind["oldest_seconds"]), _value("oldest_seconds")),
    Shown(Column("retries", 11), _counted("retries"), _value("retries")),
    Shown(Column("workers", 12), lambda kind: f"{kind['workers']:,}" if kind["workers"] else "none", _value("workers")),
)


class KindsView(View):
    """The kinds as a table that can be sorted and filtered."""

    keys: ClassVar[str] = "Enter jobs  p pause  r resume  s sort  w window  / filter  ? all keys  q quit"

    def __init__(self, command: Command) -> None:
        super().__init__()
        self._command = command
        self.sort, self.inverted = 1, False
        self.window = 0
        self.filter = ""
        self._picked: str | None = None  # the kind under the cursor
        self._figures: dict[str, Kind] = {}  # as `stats` has them, by kind
        self._figures_at = -FIGURES_SECONDS

    def ask(self, operations: Operations) -> Any:
        """The state of all, and the figures of each kind. The workers write those every 10 s, so they are not asked
        for more often."""
        found = operations.status()
        now = time.monotonic()
        if now >= self._figures_at + FIGURES_SECONDS:
            self._figures = {kind["kind"]: kind for kind in operations.stats() if kind["kind"] is not None}
            self._figures_at = now
        kinds = {kind["kind"]: _joined(self._figures.get(kind["kind"], {}), kind) for kind in found["kinds"]}
        kinds = self._figures | kinds
        if (more := found["more_kinds"]) is not None:
            more["kinds"] = max(0, more["kinds"] + len(found["kinds"]) - len(kinds))
            if self.filter:
                like = [name for name in operations.kinds_like(self.filter) if name not in kinds]
                kinds |= {name: kind for name in like[:MOST_LIKE] for kind in operations.stats(name)}
        return found | {"kinds": list(kinds.values())}

    def heard(self, found: Any) -> None:
        """The cursor stays on its kind, wherever that is now."""
        super().heard(found)
        self._stay()

    def heading(self) -> str:
        """The summary, and the database's time."""
        if self.found is None:
            return ""
        return f"{to_the_second(self.found['at'])[11:]} {shown.summary(self.found)}"

    def note(self) -> str:
        """How the table is made, and what is missing in it."""
        if self.found is None:
            return "waiting for the first figures"
        order = "up" if self.inverted != (self.sort == 0) else "down"
        told = [f"sorted by {COLUMNS[self.sort].column.name}, {order}; figures of the last {WINDOWS[self.window]}"]
        if self.filter:
            told.append(f"only kinds with {self.filter!r}")
        if more := self.found["more_kinds"]:
            told.append(f"and {more['kinds']:,} more kinds")
        return "; ".join(told)

    def opened(self) -> View | None:
        """The jobs of the kind under the cursor."""
        kind = self.kind()
        return None if kind is None else JobsView(kind, self._command)

    def kind(self) -> str | None:
        """The kind under the cursor."""
        kinds = self._kinds()
        return kinds[self.at]["kind"] if self.at < len(kinds) else None

    def held(self, kind: str) -> str:
        """Who pauses a kind, and why. Empty if nobody does."""
        holds = self.found["holds"] if self.found else []
        return "; ".join(
            text.strip() for hold in holds if (hold["scope"], hold["target"]) == ("kind", kind) for text in _hold(hold)
        )

    def last(self) -> int:
        """The last kind."""
        return max(0, len(self._kinds()) - 1)

    def move(self, lines: int) -> None:
        """Keep the kind in mind: its row may move."""
        super().move(lines)
        self._picked = self.kind()

    def key(self, name: str) -> bool:
        """s, i and w, beside those that move the cursor."""
        if name == "s":
            self.sort = (self.sort + 1) % len(COLUMNS)
        elif name == "i":
            self.inverted = not self.inverted
        elif name == "w":
            self.window = (self.window + 1) % len(WINDOWS)
        else:
            return super().key(name)
        self._stay()
        return True

    def filtered(self, text: str) -> None:
        """Show only the kinds with this text in their names."""
        self.filter, self.at, self._picked = text, 0, None
        self.asks_anew = True

    def body(self, width: int, height: int) -> list[Line]:
        """The table, and below it what else there is to see."""
        if self.found is None:
            return []
        below = list(self._below(width))
        kinds = self._kinds()
        for_kinds = min(len(kinds) + 2, height - min(sum(map(len, below)), height // 2))
        lines = self._table(kinds, width, for_kinds)
        lines += _shared(below, height - len(lines))
        return lines[:height]

    def _stay(self) -> None:
        names = [kind["kind"] for kind in self._kinds()]
        self.at = names.index(self._picked) if self._picked in names else max(0, min(self.at, len(names) - 1))

    def _kinds(self) -> list[Kind]:
        """The kinds that pass the filter, sorted. A kind without a figure comes last."""
        if self.found is None:
            return []
        kinds = [
            {"ran": (kind.get("windows") or {}).get(WINDOWS[self.window]) or {}} | kind
            for kind in self.found["kinds"]
            if self.filter.lower() in kind["kind"].lower()
        ]
        order = COLUMNS[self.sort].order
        kinds.sort(key=lambda kind: kind["kind"])
        known = [kind for kind in kinds if order(kind) is not None]
        known.sort(key=order, reverse=self.inverted == (self.sort == 0))
        return known + [kind for kind in kinds if order(kind) is None]

    def _table(self, kinds: Sequence[Kind], width: int, height: int) -> list[Line]:
        rows = [[each.cell(kind) for each in COLUMNS] for kind in kinds]
        head, lines = laid_out([each.column for each in COLUMNS], rows, width - len(CURSOR), sorted_by=self.sort)
        told = with_cursor(head, lines, [_style(kind) for kind in kinds], self.at, height, width)
        if not kinds:
            told += wrapped(Line(self._none()), width, 3)
        return told

    def _none(self) -> str:
        if not self.filter:
            return "no kind is known yet"
        if self.found["more_kinds"]:
            return f"of the kinds with most jobs none has {self.filter!r} in its name, and no other one begins with it"
        return f"no kind has {self.filter!r} in its name"

    def _below(self, width: int) -> Iterator[list[Line]]:
        yield [Line(text, "yellow") for hold in self.found["holds"] for text in _hold(hold)]
        columns = [Column(name, rank, text=name in ("kind", "leased by", "unit")) for name, rank in _RUNNING]
        rows = [
            [
                one.job,
                one.kinds,
                one.leases[0]["leased_by"],
                one.leases[0]["unit"] or "",
                brief(one.leases[0]["seconds"]),
            ]
            for one in running(self.found["leases"])
        ]
        yield _section(columns, rows, width)
        columns = [Column(name, rank, text=name in ("worker", "unit", "runs")) for name, rank in _WORKERS]
        yield _section(columns, [_worker(each) for each in self.found["workers"]], width)


def _joined(figures: Kind, kind: Kind) -> Kind:
    """A kind with its figures. `stats` counts on where `status` stops, so its number is the better one there."""
    if not figures:
        return kind
    better = [name for name in kind["capped"] if figures[name] >= kind[name]]
    capped = [name for name in kind["capped"] if name not in better or name in figures["capped"]]
    return figures | kind | {name: figures[name] for name in better} | {"capped": capped}


_RUNNING = (("running", 0), ("kind", 1), ("leased by", 3), ("unit", 4), ("for", 2))
_WORKERS = (("worker", 0), ("unit", 4), ("state", 1), ("runs", 2), ("last beat", 3))


def _style(kind: Kind) -> str:
    if kind["failed"]:
        return "red"
    return "yellow" if kind["held"] or (kind["queued"] and kind["workers"] == 0) else ""


def _hold(hold: Mapping[str, Any]) -> Iterator[str]:
    why = f": {hold['reason']}" if hold["reason"] else ""
    until = f" until {to_the_second(hold['until'])}" if hold["until"] else ""
    by = f"by {hold['actor']} since {to_the_second(hold['created'])}{until}"
    yield f"hold: {hold['mode']} of {Scope(hold['scope'], hold['target'])}, {by}{why}"
    if hold["ramp"]:
        yield f"      ramp: {ramping.now(hold['ramp'])}"


def _worker(worker: Mapping[str, Any]) -> list[str]:
    leased = f"{worker['leases']:,} leased" if worker["leases"] else ""
    runs = leased if worker["job_id"] is None else f"{worker['job_kind']} {worker['job_id']}"
    state = "silent" if worker["silent"] else worker["state"]
    return [worker["leased_by"], worker["unit"] or "", state, runs, brief(worker["beat_seconds"])]


def _section(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[Line]:
    if not rows:
        return []
    head, lines = laid_out(columns, rows, width)
    return [Line(head, "bold"), *map(Line, lines)]


def _shared(sections: Sequence[list[Line]], height: int) -> list[Line]:
    """The sections below each other. If they are too long, each gets its part, and says how much it leaves out."""
    told: list[Line] = []
    wanted = [section for section in sections if section]
    if height >= sum(map(len, wanted)) + len(wanted):
        return [line for section in wanted for line in (Line(""), *section)]
    for number, section in enumerate(wanted):
        others = sum(map(len, wanted[number + 1 :]))
        part = max((height - len(told)) // (len(wanted) - number), height - len(told) - others)
        if len(section) <= part:
            told += section
        elif part > 1:
            told += [*section[: part - 1], Line(f"... {len(section) - part + 1:,} more")]
    return told
