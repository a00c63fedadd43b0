"""check-config --unit finds, before a start, what would make the start fail or go wrong."""

from __future__ import annotations

import json
import re

import nspawn
import pytest
from nspawn import Host
from worker_host import UNIT, drop_in

pytestmark = pytest.mark.timeout(900)  # the first test boots the host and installs everything

DROP_IN = f"/etc/systemd/system/{UNIT}.d/test.conf"
OWN = "/etc/shithub/shithubd-worker.env"


def refused(host: Host, unit: str = UNIT, code: int = 78) -> str:
    """What check-config prints about a unit."""
    with pytest.raises(nspawn.NspawnError, match=f"exit code {code}\n") as error:
        host.run("shithubd-worker", "check-config", "--unit", unit)
    return str(error.value)


def faults(host: Host, unit: str = UNIT) -> dict[str, str | None]:
    """The faults of a unit, as JSON has them, and the place of each."""
    told = json.loads(host.run("shithubd-worker", "check-config", "--unit", unit, "--json", check=False))
    return {each["fault"]: each["where"] for each in told["faults"]}


def assert_told(told: dict[str, str | None], *patterns: tuple[str, str | None]) -> None:
    """There is one fault for each pattern, with that place, and no other."""
    for pattern, where in patterns:
        found = [fault for fault in told if re.search(pattern, fault)]
        assert len(found) == 1, (pattern, told)
        assert told[found[0]] == where, (pattern, told)
    assert len(told) == len(patterns), told


def say(host: Host, *lines: str, unit: str = UNIT) -> None:
    drop_in(host, unit, "".join(f"{line}\n" for line in ("[Service]", *lines)))


def test_every_mistake_is_reported_at_once_with_its_place(host: Host) -> None:
    host.write(OWN, "export PGHOST=elsewhere\nSHITHUBD_WORKER_METRICS=nowhere:\nSHITHUBD_WORKER_KIND=test.a,test.b\n")
    say(
        host,
        "Environment=SHITHUBD_WORKER_GRACE=soon SHITHUBD_WORKER_METRICS=off",
        'Environment="PYTHONUNBUFFERED=1" \\',
        "  SHITHUBD_WORKER_EXCLUDE_KINDS=webhook.deliver",
        "KillMode=control-group",
        "Enviroment=SHITHUBD_WORKER_POLL_INTERVAL=3",
        "ExecStart=",
        "ExecStart=/usr/bin/shithubd-worker run --prefetch much",
    )
    assert_told(
        faults(host),
        (f"{OWN}: line 1: .* without `export`", None),
        ("KillMode=control-group: a stop kills", None),
        ("Unknown key .*Enviroment", f"{DROP_IN}:6"),
        (r"METRICS\): 'nowhere:' is not HOST or HOST:PORT", f"{OWN}:2"),
        ("no handler for kind 'test.a,test.b'; several are separated by spaces", f"{OWN}:3"),
        (r"GRACE\): 'soon' is not a number", f"{DROP_IN}:2"),
        ("EXCLUDE_KINDS is not a setting: did you mean SHITHUBD_WORKER_EXCLUDE_KIND?", f"{DROP_IN}:3"),
        (r"--prefetch .*: 'much' is not a number", f"{DROP_IN}:8"),
    )
    host.run("rm", OWN)
    say(host, "Environment=SHITHUBD_WORKER_EXCLUDE_KINDS=webhook.deliver")
    text = refused(host)
    assert text.rstrip().endswith(f"did you mean SHITHUBD_WORKER_EXCLUDE_KIND? [{DROP_IN}:2]")


def test_a_path_that_the_sandbox_or_the_user_closes_is_reported_as_out_of_reach(host: Host) -> None:
    for directory in ("/home/git/repos", "/srv/closed/secrets", "/srv/git"):
        host.run("mkdir", "-p", directory)
    host.run("chmod", "700", "/srv/closed")
    host.write("/srv/closed/mine.py", "from shithubd_worker import Registry\nregistry = Registry()\n")
    host.write("/srv/open/mine.py", "from host_jobs import registry\nprint('{')\n")
    host.write(OWN, "SHITHUBD_WORKER_HANDLERS=mine:registry\nPYTHONPATH=/srv/closed\n")
    say(
        host,
        "Environment=SHITHUBD_WORKER_REPO_ROOT=/home/git/repos",
        "Environment=SHITHUBD_WORKER_SECRETS_DIR=/srv/closed/secrets",
    )
    assert_told(
        faults(host),
        ("'/home/git/repos' is not a directory for the unit: it exists, but .*ProtectHome=yes", f"{DROP_IN}:2"),
        ("'/srv/closed/secrets' is not a directory for the unit: it exists, but User=shithub", f"{DROP_IN}:3"),
        ("mine:registry: there is no module .* PYTHONPATH=/srv/closed: this user cannot read it", f"{OWN}:1"),
    )
    host.run("rm", OWN)
    say(
        host,
        "Environment=SHITHUBD_WORKER_REPO_ROOT=/srv/git PGPASSFILE=/etc/shithub/pgpass",
        "Environment=SHITHUBD_WORKER_SECRETS_DIR=/srv/closed",
    )
    assert_told(
        faults(host),
        (r"'/srv/git' is read-only here, but repo.maintenance writes there; .*ReadWritePaths=/srv/git", f"{DROP_IN}:2"),
        ("'/srv/closed' can't be read by this user", f"{DROP_IN}:3"),
        ("PGPASSFILE: '/etc/shithub/pgpass' can't be read by this user", f"{DROP_IN}:2"),
    )
    host.write(OWN, "SHITHUBD_WORKER_HANDLERS=mine:registry\nPYTHONPATH=/srv/open:/srv/forge\n")
    say(host, "Environment=SHITHUBD_WORKER_REPO_ROOT=/srv/git", "ReadWritePaths=/srv/git")
    assert "configuration is good" in host.run("shithubd-worker", "check-config", "--unit", UNIT)


