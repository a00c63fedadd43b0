"""One run with its verdict: stage, evidence, checker, report. The logs are kept if something is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

from torture.checker import check
from torture.gather import gather
from torture.report import report
from torture.stage import Plan, Say, run
from torture.verdict import Verdict

TABLES = "tables.json"


class Outcome(NamedTuple):
    """The verdict, and the summary for people."""

    verdict: Verdict
    text: str


def torture(plan: Plan, say: Say, *, keep: bool = False) -> Outcome:
    """Run, judge and report."""
    stage = run(plan, say)
    (stage.logs / TABLES).write_text(json.dumps(stage.tables))
    verdict, text = judge(stage.logs)
    if verdict.violations or keep:
        text += f"\nthe logs, with what the tables held at the end in {TABLES}: {stage.logs}"
    else:
        shutil.rmtree(stage.logs)
    again = f"cd tests && ../.venv/bin/python -m torture --seconds {plan.seconds:g} --seed {plan.seed}"
    again += f" --postgres {plan.postgres} --only {','.join(plan.only)}"
    return Outcome(verdict, f"{text}\nthe same schedule of faults again: {again}")


def judge(logs: Path) -> Outcome:
    """The verdict on a run whose logs were kept."""
    evidence = gather(logs, json.loads((logs / TABLES).read_text()))
    verdict = check(evidence)
    return Outcome(verdict, report(evidence, verdict))
