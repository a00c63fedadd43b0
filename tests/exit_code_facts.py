"""What the code says of exit codes, for docs/exit-codes.md. See made_pages.py."""

from __future__ import annotations

import re

from made_pages import EXIT_CODES, ROOT, Facts

from shithubd_worker import errors
from shithubd_worker.host.dead_man import SIGNAL

CODES = {value: name for name, value in vars(errors).items() if name.startswith("EXIT_")}
UNITS = ("shithubd-worker.service", "shithubd-worker@.service", "shithub-history.service")
DIRECTIVES = ("Restart", "RestartSec", "RestartPreventExitStatus", "StartLimitIntervalSec", "ExecStopPost")


def codes(_: str) -> Facts:
    """Each code with its names, and whether systemd starts a worker again that ended with it."""
    final = set(_directive("RestartPreventExitStatus").split())
    rows = []
    for code, name in sorted(CODES.items()):
        raised = [
            f"`{each.__name__}`"
            for each in vars(errors).values()
            if isinstance(each, type) and issubclass(each, errors.ShithubdError) and each.exit_code == code
        ]
        rows.append((_link(str(code)), f"`{name}`", ", ".join(raised), "no" if str(code) in final else "yes"))
    rows.append((_link(f"signal {SIGNAL.value}"), f"`{SIGNAL.name}`", "", "yes"))
    return Facts(("code", "name in `errors.py`", "exceptions", "systemd restarts a worker"), rows)


def units(_: str) -> Facts:
    """What the units do with the end of their process."""
    rows = []
    for unit in UNITS:
        text = (ROOT / "units" / unit).read_text()
        found = re.findall(rf"^({'|'.join(DIRECTIVES)})=(.*)$", text, re.MULTILINE)
        rows += [(f"`{name}={value}`", f"`{unit}`") for name, value in found]
    merged: dict[str, list[str]] = {}
    for directive, unit in rows:
        merged.setdefault(directive, []).append(unit)
    return Facts(
        ("directive", "unit"), [(each, ", ".join(where)) for each, where in merged.items()], "what systemd does"
    )


def _directive(name: str) -> str:
    found = re.search(rf"^{name}=(.*)$", (ROOT / "units" / UNITS[0]).read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def _link(code: str) -> str:
    return f"[{code}: {headings()[code]}](#{anchor(code)})"


def headings() -> dict[str, str]:
    """The sections of the page that are about a code: code → title."""
    return dict(re.findall(r"^## (\d+|signal \d+): (.+)$", EXIT_CODES.read_text(), re.MULTILINE))


def anchor(code: str) -> str:
    """The fragment of a code's section, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", f"{code}: {headings()[code]}".lower()).replace(" ", "-")


MAKERS = {"codes": codes, "units": units}
