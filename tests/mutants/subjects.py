"""All mutants, by their subjects."""

from __future__ import annotations

from mutants import (
    channel,
    commands,
    control,
    doctor,
    explain,
    figures,
    holds,
    leases,
    outcome,
    ramps,
    recovery,
    runbooks,
    timing,
    top,
    undo,
    units,
    verdict,
    wakes,
)
from mutants.mutant import Mutant

SUBJECTS: dict[str, tuple[Mutant, ...]] = {
    "runbooks": runbooks.MUTANTS,
    "leases": leases.MUTANTS,
    "holds": holds.MUTANTS,
    "recovery": recovery.MUTANTS,
    "ramps": ramps.MUTANTS,
    "explain": explain.MUTANTS,
    "units": units.MUTANTS,
    "wakes": wakes.MUTANTS,
    "commands": commands.MUTANTS,
    "undo": undo.MUTANTS,
    "channel": channel.MUTANTS,
    "outcome": outcome.MUTANTS,
    "control": control.MUTANTS,
    "shared state": control.SHARED,
    "figures": figures.MUTANTS,
    "timing": timing.MUTANTS,
    "top": top.MUTANTS,
    "verdict": verdict.MUTANTS,
    "doctor": doctor.MUTANTS,
}
