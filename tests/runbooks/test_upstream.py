"""The static layer proved: it reports what the pages of the forge's own worker said and its code didn't keep."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import products
import pytest
from claims import CHECKS, claims
from conftest import Database
from page import Page
from products import UPSTREAM, Product

# A worker that runs must be stopped to see these: that a job is finished at SIGTERM, that its result is written, and
# that an interrupted one runs again at once. test_executed.py sees them, on the page drain-workers.
TAKE_A_PROCESS = {3, 4, 5}
# Of our worker the last one isn't true either: it does lease again what another has lost.
NOT_TRUE_OF_OURS = {13}
ALL = set(range(1, 14))


@pytest.fixture
def theirs(database: Database) -> Iterator[Database]:
    """A database with the schema of upstream/."""
    database.query("DROP SCHEMA public CASCADE")
    database.query("CREATE SCHEMA public")
    database.query((UPSTREAM / "schema.sql").read_text())
    return database


def reported(page: Page, product: Product, database: Database) -> set[int]:
    """The numbers of the statements in which a check finds a fault."""
    headings = [
        (number, int(match[1]))
        for number, line in enumerate(page.text.splitlines(), 1)
        if (match := re.match(r"## (\d+)\.", line))
    ]
    faults = [fault for check in CHECKS for fault in check(page, product, database)]
    print(*faults, sep="\n")
    return {max(number for start, number in headings if start <= fault.line) for fault in faults}


def test_all_statements_are_reported_but_those_that_take_a_process(theirs: Database) -> None:
    page = Page(UPSTREAM / "page.md")
    assert reported(page, products.upstream(), theirs) == ALL - TAKE_A_PROCESS


def test_of_our_worker_the_same_statements_are_true_but_one(database: Database) -> None:
    assert reported(Page(UPSTREAM / "page.md"), products.ours(), database) == NOT_TRUE_OF_OURS


def test_a_claim_that_was_set_right_is_not_reported(database: Database, tmp_path: Path) -> None:
    page = Page(UPSTREAM / "page.md")
    page.text = page.text.replace("expired=left", "expired=again")
    assert not reported(page, products.ours(), database)


def test_a_claim_that_no_probe_knows_is_a_fault_of_its_page(database: Database) -> None:
    page = Page(UPSTREAM / "page.md")
    page.text = page.text.replace("claim expired", "claim expird")
    with pytest.raises(KeyError):
        list(claims(page, products.ours(), database))
