"""`shithubd-worker runbook` shows the pages on the host where they are needed."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from shithubd_worker.cli import cli, runbook
from shithubd_worker.errors import Refused


def output(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["runbook", *arguments], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.output


def test_the_command_lists_every_page_with_a_line_about_it() -> None:
    lines = output().splitlines()
    assert [line.split()[0] for line in lines] == list(runbook.pages())
    assert {"incidents", "drain-workers", "WorkerDown", "README"} <= set(runbook.pages())
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)
    assert [row["name"] for row in json.loads(output("--json"))] == list(runbook.pages())


@pytest.mark.parametrize("name", runbook.pages())
def test_the_command_shows_a_page_without_the_marks_for_the_tests(name: str) -> None:
    shown = output(name.upper())
    assert shown.startswith("# ")
    assert not [line for line in shown.splitlines() if line.startswith("<!--")]
    assert json.loads(output(name, "--json"))["text"] == shown


def test_an_unknown_page_is_refused_in_one_clear_line() -> None:
    with pytest.raises(Refused, match="`shithubd-worker runbook` lists them"):
        output("nothing")


def test_the_names_of_pages_are_completed_without_a_database() -> None:
    assert runbook._complete(None, None, "Drain") == ["drain-workers"]
