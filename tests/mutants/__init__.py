"""Prove the prover: change the product where something relies on it, and check that a test fails.

    make mutants
    cd tests && ../.venv/bin/python -m mutants [--subject NAME] [--only TEXT] [--static] [--jobs N] [--resume]

Each mutant is one change in a copy of the tree: of a name, a figure, a condition or a promise. It names the tests that
must find it. The tests of the runbooks search in layers, the quick ones first.

A mutant counts as found if one of these tests failed by an assertion. An error elsewhere proves nothing: nothing could
be collected, a fixture failed, or a test stumbled over something else. Such a mutant is BROKEN, and not found.

The command prints what found each mutant and how long that took, and exits 1 if a mutant survives. It keeps the results
in build/mutants.tsv. With --resume, a run of the same tree goes on where the last one ended.

`mutant.py` defines a mutant, `trial.py` tries one, and `subjects.py` has the lists, a file for each subject.
"""
