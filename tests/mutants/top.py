"""`top`: what it asks before a change, what it shows, and how it ends."""

from __future__ import annotations

from mutants.mutant import Mutant

ROOM = "shithubd_worker/cli/top"
SIZES = ("tests/unit/test_top_screens.py",)
ASKS = ("test_a_pause_asks_for_a_yes_and_a_reason_and_is_recorded",)

MUTANTS = (
    Mutant("any key means yes", f"{ROOM}/app.py", 'if key in ("y", "Y", "upper_y"):', 'if key != "n":', ASKS),
    Mutant(
        "a pause does without its reason",
        f"{ROOM}/changes.py",
        "pause_kind(kind, reason,",
        "pause_kind(kind, None,",
        ASKS,
    ),
    Mutant(
        "an end drops the change that was typed before",
        f"{ROOM}/feed.py",
        "while self.changes or not self._ends():",
        "while not self._ends():",
        SIZES,
    ),
    Mutant(
        "a change that was cut short is not told",
        f"{ROOM}/session.py",
        "if unfinished:",
        "if False:",
        ("test_a_change_that_can_not_be_completed_is_told_at_the_end",),
    ),
    Mutant(
        "a signal waits for a program that hangs",
        f"{ROOM}/terminal.py",
        "signal.setitimer(signal.ITIMER_REAL, END_SECONDS)",
        "pass",
        ("test_a_signal_ends_it_even_while_it_hangs",),
    ),
    Mutant(
        "a figure is cut",
        f"{ROOM}/table.py",
        "if column.text else size for",
        "if column.text else min(size, 3) for",
        SIZES,
    ),
    Mutant(
        "what others wrote steers the terminal", f"{ROOM}/table.py", "plain = on_one_line(text)", "plain = text", SIZES
    ),
    Mutant(
        "n asks for a page behind one that is not there yet",
        f"{ROOM}/jobs.py",
        "self.found[0] == self._asks()",
        "True",
        SIZES,
    ),
    Mutant(
        "a new order takes the cursor to another kind",
        f"{ROOM}/kinds.py",
        "        self._stay()\n        return True",
        "        return True",
        SIZES,
    ),
)
