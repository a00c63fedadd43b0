"""What the units must say: each directive on which a promise rests, by its value.

No systemd is needed for that. `test_units_static.py` has systemd read the units, and the booted tests check that the
directives take effect.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

from shithubd_worker.settings.config import Config
from shithubd_worker.timing import PATIENCE_SECONDS

UNITS = Path(__file__).parents[2] / "units"
WORKER = "shithubd-worker.service"

PROMISED = {
    # Which processes are killed, and when, and what remains of them.
    "Type": ["notify"],
    "NotifyAccess": ["main"],  # a git of a job must not send messages in the worker's name
    "OOMPolicy": ["continue"],  # a git that takes too much memory is a failed attempt, not the end of the worker
    "KillMode": ["mixed"],  # SIGTERM does not reach the git of a job
    "TimeoutStopSec": ["30"],
    "TimeoutStopFailureMode": ["abort"],  # the stacks are in the journal
    "WatchdogSec": ["30"],
    "Restart": ["always"],
    "StartLimitIntervalSec": ["0"],  # a database may be away for hours
    "PartOf": ["shithubd-worker.target"],
    "ExecStopPost": ["-/usr/bin/shithubd-worker release-dead"],
    # The password: no other user can read it, and it is gone with the process.
    "RuntimeDirectory": ["%N"],
    "RuntimeDirectoryMode": ["0700"],
    "RuntimeDirectoryPreserve": ["no"],
    "LoadCredential": ["pgpass:/etc/shithub/pgpass"],
    "KeyringMode": ["private"],
    # What a job may write, and what others may read of that.
    "StateDirectory": ["shithub shithub/repos"],
    "StateDirectoryMode": ["0750"],
    "UMask": ["0027"],
    "ProtectSystem": ["strict"],
    "ProtectHome": ["yes"],
    "PrivateTmp": ["yes"],
    "ProtectProc": ["invisible"],
    # What the process may become, and which addresses it may reach.
    "User": ["shithub"],
    "NoNewPrivileges": ["yes"],
    "CapabilityBoundingSet": [""],
    "AmbientCapabilities": [""],
    "RestrictSUIDSGID": ["yes"],
    "RestrictNamespaces": ["yes"],
    "MemoryDenyWriteExecute": ["yes"],
    "RestrictAddressFamilies": ["AF_UNIX AF_INET AF_INET6"],
    "SystemCallFilter": [
        "@system-service",
        "~@privileged @resources",
        "landlock_create_ruleset landlock_add_rule landlock_restrict_self",  # each git is confined by it
    ],
    "SystemCallErrorNumber": ["EPERM"],
    "MemoryHigh": ["1536M"],
    "MemoryMax": ["2G"],
    "TasksMax": ["256"],
}


def directives(name: str) -> dict[str, list[str]]:
    """Each directive of a unit or a drop-in, with its values in order; empty if the directive is missing."""
    found = defaultdict(list)
    for line in (UNITS / name).read_text().splitlines():
        if match := re.match(r"([A-Za-z]+)=(.*)", line):
            found[match[1]].append(match[2])
    return found


@pytest.mark.parametrize("directive", PROMISED)
def test_a_directive_on_which_a_promise_rests_has_its_value(directive: str) -> None:
    assert directives(WORKER)[directive] == PROMISED[directive]


def test_the_target_is_stopped_after_its_workers_and_the_database_before_them() -> None:
    after = " ".join(directives(WORKER)["After"]).split()
    assert {"network-online.target", "postgresql.service", "shithubd-worker.target"} <= set(after)
    assert "Requires" not in directives(WORKER)  # a worker outlives a restart of its database


def test_the_long_drain_drop_in_lasts_as_long_as_it_says() -> None:
    text = (UNITS / "drop-ins/long-drain.conf").read_text()
    (minutes,) = re.findall(r"for up to (\d+) minutes, in place of (?:\d+) seconds", text)
    (seconds,) = re.findall(r"in place of (\d+) seconds", text)
    (grace,) = re.findall(r"(?m)^Environment=SHITHUBD_WORKER_GRACE=(\d+)$", text)
    assert int(grace) == int(minutes) * 60
    assert int(seconds) == Config().grace
    # Without the worker's requests for more time, systemd would end it earlier. So the drop-in changes nothing else.
    assert int(grace) > int(directives(WORKER)["TimeoutStopSec"][0]) > Config().grace + PATIENCE_SECONDS
    assert list(directives("drop-ins/long-drain.conf")) == ["Environment"]


def test_the_offline_drop_in_allows_no_address() -> None:
    said = directives("drop-ins/offline.conf")
    assert said["RestrictAddressFamilies"] == ["none", "AF_UNIX"]  # the first line removes what the unit lists
    assert (said["PrivateNetwork"], said["IPAddressDeny"]) == (["yes"], ["any"])
    assert said["Environment"] == ["SHITHUBD_WORKER_METRICS=off"]


def test_the_owner_drops_the_history_once_a_day_also_after_a_night_without_power() -> None:
    service, timer = directives("shithub-history.service"), directives("shithub-history.timer")
    assert service["User"] == ["shithub-admin"]
    assert service["ExecStart"] == ["/usr/bin/shithubd-worker history drop"]
    assert service["LoadCredential"] == ["pgpass:/etc/shithub/owner.pgpass"]
    assert service["RestartPreventExitStatus"] == directives(WORKER)["RestartPreventExitStatus"]
    assert timer["OnCalendar"]
    assert timer["Persistent"] == ["yes"]
