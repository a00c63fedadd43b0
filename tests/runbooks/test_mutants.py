"""The list of mutants follows the product, and an error isn't taken for a test that noticed something."""

from __future__ import annotations

from pathlib import Path

import mutants
import pytest


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_has_something_to_change(mutant: mutants.Mutant) -> None:
    assert mutants.concerned(mutants.REPOSITORY, mutant)


def test_there_are_enough_of_them() -> None:
    assert len({mutant.name for mutant in mutants.MUTANTS}) == len(mutants.MUTANTS) >= 40


def test_only_an_assertion_of_a_test_finds_a_mutant(tmp_path: Path) -> None:
    [file] = mutants.LAYERS["static"]
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
    found, stumbled = mutants.run(tmp_path / "tree", "static")
    assert found == ["test_notices", "test_says_so"]
    assert [line.split(":")[0] for line in stumbled] == ["test_stumbles", "test_hangs", "test_has_no_fixture"]
    test.write_text("import no_such_module\n")
    found, stumbled = mutants.run(tmp_path / "tree", "static")
    assert not found
    assert stumbled
