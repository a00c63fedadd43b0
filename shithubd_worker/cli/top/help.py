"""What the keys do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from shithubd_worker.cli.top.table import Line
from shithubd_worker.cli.top.view import View

if TYPE_CHECKING:
    from shithubd_worker.database.operations import Operations

TEXT = """\
up, down, j, k, PgUp, PgDn, Home, End   move the cursor
Enter   open the jobs of the kind, or the job
Esc     go back; in the first view: show all kinds again
s       sort by the next column (it has a *)
i       invert the order
w       figures of the last 5 minutes, hour or day
/       show only the kinds with some text in their names
Tab     in a list of jobs: those of the next state; n, b: next page, page before
p       pause the kind: asks for a yes and a reason, and records them
r       resume the kind: the same
Ctrl-Z  leave for the shell; `fg` comes back
q       quit; Ctrl-C, too

A figure with a + is a lower bound. The figures of the last minutes are up to
10 s old. "done in" is the time until the jobs that are due now are done, as
fast as they went lately. A red kind has failed jobs. A yellow one is held, or
has waiting jobs that no worker handles.""".splitlines()


class HelpView(View):
    """The help."""

    keys: ClassVar[str] = "Esc back  q quit"

    def ask(self, operations: Operations) -> Any:
        """Only whether the database is there."""
        return operations.now()

    def heading(self) -> str:
        """What this is."""
        return "shithubd-worker top: the keys"

    def last(self) -> int:
        """The last line."""
        return len(TEXT) - 1

    def body(self, width: int, height: int) -> list[Line]:
        """From the first line that is shown."""
        return [Line(text) for text in TEXT[self.at : self.at + height]]
