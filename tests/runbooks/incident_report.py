"""build/incidents.md: a line for each incident, and all that the operator saw of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from page import RUNBOOKS

BUILD = RUNBOOKS.parent / "build"
RECORDS = BUILD / "incidents"
HEAD = """# What the operator saw

Written by `make test-long` (tests/runbooks/test_incidents_*.py). Seconds count from the fault. Alerts: "x60" marks the
shipped rules with all durations divided by 60. The closed loops run them so, because nobody can wait for a quarter of
an hour. "own" marks the same rules at their own speed. There `pending` means: the condition holds, and the rule's
`for:` still runs. Back at work: the seconds from the end of the fault, or from the start of the operator's last step,
to the end of the next job of the usual work. Waited: the longest time of a job of the usual work, from its INSERT to
its end.

| incident | first signs | alerts (own) | what led to a page | pages | back at work | waited | jobs |
|---|---|---|---|---|---|---|---|
"""


def write_report(record: dict[str, Any]) -> None:
    """Write the report again. This record replaces an older one of the same incident."""
    RECORDS.mkdir(parents=True, exist_ok=True)
    (RECORDS / f"{record['name']}.json").write_text(json.dumps(record, indent=1))
    records = [json.loads(path.read_text()) for path in sorted(RECORDS.glob("*.json"))]
    table = [_row(record) for record in records]
    texts = [_text(record) for record in records]
    (BUILD / "incidents.md").write_text(HEAD + "\n".join([*table, "", *texts]))


def _row(record: dict[str, Any]) -> str:
    seen = record["seen"]
    signs = [(at, what) for at, sort, what in seen if sort in ("journal", "unit") and what != "active (running)"]
    own = [(at, what.removesuffix(" (own)")) for at, sort, what in seen if sort == "alert" and what.endswith("(own)")]
    led = [(at, what.partition(": ")[0]) for at, sort, what in seen if sort == "led"]
    read = [(at, Path(what.partition(":")[0]).stem) for at, sort, what in seen if sort in ("does", "reads", "led")]
    pages = list(dict.fromkeys(stem for _, stem in read if any(RUNBOOKS.glob(f"*/{stem}.md"))))
    cells = (
        _name(record),
        "; ".join(f"{at:.1f} s {in_one_line(what, 1, 110)}" for at, what in signs[:2]) or "nothing",
        "; ".join(f"{at:.0f} s {what}" for at, what in own[:4]) or "none",
        "; ".join(f"{at:.0f} s {what}" for at, what in led),
        ", ".join(pages),
        record["recovered"],
        record["waited"],
        record["account"],
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _text(record: dict[str, Any]) -> str:
    lines = [f"{at:8.1f} s  {sort:8}{what}" for at, sort, what in record["seen"]]
    return "\n".join([f"## {_name(record)}\n", *record["asides"], "\n```", *lines, "```\n"])


def _name(record: dict[str, Any]) -> str:
    return record["name"] + ("" if record["passed"] else " (NOT PASSED)")


def in_one_line(text: str, most: int, width: int = 200) -> str:
    """The first lines of a text, with a slash between them."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return " / ".join(lines[:most])[:width]
