"""Try mutants and print the results: see the package."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutants.mutant import REPOSITORY, Mutant, wants_host
from mutants.subjects import SUBJECTS
from mutants.trial import Verdict, attempt, digest, trouble_without_a_change

RECORD = REPOSITORY / "build/mutants.tsv"


class Record:
    """The results for this tree, by the names of mutants. The first line of its file is the digest of the tree."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        self._path = path
        lines = path.read_text().splitlines() if resume and path.exists() else []
        tree = digest()
        self.found = {line.split("\t")[0] for line in lines[1:]} if lines[:1] == [tree] else set()
        path.parent.mkdir(exist_ok=True)
        if not self.found:
            path.write_text(f"{tree}\n")

    def add(self, mutant: Mutant, verdict: Verdict) -> None:
        """Keep the result if the mutant was found."""
        if verdict.found:
            with self._path.open("a") as file:
                file.write(f"{mutant.name}\t{verdict.word}\t{verdict.why}\t{verdict.seconds:.0f}\n")


def layers_of(mutant: Mutant, *, static: bool) -> tuple[str, ...]:
    """The layers that search for the mutant on this machine."""
    return tuple(layer for layer in mutant.layers if not (static and wants_host(layer)))


def chosen(subject: str, only: str) -> Iterator[Mutant]:
    """The mutants that the arguments select."""
    for name, mutants in SUBJECTS.items():
        if subject in ("", name):
            yield from (mutant for mutant in mutants if only in mutant.name)


def main() -> int:
    """Try the selected mutants, and print the results."""
    parser = argparse.ArgumentParser(prog="mutants", description="Change the product, and see that a test goes red.")
    parser.add_argument("--subject", default="", choices=[*SUBJECTS], help="only mutants of this subject")
    parser.add_argument("--only", metavar="TEXT", default="", help="only mutants whose name has this text")
    parser.add_argument("--static", action="store_true", help="without the layers that boot a host")
    parser.add_argument("--jobs", metavar="N", type=int, default=2, help="how many at a time (2)")
    parser.add_argument("--resume", action="store_true", help="not those that were found in this same tree already")
    asked = parser.parse_args()
    record = Record(RECORD, resume=asked.resume)
    tries = {mutant: layers_of(mutant, static=asked.static) for mutant in chosen(asked.subject, asked.only)}
    tries = {mutant: layers for mutant, layers in tries.items() if layers and mutant.name not in record.found}
    needed = dict.fromkeys(layer for layers in tries.values() for layer in layers)
    tests = " ".join(dict.fromkeys(test for layer in needed for test in layer.split(" ")))
    if tests and (trouble := trouble_without_a_change([tests])):
        raise SystemExit("the tests are red without any change:\n" + "\n".join(trouble))
    counts: Counter[str] = Counter()
    with ThreadPoolExecutor(max_workers=asked.jobs) as pool:
        for mutant, verdict in zip(tries, pool.map(attempt, tries, tries.values()), strict=True):
            counts["found" if verdict.found else verdict.word] += 1
            record.add(mutant, verdict)
            print(f"{verdict.seconds:4.0f} s  {verdict.word}  {mutant.name}  ({verdict.why})", flush=True)
    print(f"{counts['found']} of {len(tries)} found; {len(record.found)} were found before")
    return 0 if counts["found"] == len(tries) else 1


if __name__ == "__main__":
    sys.exit(main())
