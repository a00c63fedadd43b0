"""A test of the static layer: it reports what the pages of the forge's own worker promised and its code did not do."""

from __future__ import annotations

import re
from collections.abc import Iterator

import products
import pytest
from claims import CHECKS, claims
from conftest import Database
from page import Page
from products import UPSTREAM, Product

# What the layer reports about each statement. Three are missing, because only the stop of a worker can show them: 3,
# the job ends at SIGTERM; 4, its result is written; 5, an interrupted job runs again soon. On a booted host the page
# drain-workers and tests/systemd show them.
REPORTED = {
    1: "Type=notify: the unit says simple",
    2: "TimeoutStopSec=30: the unit says nothing of it",
    6: 'column "state" does not exist',
    7: 'column "leased_by" does not exist',
    8: "marked is impossible, not waits",
    9: "no handler is registered for kind search.reindex",
    10: "timeout is one-for-all, not per-kind",
    11: "late is written, not refused",
    12: "no worker exports shithubd_job_queue_depth",
    13: "expired is again, not left",
}


@pytest.fixture
def theirs(database: Database) -> Iterator[Database]:
    """A database with the schema of upstream/."""
    database.query("DROP SCHEMA public CASCADE")
    database.query("CREATE SCHEMA public")
    database.query((UPSTREAM / "schema.sql").read_text())
    return database


def reported(page: Page, product: Product, database: Database) -> dict[int, str]:
    """All that the checks say, by the number of the statement."""
    headings = [
        (number, int(match[1]))
        for number, line in enumerate(page.text.splitlines(), 1)
        if (match := re.match(r"## (\d+)\.", line))
    ]
    said: dict[int, str] = {}
    for fault in (fault for check in CHECKS for fault in check(page, product, database)):
        number = max(number for start, number in headings if start <= fault.line)
        said[number] = f"{said.get(number, '')}{fault.text}\n"
    return said


def test_ten_of_thirteen_statements_are_reported_each_for_its_own_reason(theirs: Database) -> None:
    said = reported(Page(UPSTREAM / "page.md"), products.upstream(), theirs)
    assert set(said) == set(REPORTED)
    assert all(reason in said[number] for number, reason in REPORTED.items()), said


def test_all_statements_but_the_last_are_true_of_our_worker(database: Database) -> None:
    assert reported(Page(UPSTREAM / "page.md"), products.ours(), database) == {13: f"{REPORTED[13]}\n"}


def test_a_corrected_claim_is_not_reported(database: Database) -> None:
    page = Page(UPSTREAM / "page.md")
    page.text = page.text.replace("expired=left", "expired=again")
    assert not reported(page, products.ours(), database)


def test_a_claim_that_no_probe_knows_is_an_error(database: Database) -> None:
    page = Page(UPSTREAM / "page.md")
    page.text = page.text.replace("claim expired", "claim expird")
    with pytest.raises(KeyError):
        list(claims(page, products.ours(), database))