def test_a_refusal_of_systemd_or_the_command_line_is_reported_in_its_words(host: Host) -> None:
    for line, why in (
        ("User=nobody-here", "systemd can't start it: Failed to determine user credentials"),
        ("ReadWritePaths=/nowhere", "systemd can't start it: .*/nowhere: No such file or directory"),
        ("EnvironmentFile=/nowhere.env", "systemd can't start it: Failed to load environment files"),
        ("ExecStart=/bin/true", "is bad-setting: systemd doesn't start it"),
        ("Environment=SHITHUBD_WORKER_LOG_LEVEL=loud", "'loud' is not one of"),
    ):
        say(host, line)
        assert re.search(why, refused(host)), line


def test_a_unit_that_is_not_a_worker_of_this_host_is_refused(host: Host) -> None:
    assert "did you mean shithubd-worker.service?" in refused(host, "shithubd-wroker", code=5)
    assert "there is no unit 'shithubd-worker@.service'" in refused(host, "shithubd-worker@", code=5)
    assert "there is no unit '../x.service'" in refused(host, "../x", code=5)
    assert "starts no worker: its ExecStart= has no `run`" in refused(host, "shithub-history")
    assert "is not a service" in refused(host, "shithubd-worker.target")
    host.run("systemctl", "mask", "--runtime", "--quiet", "shithubd-worker@m")
    assert "shithubd-worker@m.service is masked" in refused(host, "shithubd-worker@m")
    host.run("systemctl", "unmask", "--runtime", "--quiet", "shithubd-worker@m")
    with pytest.raises(nspawn.NspawnError, match=r"exit code 77\n.*Run it as root"):
        host.run("runuser", "-u", "shithub", "--", "shithubd-worker", "check-config", "--unit", UNIT)


def test_a_check_disturbs_no_worker_leaves_nothing_and_knows_the_other_units(host: Host) -> None:
    worker, kept = "shithubd-worker@2.service", "/run/shithubd-worker@2"
    host.write("/etc/shithub/shithubd-worker@2.env", "SHITHUBD_WORKER_METRICS=0.0.0.0:9321\n")
    host.run("systemctl", "start", worker)
    before = host.show(worker, "MainPID", "InvocationID"), host.run("ls", "-l", kept)
    told = json.loads(host.run("shithubd-worker", "check-config", "--unit", worker, "--json"))
    assert told["config"]["metrics_port"] == 9321
    say(host, "Environment=SHITHUBD_WORKER_METRICS=127.0.0.1:9321")
    host.write(DROP_IN, "[Service]\n\nEnvironment=SHITHUBD_WORKER_METRICS=127.0.0.1:9321\n")
    assert_told(
        faults(host),
        ("not read the unit's files since they changed: run systemctl daemon-reload", None),
    )
    host.run("systemctl", "daemon-reload")
    [warning] = json.loads(host.run("shithubd-worker", "check-config", "--unit", UNIT, "--json"))["warnings"]
    assert "shithubd-worker@2.service has port 9321, too" in warning["fault"]
    assert warning["where"] == f"{DROP_IN}:3"
    said = host.run("sh", "-c", f"shithubd-worker check-config --unit {UNIT} 2>&1")
    assert f"{warning['fault']} [{warning['where']}]" in said
    assert "configuration is good" in said, "a worker works without its metrics"
    assert (host.show(worker, "MainPID", "InvocationID"), host.run("ls", "-l", kept)) == before
    assert "pgpass" in before[1]
    assert "shithubd-check" not in host.run("sh", "-c", "ls /run /run/systemd/system; systemctl list-units --all")
