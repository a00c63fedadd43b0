"""The facts of a page are made anew, and its words stay."""

from __future__ import annotations

import pytest
from made_pages import Facts, filled, markers, without_words

PAGE = """# A page

<!-- made: table x -->
| name | size | what it is |
|---|---|---|
| `a` | 1 | the first \\| best |
| `b` | 2 | the second |

Words between.

<!-- made: list -->
- one
- two
"""


def made(page, rows=(("`a`", "1"), ("`b`", "2")), lines="- one\n- two"):
    return filled(page, {"table": lambda _: Facts(("name", "size"), rows, "what it is"), "list": lambda _: lines})


def test_a_page_that_is_up_to_date_stays_as_it_is():
    assert made(PAGE) == PAGE


def test_a_fact_that_changed_is_made_anew_and_keeps_its_words():
    found = made(PAGE, [("`a`", "9"), ("`b`", "2")], "- three")
    assert found == PAGE.replace("| 1 |", "| 9 |").replace("- one\n- two", "- three")


def test_a_row_that_is_new_has_no_words_yet():
    found = made(PAGE, [("`a`", "1"), ("`c`", "3")])
    assert "| `c` | 3 |  |\n" in found
    assert "`b`" not in found
    assert without_words(found) == ["`c`"]
    assert without_words(PAGE) == []


def test_a_marker_with_nothing_below_it_is_filled():
    assert made("<!-- made: list -->\n\nWords.\n") == "<!-- made: list -->\n- one\n- two\n\nWords.\n"


def test_a_marker_that_nobody_knows_is_a_fault():
    with pytest.raises(KeyError):
        made("<!-- made: nothing -->\n")


def test_markers_are_told_with_their_arguments():
    assert markers(PAGE) == [("table", "x"), ("list", "")]
