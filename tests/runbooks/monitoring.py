"""Debian's Prometheus and Alertmanager on a booted host, with our rules at sixty times their speed."""

from __future__ import annotations

import json
from typing import Any

from faster import sixty_times_as_fast
from nspawn import Host, eventually
from page import RUNBOOKS

UNITS = ("prometheus.service", "prometheus-alertmanager.service")
NODE = "prometheus-node-exporter.service"
PROMETHEUS = "http://127.0.0.1:9090"
ALERTMANAGER = "http://127.0.0.1:9093"
RULES = "/etc/prometheus/alerts.rules.yml"
OWN_SPEED = "/etc/prometheus/alerts-own-speed.rules.yml"
MORE = "/etc/prometheus/more-workers.yml"
DATA = "/var/lib/prometheus/metrics2"
# These durations are divided by 60, too: a scrape and an evaluation every 30 s; and Prometheus' own defaults, 5 minutes
# in which a sample counts, and a minute until it sends an alert again that still fires.
FILES = {
    "/etc/prometheus/prometheus.yml": f"""
global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
rule_files: [{RULES}, {OWN_SPEED}]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["127.0.0.1:9093"]}}]}}]}}
scrape_configs:
  - job_name: shithubd-worker
    static_configs: [{{targets: ["127.0.0.1:8081"]}}]
    file_sd_configs: [{{files: [{MORE}]}}]
  - job_name: node
    static_configs: [{{targets: ["127.0.0.1:9100"]}}]
""",
    "/etc/default/prometheus": 'ARGS="--web.listen-address=127.0.0.1:9090 --query.lookback-delta=5s'
    ' --rules.alert.resend-delay=1s"\n',
    "/etc/prometheus/alertmanager.yml": """
route: {receiver: nobody}
receivers: [{name: nobody}]
""",
    "/etc/default/prometheus-alertmanager": 'ARGS="--web.listen-address=127.0.0.1:9093 --cluster.listen-address="\n',
}


class Monitoring:
    """Prometheus and Alertmanager on one host. Use `with Monitoring(host) as monitoring`. `own_speed` adds the shipped
    rules at their own speed, with a label that distinguishes them, and node_exporter for the one alert that needs it.
    It also deletes all older samples. `more`: the ports of more workers."""

    def __init__(self, host: Host, own_speed: bool = False, more: tuple[int, ...] = ()) -> None:
        self.host = host
        self._own_speed = own_speed
        self._more = more

    def __enter__(self) -> Monitoring:
        for path, text in FILES.items():
            self.host.write(path, text)
        rules = (RUNBOOKS / "alerts.rules.yml").read_text()
        self.host.write(RULES, sixty_times_as_fast(rules))
        if self._own_speed:
            self.host.write(OWN_SPEED, rules.replace("        labels:\n", "        labels:\n          speed: own\n"))
            self.host.write("/etc/default/prometheus-node-exporter", 'ARGS="--web.listen-address=127.0.0.1:9100"\n')
            self.host.write(MORE, json.dumps([{"targets": [f"127.0.0.1:{port}" for port in self._more]}]))
            self.host.run("systemctl", "stop", *UNITS)
            self.host.run("rm", "-rf", DATA)
        self.start()
        return self

    def start(self) -> None:
        """Start both, and wait until they answer. Also after a reboot of the host."""
        self.host.run("systemctl", "restart", *UNITS, *[NODE] * self._own_speed)
        for url in (PROMETHEUS, ALERTMANAGER):
            eventually(lambda url=url: self.host.run("curl", "-sSf", f"{url}/-/ready", check=False), f"{url} is ready")

    def __exit__(self, *_: object) -> None:
        self.host.run("systemctl", "stop", *UNITS, NODE)
        self.host.run("rm", "-f", OWN_SPEED, MORE)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The answer of Prometheus for this moment."""
        found: list[dict[str, Any]] = self._ask(f"{PROMETHEUS}/api/v1/query", query=expression)["data"]["result"]
        return found

    def rule(self, alert: str) -> dict[str, Any]:
        """The rule in Prometheus: its state, health and labels, and the templates of its annotations."""
        groups = self._ask(f"{PROMETHEUS}/api/v1/rules")["data"]["groups"]
        rules = [rule for group in groups if group["file"] == RULES for rule in group["rules"]]
        return next(rule for rule in rules if rule["name"] == alert)

    def firing(self, alert: str, speed: str | None = None) -> list[dict[str, Any]]:
        """The alerts that Alertmanager would send: labels and annotations. `speed`: own, or sixty times as fast."""
        found: list[dict[str, Any]] = self._ask(
            f"{ALERTMANAGER}/api/v2/alerts", filter=f'alertname="{alert}"', active="true"
        )
        return [each for each in found if each["labels"].get("speed") == speed]

    def states(self) -> set[str]:
        """All active alerts in Prometheus: each with its speed, and whether it fires or waits for its `for:`."""
        alerts = self._ask(f"{PROMETHEUS}/api/v1/alerts")["data"]["alerts"]
        speeds = [(alert, alert["labels"].get("speed", "x60")) for alert in alerts]
        return {f"{alert['labels']['alertname']} {alert['state']} ({speed})" for alert, speed in speeds}

    def _ask(self, url: str, **parameters: str) -> Any:
        pairs = [word for name, value in parameters.items() for word in ("--data-urlencode", f"{name}={value}")]
        return json.loads(self.host.run("curl", "-sSf", "--get", *pairs, url))
