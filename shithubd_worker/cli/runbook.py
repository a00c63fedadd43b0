"""runbook: shows the pages of runbooks/ on the host where they are needed."""

from __future__ import annotations

import re
from pathlib import Path

import click

from shithubd_worker.cli.common import json_option
from shithubd_worker.cli.screen import emit, line, page
from shithubd_worker.errors import EXIT_OK, Refused
from shithubd_worker.host import shipped


def pages() -> dict[str, Path]:
    """The pages by name: first the one that leads to the others, then tasks, then alerts, last how to read them."""
    folders = [sorted((shipped.RUNBOOKS / kind).glob("*.md")) for kind in ("tasks", "alerts")]
    first, last = shipped.RUNBOOKS / "incidents.md", shipped.RUNBOOKS / "README.md"
    return {path.stem: path for path in (first, *folders[0], *folders[1], last)}


def _complete(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in pages() if name.lower().startswith(incomplete.lower())]


@click.command()
@click.argument("name", required=False, shell_complete=_complete)
@json_option
def runbook(name: str | None, *, as_json: bool) -> int:
    """List the runbooks, or show one of them.

    A runbook is a task, or the page of an alert. `runbook incidents` leads from what you see to a page, and
    `runbook README` says how to read the pages. The command needs no database and no network, and changes nothing.
    Capital letters in NAME do not matter.

    \b
    Exit codes:
      0    shown
      5    there is no runbook of this name

    \b
    Examples:
      shithubd-worker runbook
      shithubd-worker runbook incidents
      shithubd-worker runbook drain-workers
      shithubd-worker runbook WorkerDown
    """
    if name is None:
        found = [{"name": each, "of": path.parent.name, "about": _about(path)} for each, path in pages().items()]
        if as_json:
            emit(found)
            return EXIT_OK
        width = max(len(row["name"]) for row in found)
        for row in found:
            line(f"{row['name']:<{width}}  {row['about']}")
        return EXIT_OK
    path = next((path for each, path in pages().items() if each.lower() == name.lower()), None)
    if path is None:
        raise Refused(f"there is no runbook {name!r}: `shithubd-worker runbook` lists them")
    text = _for_readers(path.read_text(encoding="utf-8"))
    if as_json:
        emit({"name": path.stem, "of": path.parent.name, "text": text})
    else:
        page(text)
    return EXIT_OK


COMMANDS = (runbook,)


def _about(path: Path) -> str:
    """One line: the first sentence about an alert, or the title of another page."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line]
    return lines[1].split(". ")[0].rstrip(".") if path.parent.name == "alerts" else lines[0].removeprefix("# ")


def _for_readers(text: str) -> str:
    """The page without what only the tests need."""
    return re.sub(r"^<!--.*?-->\n", "", text, flags=re.MULTILINE | re.DOTALL)
