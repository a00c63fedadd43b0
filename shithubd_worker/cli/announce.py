"""A line for the chat about each command that changed something. It never delays the command, and never fails it.

A process apart (host/apart.py) waits for the command's end. Then it asks the database which rows of the audit record
the command wrote, and posts them. So no command needs to tell what it did, and none can forget it. It also works for a
command that was killed after its commit.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shithubd_worker.cli.markup import slack
from shithubd_worker.cli.screen import say
from shithubd_worker.cli.told import how_much, until
from shithubd_worker.errors import ConfigError
from shithubd_worker.settings.config import AUDIT_WEBHOOK

if TYPE_CHECKING:
    from shithubd_worker.cli.common import Shared

# All of it: the connection to the database, the question, the post. Then it gives up.
WHOLE_SECONDS = 10
ANSWER_SECONDS = 8
LONGEST_URL = 2000
MOST_LINES = 20


class Announcer:
    """Posts what this command changes. `command` is the name by which its rows are found."""

    def __init__(self, url: str) -> None:
        from uuid import uuid4

        self._url = url
        self._pipe: int | None = None
        self.command = uuid4().hex

    def start(self, shared: Shared) -> None:
        """Start the process that posts. The caller has no connection yet, and is the user as whom it will connect."""
        from shithubd_worker.host import apart

        with suppress(OSError):  # no process or no descriptor is left: the command is more important
            self._pipe = apart.start(lambda reads: self._wait(replace(shared, kept_by=None, announcer=None), reads))

    def now(self) -> None:
        """Post what was committed so far. The command goes on, perhaps for hours."""
        if self._pipe is not None:
            with suppress(OSError):
                os.write(self._pipe, b"\n")

    def _wait(self, shared: Shared, reads: int) -> None:
        signal.signal(signal.SIGALRM, _give_up)
        posted: set[int] = set()
        goes_on = b"\n"
        while goes_on:
            goes_on = os.read(reads, 1)
            signal.alarm(WHOLE_SECONDS)
            try:
                rows = [row for row in _changes(shared, self.command) if row["id"] not in posted]
                posted |= {row["id"] for row in rows}
                if rows:
                    post(self._url, text(rows))
            except Exception as error:  # noqa: BLE001 (nobody is there to see it)
                _complain(error)
            signal.alarm(0)


def wanted() -> Announcer | None:
    """The announcer of this command. None if nothing is set, or if the command writes no audit row. Each command that
    writes one takes a reason. None if the setting can't be used, too: then it says so, in one line."""
    context = click.get_current_context(silent=True)
    file = context.find_root().params.get("audit_webhook") if context else None
    if context is None or not file or "reason" not in context.params or context.params.get("dry_run"):
        return None
    try:
        return Announcer(read_url(file))
    except ConfigError as error:
        say(f"shithubd-worker: no line is posted: {error}")
        return None


def read_url(file: str) -> str:
    """The URL in the file. Raises ConfigError, which never shows the URL."""
    try:
        # O_NONBLOCK: a pipe without a writer must not hold the command.
        descriptor = os.open(Path(file), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            url = os.read(descriptor, LONGEST_URL + 1).decode().strip()
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise ConfigError(f"{AUDIT_WEBHOOK.spelled}: {file!r} can't be read: {why}") from None
    if fault := _fault(url):
        raise ConfigError(f"{AUDIT_WEBHOOK.spelled}: {file!r} {fault}")
    return url


def _fault(url: str) -> str | None:
    from urllib.parse import urlsplit

    if not url:
        return "is empty"
    if len(url) > LONGEST_URL:
        return f"is longer than {LONGEST_URL} characters"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "must have one line: a URL, without blanks and control characters"
    with suppress(ValueError):
        parts = urlsplit(url)
        if "@" in parts.netloc:
            return "must have no user and no password before the host"
        if parts.hostname and parts.port != 0:
            if parts.scheme == "https" or (parts.scheme == "http" and _is_here(parts.hostname)):
                return None
            return "must begin with https://; http:// goes only to this host itself"
    return "must have a URL, such as https://hooks.example.org/services/..."


def _is_here(host: str) -> bool:
    import ipaddress

    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def text(rows: Iterable[Mapping[str, Any]]) -> str:
    """What is posted: a line for each change."""
    lines = [_line(row) for row in rows]
    more = len(lines) - MOST_LINES
    return "\n".join([*lines[:MOST_LINES], *([f"... and {more} more changes"] if more > 0 else [])])


def _line(row: Mapping[str, Any]) -> str:
    why = f": {slack(row['reason'])}" if row["reason"] else ""
    end = f" until {ends:%Y-%m-%d %H:%M} UTC" if (ends := until(row)) else ""
    return f"{slack(row['actor'])}: {slack(row['action'])} {how_much(row, slack)}{end}{why} (audit {row['id']})"


def post(url: str, words: str) -> None:
    """Post once. A redirect is an error, too: the line was meant for this receiver alone."""
    import urllib.request

    from shithubd_worker.plain import json_text

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    request = urllib.request.Request(  # noqa: S310 (read_url looked at the scheme)
        url, json_text({"text": words}).encode(), {"Content-Type": "application/json"}
    )
    # A proxy must not read the line, and can't reach this host. It only passes on what TLS hides.
    direct = () if request.type == "https" else (urllib.request.ProxyHandler({}),)
    with urllib.request.build_opener(NoRedirect, *direct).open(request, timeout=ANSWER_SECONDS):
        pass


def _changes(shared: Shared, command: str) -> list[dict[str, Any]]:
    from shithubd_worker.database.operations import Operations

    connect = shared.connect("shithubd-worker command", pooled=True, answer_seconds=ANSWER_SECONDS)
    operations = Operations(connect, shared.schema_name)
    try:
        return [row for (row,) in operations.rows("command_changes_v1", command)]
    finally:
        operations.close()


def _give_up(*_: object) -> None:
    raise TimeoutError


def _complain(error: Exception) -> None:
    """One line for the journal. It has neither the URL nor what the receiver said."""
    import syslog

    code = getattr(error, "code", None)
    what = f"the receiver answered {code}" if isinstance(code, int) else type(getattr(error, "reason", error)).__name__
    syslog.openlog("shithubd-worker", syslog.LOG_PID, syslog.LOG_USER)
    syslog.syslog(syslog.LOG_WARNING, f"the line about a change was not posted: {what}")
