"""All mutants, by their subjects."""

from __future__ import annotations

from mutants import runbooks
from mutants.mutant import Mutant

SUBJECTS: dict[str, tuple[Mutant, ...]] = {
    "runbooks": runbooks.MUTANTS,
}
