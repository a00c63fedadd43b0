"""Several workers on one host, and the units themselves."""

from __future__ import annotations

import nspawn
import pytest
from nspawn import Host, eventually
from worker_host import PROGRAM, UNIT, UNITS, drop_in, in_flight, open_door, outcomes

pytestmark = pytest.mark.timeout(900)  # the first test boots the host and installs everything
SECOND = "shithubd-worker@second.service"
TARGET = "shithubd-worker.target"


def test_a_stop_of_the_target_returns_when_all_workers_are_down(host: Host) -> None:
    drop_in(host, SECOND, "[Service]\nEnvironment=SHITHUBD_WORKER_METRICS=127.0.0.1:8082\n")
    host.run("systemctl", "enable", "--quiet", SECOND)
    try:
        host.run("systemctl", "start", TARGET)
        eventually(lambda: len(host.sql("shithub", "SELECT FROM beats WHERE state = 'idle'")) == 2, "both are up")
        numbers = [in_flight(host, "test.waits", door="door"), in_flight(host, "test.waits", door="door")]
        assert len({row["leased_by"] for row in host.sql("shithub", "SELECT leased_by FROM jobs")}) == 2
        with host.popen("systemctl", "stop", TARGET) as stop:
            for unit in (UNIT, SECOND):
                eventually(lambda u=unit: host.show(u, "ActiveState")["ActiveState"] == "deactivating", f"{unit} stops")
            open_door(host)
            assert stop.wait(nspawn.PATIENCE) == 0
        for unit in (UNIT, SECOND):
            assert host.show(unit, "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
        assert [outcomes(host, number) for number in numbers] == [["ok"], ["ok"]]
    finally:
        host.run("systemctl", "disable", "--quiet", SECOND)


def test_each_instance_has_its_own_environment_metrics_port_and_limits_in_one_slice(host: Host) -> None:
    units = {"shithubd-worker@two.service": "8082", "shithubd-worker@three.service": "8083"}
    for unit, port in units.items():
        host.write(f"/etc/shithub/{unit.removesuffix('.service')}.env", f"SHITHUBD_WORKER_METRICS=127.0.0.1:{port}\n")
    drop_in(host, "shithubd-worker@two.service", "[Service]\nMemoryMax=300M\nLimitNOFILE=777\n")
    host.run("systemctl", "enable", "--quiet", *units)
    try:
        host.run("systemctl", "start", TARGET)
        three = {UNIT: "8081", **units}
        for unit, port in three.items():
            eventually(lambda u=unit: host.show(u, "ActiveState") == {"ActiveState": "active"}, f"{unit} is up")
            pid = host.show(unit, "MainPID")["MainPID"]
            assert f'leased_by="{host.name}:{pid}"' in host.run("curl", "-sS", f"http://127.0.0.1:{port}/metrics")
            group = host.show(unit, "ControlGroup")["ControlGroup"]
            assert group.startswith("/shithubd.slice/shithubd-worker.slice/")
            assert group.endswith(f"/{unit}")
        shown = [host.show(unit, "MemoryMax", "LimitNOFILE") for unit in units]
        assert shown[0] == {"MemoryMax": str(300 * 1024**2), "LimitNOFILE": "777"}
        assert shown[1]["MemoryMax"] == str(2 * 1024**3)
        pid = host.show("shithubd-worker@two.service", "MainPID")["MainPID"]
        assert "777" in host.run("grep", "Max open files", f"/proc/{pid}/limits")
        listed = host.run("systemctl", "list-dependencies", "--plain", TARGET).split()
        assert set(three) <= set(listed)
    finally:
        host.run("systemctl", "disable", "--quiet", *units)


def test_the_preset_enables_the_target_and_no_worker(host: Host) -> None:
    host.run("systemctl", "disable", "--quiet", UNIT, TARGET)
    try:
        host.run("systemctl", "preset", "--quiet", UNIT, SECOND, TARGET)
        assert host.run("systemctl", "is-enabled", TARGET) == "enabled\n"
        for unit in (UNIT, SECOND):
            assert host.run("systemctl", "is-enabled", unit, check=False) == "disabled\n"
    finally:
        host.run("systemctl", "enable", "--quiet", UNIT, TARGET)


def test_the_instance_for_webhooks_runs_only_webhooks(host: Host) -> None:
    unit = "shithubd-worker@webhooks.service"
    drop_in(host, unit, (UNITS / "drop-ins/webhooks.conf").read_text())
    host.run("systemctl", "start", unit)
    assert host.sql("shithub", "SELECT unit, kinds FROM workers") == [{"unit": unit, "kinds": ["webhook.deliver"]}]


def test_the_units_are_as_shipped_and_uninstall_refuses_while_a_worker_runs(host: Host) -> None:
    assert host.run("shithubd-worker", "units", "diff") == ""
    assert "unchanged" in host.run("shithubd-worker", "units", "install")
    assert f"ExecStart={PROGRAM} run" in host.run("systemctl", "cat", UNIT)
    host.run("systemctl", "start", UNIT)
    with pytest.raises(nspawn.NspawnError, match="exit code 5") as refused:
        host.run("shithubd-worker", "units", "uninstall")
    assert f"still active: {UNIT}. First: systemctl stop" in str(refused.value)
    host.run("systemctl", "stop", UNIT)
    try:
        assert "systemctl disable" in host.run("shithubd-worker", "units", "uninstall")
        assert host.show(UNIT, "LoadState") == {"LoadState": "not-found"}
        assert host.run("find", "/etc/systemd/system", "-name", "shithubd-worker*", "-type", "l") == ""
        assert host.run("ls", "/etc/shithub") != ""
    finally:
        host.run("shithubd-worker", "units", "install")
        host.run("systemctl", "enable", "--quiet", UNIT)
