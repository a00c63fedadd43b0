"""Prove the prover: change the product where something relies on it, and see that a test goes red.

    make mutants
    cd tests && ../.venv/bin/python -m mutants [--subject NAME] [--only TEXT] [--static] [--jobs N] [--resume]

Each mutant is one change in a copy of the tree: of a name, of a figure, of a condition, of one of the promises. It
names the tests that must find it; the tests of the runbooks search in layers, of which the quick ones come first.

A mutant counts as found when one of these tests failed by an assertion. An error elsewhere (nothing could be collected,
a fixture failed, a test stumbled over something else) proves nothing: such a mutant is BROKEN, and not found. Prints
what found each one and how long that took, and exits 1 if one survives. What was found is kept in build/mutants.tsv:
with --resume a run of the same tree goes on where the last one ended.

`mutant.py` says what a mutant is, `trial.py` tries one, `subjects.py` has the lists, a file for each subject.
"""
