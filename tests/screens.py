"""The views of `top`, without a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len

from shithubd_worker.cli.top.jobs import JobsView, JobView
from shithubd_worker.cli.top.kinds import KindsView
from shithubd_worker.cli.top.page import Page
from shithubd_worker.cli.top.table import Line, fit
from shithubd_worker.cli.top.view import View
from shithubd_worker.database.connection import connector
from shithubd_worker.database.operations import Operations

SIZES = ((80, 24), (200, 60))


def command(*words: str) -> str:
    """As Shared.command."""
    return " ".join(words)


def texts(view: View, width: int, height: int) -> Iterator[str]:
    """The lines of a view, as the terminal gets them."""
    page = Page()
    page.lines = [Line(fit(view.heading(), width)), Line(view.note()), *view.body(width, height - 3)]
    assert len(page.lines) <= height - 1
    for line in page.lines:
        assert cell_len(fit(line.text, width)) == width
        yield fit(line.text, width)


def check_views(url: str) -> None:
    """Each view of what is in the database: no row breaks it, and no text steers the terminal."""
    operations = Operations(connector(url, "top"), "public")
    kinds = KindsView(command)
    kinds.heard(kinds.ask(operations))
    views: list[View] = [kinds]
    for kind in {each["kind"] for each in kinds.found["kinds"]}:
        jobs = JobsView(kind, command)
        jobs.heard(jobs.ask(operations))
        views += [jobs, *(JobView(job["id"], kind, command) for job in jobs.found[1][:2])]
    for view in views:
        view.heard(view.ask(operations))
        for width, height in SIZES:
            assert all(text.isprintable() for text in texts(view, width, height))
    operations.close()
