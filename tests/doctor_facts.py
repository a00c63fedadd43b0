"""What the code says of the doctor's checks, for docs/doctor.md. See made_pages.py."""

from __future__ import annotations

from made_pages import ROOT, Facts

from shithubd_worker.doctor.finding import PAGES
from shithubd_worker.doctor.limits import LIMITS


def checks(_argument: str) -> Facts:
    """Each check, and its runbook."""
    return Facts(("check", "runbook"), [(f"`{name}`", _page(page)) for name, page in PAGES.items()], "what it finds")


def limits(_argument: str) -> Facts:
    """Each limit that --limit can change."""
    rows = [(f"`{name}`", f"{value:,}") for name, value in LIMITS.items()]
    return Facts(("limit", "usual"), rows, "what it limits")


def _page(name: str) -> str:
    [path] = (ROOT / "runbooks").glob(f"*/{name}.md")
    return f"[{name}](../{path.relative_to(ROOT)})"


MAKERS = {"checks": checks, "limits": limits}
