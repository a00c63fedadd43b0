"""How a change of the audit record is told to a channel of people: which jobs or what else, and until when."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from shithubd_worker.cli import ramping
from shithubd_worker.plain import Json

EXAMPLES = 3


def how_much(row: Mapping[str, Any], quoted: Callable[[str], str]) -> str:
    """What a row changed: `job 42`, `2,500 jobs (7, 8, 9, ...)`, or a quoted target such as `kind search.reindex`."""
    if row["target"] != "jobs":
        of = quoted(row["target"])
    else:
        ids = [str(job) for job in row["job_ids"][:EXAMPLES]]
        of = f"{row['jobs']:,} jobs ({', '.join([*ids, *(['...'] if row['jobs'] > EXAMPLES else [])])})"
    return f"of {row['undoes']}: {of}" if row["undoes"] else f"{of}{steps(row)}"


def steps(row: Mapping[str, Any]) -> str:
    """What the ramp does that a row set, in brackets."""
    return f" ({ramping.planned(_detail(row))})" if row["action"] == "ramp" else ""


def until(row: Mapping[str, Any]) -> datetime | None:
    """The end of the hold that a row set. None if there is none, or if it is beyond the years that Python knows."""
    with suppress(ValueError, TypeError, OverflowError):
        end = _detail(row).get("until")
        if row["action"] in ("pause", "drain", "ramp") and isinstance(end, str):
            return datetime.fromisoformat(end).astimezone(UTC)
    return None


def _detail(row: Mapping[str, Any]) -> Mapping[str, Any]:
    detail = row["detail"].text if isinstance(row["detail"], Json) else row["detail"]
    with suppress(ValueError, TypeError, RecursionError):
        found = json.loads(detail)
        return found if isinstance(found, dict) else {}
    return {}
