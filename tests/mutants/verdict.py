"""The verdict of the torture run on what operators did: without one of its questions it would miss a broken promise."""

from __future__ import annotations

from mutants.mutant import Mutant

CHANGES = "tests/torture/check_changes.py"
BROKEN = ("test_a_broken_promise_is_reported",)
CLEAN = ("test_a_log_that_only_seems_to_break_a_promise_is_clean",)

MUTANTS = (
    Mutant("an end by hand needs no entry in the audit record", CHANGES, "len(rows) != len(gone)", "False", BROKEN),
    Mutant("an operator may end a job that runs", CHANGES, "yield from self._running(row)", "yield from ()", BROKEN),
    Mutant("a job that was brought back may be nowhere", CHANGES, "(job not in living)", "(job in living)", BROKEN),
    Mutant("a run may begin after an end by hand", CHANGES, "len(ends) > len(back)", "False", BROKEN),
    Mutant("a job that was brought back may not run", CHANGES, "len(ends) > len(back)", "ends", CLEAN),
    Mutant(
        "a job may fail with an operator's words, and nobody did it",
        "tests/torture/check_jobs.py",
        "row.last_error == FAILED_BY_HAND and row.job in failed",
        "row.last_error == FAILED_BY_HAND",
        BROKEN,
    ),
)
