"""From a fault to its alert, from the alert to its page, and from the page to the alert's end.

On a booted host, with a real Prometheus and Alertmanager. The rules run at sixty times their speed, but a worker at its
own. It counts the queue every 10 s, so here the figures are as late as if it counted every 10 minutes.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import pytest
from follow import do, set_scene, steps
from monitoring import Monitoring
from nspawn import Host, eventually
from page import RUNBOOKS
from worker_host import UNIT, configure, start_postgresql

# The first one boots the host and installs everything.
pytestmark = [pytest.mark.loop, pytest.mark.timeout(900)]

# Three alerts that wake somebody: about the workers, the database, and the way between them.
ALWAYS = ("WorkerAbsent", "PostgresUnreachable", "LeasingStalled")
# Some look half a minute back at the attempts of one kind. Those do not stand next to each other. The first looks six
# minutes back, and jobs that succeed would hide its one failure.
LONG = (
    "JobsFailedForGood",
    "WorkerDown",
    "KindPausedTooLong",
    "FleetHoldTooLong",
    "HoldTooLong",
    "KindRampStopped",
    "KindOnlyFails",
    "QueueOldestAgeHigh",
    "JobsStartLate",
    "QueueNotDraining",
    "JobBacklogGrowing",
    "KindUnhandled",
    "ExpiredLeases",
    "JobFailureRatioHigh",
    "PoisonJobs",
    "KindEndsItsProcess",
    "FencedWrites",
)
LOOPS = [*ALWAYS, *(pytest.param(alert, marks=pytest.mark.long) for alert in LONG)]


@pytest.fixture(scope="module")
def monitoring(booted: Host) -> Iterator[Monitoring]:
    for tool in ("prometheus", "prometheus-alertmanager"):
        if shutil.which(tool) is None:
            assert os.environ.get("CI") != "true", f"{tool} is missing (Debian: {tool})"
            pytest.skip(f"no {tool} on this machine (Debian: {tool})")
    with Monitoring(booted) as both:
        yield both


def all_is_well(host: Host, monitoring: Monitoring, alert: str) -> None:
    """A worker is up, Prometheus has seen this very process, and the alert doesn't fire."""
    host.run("systemctl", "start", UNIT)
    this = f'shithub_worker_info{{leased_by="{host.name}:{host.show(UNIT, "MainPID")["MainPID"]}"}}'
    eventually(lambda: monitoring.query(this), "Prometheus sees the worker")
    eventually(lambda: not monitoring.firing(alert), f"{alert} doesn't fire")


def check_what_it_says(fired: dict[str, Any], rule: dict[str, Any], kind: str | None) -> None:
    """Does the alert tell the person on call what the rule says?"""
    labels, annotations = fired["labels"], fired["annotations"]
    assert labels["severity"] == rule["labels"]["severity"]
    assert labels.get("kind") in (None, kind)
    parts = re.split(r"(\{\{.*?\}\})", rule["annotations"]["summary"])
    filled = [r".*\d.*" if "$value" in part else ".+" if part.startswith("{{") else re.escape(part) for part in parts]
    assert re.fullmatch("".join(filled), annotations["summary"]), annotations["summary"]
    assert annotations["runbook"] == f"shithubd-worker runbook {rule['name']}"
    assert annotations["runbook_url"].endswith(f"/runbooks/alerts/{rule['name']}.md")


def is_over(alert: str, monitoring: Monitoring) -> bool:
    """Has the alert resolved, and can Prometheus still see the worker and evaluate the rule?"""
    rule = monitoring.rule(alert)
    assert rule["health"] == "ok", rule
    seen = monitoring.query('up{job="shithubd-worker"} == 1')
    return rule["state"] == "inactive" and bool(seen) and not monitoring.firing(alert)


@pytest.mark.parametrize("alert", LOOPS)
def test_the_alert_fires_and_resolves_when_somebody_follows_its_page(
    alert: str, host: Host, monitoring: Monitoring, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(host, "page_jobs:registry")
    all_is_well(host, monitoring, alert)
    values: dict[str, str] = {}
    first = steps(RUNBOOKS / f"alerts/{alert}.md")[0]
    try:
        set_scene(host, first, values)
        began = time.monotonic()
        fired = eventually(lambda: monitoring.firing(alert), f"{alert} fires")[0]
        firing = time.monotonic() - began
        check_what_it_says(fired, monitoring.rule(alert), values.get("kind"))

        told = steps(RUNBOOKS.parent / fired["annotations"]["runbook_url"].partition("/blob/main/")[2])
        assert told[0] == first
        told[0].scenes.clear()  # it is set already
        look = list(takewhile(lambda block: block.section not in ("Stop the damage", "Mend it"), told))
        for block in look:
            set_scene(host, block, values)
            do(host, block, values)
        eventually(lambda: monitoring.firing(alert), f"{alert} fires until something is done")
        for block in told[len(look) :]:
            set_scene(host, block, values)
            do(host, block, values)
        followed = time.monotonic() - began
        eventually(lambda: is_over(alert, monitoring), f"{alert} resolves")
        over = time.monotonic() - began
    finally:
        start_postgresql(host)  # a page may have failed while it was down
    with capsys.disabled():
        print(f"\n{alert}: fires {firing:.1f} s after its scene is set, dealt with: {followed:.1f}, over: {over:.1f}")
