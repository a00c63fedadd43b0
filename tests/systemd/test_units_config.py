"""The configuration of a unit, at its start and by a reload, on a real systemd host."""

from __future__ import annotations

import nspawn
import pytest
from nspawn import Host, eventually
from page import Page
from worker_host import REPOSITORY, UNIT, drop_in, enqueue, in_flight, outcomes, runs, status_text

pytestmark = pytest.mark.timeout(900)  # the first test boots the host and installs everything


def test_a_wrong_configuration_fails_once(host: Host) -> None:
    drop_in(host, UNIT, "[Service]\nEnvironment=SHITHUBD_WORKER_GRACE=soon\n")
    with pytest.raises(nspawn.NspawnError):
        host.run("systemctl", "start", UNIT)
    shown = host.show(UNIT, "ActiveState", "ExecMainStatus", "NRestarts")
    assert shown == {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0"}
    eventually(lambda: "SHITHUBD_WORKER_GRACE" in host.journal(UNIT), "the journal says why")


def test_a_unit_that_systemd_gave_up_on_shows_in_node_exporter(host: Host) -> None:
    """As the alert WorkerUnitFailed reads it, with the settings of Debian's package."""
    host.run("systemctl", "start", "prometheus-node-exporter")
    drop_in(host, UNIT, "[Service]\nEnvironment=SHITHUBD_WORKER_GRACE=soon\n")
    host.run("systemctl", "start", UNIT, check=False)
    sample = f'node_systemd_unit_state{{name="{UNIT}",state="failed",type="notify"}} 1\n'
    eventually(lambda: sample in host.run("curl", "-sS", "http://127.0.0.1:9100/metrics", check=False), "it is failed")


def reload(host: Host, *lines: str) -> None:
    """`systemctl reload`, with this text in a file of the unit's own."""
    host.write("/etc/shithub/shithubd-worker.env", "".join(f"{line}\n" for line in lines))
    host.run("systemctl", "reload", UNIT)


def test_a_reload_changes_a_worker_while_it_runs_a_job(host: Host) -> None:
    host.run("systemctl", "start", UNIT)
    pid = host.show(UNIT, "MainPID")
    number = in_flight(host, "test.waits", door="never opened")
    reload(host, "SHITHUBD_WORKER_GRACE=0", "PGPORT=5433")
    eventually(lambda: "reloaded: SHITHUBD_WORKER_GRACE=0" in host.journal(UNIT), "the journal says what changed")
    eventually(lambda: "only a restart changes PGPORT" in host.journal(UNIT), "and what needs a restart")
    eventually(lambda: host.show(UNIT, "SubState") == {"SubState": "running"}, "the reload is over")
    assert host.show(UNIT, "MainPID") == pid
    assert runs(host, number)
    host.run("systemctl", "stop", UNIT)
    assert outcomes(host, number) == ["released"]  # with the grace from its start, the job would have had 25 s


SAYS = "--grace (SHITHUBD_WORKER_GRACE): 'soon' is not a number of seconds"


def test_a_reload_of_a_wrong_configuration_fails_and_changes_nothing(host: Host) -> None:
    host.run("systemctl", "start", UNIT)
    pid = host.show(UNIT, "MainPID")
    with pytest.raises(nspawn.NspawnError, match=r"systemctl reload .* exit code 1"):
        reload(host, "SHITHUBD_WORKER_LOG_LEVEL=debug", "SHITHUBD_WORKER_GRACE=soon")
    eventually(lambda: SAYS in host.journal(UNIT), "the journal says why")
    assert SAYS in host.run("systemctl", "status", "--full", UNIT)
    assert host.show(UNIT, "MainPID", "ActiveState") == {**pid, "ActiveState": "active"}
    number = enqueue(host, "test.touch", name="worked on")
    eventually(lambda: outcomes(host, number) == ["ok"], "it works on")
    reload(host, "SHITHUBD_WORKER_GRACE=5")
    eventually(lambda: "reloaded: SHITHUBD_WORKER_GRACE=5" in host.journal(UNIT), "the next one is taken")


def test_a_reload_is_checked_with_the_flags_of_the_unit(host: Host) -> None:
    flags = "--schema public run --grace ${SHITHUBD_WORKER_PREFETCH} --handlers host_jobs:registry"
    drop_in(host, UNIT, f"[Service]\nExecStart=\nExecStart=/usr/bin/shithubd-worker {flags}\n")
    started = ("SHITHUBD_WORKER_HANDLERS=", "SHITHUBD_WORKER_KIND=test.touch", "SHITHUBD_WORKER_PREFETCH=1")
    host.write("/etc/shithub/shithubd-worker.env", "".join(f"{line}\n" for line in started))
    host.run("systemctl", "start", UNIT)
    reload(host, *started, "SHITHUBD_WORKER_GRACE=soon")  # the flag wins over it
    with pytest.raises(nspawn.NspawnError, match="exit code 1"):
        reload(host, *started[:2], "SHITHUBD_WORKER_PREFETCH=soon")
    eventually(lambda: SAYS in host.journal(UNIT), "the journal says why")


def test_a_signal_alone_reloads_and_the_worker_reports_a_wrong_configuration(host: Host) -> None:
    host.run("systemctl", "start", UNIT)
    host.write("/etc/shithub/shithubd-worker.env", "SHITHUBD_WORKER_GRACE=soon\n")
    host.run("systemctl", "kill", "--signal=HUP", "--kill-whom=main", UNIT)
    eventually(lambda: status_text(host).startswith(f"idle; not reloaded: {SAYS}"), "the status says so")
    eventually(lambda: f"not reloaded, the worker keeps its settings: {SAYS}" in host.journal(UNIT), "the journal too")
    reload(host, "SHITHUBD_WORKER_GRACE=5")
    eventually(lambda: status_text(host) == "idle", "the next one is taken")


def test_the_project_that_init_writes_comes_to_a_host_as_its_readme_says(host: Host) -> None:
    unit = "shithubd-worker@jobs.service"
    _, steps = Page(REPOSITORY / "project/README.md").blocks
    host.run("sh", "-euc", f"cd /root && shithubd-worker init first && cd first\n{steps.text}")
    number = enqueue(host, "hello", name="Ada")
    eventually(lambda: outcomes(host, number) == ["ok"], "its worker ran the job")
    assert "hello, Ada" in host.journal(unit)
    assert host.run("curl", "-sS", "http://127.0.0.1:8070/healthz") == "ok\n"
    host.run("systemctl", "disable", "--now", "--quiet", unit)
    host.run("rm", "-r", "/srv/jobs", "/root/first")
