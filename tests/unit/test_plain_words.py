"""What we write is easy to read: tests/prose.py has the measure, and the words to avoid."""

from __future__ import annotations

from pathlib import Path

import pytest
from prose import HERE, LONGEST, PAGES, files, grade, median_length, sentences, stumbles

RUNBOOKS = [page for page in PAGES if page.is_relative_to(HERE / "runbooks")]


def name_of(path: Path) -> str:
    return str(path.relative_to(HERE))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_takes_nine_years_of_school_and_no_long_breath(page: Path) -> None:
    text = page.read_text()
    assert grade(text) <= 9
    assert [said for said in sentences(text) if len(said.split()) > LONGEST] == []


@pytest.mark.parametrize("page", RUNBOOKS, ids=name_of)
def test_half_of_the_sentences_of_a_runbook_have_at_most_fourteen_words(page: Path) -> None:
    assert median_length(page.read_text()) <= 14


def test_no_file_has_a_word_that_a_tired_reader_stumbles_over() -> None:
    found = [
        f"{name_of(path)}:{number}: {word!r}: {better}"
        for path in files()
        for number, word, better in stumbles(path.read_text())
    ]
    assert found == []


def test_the_measure_notices_long_sentences_hard_words_and_what_to_avoid() -> None:
    page = "# A heading counts as nothing\n\nIt runs `shithubd-worker status --json` now.\n\n```sh\nwhoever\n```\n"
    assert list(sentences(page)) == ["It runs code now."]
    hard = "Notwithstanding comprehensive administrative considerations, responsibility necessitates organization.\n"
    assert grade(hard) > 9 > grade(page)
    found = stumbles("It stops by itself.\nWhoever set it, ends it.\n")
    assert [word for _, word, _ in found] == ["by itself", "Whoever"]
