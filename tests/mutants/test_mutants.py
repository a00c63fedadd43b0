"""The lists of mutants follow the product. Only a test that noticed a mutant counts, and no other error."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants.__main__ import Record
from mutants.mutant import REPOSITORY, Mutant, concerned, file_of
from mutants.subjects import SUBJECTS
from mutants.trial import NOT_FOUND, Verdict, run

MUTANTS = [mutant for mutants in SUBJECTS.values() for mutant in mutants]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_has_text_to_change_and_tests_that_search_for_it(mutant: Mutant) -> None:
    assert concerned(REPOSITORY, mutant)
    assert mutant.old != mutant.new
    for layer in mutant.layers:
        assert (REPOSITORY / layer.split(" ")[0].split("::")[0]).exists()


def test_there_are_enough_mutants() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 40


def test_a_resumed_run_of_the_same_tree_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    path = tmp_path / "build/mutants.tsv"
    record = Record(path, resume=True)
    record.add(MUTANTS[0], Verdict("tests/unit/test_x.py", "test_y", 1.0))
    record.add(MUTANTS[1], Verdict(NOT_FOUND, "", 1.0))
    assert Record(path, resume=True).found == {MUTANTS[0].name}
    path.write_text(path.read_text().replace(path.read_text()[:10], "of another"))
    assert Record(path, resume=True).found == set()
    assert Record(path, resume=False).found == set()


def test_only_a_failed_assertion_of_a_test_finds_a_mutant(tmp_path: Path) -> None:
    file = file_of("test_what_a_page_says_is_so")
    test = tmp_path / "tree" / file
    test.parent.mkdir(parents=True)
    test.write_text(
        "import pytest\n"
        "@pytest.fixture\ndef broken():\n    assert False\n"
        "def test_notices():\n    assert 'the page' == 'the product'\n"
        "def test_says_so():\n    pytest.fail('the page lies')\n"
        "def test_stumbles():\n    {}['page']\n"
        "@pytest.mark.timeout(0.1)\ndef test_hangs():\n    import time\n    time.sleep(60)\n"
        "def test_has_no_fixture(broken):\n    pass\n"
        "def test_is_content():\n    pass\n"
    )
    found, stumbled = run(tmp_path / "tree", file)
    assert found == ["test_notices", "test_says_so"]
    assert [line.split(":")[0] for line in stumbled] == ["test_stumbles", "test_hangs", "test_has_no_fixture"]
    test.write_text("import no_such_module\n")
    found, stumbled = run(tmp_path / "tree", file)
    assert not found
    assert stumbled
