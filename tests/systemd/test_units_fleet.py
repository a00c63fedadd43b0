"""Several workers on one host, and the units themselves."""

from __future__ import annotations

import json
import re

import nspawn
import pytest
from nspawn import Host, eventually
from worker_host import PROGRAM, REPOSITORY, UNIT, UNITS, drop_in, in_flight, open_door, outcomes

pytestmark = pytest.mark.timeout(900)  # the first test boots the host and installs everything
SECOND = "shithubd-worker@second.service"
TARGET = "shithubd-worker.target"
MEMORY = ("process_resident_memory_bytes", "shithub_worker_unit_memory_bytes")


def test_a_stop_of_the_target_returns_when_all_workers_are_down(host: Host) -> None:
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


def test_each_instance_has_its_own_metrics_port_and_limits_in_one_slice_and_prometheus_finds_all(host: Host) -> None:
    named = "shithubd-worker@web.service"
    ports = {UNIT: 8081, "shithubd-worker@1.service": 8082, "shithubd-worker@2.service": 8083, named: 8071}
    units = [unit for unit in ports if unit != UNIT]
    host.write("/etc/shithub/shithubd-worker@web.env", f"SHITHUBD_WORKER_METRICS=127.0.0.1:{ports[named]}\n")
    drop_in(host, units[0], "[Service]\nMemoryMax=300M\nLimitNOFILE=777\n")
    host.run("systemctl", "enable", "--quiet", *units)
    try:
        host.run("systemctl", "start", TARGET)
        for unit, port in ports.items():
            eventually(lambda u=unit: host.show(u, "ActiveState") == {"ActiveState": "active"}, f"{unit} is up")
            pid = host.show(unit, "MainPID")["MainPID"]
            shown = host.run("curl", "-sS", f"http://127.0.0.1:{port}/metrics")
            assert f'leased_by="{host.name}:{pid}"' in shown
            memory = {name: re.findall(rf"^{name} (.*)$", shown, re.MULTILINE) for name in MEMORY}
            assert all(float(value) > 2**24 for [value] in memory.values())
            group = host.show(unit, "ControlGroup")["ControlGroup"]
            assert group.startswith("/shithubd.slice/shithubd-worker.slice/")
            assert group.endswith(f"/{unit}")
        limits = [host.show(unit, "MemoryMax", "LimitNOFILE") for unit in units]
        assert limits[0] == {"MemoryMax": str(300 * 1024**2), "LimitNOFILE": "777"}
        assert limits[1]["MemoryMax"] == str(2 * 1024**3)
        assert "777" in host.run("grep", "Max open files", f"/proc/{host.show(units[0], 'MainPID')['MainPID']}/limits")
        listed = host.run("systemctl", "list-dependencies", "--plain", TARGET).split()
        assert set(ports) <= set(listed)
        assert scraped(host) == {unit: f"127.0.0.1:{port}" for unit, port in ports.items()}
        with pytest.raises(nspawn.NspawnError, match=r"exit code 77\n.*/etc/shithub may say .* cannot read it"):
            host.run("runuser", "-u", "nobody", "--", "shithubd-worker", "units", "targets")

        host.run("systemctl", "stop", named)
        host.run("systemctl", "restart", units[0])
        host.run("systemctl", "disable", "--quiet", units[1])  # it runs all the same
        host.write("/etc/shithub/shithubd-worker@web.env", "")
        assert named not in scraped(host)
        assert len(scraped(host)) == 3
    finally:
        host.run("systemctl", "disable", "--quiet", *units)


def scraped(host: Host) -> dict[str, str]:
    """The instance of each unit that answers a real Prometheus, with the configuration and the command of the docs."""
    page = (REPOSITORY / "docs/metrics.md").read_text()
    config, command, _ = re.findall(r"^```(?:yaml|sh)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    host.run("sh", "-ec", command)
    host.write("/run/scrape/prometheus.yml", config.replace("scrape_interval: 15s", "scrape_interval: 250ms"))
    host.write("/run/scrape/alerts.rules.yml", (REPOSITORY / "runbooks/alerts.rules.yml").read_text())
    listen = "127.0.0.1:9191"
    start = ("prometheus", "--config.file=/run/scrape/prometheus.yml", "--storage.tsdb.path=/run/scrape/data")
    host.run("systemd-run", "--quiet", "--collect", "--unit=scrape", *start, f"--web.listen-address={listen}")
    try:
        wanted = len(json.loads(host.run("cat", "/etc/prometheus/shithubd-worker.json")))

        def up() -> list[dict[str, str]]:
            query = host.run("curl", "-sS", f"http://{listen}/api/v1/query?query=up", check=False)
            found = json.loads(query)["data"]["result"] if query.startswith("{") else []
            return [each["metric"] for each in found if each["value"][1] == "1"]

        eventually(lambda: len(up()) == wanted, "Prometheus reads all of them")
        return {each["unit"]: each["instance"] for each in up()}
    finally:
        host.run("systemctl", "stop", "scrape")
        host.run("rm", "-rf", "/run/scrape")


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
