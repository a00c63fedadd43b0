"""The jobs of a kind, and one job with all that is known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rich.cells import chop_cells

from shithubd_worker.cli import explain, reasons
from shithubd_worker.cli.jobs import told
from shithubd_worker.cli.screen import line, written
from shithubd_worker.cli.top.table import CURSOR, Column, Line, laid_out, with_cursor
from shithubd_worker.cli.top.view import View
from shithubd_worker.cli.ways_out import Command
from shithubd_worker.model import LISTED
from shithubd_worker.plain import to_the_second

if TYPE_CHECKING:
    from shithubd_worker.database.operations import Operations

MOST_JOBS = 100
LONGEST_LINE = 20_000  # characters, of a payload
STATES = (None, *LISTED)
COLUMNS = (
    Column("id", 0),
    Column("state", 1, text=True),
    Column("may run at (UTC)", 2, text=True),
    Column("attempts", 4),
    Column("last error", 3, text=True),
)


class JobsView(View):
    """A page of the jobs of one kind in the order of their ids, of all states or of one."""

    keys: ClassVar[str] = "Enter job  Tab state  n, b pages  p pause  r resume  Esc back  ? keys  q quit"

    def __init__(self, kind: str, command: Command) -> None:
        super().__init__()
        self._kind, self._command = kind, command
        self._state = 0
        self._after: list[int | None] = [None]  # where this page begins, and those before it

    def ask(self, operations: Operations) -> Any:
        """The jobs, with what they were asked for, and whether there are more."""
        state, after = asked = self._asks()
        where: dict[str, object] = {"kind": self._kind, **({"state": state} if state else {})}
        found = operations.jobs(where, MOST_JOBS + 1, after)
        return asked, found[:MOST_JOBS], len(found) > MOST_JOBS

    def heard(self, found: Any) -> None:
        """The cursor stays on its job."""
        job = self._job()
        super().heard(found)
        ids = [each["id"] for each in found[1]]
        self.at = ids.index(job["id"]) if job and job["id"] in ids else max(0, min(self.at, self.last()))

    def heading(self) -> str:
        """Which jobs these are."""
        if self.found is None:
            return f"jobs of {self._kind}"
        (state, _), jobs, more = self.found
        page = f" (page {len(self._after)}{', and there are more' if more else ''})" if more or self._after[1:] else ""
        return f"{len(jobs)} {state or 'waiting, running and failed'} job(s) of {self._kind}{page}"

    def last(self) -> int:
        """The last job."""
        return max(0, len(self.found[1]) - 1) if self.found else 0

    def kind(self) -> str | None:
        """The kind of all of them."""
        return self._kind

    def opened(self) -> View | None:
        """The job under the cursor."""
        job = self._job()
        return None if job is None else JobView(job["id"], self._kind, self._command)

    def key(self, name: str) -> bool:
        """Tab, n and b, beside those that move the cursor."""
        if name in ("tab", "shift+tab"):
            self._state = (self._state + (1 if name == "tab" else -1)) % len(STATES)
            self._after = [None]
        elif name == "n" and self.found and self.found[0] == self._asks() and self.found[2]:
            self._after.append(self.found[1][-1]["id"])
        elif name == "b" and self._after[1:]:
            self._after.pop()
        else:
            return super().key(name)
        self.asks_anew = True
        return True

    def body(self, width: int, height: int) -> list[Line]:
        """The table of jobs."""
        if self.found is None:
            return []
        rows = [
            [
                str(job["id"]),
                job["state"],
                to_the_second(job["run_at"]),
                str(job["attempts"]),
                (job["last_error"] or "").partition("\n")[0],
            ]
            for job in self.found[1]
        ]
        if not rows:
            return [Line("no such jobs")]
        head, lines = laid_out(COLUMNS, rows, width - len(CURSOR))
        return with_cursor(head, lines, [""] * len(lines), self.at, height, width)

    def _asks(self) -> tuple[str | None, int | None]:
        """The state of the jobs, and the id before the first one."""
        return STATES[self._state], self._after[-1]

    def _job(self) -> dict[str, Any] | None:
        jobs = self.found[1] if self.found else []
        return jobs[self.at] if self.at < len(jobs) else None


class JobView(View):
    """What `jobs show` says of one job, and why it doesn't run."""

    keys: ClassVar[str] = "up, down  p pause kind  r resume kind  Esc back  ? help  q quit"

    def __init__(self, job: int, kind: str, command: Command) -> None:
        super().__init__()
        self._id, self._kind, self._command = job, kind, command
        self._lines: list[str] = []  # as the last screen was wide

    def ask(self, operations: Operations) -> Any:
        """Why it doesn't run, and the job with its history."""
        return operations.explain(self._id), operations.job(self._id)

    def heard(self, found: Any) -> None:
        """As lines of text."""
        super().heard(written(lambda: self._show(*found)))

    def _show(self, why: dict[str, Any] | None, job: dict[str, Any] | None) -> None:
        if job is None or why is None:
            line(f"no job {self._id}: it is not in the queue, and not in the kept history")
            return
        explain.show(reasons.told(why, self._command))
        line()
        told(job)

    def heading(self) -> str:
        """Which job it is."""
        return f"job {self._id} of {self._kind}"

    def kind(self) -> str | None:
        """The kind of the job."""
        return self._kind

    def last(self) -> int:
        """The last line."""
        return max(0, len(self._lines) - 1)

    def body(self, width: int, height: int) -> list[Line]:
        """From the first line that is shown. A long line goes on below."""
        self._lines = [part for text in self.found or [] for part in chop_cells(_shortened(text), width) or [""]]
        return [Line(text) for text in self._lines[self.at : self.at + height]]


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]} ... (cut: `jobs show` has all of it)"
