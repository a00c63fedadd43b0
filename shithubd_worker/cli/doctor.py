"""doctor: what threatens the queue now."""

from __future__ import annotations

import click

from shithubd_worker.cli.common import Shared, json_option, with_database
from shithubd_worker.cli.deadline import LOOK_SECONDS, within
from shithubd_worker.cli.screen import emit, folded, line
from shithubd_worker.errors import EXIT_CHECK_SAYS_NO, EXIT_OK


@click.command()
@with_database
@within(LOOK_SECONDS)
@json_option
def doctor(shared: Shared, *, as_json: bool) -> int:
    """Show what threatens the queue now.

    Each finding has its severity, its evidence and the page that says what to do. The command changes nothing.

    \b
    Exit codes:
      0    nothing was found; notices do not count
      3    something was found

    \b
    Examples:
      shithubd-worker doctor
      shithubd-worker doctor --json | jq -r '.findings[].name'
    """
    from shithubd_worker.doctor.finding import Finding, Severity
    from shithubd_worker.doctor.server import examine

    operations = shared.operations()
    found = list(examine(operations.connection, operations.schema))
    findings = [each for each in found if isinstance(each, Finding)]
    if as_json:
        emit({"findings": [{"name": each.name, "severity": each.severity, "said": each.said} for each in findings]})
    else:
        for each in findings:
            folded(f"{each.severity}: {each.said}")
            line(f"  what to do: shithubd-worker runbook {each.page}")
        if not findings:
            line("nothing threatens the queue")
    bad = any(each.severity is not Severity.NOTICE for each in findings)
    return EXIT_CHECK_SAYS_NO if bad else EXIT_OK


COMMANDS = (doctor,)
